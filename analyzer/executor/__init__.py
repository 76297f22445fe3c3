"""The executor: onnxruntime sessions, devices, and masks streamed through them.

Knows nothing of torch and never imports it. Not here: which pieces of an input are masked and what is made of the
scores (``methods``).
"""
