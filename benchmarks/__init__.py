"""Benchmarks: how good and how fast explanations are, beside other libraries; results lie in ``results/``."""
