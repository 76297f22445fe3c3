"""Activation functions that an exporter wrote out, put back together.

Belongs here: which functions are recognised and how. Not here: layers of several values (``fusion``), constants folded into
layers (``folding``).

GELU is one node in one file and five around an error function in another; hard-swish, Mish, softplus, a soft threshold and
their kin have as many spellings as there are exporters. They are not told by their spelling: nodes that compute one value
elementwise from one other are a function of a real number, and that function is compared with those that torch has a name
for, at several hundred places in double precision. Values stay the same up to the rounding of constants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from analyzer.importer.rewriting import Refusal, Rewrite, constant_of

aten = torch.ops.aten

NO_NAME = Refusal("it computes a function of one value that has no name")

#: What the last node of a function may be.
ENDS = (
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default, aten.where.self,
    aten.maximum.default, aten.minimum.default, aten.clamp.default, aten.log.default, aten.reciprocal.default,
    aten.sigmoid.default, aten.tanh.default, aten.hardsigmoid.default, aten.relu.default, aten.hardtanh.default,
)  # fmt: skip
_INNER = (
    aten.mul.Scalar, aten.add.Scalar, aten.abs.default, aten.sign.default, aten.exp.default, aten.erf.default,
    aten.softplus.default, aten.elu.default, aten.leaky_relu.default, aten.pow.Tensor_Scalar, aten.square.default,
    aten.sqrt.default, aten.gt.Tensor, aten.lt.Tensor, aten.ge.Tensor, aten.le.Tensor, aten.logical_not.default,
    aten.logical_and.default, aten.logical_or.default,
)  # fmt: skip
_ELEMENTWISE = frozenset((*ENDS, *_INNER))
#: Most nodes of one function.
MOST = 16
#: Where functions are compared; 0 among them, where what keeps a logarithm or a quotient finite shows.
_PLACES = torch.cat(
    [torch.zeros(1, dtype=torch.float64)]
    + [torch.linspace(a, b, 250, dtype=torch.float64) for a, b in ((-1, 1), (-12, 12), (-60, 60))]
)
#: How near two functions must be, relative to 1 + |x|: constants of a file are rounded to float32.
_NEAR = 2e-6


class Step(NamedTuple):
    """One node of a function; its arguments are constants or :class:`Value`."""

    target: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


class Value(NamedTuple):
    """An argument that is computed: the number of its step, -1 for the function's own argument."""

    step: int


class Named(NamedTuple):
    """An operator with its parameters."""

    target: Any
    args: tuple[float, ...] = ()
    kwargs: tuple[tuple[str, str], ...] = ()

    def of(self, x: Any) -> Any:
        """It on a value."""
        return self.target(x, *self.args, **dict(self.kwargs))


def recognise(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal | None:
    """Nodes that compute a known function of one value -> that function, of the earliest value that it is one of."""
    best: tuple[fx.Node, Named] | None = None
    again = False  # whether it reads its value in several places, as a function written out does
    for base, nodes in _functions(module, node):
        again = again or sum(base in each.all_input_nodes for each in nodes) > 1
        named = _named(_program(module, base, nodes)) if len(nodes) > 1 else None
        best = best if named is None else (base, named)
    if best is None:
        return NO_NAME if again else None
    base, named = best
    with module.graph.inserting_before(node):
        result = module.graph.call_function(named.target, (base, *named.args), dict(named.kwargs))
    result.meta.update(node.meta)
    node.replace_all_uses_with(result)
    return Rewrite(node, result, f"{named.target.__name__.split('.')[0]} put together at {node.meta.get('onnx')!r}")


def _functions(module: fx.GraphModule, end: fx.Node) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """Values of which, and of nothing else computed, a node is an elementwise function, the nearest first; the nodes between."""
    waiting, nodes = {end}, list[fx.Node]()
    while len(nodes) < MOST:
        inner = [each for each in waiting if _elementwise(module, each, end)]
        if len(waiting) - len(inner) > 1 or not inner:
            return
        last = max(inner) if len(inner) > 1 else inner[0]
        waiting.remove(last)
        nodes.append(last)
        waiting.update(a for a in last.all_input_nodes if a.op != "get_attr")
        if len(waiting) == 1:
            (base,) = waiting
            if base.meta.get("shape") == end.meta.get("shape") and base.meta.get("dtype") == end.meta.get("dtype"):
                yield base, sorted(nodes)


def _elementwise(module: fx.GraphModule, node: fx.Node, end: fx.Node) -> bool:
    """Whether a node works element by element on values of the function's shape and single numbers."""
    if node.target not in _ELEMENTWISE or node.meta.get("shape") != end.meta.get("shape"):
        return False
    return all(a.op != "get_attr" or _number(module, a) is not None for a in node.all_input_nodes)


def _number(module: fx.GraphModule, constant: fx.Node) -> float | None:
    """The number that all elements of a constant are, None where they differ, or where only its shape is known."""
    value = constant_of(module, constant)
    if value is None or not value.numel() or value.dtype == torch.bool or value.is_meta:
        return None
    first = value.reshape(-1)[0]
    return float(first) if value.numel() == 1 or bool((value == first).all()) else None


def _program(module: fx.GraphModule, base: fx.Node, nodes: list[fx.Node]) -> tuple[Step, ...]:
    """A function's nodes without their graph."""
    steps: Mapping[fx.Node, int] = {base: -1} | {node: i for i, node in enumerate(nodes)}

    def read(argument: fx.Node) -> Any:
        return Value(steps[argument]) if argument in steps else _number(module, argument)

    def plain(value: Any) -> Any:
        return tuple(plain(each) for each in value) if type(value) in (list, tuple) else value

    return tuple(
        Step(node.target, plain(map_arg(node.args, read)), tuple(map_arg(node.kwargs, read).items())) for node in nodes
    )


@functools.lru_cache(maxsize=1024)
def _named(program: tuple[Step, ...]) -> Named | None:
    """The operator that computes a function, None where torch has none."""
    made = _run(program, _PLACES)
    if not bool(torch.isfinite(made).all()):
        return None
    allowed = _NEAR * (1 + _PLACES.abs())
    for named in _candidates(lambda x: float(_run(program, torch.tensor([x], dtype=torch.float64))[0])):
        wanted = named.of(_PLACES)
        if bool(((wanted - made).abs() <= allowed).all() and (wanted[0] == 0) == (made[0] == 0)):
            return named
    return None


def _run(program: tuple[Step, ...], x: Tensor) -> Tensor:
    """The function at places."""
    values: list[Tensor] = []

    def read(given: Any, kind: str) -> Any:
        if isinstance(given, Value):
            return x if given.step < 0 else values[given.step]
        return torch.tensor(given, dtype=x.dtype) if kind == "Tensor" else given

    for step in program:
        kinds = [str(argument.type) for argument in step.target._schema.arguments]
        args = [read(given, kind) for given, kind in zip(step.args, kinds, strict=False)]
        values.append(step.target(*args, **dict(step.kwargs)))
    return values[-1]


def _candidates(function: Callable[[float], float]) -> Iterator[Named]:
    """What a function may be, parameters told by single values of it."""
    yield from (Named(target) for target in _PLAIN)
    yield Named(aten.softplus.default, (1.0, 40.0))
    yield Named(aten.gelu.default, (), (("approximate", "tanh"),))
    low, high, slope = function(-50.0), function(50.0), -function(-1.0)
    if high == 50.0 and 0 <= slope < 1:
        yield Named(aten.leaky_relu.default, (slope,))
    if low < 0:
        scale = high / 50.0
        yield Named(aten.elu.default, (-low / scale, scale)) if scale > 0 else Named(aten.relu.default)
        yield Named(aten.elu.default, (-low, 1.0, -1.0 / low))
    if low < high:
        yield Named(aten.hardtanh.default if (low, high) == (0, 6) else aten.clamp.default, (low, high))
    if high < 50.0:
        yield Named(aten.softshrink.default, (50.0 - high,))


_PLAIN = (
    aten.relu.default, aten.sigmoid.default, aten.silu.default, aten.gelu.default, aten.mish.default, aten.tanh.default,
    aten.hardsigmoid.default, aten.hardswish.default, aten.abs.default,
)  # fmt: skip
