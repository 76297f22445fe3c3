"""Other libraries as oracles, where they are installed. Not here: what is compared."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from analyzer.importer import onnx2torch_fallback as second_source


def peer(name: str) -> ModuleType:
    """A library, or the test is skipped."""
    if name.startswith("zennit"):
        second_source.available()  # zennit imports torchvision, which needs its help beside a CPU-only torch
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        pytest.skip(f"compares with {name}, which can't be imported here: {problem}")
