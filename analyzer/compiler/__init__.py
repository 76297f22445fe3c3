"""Explanations as deployable models: forward pass and reverse sweep in one ONNX file, run by onnxruntime alone.

Belongs here: recording a method's tensor code (``recording``, ``recipes``), making its batch axis free (``program``),
writing it with standard ONNX operators (``writer`` and its tables ``lowering_*``), the public function (``export``).
Not here: rules and methods themselves, which stay where they are; running models (``executor``).

A compiled model takes the inputs of the original and gives its outputs and ``relevance``.
"""
