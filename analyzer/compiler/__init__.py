"""Explanations as deployable models: forward pass and reverse sweep in one ONNX file that only needs onnxruntime.

Belongs here: recording tensor code (``recorder``, ``recording_engine``), the recording as a list of calls whose batch axis
may be free (``ir``, ``unify``, ``free_batch``), writing it with standard ONNX operators (``writer``, ``lowering``), compiled
sweeps (``sweep_model``), their caches (``sweep_cache``, ``cache``), and the engine that runs them (``engine``).
Not here: rules (``graph_rules``) and methods (``analyzer.methods``), which are recorded as they are; the public function
``compile`` (``analyzer.export``); running models (``analyzer.executor``).
"""
