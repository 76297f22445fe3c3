"""Running a plan: the original activations once, then every window's region stage by stage, then the rest on full maps.

Belongs here: sessions of the parts, batches. Not here: what is computed (``plan``), the models (``stages``, ``graph``),
copying (``crops``), threads (``analyzer.executor.parallel``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.batch_size import usable_cores
from analyzer.executor.incremental.crops import Map, Patch, Scratch, spatial_last
from analyzer.executor.incremental.graph import reads
from analyzer.executor.incremental.locality import Layout
from analyzer.executor.incremental.plan import Corner, Plan
from analyzer.executor.incremental.stages import HEAD, at_rank
from analyzer.executor.parallel import ordered_map
from analyzer.executor.session import Session

Array = NDArray[Any]
#: Bytes of a stage's crops, and of full maps for the rest, in one batch; windows in one batch.
_CROPS, _MAPS, _MOST = 2 * 2**20, 32 * 2**20, 64
#: The most chunks that are computed at once.
_WORKERS = 8
#: Original maps by the stage that reads them and their name there; -1 is the rest of the model.
Maps = dict[tuple[int, str], Map]


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes
    ----------
    x
        The changed input, without a batch axis.
    replacement
        What its windows become, of the same shape.
    others
        Other inputs: name -> value with one sample, the axis of samples or None.
    """

    x: Array
    replacement: Array
    others: Mapping[str, tuple[Array, int | None]]

    def feed(self, names: Sequence[str], count: int) -> dict[str, Array]:
        """The other inputs among these names for so many copies."""
        return {
            name: value if axis is None else np.repeat(value, count, axis)
            for name, (value, axis) in self.others.items()
            if name in names
        }


@dataclass(frozen=True)
class _Part:
    """A stage's session: what it is fed (name there -> value) and what comes out."""

    session: Session
    inputs: dict[str, str]
    outputs: list[str]


class Runner:
    """A plan ready to run on samples of one shape.

    Parameters
    ----------
    plan
        With at least one stage.
    fixed
        The batch that the model is fixed at, or None.

    Raises
    ------
    InputError
        ``runtime.load_failed`` where onnxruntime refuses a part.
    """

    def __init__(self, plan: Plan, fixed: int | None = None) -> None:
        self.plan, self.chain, self.fixed = plan, plan.chain, fixed
        chain, source = plan.chain, plan.chain.graph.source
        total = source.threads or usable_cores()
        self.workers = min(total, _WORKERS)
        self.threads = max(1, total // self.workers)
        self.parts = []
        for position in range(plan.cut):
            content, inputs, outputs = chain.model(position, plan.cut)
            self.parts.append(
                _Part(Session(content, source.device, (), source.files, self.threads, spin=False), inputs, outputs)
            )
        self.frontier = chain.frontier(plan.cut)
        cut, known = chain.stages[: plan.cut], {*chain.layouts, *chain.graph.given}
        needed = [name for stage in cut for name in [*stage.maps, *stage.non_spatial] if name not in stage.constants]
        self.originals = [name for name in dict.fromkeys(needed) if name not in known]
        self.original_session = self._session(self.originals, []) if self.originals else None
        self.late = [name for name in chain.wanted if name not in self.frontier]
        self._scratches: list[Scratch] = []
        self._last = {name: i for i, part in enumerate(self.parts) for name in part.inputs.values()}

    @functools.cached_property
    def rest(self) -> Session | None:
        """What follows the incremental part, which may hold most of the weights; opened when it is first run."""
        return self._session(self.late, self.frontier) if self.late else None

    def _session(self, wanted: list[str], given: list[str]) -> Session:
        """A session that computes values from given ones and from the graph's inputs."""
        graph, source = self.chain.graph, self.chain.graph.source
        nodes = [graph.nodes[position] for position in graph.needed(wanted, [*given, *graph.constant])]
        read = {name for node in nodes for name in reads(node)}
        inputs = {name: graph.declared[name] if name in graph.given else graph.free(name) for name in given}
        inputs |= {name: graph.declared[name] for name in graph.given if name in read and name not in inputs}
        return Session(graph.part(nodes, inputs, wanted), source.device, (), source.files, self.threads, spin=False)

    def run(self, sample: Sample) -> Iterator[tuple[list[Corner], dict[str, Array]]]:
        """Wanted values for all windows of a sample.

        Yields
        ------
        tuple
            Windows as positions per spatial axis, and value name -> array (windows, …); in no particular order.
        """
        maps, non_spatial = self._original(sample)
        size, corners = self._size(), self.plan.ordered()
        chunks = [corners[i : i + size] for i in range(0, len(corners), size)]

        def work(chunk: list[Corner]) -> tuple[list[Corner], dict[str, Array]]:
            try:
                scratch = self._scratches.pop()
            except IndexError:
                scratch = Scratch()
            got = self._chunk(sample, maps, non_spatial, np.array(chunk), scratch)
            self._scratches.append(scratch)
            return chunk, got

        workers = 1 if len(chunks) == 1 else self.workers
        yield from ordered_map(work, chunks, workers, ahead=2 * workers + 1)

    # --- the original run ---------------------------------------------------------------------------------------------

    def _original(self, sample: Sample) -> tuple[Maps, dict[str, Array]]:
        """Maps of the original input, and its values without spatial axes: the stages on full maps."""
        chain, values = self.chain, {self.chain.root: sample.x[None]}
        values |= {name: value for name, (value, _) in sample.others.items()}
        if self.original_session is not None:
            values |= self.original_session.run(sample.feed(self.original_session.inputs, chain.batch), self.originals)
        maps: Maps = {}
        non_spatial: dict[str, Array] = {}
        for position, part in enumerate(self.parts):
            stage = chain.stages[position]
            rank, feed = len(chain.graph.shapes[stage.made[-1]]), {}
            for local in stage.parts:
                values |= local.extra
                for name in {*local.maps, *local.extra} & {*stage.maps}:
                    feed[name] = at_rank(values[name], rank)[:1]
                    maps[position, name] = _map(feed[name], chain.layouts.get(name, local.layout))
            non_spatial |= {name: values[name][:1] for name in stage.non_spatial}
            if stage.source is not None:
                padded = self._padded(position, values[stage.source][:1], chain.layouts[stage.source])
                origin = tuple(-reach.begin for reach in stage.reach or ())
                feed[stage.source + HEAD] = padded
                maps[position, HEAD] = _map(padded, chain.layouts[stage.source], origin)
            feed |= {name: non_spatial[name] for name in stage.non_spatial}
            values |= part.session.run(feed, part.outputs)
        maps |= {(-1, name): _map(values[name], chain.layouts[name]) for name in self.frontier}
        return maps, non_spatial

    def _padded(self, position: int, values: Array, layout: Layout) -> Array:
        """An original map as the head of a stage reads it: with what lies around it, without what no output reads."""
        stage = self.chain.stages[position]
        pads, used = [(0, 0)] * values.ndim, [slice(None)] * values.ndim
        for axis, reach, side in zip(layout, stage.reach or (), stage.sides, strict=True):
            last = reach.length(side) - reach.begin
            pads[axis] = reach.begin, max(0, last - values.shape[axis])
            used[axis] = slice(0, max(0, last))
        values = values[tuple(used)]
        if any(before or after for before, after in pads):
            values = np.pad(values, pads, constant_values=np.asarray(stage.parts[0].fill, values.dtype))
        return values

    # --- windows ------------------------------------------------------------------------------------------------------

    def _size(self) -> int:
        """How many windows are taken to the rest of the model at once."""
        count = self.plan.count
        bytes_each = sum(4 * math.prod(self.chain.graph.shapes[name][1:]) for name in self.frontier)
        pieces = -(-count // int(np.clip(_MAPS // bytes_each, 1, _MOST)))
        return -(-count // (-(-pieces // self.workers) * self.workers))

    def _chunk(
        self, sample: Sample, maps: Maps, non_spatial: Mapping[str, Array], corners: Array, scratch: Scratch
    ) -> dict[str, Array]:
        """Wanted values for some windows, (windows, spatial axes)."""
        patches = self._patches(sample, maps, non_spatial, corners, scratch)
        count, full = len(corners), {}
        for name in self.frontier:
            layout, sides, original = self.chain.layouts[name], self.chain.sides(name), maps[-1, name]
            full[name] = scratch.take(name, (count, *self.chain.graph.shapes[name][1:]), original.values.dtype)
            for row, crop in enumerate(spatial_last(full[name], layout)):
                original.cut(crop, row, (0,) * len(sides), sides, patches[name])
        got = {name: full[name].copy() for name in self.chain.wanted if name in full}
        if self.rest is not None:
            step = self.fixed or count
            found = [self._late(sample, full, slice(i, i + step)) for i in range(0, count, step)]
            got |= {name: np.concatenate([part[name] for part in found])[:count] for name in self.late}
        return got

    def _late(self, sample: Sample, full: Mapping[str, Array], rows: slice) -> dict[str, Array]:
        """The rest of the model on some full maps; the last ones are repeated to fill up a fixed batch."""
        assert self.rest is not None
        feed = {name: value[rows] for name, value in full.items() if name in self.rest.inputs}
        count = max(len(value) for value in feed.values())
        if self.fixed and count < self.fixed:
            count, short = self.fixed, self.fixed - count
            feed = {n: np.concatenate([v, np.repeat(v[-1:], short, 0)]) for n, v in feed.items()}
        return self.rest.run(feed | sample.feed(self.rest.inputs, count), self.late)

    def _patches(
        self, sample: Sample, maps: Maps, non_spatial: Mapping[str, Array], corners: Array, scratch: Scratch
    ) -> dict[str, Patch]:
        """The frontier's values as far as windows change them."""
        count = len(corners)
        patches = {self.chain.root: self._replaced(sample, corners)}
        for position, part in enumerate(self.parts):
            made = {name: Patch([np.empty(0)] * count, [()] * count) for name in part.outputs}
            for rows in self.plan.batches(position, corners):
                most = self._most(position, corners[rows[0]])
                for piece in range(0, len(rows), most):
                    self._run(position, maps, non_spatial, patches, corners, rows[piece : piece + most], made, scratch)
            patches |= made
            for name in [n for n in patches if self._last.get(n, -1) <= position and n not in self.frontier]:
                del patches[name]
        return patches

    def _run(
        self, position: int, maps: Maps, non_spatial: Mapping[str, Array], patches: Mapping[str, Patch], corners: Array,
        rows: Array, made: Mapping[str, Patch], scratch: Scratch,
    ) -> None:  # fmt: skip
        """A stage for some windows whose regions have one size."""
        part, stage, spans = self.parts[position], self.chain.stages[position], self.plan.regions[position]
        starts = np.stack([span.low[corners[rows, axis]] for axis, span in enumerate(spans)], axis=1)
        lengths = [int(span.width[corners[rows[0], axis]]) for axis, span in enumerate(spans)]
        feed = {}
        for name, value in part.inputs.items():
            if name in non_spatial:
                feed[name] = non_spatial[name]
                continue
            original, first, sizes = maps.get((position, name)), starts, lengths
            if original is None and stage.reach is not None:
                original = maps[position, HEAD]
                first = np.stack([reach.start(starts[:, axis]) for axis, reach in enumerate(stage.reach)], axis=1)
                sizes = [reach.length(length) for reach, length in zip(stage.reach, lengths, strict=True)]
            assert original is not None
            layout = self.chain.layouts.get(value, stage.layouts.get(value, ()))
            shape = [
                len(rows),
                *np.moveaxis(original.values, range(-len(layout), 0), [axis - 1 for axis in layout]).shape,
            ]
            for axis, size in zip(layout, sizes, strict=True):
                shape[axis] = size
            feed[name] = scratch.take(len(feed), tuple(shape), original.values.dtype)
            crops, patch = spatial_last(feed[name], layout), patches.get(value)
            for crop, row, start in zip(crops, rows.tolist(), first.tolist(), strict=True):
                original.cut(crop, row, start, sizes, patch)
        for name, values in part.session.run(feed, part.outputs).items():
            parts = spatial_last(values, self.chain.layouts[name])
            for value, row, start in zip(parts, rows.tolist(), starts.tolist(), strict=True):
                made[name].values[row], made[name].starts[row] = value, start

    def _most(self, position: int, corner: Array) -> int:
        """How many windows of one size fit a stage's batch."""
        stage, chain = self.chain.stages[position], self.chain
        lengths = [int(span.width[i]) for span, i in zip(self.plan.regions[position], corner, strict=True)]
        largest = max(math.prod(lengths) * chain.channels(name) for name in stage.made)
        if stage.source is not None and stage.reach is not None:
            read = math.prod(reach.length(length) for reach, length in zip(stage.reach, lengths, strict=True))
            largest = max(largest, read * chain.channels(stage.source))
        return int(np.clip(_CROPS // (4 * largest), 1, _MOST))

    def _replaced(self, sample: Sample, corners: Array) -> Patch:
        """What windows become."""
        replacement = spatial_last(sample.replacement[None], self.chain.layouts[self.chain.root])[0]
        values: list[Array] = []
        starts: list[Sequence[int]] = []
        for corner in corners.tolist():
            low = [int(span.low[i]) for span, i in zip(self.plan.windows, corner, strict=True)]
            high = [int(span.high[i]) for span, i in zip(self.plan.windows, corner, strict=True)]
            values.append(replacement[(..., *map(slice, low, high))])
            starts.append(low)
        return Patch(values, starts)


def _map(values: Array, layout: Layout, origin: tuple[int, ...] | None = None) -> Map:
    """The original map of a value with one sample."""
    return Map(spatial_last(values, layout)[0], origin or (0,) * len(layout))
