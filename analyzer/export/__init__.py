"""``analyzer.compile``: an explanation as a deployable ``.onnx`` file."""
