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
from analyzer.compiler.refusal import UNWRAPPED, refused
from analyzer.importer.recorder import Recorder, without_recording
from graph_rules import position

aten = torch.ops.aten

#: Their results depend only on the shape of their argument, which is known: they are constants.
_BY_SHAPE = {
    aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default,
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    aten.new_empty_strided.default,
}  # fmt: skip

#: Operators that change their argument -> those that give the result, where they aren't called the same.
_PLAIN = {aten.pow_.Scalar: aten.pow.Tensor_Scalar, aten.pow_.Tensor: aten.pow.Tensor_Tensor}

_VIEWS = {aten.view.default, aten._unsafe_view.default}


class SweepRecorder(Recorder):
    """A recorder of operators that have an ONNX form; it decomposes all others."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        node = position.current()
        self.provenance = {} if node is None else {k: v for k, v in node.meta.items() if k in ("onnx", "op")}
        try:
            return self._recorded(func, types, args, kwargs or {})
        except UNWRAPPED:
            raise
        except Exception as problem:
            raise refused(func, self.provenance, problem) from problem

    def _recorded(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _BY_SHAPE:
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            self._keep(*args[:1], kwargs.get("out"))
        if func._schema.is_mutable and any(self._depends(value) for value in (*args, *kwargs.values())):
            return self._out_of_place(func, args, kwargs)
        decomposition = None if func in LOWERINGS else DECOMPOSITIONS.get(func) or _torch_decomposition(func)
        if decomposition is not None and any(self._depends(value) for value in (*args, *kwargs.values())):
            with self:
                return decomposition(*args, **kwargs)
        if func not in LOWERINGS and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        # results of decomposed operators have other strides than those with which the trace was made
        if func in _VIEWS and not args[0].is_contiguous():
            with self:
                args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _out_of_place(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """An operator that changes its first argument, as autograd's derivatives use them on values of their own.

        What it gives is recorded, and from then on the changed tensor stands for it.

        Raises
        ------
        UnsupportedError
            ``compile.operator`` for one without a form that changes nothing, and for a view: others would change with it.
        """
        changed: Tensor = args[0]
        name, overload = func._schema.name.partition("::")[2], func._overloadname
        plain = _PLAIN.get(func) or getattr(getattr(aten, name.removesuffix("_"), None), overload, None)
        if not name.endswith("_") or plain is None or changed._is_view():
            raise refused(func, self.provenance, "it changes a value in place")
        with self:
            made = plain(*args, **kwargs).to(changed.dtype)
            made = made if made.shape == changed.shape else made.expand(changed.shape)
        with without_recording():
            self._keep(changed)
            changed.copy_(made)
        node = self.node_of(made)
        self._nodes[changed] = self.constant(made) if node is None else node
        return changed

    def _keep(self, *changing: Any) -> None:
        """Let constants that are written down keep their values where code goes on to change their memory."""
        places = {value.untyped_storage().data_ptr() for value in changing if isinstance(value, Tensor)}
        touched = {
            key: node
            for key, node in self._constants.items()
            if getattr(self.root, str(node.target)).untyped_storage().data_ptr() in places
        }
        for key, node in touched.items():
            label = str(node.target)
            with without_recording():
                setattr(self.root, label, getattr(self.root, label).clone())
            del self._constants[key]

    def _depends(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return any(self._depends(each) for each in value)
        return isinstance(value, Tensor) and self.node_of(value) is not None


def _torch_decomposition(func: Any) -> Callable[..., Any] | None:
    """torch's own decomposition of an operator."""
    from torch._decomp import decomposition_table

    found: Callable[..., Any] | None = decomposition_table.get(func)
    return found
