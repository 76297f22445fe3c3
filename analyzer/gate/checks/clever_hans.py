"""No class is recognised by a mark in one place: spectral relevance analysis finds groups of inputs that are decided alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.errors import UnsupportedError
from analyzer.evaluation.spectral import Group, block_starts, coarse, directions, groups, shifted
from analyzer.gate.check import Check, Count, Share
from analyzer.gate.context import GateContext, counted
from analyzer.gate.exhibits import MOST
from analyzer.gate.outcome import Array, Exhibit, Outcome
from analyzer.gate.regions import masked_input, relevance_by_place

#: Most draws of the null distribution.
_MOST_DRAWS = 2000
#: The share of a group's relevance that its place holds.
_PLACE = 0.5
#: How many inputs of a group the details name.
_NAMED = 20


class CleverHansCheck(Check):
    """No class has a group of inputs whose relevance all lies in one place, apart from that of the others.

    The maps of each class are clustered by spectral relevance analysis; clusters that are alike are joined. A group is flagged
    where its members' maps are much nearer each other than the rest (of the class, or of the other classes where it is all of the
    class), and more so than maps that were shifted around at random ever are. Whether such a group is a watermark, or only a
    class that looks alike, is for people to see: best as a warning, and a flagged place as the mask of a ``forbidden_region``.
    """

    source = "Lapuschkin et al. 2019, Unmasking Clever Hans predictors and assessing what machines really learn (SpRAy)"
    kind: Literal["clever_hans"] = "clever_hans"
    side: Annotated[int, Field(ge=2, le=64)] = 16
    """Maps are summed over blocks, so that no axis is longer."""
    most_clusters: Annotated[int, Field(ge=2, le=32)] = 8
    """Clusters of a class, at most."""
    min_separation: Share = 0.85
    """From which separation on a group is flagged: 1 - distance of its maps inside / distance to the rest."""
    min_share: Share = 0.05
    """Smaller groups, as a share of the class, and those of fewer than 5 inputs aren't looked at."""
    min_n_per_class: Annotated[int, Field(ge=8)] = 12
    """Classes with fewer inputs aren't looked at."""
    max_n_per_class: Count = 200
    """So many inputs of a class are looked at, at most."""
    draws: Annotated[int, Field(ge=19, le=_MOST_DRAWS)] = 199
    """Draws of the null distribution, or more where many classes need them."""

    def run(self, gate: GateContext) -> Outcome:
        """Fails where a group is flagged, naming class and place."""
        maps, left_out = self._maps(gate)
        judged = {each: rows for each, rows in maps.items() if len(rows.at) >= self.min_n_per_class}
        details: dict[str, Any] = {
            "not judged": {_named(gate, k): len(v.at) for k, v in maps.items() if k not in judged}
        }
        if not judged:
            most = max((len(rows.at) for rows in maps.values()), default=0)
            message = f"no class has {self.min_n_per_class} inputs with a map, the largest {most}"
            return Outcome(status="inconclusive", message=message, left_out=left_out, details=details)
        level = (1 - gate.confidence) / len(judged)
        described, flagged, values = {}, [], np.full(gate.count, np.nan)
        for class_, rows in judged.items():
            others = [directions(other.maps) for each, other in judged.items() if each != class_]
            found = self._groups(rows.maps, np.concatenate(others) if others else None)
            values[list(rows.at)] = 0.0
            best = max(found, key=lambda group: group.separation, default=None)
            described[_named(gate, class_)] = [_told(gate, rows, group) for group in found]
            if best is not None and best.separation >= self.min_separation:
                p = self._p_value(gate, rows.maps, others, best.separation, level)
                described[_named(gate, class_)].insert(0, {"p": p, **_told(gate, rows, best)})
                if p <= level:
                    flagged.append((class_, best, p))
                    values[[rows.at[each] for each in best.members]] = 1.0
        details |= {"groups": described, "level": level}
        exhibits = [each for class_, best, _ in flagged for each in self._exhibits(gate, judged[class_], class_, best)][
            :MOST
        ]
        named = {"in a flagged group": values}
        if flagged:
            texts = [_sentence(gate, judged[class_], class_, best, p) for class_, best, p in flagged]
            message = "; ".join(texts)
            return Outcome(
                status="fail", message=message, values=named, left_out=left_out, exhibits=exhibits, details=details
            )
        message = f"no group of inputs stands apart in {len(judged)} classes"
        return Outcome(status="pass", message=message, values=named, left_out=left_out, details=details)

    def _maps(self, gate: GateContext) -> tuple[dict[int, _Maps], dict[str, int]]:
        """Explained class -> its inputs' maps, made small; why others have none -> how many."""
        found: dict[int, list[tuple[int, Array]]] = {}
        left_out, unexplained = dict[str, int](), dict[int, str]()
        shape: tuple[int, ...] = ()
        for batch, e in gate.explanations_of(unexplained=unexplained):
            name = masked_input(gate, e)
            axes = gate.model.axes(name, np.shape(e.inputs[name]))
            if not set(axes.letters) & set("TDHW"):
                raise UnsupportedError(
                    "gate.no_places", f"input {name!r} has no places that marks could share, only features",
                    "leave the check out for tables",
                )  # fmt: skip
            relevance = relevance_by_place(gate, e, "positive")
            for row, at in enumerate(batch.at):
                own = found.setdefault(e.classes[row], [])
                shape = shape or relevance.shape[1:]
                why = "" if relevance[row].any() else "no positive relevance"
                why = why if np.isfinite(relevance[row]).all() else "the map isn't finite"
                why = why if relevance.shape[1:] == shape else "the input has another size than the first"
                why = why if len(own) < self.max_n_per_class else "the class has enough inputs"
                if why:
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    own.append((at, coarse(relevance[row][None], self.side)[0]))
        maps = {
            class_: _Maps(tuple(at for at, _ in own), np.stack([map_ for _, map_ in own]), shape)
            for class_, own in sorted(found.items())
            if own
        }
        return maps, counted(unexplained.values(), left_out)

    def _groups(self, maps: Array, others: Array | None) -> list[Group]:
        """The groups of a class that are large enough."""
        least = max(5, self.min_share * len(maps))
        return [g for g in groups(directions(maps), others, self.most_clusters) if len(g.members) >= least]

    def _p_value(self, gate: GateContext, maps: Array, others: list[Array], seen: float, level: float) -> float:
        """How often maps without a common place have a group that stands as far apart; stops where that is more than rare."""
        rng = gate.generator(len(maps))
        draws = int(np.clip(np.ceil(1 / level), self.draws, _MOST_DRAWS))
        rest = np.concatenate(others) if others else None
        reached = 0
        for draw in range(draws):
            gate.within_limits()
            found = self._groups(shifted(maps, rng), rest)
            reached += max((group.separation for group in found), default=0.0) >= seen
            if reached + 1 > level * (draws + 1):
                return (reached + 1) / (draw + 2)
        return (reached + 1) / (draws + 1)

    def _exhibits(self, gate: GateContext, rows: _Maps, class_: int, group: Group) -> list[Exhibit]:
        place = _place(rows, group)
        caption = f"one of {len(group.members)} inputs of {_named(gate, class_)} with their relevance in one place"
        chosen = [rows.at[each] for each in group.members[:MOST]]
        return [Exhibit(gate.id(at), caption, gate.explanation(at), mask=place) for at in chosen]


@dataclass(frozen=True)
class _Maps:
    """Inputs of a class: their positions, their small maps (n, places…), and how large a map is."""

    at: tuple[int, ...]
    maps: Array
    shape: tuple[int, ...]


def _named(gate: GateContext, class_: int) -> str:
    """A class by its name; all inputs where what is explained is no class."""
    labels = gate.model.labels
    if class_ < 0:
        return "all inputs"
    return f"class {labels.names[class_] if labels is not None and class_ < len(labels.names) else class_}"


def _place(rows: _Maps, group: Group) -> Array:
    """The fewest places that hold half of a group's relevance, bool of the size of a map."""
    shares = rows.maps[group.members]
    mean = (shares / shares.reshape(len(shares), -1).sum(axis=1).reshape([-1] + [1] * (shares.ndim - 1))).mean(axis=0)
    order = np.argsort(-mean, axis=None, kind="stable")
    needed = int(np.searchsorted(np.cumsum(mean.reshape(-1)[order]), _PLACE * mean.sum())) + 1
    inside = np.zeros(mean.size, bool)
    inside[order[:needed]] = True
    inside = inside.reshape(mean.shape)
    for axis, size in enumerate(rows.shape):
        starts = block_starts(size, mean.shape[axis])
        inside = np.repeat(inside, np.diff([*starts, size]), axis)
    return inside


def _sentence(gate: GateContext, rows: _Maps, class_: int, group: Group, p: float) -> str:
    where = np.argwhere(_place(rows, group))
    spans = " by ".join(f"{low} to {high}" for low, high in zip(where.min(axis=0), where.max(axis=0), strict=True))
    return (
        f"{len(group.members)} of {len(rows.at)} inputs of {_named(gate, class_)} have their relevance in one place, "
        f"{spans}, separation {group.separation:.2f} (p = {p:.3g})"
    )


def _told(gate: GateContext, rows: _Maps, group: Group) -> dict[str, Any]:
    """A group, JSON-ready."""
    return {
        "count": len(group.members), "inputs": [gate.id(rows.at[each]) for each in group.members[:_NAMED]],
        "coherence": group.coherence, "separation": group.separation,
    }  # fmt: skip
