"""The executor: onnxruntime sessions, devices, and many evaluations run in batches.

==================================  ========================================================================
``session``, ``devices``            one loaded model; where it runs
``io_binding``                      inputs that stay on an accelerator
``batched_runs``, ``batch_size``    evaluations in batches of a tuned size
``parallel``                        the thread pool
``mask_ops``, ``masked_model``      masks as ONNX operators; a model with those operators before it
``session_pool``                    a model's sessions for such evaluations
``incremental``                     computing again only what a local change can reach
==================================  ========================================================================

Knows nothing of torch and never imports it. Not here: which parts of an input are masked and what is made of the scores
(``analyzer.methods``, ``analyzer.perturbation``).
"""
