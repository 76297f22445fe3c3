"""Other libraries of metrics, where they are installed. Not here: what is compared."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest

from analyzer.importer import onnx2torch_fallback


def quantus() -> ModuleType:
    """Quantus 0.6.0, whose figures and faults are known, or the test is skipped."""
    onnx2torch_fallback.available()  # it imports torchvision, which needs help beside a CPU-only torch
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module("quantus")
    except ImportError as problem:
        pytest.skip(f"compares with quantus, which can't be imported here: {problem}")
    if found.__version__ != "0.6.0":
        pytest.skip(f"knows quantus 0.6.0, this is {found.__version__}")
    return found
