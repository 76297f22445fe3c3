"""The model's inner values are still those of the reference, up to noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from analyzer.errors import InconclusiveError
from analyzer.evaluation.counterparts import Counterparts, counterparts, label
from analyzer.evaluation.node_drift import tensor_sqnr
from analyzer.explanation import Explanation
from analyzer.gate.check import Check, Count, Finite
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array, Outcome, values_of
from analyzer.model import Model

#: Bytes of inner values that are held at once, of both models together.
_BYTES = 256 * 2**20
#: How many tensors the details name.
_NAMED = 10
#: Signal to noise of equal values, dB.
_EQUAL = 200.0


class TensorSqnrCheck(Check):
    """A typical input's noisiest tensor still has enough signal over noise.

    Values of the model are held against those of the reference that they stand for, by the names of nodes and values; the noise
    is what they differ by, everything before them included. It can't say whether explanations moved: that is
    ``explanation_drift``.
    """

    needs = ("reference",)
    source = "signal to quantisation noise, 10 log10(sum v² / sum (v - w)²), as of onnxruntime's quantisation debugger"
    kind: Literal["tensor_sqnr"] = "tensor_sqnr"
    against: Literal["reference"] = "reference"
    """What it is compared with."""
    min_db: Finite = 20.0
    """What the median over the inputs of the lowest signal to noise of any tensor must be at least, in dB."""
    samples: Count = 200
    """Of so many inputs at most."""

    def run(self, gate: GateContext) -> Outcome:
        """The median of each input's lowest signal to noise; the worst tensors are named in the details."""
        reference = gate.reference
        assert reference is not None  # the policy was refused without
        matched = counterparts(reference.proto.graph, gate.model.proto.graph)
        if not matched.pairs:
            raise InconclusiveError(
                "gate.no_counterparts", "no value of the model stands for one of the reference: no name is the same",
                "quantise or optimise in a way that keeps names",
            )  # fmt: skip
        lowest, by_tensor = dict[int, float](), dict[str, list[float]]()
        for batch in gate.batches(range(min(gate.count, self.samples))):
            for at, found in _noise(gate, reference, matched, batch):
                for name, decibel in found.items():
                    by_tensor.setdefault(name, []).append(decibel)
                if found:
                    lowest[at] = min(found.values())
        values = values_of(lowest, gate.count)
        left_out = {"no inner value can be compared": gate.count - len(lowest)} if len(lowest) < gate.count else {}
        tests = gate.quantile(
            "the median of the noisiest tensor's signal to noise in dB", values, 0.5, self.min_db, "at least"
        )
        medians = {name: float(np.median(own)) for name, own in by_tensor.items()}
        named = sorted(medians, key=lambda name: medians[name])[:_NAMED]
        details = {
            "tensors": len(medians),
            "worst": [{"tensor": n, "node": _node(matched, n), "db": medians[n]} for n in named],
        }
        because = f"{named[0]!r} is the noisiest, {medians[named[0]]:.1f} dB" if named else ""

        def other(at: int, _: Explanation) -> tuple[str, Explanation]:
            return "the reference", gate.explanation(at, model=reference)

        shown = exhibits(gate, -values, lambda at: f"the noisiest tensor has {values[at]:.1f} dB", other)
        return Outcome(
            tests, because=because, values={"lowest signal to noise, dB": values}, left_out=left_out, exhibits=shown,
            details=details,
        )  # fmt: skip


def _noise(
    gate: GateContext, reference: Model, matched: Counterparts, batch: Batch
) -> Iterator[tuple[int, dict[str, float]]]:
    """Each input's position, and the signal to noise of the reference's values that have a counterpart."""
    pairs = {name: pair.first for name, pair in matched.pairs.items()}
    fixed = gate.model.fixed_batch or reference.fixed_batch
    start, step, total = 0, fixed or 1, len(next(iter(batch.feed.values())))
    axes = gate.model.batch_axes(batch.feed, total)
    while start < len(batch.at):
        rows = range(start, min(start + step, total))
        feed = {n: v if axes[n] is None else v.take(rows, axes[n]) for n, v in batch.feed.items()}
        mine = reference.values(gate.feed_for(reference, feed), sorted(set(pairs.values())))
        theirs = gate.model.values(feed, sorted(pairs))
        gate.evaluations += 2 * len(rows)
        gate.within_limits()
        for place, row in enumerate(rows):
            if row < len(batch.at):
                yield batch.at[row], _of_row(mine, theirs, pairs, place, len(rows))
        held = sum(_bytes(value) for values in (mine, theirs) for value in values.values()) // len(rows)
        start, step = start + len(rows), fixed or max(1, min(total, _BYTES // max(held, 1)))


def _of_row(
    mine: Mapping[str, Array], theirs: Mapping[str, Array], pairs: Mapping[str, str], row: int, count: int
) -> dict[str, float]:
    """By value of the reference; what isn't floating-point, of another shape, without rows or zero everywhere isn't there."""
    found: dict[str, float] = {}
    for name, first in pairs.items():
        a, b = mine[first], theirs[name]
        both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype.kind == "f"
        if not both or b.dtype.kind != "f" or a.shape[:1] != (count,):
            continue
        decibel = tensor_sqnr(a[row], b[row])
        if not np.isnan(decibel):
            found[first] = min(found.get(first, _EQUAL), decibel)
    return found


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _node(matched: Counterparts, name: str) -> str:
    """The reference's node that gives a value; empty for an input."""
    maker = matched.a.maker.get(name)
    return label(maker) if maker is not None else ""
