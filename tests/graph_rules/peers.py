"""Other libraries as oracles, where they are installed. Not here: what is compared."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def peer(name: str) -> ModuleType:
    """A library, or the test is skipped."""
    if name.startswith("zennit"):
        _torchvision()
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        pytest.skip(f"compares with {name}, which can't be imported here: {problem}")


def _torchvision() -> None:
    """zennit imports torchvision, whose Python part wants the schemas of native operators that may not be built in."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        for loaded in [key for key in sys.modules if key.split(".")[0] == "torchvision"]:
            del sys.modules[loaded]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)  # undeclared when it is collected
