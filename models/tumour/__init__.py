"""Breast tumours described by thirty numbers: a scikit-learn pipeline as ONNX."""
