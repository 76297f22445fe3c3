"""The model's explanations are still those of the reference: of the float model, or of the version before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from analyzer.errors import ParityError
from analyzer.evaluation.similarity import Found, ndcg, spearman, top_k_overlap
from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation
from analyzer.gate.check import Check, Count, Share
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import worst_of
from analyzer.gate.outcome import Array, Exhibit, Outcome, values_of
from analyzer.model import Model

#: Rank correlation, overlap, nDCG.
Alike = tuple[float, float, float]
#: Positions of inputs, their explanation, the reference's.
Pair = tuple[tuple[int, ...], Explanation, Explanation]
_NAMES = ("rank correlation", "top-k overlap", "nDCG")


class ExplanationDriftCheck(Check):
    """Where the model and the reference agree on the class, they agree on what it depends on.

    The same inputs are explained in both for the same target. Inputs that they put into different classes are left out, and
    counted: that is for a check of outputs to judge. A map that ranks nothing beside one that does counts as agreeing in nothing.
    """

    needs = ("reference",)
    source = "nDCG: Järvelin, Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques"
    kind: Literal["explanation_drift"] = "explanation_drift"
    against: Literal["reference"] = "reference"
    """What it is compared with."""
    spearman_median: Annotated[float, Field(ge=-1, le=1)] | None = 0.8
    """What the median rank correlation of the two maps must be at least; None doesn't ask."""
    topk_overlap_p10: Share | None = 0.5
    """What the 10 % quantile of the overlap of the most relevant elements must be at least; None doesn't ask."""
    k: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Which share of the elements are the most relevant ones."""
    ndcg_min: Share | None = 0.9
    """What every input's nDCG must be at least, by the reference's absolute relevance; None doesn't ask."""
    per_class: bool = True
    """Whether no class may be worse."""
    columns: list[str] = []
    """Slice columns of which no part may be worse."""
    min_n_per_class: Count = 5
    """Classes and slices with fewer inputs aren't judged by themselves."""

    def run(self, gate: GateContext) -> Outcome:
        """The statements asked for, about the inputs whose class is unchanged."""
        reference = gate.reference
        assert reference is not None  # the policy was refused without
        changed = np.array(gate.predicted) != np.array(gate.predictions(reference))
        try:
            found, left_out = self._similarities(_together(gate, reference), changed)
        except ParityError:  # it may be few inputs alone
            found, left_out = self._similarities(_one_by_one(gate, reference), changed)
        if gone := gate.count - int(changed.sum()) - len(found) - sum(left_out.values()):
            left_out["the model can't be traced as onnxruntime runs it"] = gone
        if changed.any():
            left_out["the class changed"] = int(changed.sum())
        values = {
            name: values_of({at: alike[place] for at, alike in found.items()}, gate.count)
            for place, name in enumerate(_NAMES)
        }
        details = {"class changed": [gate.id(int(at)) for at in np.flatnonzero(changed)[:20]]}
        return Outcome(
            self._tests(gate, values), values=values, left_out=left_out, exhibits=self._exhibits(gate, values), details=details
        )  # fmt: skip

    def _similarities(self, pairs: Iterator[Pair], changed: Array) -> tuple[dict[int, Alike], dict[str, int]]:
        """Position -> how alike the two maps of an input are; why some have none -> how many."""
        found, left_out = dict[int, Alike](), dict[str, int]()
        for positions, own, theirs in pairs:
            for row, at in enumerate(positions):
                if changed[at]:
                    continue
                alike = _alike(_flat(theirs, row), _flat(own, row), self.k)
                if isinstance(alike, str):
                    left_out[alike] = left_out.get(alike, 0) + 1
                else:
                    found[at] = alike
        return found, left_out

    def _tests(self, gate: GateContext, values: dict[str, Array]) -> list[Bounded]:
        parts, least = gate.parts(self.per_class, self.columns), self.min_n_per_class
        correlation, overlap, gain = values.values()
        tests = []
        if self.spearman_median is not None:
            tests += gate.quantile(
                "the median rank correlation", correlation, 0.5, self.spearman_median, "at least", parts, least
            )
        if self.topk_overlap_p10 is not None:
            name = f"the 10 % quantile of the overlap of the top {self.k:.0%}"
            tests += gate.quantile(name, overlap, 0.1, self.topk_overlap_p10, "at least", parts, least)
        if self.ndcg_min is not None:
            fine = np.where(np.isnan(gain), np.nan, gain >= self.ndcg_min)
            tests += gate.share(f"the share of inputs with an nDCG of at least {self.ndcg_min:g}", fine, 1.0)
        return tests

    def _exhibits(self, gate: GateContext, values: dict[str, Array]) -> list[Exhibit]:
        found = []
        correlation, overlap, gain = values.values()
        for at in worst_of(-correlation):
            caption = (
                f"rank correlation {correlation[at]:.3f}, overlap of the top {self.k:.0%} {overlap[at]:.2f}, "
                f"nDCG {gain[at]:.3f}"
            )
            other = gate.explanation(at, model=gate.reference)
            found.append(Exhibit(gate.id(at), caption, gate.explanation(at), ("the reference", other)))
        return found


def _together(gate: GateContext, reference: Model) -> Iterator[Pair]:
    both = zip(gate.explanations_of(), gate.explanations_of(model=reference), strict=True)
    for (batch, own), (_, theirs) in both:
        yield batch.at, own, theirs


def _one_by_one(gate: GateContext, reference: Model) -> Iterator[Pair]:
    """The inputs that both models can be explained on."""
    for at in range(gate.count):
        with contextlib.suppress(ParityError):
            yield (at,), gate.explanation(at), gate.explanation(at, model=reference)


def _flat(e: Explanation, row: int) -> Array:
    return np.concatenate([np.asarray(value[row], np.float64).reshape(-1) for value in e.attributions.values()])


def _alike(reference: Array, own: Array, k: float) -> Alike | str:
    """Rank correlation, overlap and nDCG of two maps; a reason where the reference's ranks nothing."""
    if not np.isfinite(reference).all() or np.ptp(reference) == 0:
        return "the reference's map ranks nothing"
    found: tuple[Found, ...] = (
        spearman(reference, own), top_k_overlap(reference, own, k), ndcg(reference, own),
    )  # fmt: skip
    one, two, three = (0.0 if isinstance(each, str) else each for each in found)
    return one, two, three
