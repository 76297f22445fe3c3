"""The model doesn't decide by a region that has nothing to do with the class: a watermark, a tag, a scanner's mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.explanation import Explanation
from analyzer.gate.check import Check, Count, FilePath, Positive, Share
from analyzer.gate.context import GateContext, counted
from analyzer.gate.exhibits import worst_of
from analyzer.gate.inputs import Batch
from analyzer.gate.interventions import class_probabilities, pasted, read_patch, without
from analyzer.gate.outcome import Array, Exhibit, Outcome
from analyzer.gate.regions import (
    RegionOf,
    Relevance,
    mass_over_area,
    mirrored,
    region_reader,
    relevance_by_place,
    require_places,
)


class ForbiddenRegionCheck(Check):
    """A region that should not matter gets no undue relevance, and removing what is in it changes no class.

    An input speaks against the model where its relevance lies in the region far beyond the region's area, and beyond that of the
    same region on the input's other side; and (``require = "both"``) where the class's probability moves once the region is
    filled from around it, or something is pasted into it. Relevance alone is known to be high on watermarks that no class
    depends on; an intervention alone says nothing where the region covers the object.
    """

    needs = ("masks",)
    source = (
        "Lapuschkin et al. 2019, Unmasking Clever Hans predictors; false alarms of relevance alone: arXiv 2602.09238"
    )
    kind: Literal["forbidden_region"] = "forbidden_region"
    masks: FilePath | None = None
    """A folder of masks with the inputs' names, or one mask for all; those of the data where it isn't given."""
    relevance: Relevance = "positive"
    """Which relevance counts."""
    max_mass_over_area: Positive = 3.0
    """From which share of the relevance on, over the share of the input, an input speaks against the model."""
    control: Literal["mirrored_region", "none"] = "mirrored_region"
    """The region must also have more than the same region on the other side; inputs where the two overlap are left out."""
    intervention: Literal["inpaint", "paste"] = "inpaint"
    """Fill the region from around it, or paste a patch into inputs without it and look at these."""
    patch: FilePath | None = None
    """For ``paste``: an input, relative to the policy, whose values in the region are pasted."""
    max_prob_change: Share = 0.05
    """From which change of the explained class's probability on an input speaks against the model."""
    require: Literal["both", "either"] = "both"
    """Whether relevance and intervention must agree on an input, or one is enough."""
    mostly: Share = 0.95
    """The share of all inputs, and of each class, that must not speak against the model."""
    per_class: bool = True
    """Whether no class may be worse: a tag may give away a single class."""
    columns: list[str] = []
    """Slice columns of which no part may be worse."""
    min_n_per_class: Count = 5
    """Classes and slices with fewer inputs aren't judged by themselves."""

    def run(self, gate: GateContext) -> Outcome:
        """The share of inputs that don't speak against the model, of all and of each class."""
        require_places(gate)
        seen = _Seen(self, gate, region_reader(gate, self.id, self.masks))
        for batch, e in seen.in_question():
            seen.look(batch, e)
        against = seen.against()
        ok = np.where(np.isnan(against), np.nan, 1 - against)
        parts = gate.parts(self.per_class, self.columns)
        name = "the share of inputs that the region doesn't decide"
        tests = gate.share(name, ok, self.mostly, parts, self.min_n_per_class)
        exhibits = [seen.exhibit(at) for at in worst_of(against + seen.values["probability change"])]
        values = {**seen.values, "speaks against the model": against}
        return Outcome(tests, values=values, left_out=counted(seen.left_out.values()), exhibits=exhibits)


@dataclass(frozen=True)
class _Pair:
    """An input with what is in question, the same without it, the region, and the region elsewhere."""

    present: dict[str, Array]
    absent: dict[str, Array]
    region: Array
    control: Array | None


@dataclass
class _Seen:
    """What was seen in the inputs so far.

    Attributes
    ----------
    left_out
        Position of an input -> why it can't be judged.
    """

    check: ForbiddenRegionCheck
    gate: GateContext
    region: RegionOf
    left_out: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("mass over area", "mass over area of the control", "probability change")
        self.values = {name: np.full(self.gate.count, np.nan) for name in names}
        self.name = str(self.gate.dataset.masked)
        self.patch: Array | None = None
        check = self.check
        if check.intervention == "paste":
            if check.patch is None:
                message = f'check {check.id!r}: patch: it is missing, and intervention = "paste"'
                raise UsageError("config.gate", message, "name an input whose values in the region are pasted")
            self.patch = read_patch(self.gate.model, self.gate.folder / check.patch, self.name, check.id)

    def in_question(self) -> Iterator[tuple[Batch, Explanation]]:
        """The inputs with what is in question, explained: as they are, or with the patch pasted in."""
        if self.patch is None:
            yield from self.gate.explanations_of(unexplained=self.left_out)
            return
        for batch in self.gate.batches():
            rows = [(at, pair.present) for at in batch.at if (pair := self._pair(at)) is not None]
            if rows:
                joined = self.gate.joined(rows)
                yield joined, self._explained(joined)

    def look(self, batch: Batch, e: Explanation) -> None:
        """Take in a batch's relevance in the region, and what its classes' probabilities do without what lies there."""
        pairs = {row: pair for row, at in enumerate(batch.at) if (pair := self._pair(at)) is not None}
        if not pairs:
            return
        relevance = relevance_by_place(self.gate, e, self.check.relevance)
        before = class_probabilities(self.gate.model, batch.feed)
        absent = self.gate.joined([(batch.at[row], pair.absent) for row, pair in pairs.items()])
        after = class_probabilities(self.gate.model, absent.feed)
        self.gate.evaluations += len(batch.at) + len(pairs)
        for place, (row, pair) in enumerate(pairs.items()):
            at, mass = batch.at[row], mass_over_area(relevance[row], pair.region)
            explained = e.classes[row] if before.shape[1] > 1 else 0
            if np.isnan(mass) or explained < 0:
                self.left_out[at] = (
                    f"no {self.check.relevance} relevance" if np.isnan(mass) else "no class is explained"
                )
                continue
            elsewhere = np.nan if pair.control is None else mass_over_area(relevance[row], pair.control)
            change = abs(before[row, explained] - after[place, explained])
            for name, value in zip(self.values, (mass, elsewhere, change), strict=True):
                self.values[name][at] = value

    def against(self) -> Array:
        """1 for each input that speaks against the model, 0 for others, NaN for those that were left out."""
        mass, control, change = self.values.values()
        high = (mass > self.check.max_mass_over_area) & (np.isnan(control) | (mass > control))
        moves = change > self.check.max_prob_change
        return np.where(np.isnan(mass), np.nan, high & moves if self.check.require == "both" else high | moves)

    def exhibit(self, at: int) -> Exhibit:
        """An input with what is in question, and beside it the same without."""
        pair = self._pair(at)
        assert pair is not None
        shown = [self.gate.joined([(at, feed)]) for feed in (pair.present, pair.absent)]
        e, other = (self._explained(each) for each in shown)
        before, after = (self._named(class_probabilities(self.gate.model, each.feed)[0]) for each in shown)
        times = self.values["mass over area"][at]
        caption = f"the region has {times:.1f} times the relevance of its area; {before} with it, {after} without"
        return Exhibit(self.gate.id(at), caption, e, (f"without it: {after}", other), pair.region)

    def _named(self, probabilities: Array) -> str:
        best, labels = int(probabilities.argmax()), self.gate.model.labels
        name = labels.names[best] if labels is not None and best < len(labels.names) else f"class {best}"
        return f"{name} ({probabilities[best]:.2f})"

    def _pair(self, at: int) -> _Pair | None:
        """None, with its reason noted, where an input can't be judged."""
        region = self.region(at)
        control = mirrored(region) if self.check.control == "mirrored_region" and not isinstance(region, str) else None
        if isinstance(region, str):
            self.left_out[at] = region
            return None
        if control is None and self.check.control == "mirrored_region":
            self.left_out[at] = "the region overlaps its control on every side"
            return None
        feed, model = dict(self.gate.sample(at).feed), self.gate.model
        if self.patch is None:
            return _Pair(feed, without(model, feed, self.name, region), region, control)
        present = pasted(model, feed, self.name, region, self.patch)
        if present is None:
            self.left_out[at] = "the patch is there already"
            return None
        return _Pair(present, feed, region, control)

    def _explained(self, batch: Batch) -> Explanation:
        """As the policy says; a predicted class is the one that the model gives these inputs, not those of the data."""
        targets = None
        if self.gate.policy.explain.target == "predicted" and -1 not in self.gate.predicted:
            targets = [
                int(each) for each in class_probabilities(self.gate.model, batch.feed)[batch.rows].argmax(axis=1)
            ]
        return self.gate.explain(batch, targets=targets)
