"""Recording: tensor code that runs on real values is written down as a flat ``torch.fx`` graph of ATen operators.

Belongs here: the dispatch mode that records, and how recorded code reads concrete numbers. Not here: what is run
(``interpreter``) and what a trace is used for (``trace``).

Only what depends on a recorded input is written down. Everything else (shapes, constants, index arithmetic) is computed
while recording and enters the graph as a constant, so a trace holds no index arithmetic: partial evaluation comes with
the recording. Unlike ``make_fx`` the recorder keeps provenance itself and refuses in-place changes, which would make
the reverse sweep of a trace wrong without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from analyzer.importer.conversion import to_numpy

_current: list[Recorder] = []
aten = torch.ops.aten

#: Operators that return their input unchanged in value when recorded without autograd.
_ALIASES = {aten.detach.default, aten.lift_fresh.default, aten.lift_fresh_copy.default, aten.alias.default}


class Recorder(TorchDispatchMode):
    """Records every ATen call that depends on a tensor given to :meth:`placeholder`.

    Attributes
    ----------
    graph
        The graph so far.
    data_dependent
        The first ONNX node that read concrete numbers from a recorded tensor, or None. Such a trace is valid for its
        input only.
    branches
        Whether such numbers depend on a floating-point input: then a small step of it may need another trace.
    provenance
        What new graph nodes get as metadata: ``onnx`` (node name) and ``op`` (operator type).
    names
        Address of a constant's data -> the name it has in the model.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.root = torch.nn.Module()
        self.data_dependent: str | None = None
        self.provenance: Mapping[str, str] = {}
        self._nodes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._constants: dict[tuple[Any, ...], fx.Node] = {}
        self._alive: list[Tensor] = []
        self.names: dict[int, str] = {}
        self.branches = False
        self._from_floats: set[fx.Node] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nothing here is compiled, and True would import torch's compiler, a second of processor time."""
        return False

    def __enter__(self) -> Recorder:
        _current.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: Any) -> None:
        _current.pop()
        super().__exit__(*exc)  # type: ignore[no-untyped-call]

    def placeholder(self, name: str, value: Tensor) -> Tensor:
        """Declare an input of the graph; returns the tensor to compute with."""
        with without_recording():
            value, given = value.detach().clone(), value
            for name, mark in vars(given).items():
                setattr(value, name, mark)  # the name of a type narrower than torch's
        node = self.graph.placeholder(f"input_{len(self.graph.find_nodes(op='placeholder'))}")
        node.meta.update(value=name, shape=tuple(value.shape), dtype=value.dtype)
        self._nodes[value] = node
        if value.dtype.is_floating_point:
            self._from_floats.add(node)
        return value

    def node_of(self, value: Tensor) -> fx.Node | None:
        """The graph node that computes a tensor, or None for a constant."""
        found: fx.Node | None = self._nodes.get(value)
        return found

    def constant(self, value: Tensor) -> fx.Node:
        """The node of a constant tensor; the same storage read in the same way is one node."""
        key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
        if value.numel() == 0 or key not in self._constants:
            label = f"constant_{len(self._alive)}"
            self.root.register_buffer(label, value)
            self._alive.append(value)
            node = self.graph.get_attr(label)
            node.meta.update(constant=self.names.get(value.data_ptr(), ""), shape=tuple(value.shape), dtype=value.dtype)
            self._constants[key] = node
        return self._constants[key]

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        recorded = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor) and a in self._nodes]
        if not recorded:
            return func(*args, **kwargs)
        tags = func.tags  # type: ignore[attr-defined]
        if torch.Tag.data_dependent_output in tags:  # a number or a truth value of Python, not a tensor
            self.mark_data_dependent(*recorded)
            return func(*args, **kwargs)
        if func._schema.is_mutable:  # type: ignore[attr-defined]
            raise RuntimeError(f"{func} changes a recorded tensor in place")
        if torch.Tag.dynamic_output_shape in tags and (func is not aten.index.Tensor or _masked(args[1])):
            self.mark_data_dependent(*recorded)
        out = self.compute(func, args, kwargs)
        if func in _ALIASES:
            self._nodes[out] = self._nodes[args[0]]
            return out
        node = self.graph.call_function(func, tree_map(self._argument, args), tree_map(self._argument, kwargs))
        node.meta.update(self.provenance)
        if any(argument in self._from_floats for argument in node.all_input_nodes):
            self._from_floats.add(node)
        self._track(out, node)
        return out

    def compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a recorded call gives."""
        return func(*args, **kwargs)

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return self._nodes[value] if value in self._nodes else self.constant(value)

    def _track(self, out: Any, node: fx.Node) -> None:
        if isinstance(out, Tensor):
            node.meta.update(shape=tuple(out.shape), dtype=out.dtype)
            self._nodes[out] = node
            return
        if isinstance(out, (tuple, list)):
            for index, item in enumerate(out):
                if isinstance(item, Tensor):
                    part = self.graph.call_function(getitem, (node, index))
                    part.meta.update(self.provenance)
                    if node in self._from_floats:
                        self._from_floats.add(part)
                    self._track(item, part)

    def mark_data_dependent(self, *values: Tensor) -> None:
        """Note that concrete numbers were read from recorded tensors."""
        if self.data_dependent is None:
            self.data_dependent = self.provenance.get("onnx", "")
        if any(self._nodes[value] in self._from_floats for value in values):
            self.branches = True

    def finish(self, outputs: Mapping[str, Tensor]) -> fx.GraphModule:
        """Close the graph; its result is the tuple of outputs in the given order."""
        self.graph.output(tuple(self._argument(value) for value in outputs.values()))
        keep = [node for node in self.graph.nodes if node.op == "placeholder"]
        self.graph.eliminate_dead_code(is_impure_node=lambda node: node in keep or node.op == "output")
        module = fx.GraphModule(self.root, self.graph)
        self._nodes, self._alive = WeakTensorKeyDictionary(), []
        return module


def _masked(indices: Any) -> bool:
    """Whether an index selects by truth values, as many as there are."""
    return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in indices)


@contextlib.contextmanager
def without_recording() -> Iterator[None]:
    """Run tensor code on the side, not written down."""
    if not _current:
        yield
        return
    with torch.utils._python_dispatch._disable_current_modes():
        yield


def recorded(value: Any) -> bool:
    """Whether the tensor depends on an input that is being recorded."""
    return isinstance(value, Tensor) and bool(_current) and _current[-1].node_of(value) is not None


def concrete(value: Tensor) -> np.ndarray:
    """The tensor's numbers, for decisions in Python; a recorded tensor makes the trace valid for its input only."""
    if recorded(value):
        _current[-1].mark_data_dependent(value)
    with without_recording():
        return to_numpy(value)


def integers(value: Tensor) -> list[int]:
    """A tensor of integers (a shape, axes, sizes) as a flat Python list."""
    return [int(v) for v in concrete(value).reshape(-1)]
