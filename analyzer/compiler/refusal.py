"""What is said where an operator can't be compiled: the ATen operator and the ONNX node it belongs to.

Belongs here: the words. Not here: deciding (``recorder``, ``writer``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from analyzer.errors import AnalyzerError, UnsupportedError

#: Errors that pass as they are: they say what is wrong already, or have nothing to do with the operator.
UNWRAPPED = (AnalyzerError, MemoryError, torch.OutOfMemoryError)


def refused(target: Any, origin: Mapping[str, str], why: object) -> UnsupportedError:
    """The error for an operator.

    Parameters
    ----------
    origin
        ``onnx`` and ``op`` of the node that it belongs to; empty outside sweeps.
    why
        What is in the way, as a sentence's end or an exception.
    """
    where = f" of {origin.get('op', '')} node {origin['onnx']!r}" if origin.get("onnx") else ""
    said = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    return UnsupportedError(
        "compile.operator",
        f"{target}{where} can't be compiled: {said.splitlines()[0]}",
        "explain with the torch backend instead",
    )
