"""The onnx package's own node tests. Not here: what is asked of them."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np


@functools.cache
def node_tests() -> tuple[Any, ...]:
    """All of them, by name. The package makes them up anew, which takes seconds, warns, and must not be cut off: it would
    refuse to begin again."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return tuple(sorted(load_model_tests(kind="node"), key=lambda case: case.name))
