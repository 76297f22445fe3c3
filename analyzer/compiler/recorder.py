"""Recording forward pass and reverse sweep as one flat graph of ATen operators that have an ONNX form.

Belongs here: the recorder that decomposes operators and folds what doesn't depend on the input. Not here: the engine whose
sweeps are recorded (``recording_engine``), how operators are decomposed (``decompositions``) or written (``writer``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analyzer.compiler.decompositions import DECOMPOSITIONS
from analyzer.compiler.lowering import LOWERINGS
from analyzer.importer.recorder import Recorder

aten = torch.ops.aten

#: Their results depend only on the shape of their argument, which is known: they are constants.
_BY_SHAPE = {
    aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default,
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    aten.new_empty_strided.default,
}  # fmt: skip

_VIEWS = {aten.view.default, aten._unsafe_view.default}


class SweepRecorder(Recorder):
    """A recorder of operators that have an ONNX form; it decomposes all others."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _BY_SHAPE:
            return func(*args, **kwargs)
        decomposition = None if func in LOWERINGS else DECOMPOSITIONS.get(func) or _torch_decomposition(func)
        if decomposition is not None and any(self._depends(value) for value in (*args, *kwargs.values())):
            with self:
                return decomposition(*args, **kwargs)
        if func not in LOWERINGS and func._can_decompose():  # type: ignore[attr-defined]
            with self:
                return func.decompose(*args, **kwargs)  # type: ignore[attr-defined]
        # results of decomposed operators have other strides than those with which the trace was made
        if func in _VIEWS and not args[0].is_contiguous():
            with self:
                args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _depends(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return any(self._depends(each) for each in value)
        return isinstance(value, Tensor) and self.node_of(value) is not None


def _torch_decomposition(func: Any) -> Callable[..., Any] | None:
    """torch's own decomposition of an operator."""
    from torch._decomp import decomposition_table

    found: Callable[..., Any] | None = decomposition_table.get(func)
    return found
