"""Relevance totals by node of the model: what arrives at each, of both signs, and what it doesn't hand on.

Belongs here: adding up what a sweep reports (``sweep.backward``'s ``watch``), all of it (:class:`RelevanceTotals`) or, at next to
no cost, only where relevance was kept (:class:`Absorption`). Not here: the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from graph_rules.kinds import kind, weight_position
from graph_rules.operators import LAYER_NORMS, aten
from graph_rules.rule import Absorber, Call
from graph_rules.rules import Epsilon, stabilised_in_sum
from graph_rules.stabilizer import stabilize

#: A stabiliser up to this takes next to nothing beside a bias.
_SLIGHT = 1e-5


class NoTotalsError(Exception):
    """A sweep whose relevance can't be added up."""


@dataclass
class RelevanceTotals:
    """Totals over one or more sweeps.

    Attributes
    ----------
    arrived
        Graph node -> sums of all, the positive and the negative relevance of its output.
    leaked, biases
        Graph node -> what arrived there less what its inputs got; how much of that constants took that are added there.
    sweeps
        How many sweeps were watched.
    """

    arrived: dict[fx.Node, tuple[float, float, float]] = field(default_factory=dict)
    leaked: dict[fx.Node, float] = field(default_factory=dict)
    biases: dict[fx.Node, float] = field(default_factory=dict)
    sweeps: int = 0

    def watching(self) -> Callable[[Call, Any, Sequence[Tensor | None]], None]:
        """A ``watch`` for one more sweep."""
        self.sweeps += 1
        return self._watch

    def _watch(self, call: Call, amount: Any, shares: Sequence[Any]) -> None:
        outputs = call.output if isinstance(amount, list) else [call.output]
        starts: Any = None if call.reference is None else call.reference.output
        starts = starts if isinstance(amount, list) or starts is None else [starts]
        total = positive = 0.0
        for index, (part, value) in enumerate(zip(_parts(amount), outputs, strict=False)):
            if part is not None:
                all_, above = _sums(part, None if starts is None else value - starts[index])
                total, positive = total + all_, positive + above
        handed = 0.0
        for index, share in enumerate(shares):
            if share is not None:
                difference = None if call.reference is None else call.inputs[index] - call.reference.inputs[index]
                handed += _sums(share, difference)[0]
        node, before = call.node, self.arrived.get(call.node, (0.0, 0.0, 0.0))
        self.arrived[node] = (before[0] + total, before[1] + positive, before[2] + total - positive)
        self.leaked[node] = self.leaked.get(node, 0.0) + total - handed
        if call.reference is None:
            by_bias = _kept(call, amount, torch.tensor(total - handed, dtype=torch.float64)).get(Absorber.BIAS)
            self.biases[node] = self.biases.get(node, 0.0) + (0.0 if by_bias is None else float(by_bias))

    def by_onnx_node(self) -> dict[str, tuple[float, float, float, float, float]]:
        """ONNX node name -> sum, positive, negative, leak, what of that went into biases, in the order of execution.

        The relevance of an ONNX node is that of the values which other nodes read of it; its leak that of all it is
        made of.
        """
        found: dict[str, list[float]] = {}
        graphs = {node.graph for node in self.arrived}
        for node in (node for graph in graphs for node in graph.nodes if node in self.arrived):
            name = _name(node)
            if name is None:
                continue
            entry = found.setdefault(name, [0.0, 0.0, 0.0, 0.0, 0.0])
            if _leaves(node, name, self.arrived):
                for index, amount in enumerate(self.arrived[node]):
                    entry[index] += amount
            entry[3] += self.leaked[node]
            entry[4] += self.biases.get(node, 0.0)
        return {name: (entry[0], entry[1], entry[2], entry[3], entry[4]) for name, entry in found.items()}


def _parts(amount: Any) -> list[Any]:
    return amount if isinstance(amount, list) else [amount]


def _sums(relevance: Any, difference: Tensor | None) -> tuple[float, float]:
    """All and the positive relevance; multipliers of differences are weighed with those."""
    if not isinstance(relevance, Tensor):
        raise NoTotalsError("differences are handed on in two parts, which have no totals")
    amount = relevance.detach() if difference is None else relevance.detach() * difference.detach()
    return float(amount.double().sum()), float(amount.clamp(min=0).double().sum())


def _name(node: fx.Node) -> str | None:
    name = node.meta.get("onnx")
    return str(name) if name else None


def _leaves(node: fx.Node, name: str, known: dict[fx.Node, Any]) -> bool:
    """Whether another ONNX node, or nobody that was watched, reads the value."""
    readers = list(_readers(node))
    watched = [reader for reader in readers if reader in known]
    return not watched or any(_name(reader) != name for reader in watched)


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    for user in node.users:
        if user.target is getitem:
            yield from _readers(user)
        else:
            yield user


@dataclass
class Absorption:
    """Where a sweep's relevance was kept on its way; one sum for every value that relevance is handed to.

    Attributes
    ----------
    arrived
        Graph node -> the relevance of its output, as far as it has been handed out.
    kept
        (absorber, graph node) -> what arrived there less what its inputs got. At a node with a bias, the stabiliser of the
        epsilon rule is told apart from it; that of other rules, which is tiny, counts as the bias.
    """

    arrived: dict[fx.Node, Tensor | float] = field(default_factory=dict)
    kept: dict[tuple[Absorber, fx.Node], Tensor] = field(default_factory=dict)

    def watch(self, call: Call, amount: Any, shares: Sequence[Any]) -> None:
        """A ``watch`` for one sweep."""
        node = call.node
        total = self.arrived.pop(node, None)
        if total is None:
            total = sum((_sum(part) for part in _parts(amount) if part is not None), torch.zeros(()))
        handed: Tensor | float = 0.0
        for argument, share in zip(call.active, shares, strict=True):
            if share is not None:
                here = total if share is amount else _sum(share)  # a pass needs no sum
                handed = handed + here
                reader = _producer(argument)
                self.arrived[reader] = self.arrived.get(reader, 0.0) + here
        self._keep(call, amount, torch.as_tensor(total) - handed)

    def labelled(self) -> tuple[list[tuple[str, str]], Tensor]:
        """What kept relevance and the ONNX node where it did, as pairs; and how much, over all samples, a number for each."""
        labels = [(absorber.name.lower(), _name(node) or node.name) for absorber, node in self.kept]
        amounts = [amount.reshape(()).float() for amount in self.kept.values()]
        return labels, torch.stack(amounts) if amounts else torch.zeros(0)

    def _keep(self, call: Call, amount: Any, lost: Tensor) -> None:
        self.kept |= {(absorber, call.node): part for absorber, part in _kept(call, amount, lost).items()}


def _kept(call: Call, amount: Any, lost: Tensor) -> dict[Absorber, Tensor]:
    """What kept the relevance that a node didn't hand on."""
    rule = call.plan.rules[call.node]
    absorber = call.plan.cached(
        ("absorber", call.node), lambda: rule.absorber(biased(call.node, call.plan.active)), (rule,)
    )
    if absorber is Absorber.BIAS and isinstance(rule, Epsilon) and rule.epsilon > _SLIGHT:
        by_stabiliser = _stabilised(call, rule.epsilon, amount)
        return {Absorber.STABILISER: by_stabiliser, absorber: lost - by_stabiliser}
    return {absorber: lost}


def biased(node: fx.Node, active: frozenset[fx.Node]) -> bool:
    """Whether a node adds a constant to what it computes from values that depend on the explained input."""
    if weight_position(node, active):
        addends: Mapping[Any, int] = {aten.convolution.default: 2, aten.addmm.default: 0, aten.baddbmm.default: 0,
                                      aten.addmv.default: 0}  # fmt: skip
        position = addends.get(node.target)
        return position is not None and node.args[position] is not None
    if node.target in LAYER_NORMS:
        return node.args[3 if node.target is aten.native_layer_norm.default else 2] is not None
    return kind(node, active) in ("bias", "shift")


def _stabilised(call: Call, epsilon: float, amount: Tensor) -> Tensor:
    """The stabiliser's part of what the epsilon rule keeps at a node with a bias."""
    if stabilised_in_sum(call):
        return torch.zeros(())
    z = call.output.detach()
    return _sum(amount - amount * z / stabilize(z, epsilon))


def _sum(value: Tensor) -> Tensor:
    half = value.dtype in (torch.float16, torch.bfloat16)
    return value.detach().sum(dtype=torch.float32) if half else value.detach().sum()


def _producer(node: fx.Node) -> fx.Node:
    """The node that relevance of a value goes on to: an operator of several outputs in place of one of them."""
    while node.target is getitem:
        node = node.args[0]  # type: ignore[assignment]
    return node
