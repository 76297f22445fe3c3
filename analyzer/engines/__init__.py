"""Engines: sweeps over a model's trace, and the interface through which methods use them.

Belongs here: the protocol, the torch engine, traces and their parity with onnxruntime. Not here: the rules
(``graph_rules``), compiled sweeps (``compiler``), choosing an engine (``explain.backends``).
"""
