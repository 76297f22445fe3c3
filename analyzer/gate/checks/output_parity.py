"""Output parity: explanations are computed on the very function that is deployed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.engines.parity import every_value, inner_runner
from analyzer.errors import UnsupportedError
from analyzer.gate.check import Check, Count, Positive, Share
from analyzer.gate.context import GateContext
from analyzer.gate.differences import Stat, difference, excess, numeric
from analyzer.gate.exhibits import exhibits, worst_of
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array, Outcome
from analyzer.importer.parity import TOLERANCE

#: Of values in float32; those of coarser types may differ by what their rounding comes to.
_RTOL = 1e-4
_NODES = 5


class OutputParityCheck(Check):
    """The trace that explanations are computed on gives what onnxruntime gives, tensor by tensor."""

    source = "an error of each value against rtol · max|tensor| + atol, as of numpy.allclose"
    kind: Literal["output_parity"] = "output_parity"
    rtol: Positive | None = None
    """Relative to the largest value of a tensor; None: 1e-4 in float32, what rounding comes to in coarser types."""
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-5
    """What is let pass of any tensor."""
    stat: Stat = "max"
    """Which error of a tensor's values counts."""
    layerwise: bool = True
    """Whether inner values count too, on the inputs whose outputs differ most."""
    layers_of: Count = 4
    """On how many."""
    mostly: Share = 1.0
    """The share of all inputs that must agree; 1 lets not one of these differ."""

    def run(self, gate: GateContext) -> Outcome:
        """Every output on every input, then every node's value on the worst few."""
        model = gate.model
        if model.random_operator is not None:
            return Outcome(status="inconclusive", message=f"{model.random_operator} draws random numbers in every run")
        try:
            found, by_output = self._outputs(gate)
        except UnsupportedError as problem:  # explained without a trace, if at all
            return Outcome(status="inconclusive", message=f"there is no trace to compare: {problem}", code=problem.code)
        if not by_output:
            return Outcome(status="inconclusive", message="the trace gives none of the outputs as numbers")
        details: dict[str, Any] = {"rtol": self._rtol(gate), "atol": self.atol, "outputs": by_output}
        because = ""
        if self.layerwise:
            first, details["layers"] = self._layers(gate, found)
            because = f"{first} is the first to differ" if first else ""
        ok = np.where(np.isnan(found), np.nan, found <= 1)
        return Outcome(
            gate.share("the share of inputs on which trace and onnxruntime agree", ok, self.mostly),
            because=because, values={"error over what is allowed": found}, details=details,
            exhibits=exhibits(
                gate, np.where(found > 1, found, np.nan), lambda at: f"values differ by {found[at]:.3g} times what is allowed"
            ),
        )  # fmt: skip

    def _rtol(self, gate: GateContext) -> float:
        if self.rtol is not None:
            return self.rtol
        return _RTOL if gate.model.tolerance <= TOLERANCE["float32"] else gate.model.tolerance

    def _outputs(self, gate: GateContext) -> tuple[Array, dict[str, float]]:
        """For each input by how much its outputs miss what is allowed, and the worst of each output."""
        model, rtol = gate.model, self._rtol(gate)
        found, by_output = np.full(gate.count, np.nan), dict[str, float]()
        for batch in gate.batches():
            expected = model.predict(batch.feed)
            traced = model.in_parts(batch.feed, model.backends.tracer.run)
            gate.evaluations += 2 * len(batch.at)
            known = {name: expected[name] for name in model.compared if name in traced}
            count = model.batch_of(batch.feed)
            each, worst = excess(traced, known, len(batch.at), count, lambda size: self.atol + rtol * size, self.stat)
            found[list(batch.at)] = each
            by_output |= {name: max(value, by_output.get(name, 0.0)) for name, value in worst.items()}
        return found, by_output

    def _layers(self, gate: GateContext, found: Array) -> tuple[str, list[dict[str, Any]]]:
        """The first node that differs on the worst inputs, whose errors it raises; and the nodes that differ most."""
        errors: dict[str, float] = {}
        run = None
        for at in worst_of(found, self.layers_of):
            batch = next(gate.batches([at]))
            mine = _first_part(gate, batch)
            values = every_value(gate.model, mine)
            pairs = [(node, name) for node in gate.model.graph.nodes for name in node.outputs if name in values]
            run = run or inner_runner(gate.model, [name for _, name in pairs])
            theirs = run(mine)
            gate.evaluations += 2
            for node, name in pairs:
                if numeric(theirs[name]) and numeric(values[name]):
                    off, size = difference(values[name], theirs[name], self.stat)
                    error = off / (self.atol + self._rtol(gate) * size)
                    errors[str(node)] = max(error, errors.get(str(node), 0.0))
                    found[at] = max(found[at], error)
        first = next((node for node, error in errors.items() if error > 1), "")
        ranked = sorted(errors, key=lambda node: -errors[node])[:_NODES]
        return first, [{"node": node, "error over what is allowed": errors[node]} for node in ranked]


def _first_part(gate: GateContext, batch: Batch) -> dict[str, Array]:
    """A batch, cut to what the model takes at once."""
    size = gate.model.part_size(batch.feed)
    return batch.feed if size is None else {name: value[:size] for name, value in batch.feed.items()}
