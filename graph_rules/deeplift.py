"""DeepLIFT: multipliers of differences from a reference, with the rescale and the reveal-cancel rule.

Belongs here: which operator gets which difference rule, and the reveal-cancel rule with its two-signed multipliers. Not
here: the difference rules themselves (``multipliers``, ``multipliers_axes``).

Shrikumar, Greenside, Kundaje 2017, Learning important features through propagating activation differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import getitem
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, fx

from graph_rules import multipliers as r
from graph_rules import multipliers_axes as axes
from graph_rules import operators as o
from graph_rules.affine import Affine
from graph_rules.errors import MissingRuleError
from graph_rules.kinds import active_arguments, active_nodes, kind, weight_position
from graph_rules.operators import aten
from graph_rules.rule import Call, Needs, Rule
from graph_rules.sweep import ForwardPass, ruled_nodes

_NAMES = ("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "elu", "leaky_relu", "hardswish", "selu",
          "hardsigmoid", "_prelu_kernel", "celu", "hardshrink", "softshrink", "threshold", "abs", "round", "floor",
          "ceil", "trunc", "frac", "sign", "sgn", "nan_to_num", "fmod", "remainder", "floor_divide", "copysign",
          "maximum", "minimum")  # fmt: skip
#: Elementwise functions with kinks or steps.
KINKED = frozenset(f"aten::{name}" for name in _NAMES) | o.ROUNDING
Pooling = Literal["auto", "exact", "gradient"]
_EXTREMES = (aten.amax.default, aten.amin.default, aten.max.dim, aten.min.dim, aten.max.default, aten.min.default)
_SMOOTH, _KINKED, _LINEAR, _QUADRATIC, _PATH = r.Rescale(), r.Rescale(False), r.Linear(), r.Quadratic(), r.Path()

#: Operator -> rule, where neither the kind nor the number of computed inputs matters.
BY_OPERATOR: dict[Any, Rule] = {
    aten.max_pool2d_with_indices.default: axes.Winner(2), aten.max_pool3d_with_indices.default: axes.Winner(3),
    aten.adaptive_max_pool2d.default: axes.Winner(2), aten.adaptive_max_pool3d.default: axes.Winner(3),
    aten.amax.default: axes.Extreme(), aten.max.dim: axes.Extreme(), aten.max.default: axes.Extreme(),
    aten.amin.default: axes.Extreme(-1.0), aten.min.dim: axes.Extreme(-1.0), aten.min.default: axes.Extreme(-1.0),
    aten.topk.default: axes.Ranked(2), aten.sort.default: axes.Ranked(1), aten.sort.stable: axes.Ranked(2),
    aten._softmax.default: axes.Softmax(), aten._safe_softmax.default: axes.Softmax(),
    aten._log_softmax.default: axes.Softmax(log=True), aten.logsumexp.default: axes.LogSumExp(),
    aten.linalg_vector_norm.default: axes.VectorNorm(),
    aten.var.correction: _QUADRATIC, aten.var_mean.correction: _QUADRATIC,
    aten.prod.default: _PATH, aten.prod.dim_int: _PATH, aten.cumprod.default: _PATH, aten.std.correction: _PATH,
    aten.logcumsumexp.default: _PATH, aten._linalg_det.default: _PATH, aten.linalg_inv_ex.default: _PATH,
}  # fmt: skip
#: Group of operators -> rule, where nothing else matters either.
BY_GROUP: dict[str | None, Rule] = {
    "layer-norm": axes.Normalise(), "batch-norm": axes.Normalise(), "rms-norm": _PATH, "average": _LINEAR,
    "movement": _LINEAR,
}  # fmt: skip


def rule_for(node: fx.Node, active: frozenset[fx.Node], pooling: Pooling = "exact") -> Rule | None:
    """The difference rule of a node by its operator and its computed inputs; None where there is none."""
    target, inputs = node.target, active_arguments(node, active)
    name = o.schema_name(target)
    pools = BY_OPERATOR.get(target)
    if isinstance(pools, axes.Winner | axes.Extreme | axes.Ranked):
        if pooling == "gradient" or (pooling == "auto" and disjoint(node)):
            return replace(pools, gradient=True) if isinstance(pools, axes.Extreme) else _LINEAR
        return pools
    if target in o.LINEAR or target in o.CONVOLUTIONS:
        return _LINEAR if weight_position(node, active) else _QUADRATIC
    if target in o.SAMPLERS:
        return _LINEAR if inputs == [node.args[0]] else _PATH
    if target in o.SCATTERED and kind(node, active) == "average":
        return _LINEAR
    if target in BY_OPERATOR or o.group_of(target) in BY_GROUP:
        return BY_OPERATOR.get(target) or BY_GROUP[o.group_of(target)]
    if target in o.ADDITIONS or target in (aten.neg.default, aten.mul.Scalar, aten.div.Scalar):
        return _LINEAR
    if target in (aten.maximum.default, aten.minimum.default) and len(inputs) > 1:
        return axes.Larger(1.0 if target is aten.maximum.default else -1.0)
    if target is aten.mul.Tensor:
        return _product(node, active)
    if target is aten.div.Tensor:
        return r.Quotient() if node.args[1] in active else _LINEAR
    if (
        kind(node, active) in ("relu", "rectifier", "activation", "self-gate")
        or target in o.PRODUCTS
        or target in o.QUOTIENTS
    ):
        if len(inputs) > 1:
            return r.Shares() if name in KINKED else _PATH
        stepwise = target in (aten.div.Tensor_mode, aten.div.Scalar_mode)
        return _KINKED if name in KINKED or stepwise else _SMOOTH
    return None


def _product(node: fx.Node, active: frozenset[fx.Node]) -> Rule:
    """The rule of a product of two values."""
    if [a in active for a in node.args[:2]] != [True, True]:
        return _LINEAR
    inverses = [at for at, value in enumerate(node.args[:2]) if _inverse(value, active)]
    return r.Inverse(inverses[0]) if len(inverses) == 1 else _QUADRATIC


def _inverse(value: Any, active: frozenset[fx.Node]) -> bool:
    """Whether a value is one over another, looking through movements and constant factors."""
    while value.op == "call_function" and len(active_arguments(value, active)) == 1:
        target, power = value.target, value.args[1] if len(value.args) > 1 else None
        if target in (aten.rsqrt.default, aten.reciprocal.default):
            return True
        if target is aten.pow.Tensor_Scalar:
            return isinstance(power, (int, float)) and power < 0
        if target is aten.div.Tensor and value.args[0] not in active:
            return True
        if target not in o.MOVEMENTS and target not in (aten.mul.Tensor, aten.mul.Scalar):
            return False
        (value,) = active_arguments(value, active)
    return False


def disjoint(node: fx.Node) -> bool:
    """Whether a node takes maxima or minima over windows or axes in which every value is read at most once."""
    target = node.target
    if target in _EXTREMES:
        return True
    if target in (aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default):
        (read, made), rank = _shapes(node), len(node.args[1])  # type: ignore[arg-type]
        return all(a % b == 0 for a, b in zip(read[-rank:], made[-rank:], strict=True))
    if target in (aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default):
        rank = 2 if target is aten.max_pool2d_with_indices.default else 3
        given = [node.args[i] if len(node.args) > i else None for i in (1, 2, 4)]
        kernel, stride, dilation = (_per_axis(value, rank) for value in given)
        stride, dilation = stride or kernel, dilation or [1] * rank
        windows = _shapes(node)[1][-rank:]
        return all(n == 1 or s >= d * (k - 1) + 1 for n, k, s, d in zip(windows, kernel, stride, dilation, strict=True))
    return False


def _shapes(node: fx.Node) -> tuple[list[int], list[int]]:
    """Shapes of what a node with two outputs reads and of its first output."""
    read = node.all_input_nodes[0].meta["shape"]
    made = next(user.meta["shape"] for user in node.users if user.target is getitem and user.args[1] == 0)
    return list(read), list(made)


def _per_axis(value: Any, rank: int) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value or ())
    return sizes * rank if len(sizes) == 1 else sizes


@dataclass(frozen=True, eq=False)
class DifferenceTable:
    """Rules by operator, for a sweep that compares two passes.

    Attributes
    ----------
    name
        For messages.
    reveal
        Whether elementwise functions after layers with weights take positive and negative differences apart.
    pooling
        How maxima over windows and axes hand on differences: ``exact`` (complete), ``gradient`` (the winner of the
        explained input takes all, as in the authors' package), or ``auto``: ``gradient`` where :func:`disjoint`.
    """

    name: str
    reveal: bool = False
    pooling: Pooling = "exact"

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> dict[fx.Node, Rule]:
        """A rule for every node between the sources and the output.

        Raises
        ------
        MissingRuleError
            Naming every node without a difference rule.
        """
        active = active_nodes(sources, output)
        chosen: dict[fx.Node, Rule] = {}
        lacking: list[tuple[str, str, str]] = []
        for node in ruled_nodes(output, sources):
            rule = rule_for(node, active, self.pooling)
            if rule is None:
                label = node.meta.get("onnx", node.name), node.meta.get("op", str(node.target)), str(node.target)
                if label not in lacking:
                    lacking.append(label)
                continue
            if self.reveal:
                rule = _revealing(node, rule, active, sources)
            chosen[node] = rule
        if lacking:
            raise MissingRuleError(self.name, lacking)
        return chosen


#: (variant, pooling) -> table.
TABLES = {
    (variant, pooling): DifferenceTable(f"deeplift {variant}", reveal=variant == "reveal-cancel", pooling=pooling)
    for variant in ("rescale", "reveal-cancel")
    for pooling in get_args(Pooling)
}


def selecting(run: ForwardPass) -> list[str]:
    """ONNX nodes whose masks or indices differ between the compared passes: nothing is attributed to those."""
    return list(dict.fromkeys(str(n.meta.get("onnx", n.name)) for n, call in run.calls.items() if r.changed(call)))


def selections(run: ForwardPass) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """ONNX node -> its masks and indices in both compared passes; what :func:`selecting` looks at."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for node, call in run.calls.items():
        if pairs := r.unattributed(call):
            found.setdefault(str(node.meta.get("onnx", node.name)), []).extend(pairs)
    return found


# --- reveal-cancel ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """Multipliers of a value's positive and negative difference, where they aren't the same."""

    plus: Tensor
    minus: Tensor

    def __add__(self, other: Signed | Tensor) -> Signed:
        """The sum of what two readers of a value send back."""
        plus, minus = (other.plus, other.minus) if isinstance(other, Signed) else (other, other)
        return Signed(self.plus + plus, self.minus + minus)

    __radd__ = __add__


@dataclass(frozen=True)
class Apart(Rule):
    """A layer with weights below a reveal-cancel node, or what carries its value there: each sign by itself.

    m_x = w^T m+ where w dx > 0, w^T m- where w dx < 0; where dx = 0 half of both (Shrikumar et al. 2017, section 3.4).
    """

    layer: bool
    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Shares by the sign of each weight's contribution."""
        if not isinstance(relevance, Signed):
            return call.vjp(relevance)
        if not self.layer:
            both = (_transposed(call, part) for part in (relevance.plus, relevance.minus))
            return [Signed(*both)]  # type: ignore[list-item]
        linear = Affine.of(call)
        up, down = linear.weights("w+"), linear.weights("w-")
        plus, minus = relevance.plus, relevance.minus
        dx = linear.x - Affine.of(r.twin(call)).x
        rising = linear.transpose(plus, up) + linear.transpose(minus, down)
        falling = linear.transpose(minus, up) + linear.transpose(plus, down)
        still = linear.transpose((plus + minus) / 2, linear.weight)
        return [torch.where(dx > 0, rising, torch.where(dx < 0, falling, still))]


def _transposed(call: Call, m: Tensor) -> Tensor:
    """J^T m of a carrier, without using up autograd's graph."""
    return torch.autograd.grad(call.output, call.inputs, m, retain_graph=True)[0]


@dataclass(frozen=True)
class RevealCancel(Rule):
    """An elementwise function after a layer: positive and negative differences apart (section 3.5.2).

    dy+ is the mean of what dz+ adds before and after dz-, likewise dy-; m+ = m dy+ / dz+, m- = m dy- / dz-.
    """

    rescale: r.Rescale
    chain: tuple[fx.Node, ...]
    needs: ClassVar[Needs] = Needs.VALUES

    def backward(self, call: Call, relevance: Tensor) -> Sequence[Any]:
        """Multipliers of both signs."""
        layer, *carriers = self.chain
        plus = _positive_part(call.others[layer])
        for carrier in carriers:
            plus = _carried(call.others[carrier], plus)
        (z, z0) = r.pairs_of(call)[0]
        minus = (z - z0) - plus
        here = [_applied(call, value) for value in (z0, z0 + plus, z0 + minus, z)]
        start, above, below, end = here
        up, down = ((above - start) + (end - below)) / 2, ((below - start) + (end - above)) / 2
        (plain,) = self.rescale.backward(call, relevance)
        assert plain is not None
        limit = 1e-6 * (z.abs() + z0.abs() + plus.abs() + minus.abs()).clamp(min=1e-6)
        flat = (plus.abs() <= limit) | (minus.abs() <= limit)
        return [
            Signed(
                torch.where(flat, plain, relevance * r.ratio(up, plus)),
                torch.where(flat, plain, relevance * r.ratio(down, minus)),
            )
        ]


def _positive_part(call: Call) -> Tensor:
    """Sum of the positive contributions to a layer's difference."""
    linear = Affine.of(call)
    dx = linear.x - Affine.of(r.twin(call)).x
    up, down = linear.weights("w+"), linear.weights("w-")
    return linear.apply(dx.clamp(min=0), up) + linear.apply(dx.clamp(max=0), down)


def _carried(call: Call, part: Tensor) -> Tensor:
    """A part of a difference through a movement; a constant that is added doesn't change it."""
    return part.expand_as(call.output) if call.node.target in o.ADDITIONS else _applied(call, part)


def _applied(call: Call, value: Tensor) -> Tensor:
    """The operator on another value in place of its one computed input."""
    args = [value if a is call.inputs[0] else a for a in call.args]
    with torch.no_grad():
        result: Tensor = call.node.target(*args, **call.kwargs)  # type: ignore[operator]
    return result


def _revealing(node: fx.Node, rule: Rule, active: frozenset[fx.Node], sources: tuple[fx.Node, ...]) -> Rule:
    """The reveal-cancel form of a node's rule, where it has one."""
    if isinstance(rule, r.Rescale) and (chain := _layer_below(node, active, sources)):
        return RevealCancel(rule, chain)
    if isinstance(rule, r.Linear) and any(
        node in (_layer_below(user, active, sources) or ())
        for user in _readers(node, active)
        if isinstance(rule_for(user, active), r.Rescale)
    ):
        return Apart(weight_position(node, active) is not None)
    return rule


def _readers(node: fx.Node, active: frozenset[fx.Node]) -> list[fx.Node]:
    """The nodes that read a value, directly or carried."""
    found: list[fx.Node] = []
    stack = [node]
    while stack:
        for user in stack.pop().users:
            if user in active:
                (stack if _carries(user, active) else found).append(user)
    return found


def _carries(node: fx.Node, active: frozenset[fx.Node]) -> bool:
    single = node.op == "call_function" and len(node.all_input_nodes) - len(active_arguments(node, active)) <= 1
    carriers = {aten.view.default, aten._unsafe_view.default, aten.permute.default, aten.clone.default,
             aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.add.Tensor}  # fmt: skip
    return single and node.target in carriers and len(active_arguments(node, active)) == 1


def _layer_below(node: fx.Node, active: frozenset[fx.Node], sources: tuple[fx.Node, ...]) -> tuple[fx.Node, ...] | None:
    """The layer with weights whose value a node reads, and what carries it there; None where it reads another."""
    chain: list[fx.Node] = []
    inputs = active_arguments(node, active)
    while len(inputs) == 1 and inputs[0] not in sources and inputs[0].op == "call_function":
        here = inputs[0]
        chain.insert(0, here)
        if weight_position(here, active):
            return tuple(chain)
        if not _carries(here, active):
            return None
        inputs = active_arguments(here, active)
    return None
