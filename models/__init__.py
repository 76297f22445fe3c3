"""Small sample models with their cards, and the scripts that trained and exported them. Nothing here is installed."""

import analyzer  # noqa: F401  before any file imports onnxruntime: it turns off telemetry
