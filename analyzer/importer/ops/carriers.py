"""Element types that torch stores but can't compute with, carried by types that it can.

Belongs here: decorators of operator functions for uint16, uint32, uint64 and float8 data. Not here: conversion between
element types (``casting``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])

_SIZES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NARROW = (torch.uint16, torch.uint32, torch.uint64)
_TOP_BIT = -(2**63)


def storage_only(dtype: torch.dtype) -> bool:
    """Whether torch can do little more than store this type."""
    return dtype in _NARROW or (dtype.is_floating_point and dtype.itemsize == 1)


def rearranged(function: F) -> F:
    """For operators that only rearrange elements: such types are carried as an integer of the same width."""

    @functools.wraps(function)
    def call(node: Any, *inputs: Any) -> Any:
        dtype = _first(inputs)
        if dtype is None:
            return function(node, *inputs)
        carrier = _SIZES[dtype.itemsize]
        out = function(node, *(v.view(carrier) if _has(v, dtype) else v for v in inputs))
        return _back(out, lambda t: t.view(dtype) if t.dtype == carrier else t)

    return call  # type: ignore[return-value]


def computed(function: F) -> F:
    """For arithmetic that is correct modulo the width of the integer: such integers are computed as int64."""

    @functools.wraps(function)
    def call(node: Any, *inputs: Any) -> Any:
        dtype = _first(inputs)
        if dtype not in _NARROW:
            return function(node, *inputs)
        out = function(node, *(signed_bits(v) if _has(v, dtype) else v for v in inputs))
        return _back(out, lambda t: _narrow(t, dtype) if t.dtype == torch.int64 else t)

    return call  # type: ignore[return-value]


def ordered(function: F) -> F:
    """For operators that compare and select: such integers are computed as int64 in the same order."""

    @functools.wraps(function)
    def call(node: Any, *inputs: Any) -> Any:
        dtype = _first(inputs)
        if dtype not in _NARROW:
            return function(node, *inputs)
        out = function(node, *(to_ordered(v) if _has(v, dtype) else v for v in inputs))
        return _back(out, lambda t: from_ordered(t, dtype) if t.dtype == torch.int64 else t)

    return call  # type: ignore[return-value]


def to_ordered(x: Tensor) -> Tensor:
    """An int64 tensor in the order of an unsigned one (uint64: the top bit is flipped)."""
    return x.view(torch.int64) ^ _TOP_BIT if x.dtype == torch.uint64 else x.to(torch.int64)


def from_ordered(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_ordered`."""
    return (x ^ _TOP_BIT).view(dtype) if dtype == torch.uint64 else x.to(dtype)


def _first(inputs: tuple[Any, ...]) -> torch.dtype | None:
    return next((v.dtype for v in inputs if isinstance(v, Tensor) and storage_only(v.dtype)), None)


def _has(value: Any, dtype: torch.dtype) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype


def signed_bits(x: Tensor) -> Tensor:
    """The integer as int64; the bits of a uint64 as they are."""
    return x.view(torch.int64) if x.dtype == torch.uint64 else x.to(torch.int64)


def _narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.view(dtype) if dtype == torch.uint64 else x.to(dtype)


def _back(out: Any, convert: Callable[[Tensor], Tensor]) -> Any:
    """Convert the operator's first output; further ones are positions."""
    if isinstance(out, tuple):
        return (convert(out[0]), *out[1:])
    return convert(out)
