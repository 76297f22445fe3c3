"""Relevance totals by node of the model: what arrives at each, of both signs, and what it doesn't hand on.

Belongs here: adding up what a sweep reports (``sweep.backward``'s ``watch``). Not here: the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

from torch import Tensor, fx

from graph_rules.rule import Call


class NoTotalsError(Exception):
    """A sweep whose relevance can't be added up."""


@dataclass
class RelevanceTotals:
    """Totals over one or more sweeps.

    Attributes
    ----------
    arrived
        Graph node -> sums of all, the positive and the negative relevance of its output.
    leaked
        Graph node -> what arrived there less what its inputs got.
    sweeps
        How many sweeps were watched.
    """

    arrived: dict[fx.Node, tuple[float, float, float]] = field(default_factory=dict)
    leaked: dict[fx.Node, float] = field(default_factory=dict)
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

    def by_onnx_node(self) -> dict[str, tuple[float, float, float, float]]:
        """ONNX node name -> sum, positive, negative, leak, in the order of execution.

        The relevance of an ONNX node is that of the values which other nodes read of it; its leak that of all it is
        made of.
        """
        found: dict[str, list[float]] = {}
        graphs = {node.graph for node in self.arrived}
        for node in (node for graph in graphs for node in graph.nodes if node in self.arrived):
            name = _name(node)
            if name is None:
                continue
            entry = found.setdefault(name, [0.0, 0.0, 0.0, 0.0])
            if _leaves(node, name, self.arrived):
                for index, amount in enumerate(self.arrived[node]):
                    entry[index] += amount
            entry[3] += self.leaked[node]
        return {name: (entry[0], entry[1], entry[2], entry[3]) for name, entry in found.items()}


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
