"""The importer: from a model file of unknown origin to a checked protobuf, and from there to a trace in torch.

======================================  ====================================================================
``loading``, ``_load_*``, ``external``  reading and checking a file; torch isn't needed
``graph``, ``table``, ``ops``           the model as plain Python, and a torch function for every operator
``interpreter``, ``recorder``           the walk that calls those functions, and what writes the calls down
``trace``                               the recorded graph
``passes``, ``folding``, ``fusion``     the rewrites that make its layers plain; each says what it did (``rewriting``)
``parity``                              holding a trace against onnxruntime
======================================  ====================================================================

Not here: sessions (``analyzer.executor``), what is explained (``analyzer.targets``), rules (``graph_rules``).
"""
