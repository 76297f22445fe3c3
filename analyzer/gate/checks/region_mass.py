"""The relevance lies where the object is."""

from __future__ import annotations

from typing import Literal

import numpy as np

from analyzer.gate.check import Check, Count, FilePath, Positive
from analyzer.gate.context import GateContext, counted
from analyzer.gate.exhibits import worst_of
from analyzer.gate.outcome import Array, Exhibit, Outcome, values_of
from analyzer.gate.regions import Relevance, mass_over_area, region_reader, relevance_by_place


class RegionMassCheck(Check):
    """A typical input has its relevance on the object, in every class."""

    needs = ("masks",)
    source = "Arras et al. 2022, CLEVR-XAI: a benchmark dataset for the ground truth evaluation of explanations, eq. 3"
    kind: Literal["region_mass"] = "region_mass"
    masks: FilePath | None = None
    """A folder of masks with the inputs' names, or one mask for all; those of the data where it isn't given."""
    relevance: Relevance = "positive"
    """Which relevance counts."""
    min_mass_over_area: Positive = 1.5
    """What the median must be at least: the object's share of the relevance over its share of the input."""
    per_class: bool = True
    """Whether no class may be worse; a class is the true one where all are known, else the predicted one."""
    columns: list[str] = []
    """Slice columns of which no part may be worse."""
    min_n_per_class: Count = 30
    """Classes and slices with fewer inputs aren't judged by themselves."""

    def run(self, gate: GateContext) -> Outcome:
        """The median of mass over area, of all inputs and of each class."""
        region = region_reader(gate, self.id, self.masks)
        found, masks, left_out = dict[int, float](), dict[int, Array](), dict[str, int]()
        unexplained: dict[int, str] = {}
        for batch, e in gate.explanations_of(unexplained=unexplained):
            relevance = relevance_by_place(gate, e, self.relevance)
            for row, at in enumerate(batch.at):
                mask = region(at)
                if isinstance(mask, str):
                    left_out[mask] = left_out.get(mask, 0) + 1
                elif np.isnan(value := mass_over_area(relevance[row], mask)):
                    why = f"no {self.relevance} relevance"
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    found[at], masks[at] = value, mask
        values, left_out = values_of(found, gate.count), counted(unexplained.values(), left_out)
        parts = gate.parts(self.per_class, self.columns)
        tests = gate.quantile(
            "the median relevance mass over area", values, 0.5, self.min_mass_over_area, "at least", parts, self.min_n_per_class
        )  # fmt: skip
        few = {name: int((inside & ~np.isnan(values)).sum()) for name, inside in parts.items()}
        details = {"not judged by themselves": {n: c for n, c in few.items() if c < self.min_n_per_class}}
        exhibits = [
            Exhibit(gate.id(at), f"mass over area {values[at]:.2f}", gate.explanation(at), mask=masks[at])
            for at in worst_of(-values)
        ]
        return Outcome(tests, values={"mass over area": values}, left_out=left_out, exhibits=exhibits, details=details)
