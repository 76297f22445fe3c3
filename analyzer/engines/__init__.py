"""Engines: sweeps over a model's trace, and what a method asks of one.

Belongs here: the protocol, the torch engine, traces and whether they agree with onnxruntime. Not here: the rules
(``graph_rules``), compiled sweeps (``compiler``), choosing an engine (``explain.backends``).
"""
