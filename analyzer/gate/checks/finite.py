"""Weights, activations and relevance are finite."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.gate.check import Check
from analyzer.gate.context import GateContext
from analyzer.gate.differences import flat_map
from analyzer.gate.exhibits import exhibits
from analyzer.gate.nonfinite import InnerValues
from analyzer.gate.outcome import Array, Outcome, values_of

Where = Literal["weights", "activations", "relevance"]
#: Bytes of inner values that are looked at together.
_BYTES = 128 * 2**20
_MOST, _NAMED = 32, 4


class FiniteCheck(Check):
    """Every weight, every value inside the model and every map is finite."""

    source = "IEEE 754: what isn't finite comes up where none of a node's inputs was so"
    kind: Literal["finite"] = "finite"
    where: Annotated[list[Where], Field(min_length=1)] = ["weights", "activations", "relevance"]
    """What is looked at."""

    def run(self, gate: GateContext) -> Outcome:
        """Fails at the first kind of value that isn't, naming the weight, or the node and the input."""
        looks = {"weights": _weights, "activations": _activations, "relevance": _relevance}
        values, details = dict[str, Array](), dict[str, Any]()
        for where in ("weights", "activations", "relevance"):
            if where not in self.where:
                continue
            outcome = looks[where](gate)
            if outcome.status == "fail":
                return outcome
            values |= outcome.values
            details |= outcome.details
        looked = ", ".join(dict.fromkeys(self.where))
        return Outcome(
            status="pass", message=f"{looked}: everything is finite on {gate.count} inputs", values=values, details=details
        )  # fmt: skip


def _weights(gate: GateContext) -> Outcome:
    lost = [text for text in gate.model.loaded.warnings if "[numeric.nonfinite_weight]" in text]
    if not lost:
        return Outcome()
    named = "; ".join(text.replace(" [numeric.nonfinite_weight]", "") for text in lost[:_NAMED])
    more = f"; {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    return Outcome(
        status="fail", message=named + more, code="numeric.nonfinite_weight", details={"weights": lost}
    )  # fmt: skip


def _activations(gate: GateContext) -> Outcome:
    """The first node that makes a value which isn't finite, for each input."""
    inner = InnerValues.of(gate.model)
    first = next(gate.batches([0]))
    _, size = inner.culprits(first.feed)  # only then it is known how large the values are
    most = int(np.clip(_BYTES * gate.model.batch_of(first.feed) // max(size, 1), 1, _MOST))
    culprits: dict[int, str] = {}
    for batch in gate.batches(most=most):
        found, _ = inner.culprits(batch.feed)
        gate.evaluations += len(batch.at)
        culprits |= {batch.at[row]: node for row, node in found.items() if row < len(batch.at)}
    finite = values_of({at: float(at not in culprits) for at in range(gate.count)}, gate.count)
    values, details = {"activations are finite": finite}, {} if inner.inner else {"activations": "of the outputs only"}
    if not culprits:
        return Outcome(values=values, details=details)
    nodes = sorted(set(culprits.values()), key=lambda node: -sum(each == node for each in culprits.values()))
    at = min(at for at, node in culprits.items() if node == nodes[0])
    message = f"{nodes[0]} on {gate.id(at)}, as the first; {len(culprits)} of {gate.count} inputs in all"
    return Outcome(
        status="fail", message=message, code="numeric.nonfinite_activation", values=values,
        details={**details, "first nodes": nodes, "inputs": [gate.id(at) for at in sorted(culprits)]},
        exhibits=exhibits(gate, np.where(finite > 0, np.nan, 1.0), lambda at: culprits[at]),
    )  # fmt: skip


def _relevance(gate: GateContext) -> Outcome:
    """Every map; one that is refused for not being finite counts as not finite."""
    found: dict[int, float] = {}
    refused: dict[int, str] = {}
    for batch, e in gate.explanations_of(unexplained=refused):
        for row, at in enumerate(batch.at):
            found[at] = float(np.isfinite(flat_map(gate.model, e, row)).all())
    found |= dict.fromkeys(refused, 0.0)
    values = {"maps are finite": values_of(found, gate.count)}
    lost = sorted(at for at, fine in found.items() if not fine)
    if not lost:
        return Outcome(values=values)
    why = refused.get(lost[0], "its map isn't finite")
    return Outcome(
        status="fail", message=f"{gate.id(lost[0])}: {why}; {len(lost)} of {gate.count} inputs in all", values=values,
        code="numeric.nonfinite_relevance", details={"inputs": [gate.id(at) for at in lost]},
    )  # fmt: skip
