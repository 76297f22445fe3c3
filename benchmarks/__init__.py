"""Benchmarks: how good and how fast explanations are, beside other libraries; results lie in ``results/``."""

import analyzer  # noqa: F401  before any file imports onnxruntime: it turns off telemetry
