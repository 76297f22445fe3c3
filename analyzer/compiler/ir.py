"""A recorded sweep as a list of calls whose sizes may depend on the batch size.

Belongs here: the data. Not here: making it from recordings (``unify``), writing it (``writer``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A size in proportion to the batch size: ``times`` elements per sample."""

    times: int


Size = int | Batch


@dataclass(frozen=True)
class Value:
    """A tensor of the written graph: its ONNX name, shape and element type."""

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Result:
    """One recorded result of a call: its shape and element type."""

    shape: tuple[Size, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Ref:
    """A reference to an input, a constant or the result of a call, by its name."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A constant; one that is the same for all samples holds one of them, and ``expanded`` is the shape that it stands for."""

    value: Tensor
    expanded: tuple[Size, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes
    ----------
    parts
        Names of the results that are used, by their index; a call with a single result has the index None.
    results
        The same results' shapes and element types.
    origin
        ``onnx`` and ``op``: name and type of the model's node that it belongs to; empty outside sweeps.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    parts: Mapping[int | None, str]
    results: Mapping[int | None, Result]
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Everything that is written to a file.

    Attributes
    ----------
    inputs
        Node -> the input's name, shape and element type.
    batch
        None where it is free, else the size that it is fixed at.
    reason
        Why it is fixed.
    """

    inputs: Mapping[str, tuple[str, Result]]
    constants: Mapping[str, Constant]
    steps: Sequence[Step]
    outputs: Mapping[str, Ref]
    batch: int | None = None
    reason: str = field(default="", compare=False)
