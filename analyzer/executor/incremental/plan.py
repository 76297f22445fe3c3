"""Where every window's change reaches, how much of each map is computed for it, and where to stop: the plan.

A stage is computed with regions of a few sizes. Along each spatial axis the windows' positions are put into groups of near-equal
reach, each stage with groups of its own; windows of one group per axis run in one batch with regions as long as the group's
longest, shifted inwards where they would leave the map. Regions of windows near the border are cut by it, so they are smaller.

Belongs here: regions, groups, cost, the cut between the incremental part and the rest. Not here: running (``runner``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.incremental.costs import CUT, LOAD, MOVE, RUN, SESSION, STREAM, work
from analyzer.executor.incremental.reach import Reach, Span
from analyzer.executor.incremental.stages import Chain, Stage

Corner = tuple[int, ...]
#: Windows that are also run in full when a plan is new: the first, the middle and the last one.
VERIFIED = 3
#: Most groups along an axis; windows that share a batch, as the cost model takes it.
_GROUPS, _SHARED = 8, 16


@dataclass
class Plan:
    """What is computed for every window.

    Attributes
    ----------
    windows
        Per spatial axis: the windows' intervals. The windows are their product, the last axis fastest.
    reached
        Value -> per spatial axis: what a change reaches, one interval per window position.
    groups, regions
        Per stage and spatial axis: the group of every window position, the intervals that are computed.
    cut
        How many stages are computed incrementally.
    predicted
        How many times cheaper than full runs that is by the cost model, a run on the original input and a verified window
        included.
    first
        The same with what it takes to get ready: making sessions, verifying more windows.
    share
        The part of a full run's work that a window takes.
    """

    chain: Chain
    windows: tuple[Span, ...]
    reached: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    groups: list[tuple[NDArray[np.intp], ...]] = field(default_factory=list)
    regions: list[tuple[Span, ...]] = field(default_factory=list)
    cut: int = 0
    predicted: float = 1.0
    first: float = 0.0
    share: float = 1.0

    @property
    def count(self) -> int:
        """How many windows there are."""
        return math.prod(len(span.low) for span in self.windows)

    def ordered(self) -> list[Corner]:
        """All windows as positions per axis, those of one group in the costliest stage side by side."""
        costs = [sum(work(self.chain.graph.nodes[i], self.chain.graph) for i in s.indices) for s in self.chain.stages]
        groups = self.groups[int(np.argmax(costs[: self.cut]))]
        corners = itertools.product(*(range(len(span.low)) for span in self.windows))
        return sorted(corners, key=lambda corner: [int(g[i]) for g, i in zip(groups, corner, strict=True)])

    def batches(self, stage: int, corners: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
        """Rows of windows (n, spatial axes) whose regions in a stage have one size."""
        keys = np.stack([group[corners[:, axis]] for axis, group in enumerate(self.groups[stage])], axis=1)
        _, which = np.unique(keys, axis=0, return_inverse=True)
        for number in range(int(which.max()) + 1):
            yield np.flatnonzero(which.ravel() == number)


def planned(chain: Chain, windows: Sequence[Span], samples: int = 1, verified: int = VERIFIED) -> Plan:
    """The plan of least predicted cost.

    Parameters
    ----------
    windows
        Per spatial axis: the windows' intervals.
    samples
        How many samples will be explained with it.
    verified
        How many windows of the first sample are also run in full; one of each later sample is.
    """
    plan = Plan(chain, tuple(windows))
    works = {index: work(chain.graph.nodes[index], chain.graph) for index in chain.nodes}
    full = sum(works.values())
    loaded = LOAD * sum(math.prod(tensor.dims) for tensor in chain.graph.weights.values())
    plan.reached[chain.root] = plan.windows
    done, spent = 0.0, 0.0
    for position, stage in enumerate(chain.stages):
        hull = _reached(plan, stage)
        inside = sum(works[index] for index in stage.indices)
        done += inside
        spent += _grouped(plan, position, hull, inside)
        frontier = sum(math.prod(chain.graph.shapes[name][1:]) for name in chain.frontier(position + 1))
        each = spent / plan.count + (full - done) + frontier * MOVE / 2
        ready = loaded + SESSION * (position + 2)
        total = ready + samples * (plan.count * each + 2 * full) + (verified - 1) * full
        gain = samples * plan.count * full / total
        if gain > plan.first:
            plan.cut, plan.first, plan.share = position + 1, gain, each / full
            plan.predicted = plan.count * full / (plan.count * each + 2 * full)
    return plan


def _reached(plan: Plan, stage: Stage) -> tuple[Span, ...]:
    """What a change reaches in a stage: the hull of what it reaches in its values."""
    every = []
    for part in stage.parts:
        known = [plan.reached[name] for name in part.maps if name in plan.reached]
        spans = functools.reduce(_hull, known)
        if part.reach is not None:
            spans = tuple(map(Reach.forward, part.reach, spans, stage.sides))
        plan.reached.update({name: spans for node in part.nodes for name in node.output if name})
        every.append(spans)
    return functools.reduce(_hull, every)


def _hull(a: tuple[Span, ...], b: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(one.hull(other) for one, other in zip(a, b, strict=True))


def _grouped(plan: Plan, position: int, hull: tuple[Span, ...], inside: float) -> float:
    """Chooses a stage's groups and regions; what all windows cost with them.

    The cost is area times work per position, elements moved, and starts, each of which streams the stage's weights once.
    """
    chain, stage = plan.chain, plan.chain.stages[position]
    cut = [span.within(side) for span, side in zip(hull, stage.sides, strict=True)]
    own = sum(chain.channels(name) for name in stage.maps)
    own += sum(chain.channels(name) for name in chain.exported(position, len(chain.stages))) // 2
    start = RUN + STREAM * chain.weights(position)
    cuts = CUT * plan.count * (len(stage.maps) + (stage.source is not None))
    best: tuple[float, tuple[NDArray[np.intp], ...], tuple[Span, ...]] | None = None
    for most in range(1, _GROUPS + 1):
        groups = tuple(_partition(span.width, most) for span in cut)
        regions = tuple(_shifted(span, g, side) for span, g, side in zip(cut, groups, stage.sides, strict=True))
        area = math.prod(int(region.width.sum()) for region in regions)
        moved = float(area * own)
        if stage.source is not None and stage.reach is not None:
            read = (
                sum(reach.length(int(width)) for width in region.width)
                for reach, region in zip(stage.reach, regions, strict=True)
            )
            moved += math.prod(read) * chain.channels(stage.source)
        starts = math.prod(int(g.max()) + 1 for g in groups) + plan.count / _SHARED
        cost = area * inside / math.prod(stage.sides) + moved * MOVE + cuts + starts * start
        if best is None or cost < best[0]:
            best = cost, groups, regions
    assert best is not None
    plan.groups.append(best[1])
    plan.regions.append(best[2])
    return best[0]


def _shifted(span: Span, group: NDArray[np.intp], side: int) -> Span:
    """Intervals made as long as the longest of their group and shifted inwards."""
    longest = np.array([span.width[group == g].max() for g in range(int(group.max()) + 1)])[group]
    low = np.clip(span.low, 0, side - longest)
    return Span(low, low + longest)


def _partition(widths: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """The group of every interval: at most so many groups, of least sum of (members · longest)."""
    order = np.argsort(widths, kind="stable")
    lengths, counts = np.unique(widths, return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    cost = np.full((len(lengths) + 1, len(lengths) + 1), np.inf)
    for first in range(len(lengths)):
        cost[first, first + 1 :] = lengths[first:] * (total[first + 1 :] - total[first])
    best, back = cost[0], []
    for _ in range(min(most, len(lengths)) - 1):
        sums = best[:, None] + cost
        back.append(sums.argmin(axis=0))
        best = sums.min(axis=0)
    end, bounds = len(lengths), [len(lengths)]
    for step in reversed(back):
        end = int(step[end])
        bounds.append(end)
    ends = total[sorted(set(bounds) - {0})]
    group = np.zeros(len(widths), np.intp)
    group[order] = np.searchsorted(ends, np.arange(len(widths)), side="right")
    return group
