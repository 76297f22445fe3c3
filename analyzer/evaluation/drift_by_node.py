"""Which nodes make explanations of a changed model move: the error that each brings in, weighted by how the score depends on it.

Belongs here: running the second model's nodes on the first one's values, ranking them, and which to keep as they were. Not here:
which values stand for one another (``counterparts``), what is found (``node_drift``), how far maps moved (``comparison``).

Let v be a value of the first model and g the derivative of the explained score by it. What the second model's node gives there
*on the first model's inputs* differs from v by ε, the error that this node alone brings in; what its inputs already bring along
isn't in it. To first order ε changes the score by sum(g ε), and moves relevance gradient × value by g ε at every element: the sum
of |g ε| is how much relevance moves. An error where nothing is read, or where elements hardly matter, counts for as little as it
does; signal to noise alone, which adds up from layer to layer, names what lies last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analyzer.evaluation.counterparts import STORING, Counterpart, Counterparts, Wiring, counterparts, label
from analyzer.evaluation.measure import Array
from analyzer.evaluation.node_drift import DriftByNode, NodeDrift, Site, decibel
from analyzer.executor.cut_model import CutModel
from analyzer.explain.inner_gradients import InnerGradients
from analyzer.explain.request import Request
from analyzer.model import Model

#: Operators that a quantiser lets follow what is before them: alone they quantise nothing.
FOLLOWING = frozenset(
    {"Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout",
     "DepthToSpace", "SpaceToDepth", "Slice", "Split", "Gather", "Pad", "Expand"}
)  # fmt: skip
#: The share of nodes that must have a counterpart for any to be proposed.
_MATCHED = 0.5
#: Bytes of one model's inner values that are held at once.
_BYTES = 64 * 2**20
#: The share of all relevance that moves which the proposed nodes should account for; then no more are proposed.
_ENOUGH = 0.9


@dataclass
class _Sums:
    """Sums over the inputs at one value of the second model."""

    relevance: float = 0.0
    score: float = 0.0
    signal: float = 0.0
    local: float = 0.0
    noise: float = 0.0


@dataclass
class DriftMeter:
    """Adds up, batch by batch, what each node of the second model brings in.

    Attributes
    ----------
    first, second
        Two models with the same inputs, by name.
    """

    first: Model
    second: Model
    inputs: int = field(default=0, init=False)
    _sums: dict[str, _Sums] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.matched: Counterparts = counterparts(self.first.proto.graph, self.second.proto.graph)
        self._inner = InnerGradients(self.first.backends)
        self._cut: tuple[Any, CutModel] | None = None
        self._read: set[str] = set()  # the first model's values on which the score depends
        self._at_once = 1  # until it is known how large the inner values of a sample are

    def add(self, feed: dict[str, Array], other: dict[str, Array], request: Request, count: int | None = None) -> None:
        """Take in one batch, a few samples at a time where its inner values are large.

        Parameters
        ----------
        feed, other
            The batch as the first and as the second model names and types it.
        request
            What is explained in the first.
        count
            How many of the samples count; those after them only fill the batch.

        Raises
        ------
        UnsupportedError
            Where the first model has no gradient.
        """
        batch = self.first.batch_of(feed)
        count = batch if count is None else count
        step = math.lcm(self.first.fixed_batch or 1, self.second.fixed_batch or 1)
        rows = all(axis == 0 for axis in self.first.batch_axes(feed, batch).values()) and batch % step == 0
        start = 0
        while start < count:
            size = max(step, self._at_once // step * step) if rows else batch
            cut = slice(start, start + size)
            parts = [{name: value[cut] if rows else value for name, value in each.items()} for each in (feed, other)]
            target = request.target
            own = target[cut] if rows and isinstance(target, list | np.ndarray) else target
            self._take_in(parts[0], parts[1], replace(request, target=own), min(size, count - start))
            start += size

    def _take_in(self, feed: dict[str, Array], other: dict[str, Array], request: Request, count: int) -> None:
        pairs, batch = self.matched.pairs, self.first.batch_of(feed)
        names, others = sorted({pair.first for pair in pairs.values()}), sorted(pairs)
        mine = self.first.in_parts(feed, lambda part: self.first.values(part, names))
        theirs = self.second.in_parts(other, lambda part: self.second.values(part, others))
        alike = {name: pair for name, pair in pairs.items() if _comparable(mine[pair.first], theirs[name])}
        if self.second.fixed_batch is not None:
            alike = {name: pair for name, pair in alike.items() if len(theirs[name]) == batch}
        gradients = self._gradients(feed, request, self.matched.a.variable)
        self._read |= gradients.keys()
        own = self._own(other, {name: mine[pair.first].astype(theirs[name].dtype) for name, pair in alike.items()})
        for name, value in own.items():
            first = alike[name].first
            rows = mine[first].ndim > 0 and len(mine[first]) == batch
            kept = slice(count) if rows else ...
            gradient = gradients[first][kept] if first in gradients else None
            self._add(name, mine[first][kept], value[kept], theirs[name][kept], gradient, rows)
        self.inputs += count
        held = sum(value.nbytes for value in mine.values() if isinstance(value, np.ndarray))
        self._at_once = max(1, _BYTES * batch // max(held, 1))

    def _gradients(self, feed: dict[str, Array], request: Request, names: Set[str]) -> dict[str, Array]:
        """The derivatives of the score in the first model, part by part where its batch is fixed."""
        if self.first.part_size(feed) is None:
            return self._inner.of(feed, request, names)
        starts = iter(range(0, self.first.batch_of(feed), self.first.fixed_batch or 1))

        def part_of(part: dict[str, Array]) -> dict[str, Array]:
            start, target = next(starts), request.target
            own = target[start : start + self.first.batch_of(part)] if isinstance(target, list | np.ndarray) else target
            return self._inner.of(part, replace(request, target=own), names)

        return self.first.in_parts(feed, part_of)

    def _own(self, feed: dict[str, Array], given: dict[str, Array]) -> dict[str, Array]:
        """What each node of the second model gives where it is given the first model's values."""
        kinds = {name: (value.dtype, value.ndim) for name, value in given.items()}
        if self._cut is None or self._cut[0] != kinds:
            self._cut = kinds, CutModel(self.second.proto, kinds, self.second.files)
        cut = self._cut[1]

        def run(part: dict[str, Array]) -> dict[str, Array]:
            return cut.run({name: part[name] for name in given}, {name: part[name] for name in feed})

        return self.second.in_parts({**feed, **given}, run)

    def _add(self, name: str, value: Array, own: Array, whole: Array, gradient: Array | None, rows: bool) -> None:
        sums = self._sums.setdefault(name, _Sums())
        signal = np.asarray(value, np.float64)
        error = np.asarray(own, np.float64) - signal
        sums.signal += float((signal * signal).sum())
        sums.local += float((error * error).sum())
        sums.noise += float(((np.asarray(whole, np.float64) - signal) ** 2).sum())
        if gradient is not None:
            moved = (gradient.astype(np.float64) * error).reshape(len(error) if rows else 1, -1)
            sums.relevance += float(np.abs(moved).sum())
            sums.score += float(np.abs(moved.sum(axis=1)).sum())

    def result(self, share: float = 0.1) -> DriftByNode:
        """The ranking.

        Parameters
        ----------
        share
            How many nodes may be proposed to be kept, as a share of those that the score depends on; at least one.
        """
        graph = self.matched.a
        sites = sorted(self._sites(), key=lambda site: -site.relevance)
        total = sum(site.relevance for site in sites) or 1.0
        sqnr = self._sqnr()
        by_node: dict[str, list[Site]] = {}
        for site in sites:
            by_node.setdefault(site.node, []).append(site)
        nodes = [
            NodeDrift(
                node, own[0].op, sum(s.relevance for s in own) / total, sum(s.relevance for s in own),
                sum(s.score for s in own), _of_node(graph, node, sqnr), tuple(own),
            )
            for node, own in by_node.items()
        ]  # fmt: skip
        nodes.sort(key=lambda each: -each.relevance)
        read = [node for node in graph.graph.node if self._read.intersection(node.output)]
        matched = sum(any(name in sqnr for name in node.output) for node in read) / max(len(read), 1)
        most = max(1, int(share * len(read)))
        proposed = tuple(_proposed(sites, most, total)) if matched >= _MATCHED else ()
        notes = tuple(self._notes(matched, sites[:1], proposed, most))
        return DriftByNode(tuple(nodes), proposed, sqnr, self.inputs, matched, notes)

    def _sqnr(self) -> dict[str, float]:
        """Value of the first model -> its lowest signal to noise among what stands for it."""
        found: dict[str, float] = {}
        for name, sums in self._sums.items():
            value = self.matched.pairs[name].first
            found[value] = min(found.get(value, np.inf), decibel(sums.signal, sums.noise))
        return found

    def _notes(self, matched: float, worst: list[Site], proposed: tuple[str, ...], most: int) -> Iterator[str]:
        if matched < _MATCHED:
            yield (
                f"only {matched:.0%} of the nodes that the score depends on have a counterpart: errors are named where they are "
                "next seen, and no node is proposed; a quantised model needs the QDQ form, and names that were kept"
            )
            return
        for site in worst:
            if site.negligible:
                yield "nothing differs but by rounding: no node is to blame"
            elif not site.keep:
                yield f"the worst error is in what {site.node} gives, whose nodes have no names by which to exclude them"
            elif not set(site.keep) <= set(proposed):
                yield (
                    f"the worst error, in what {site.node} gives, goes only if {', '.join(site.keep)} all stay as they were: "
                    f"{len(site.keep)} nodes, and {most} may be proposed"
                )

    def _sites(self) -> Iterator[Site]:
        """Errors by where they come in; values that are stored by one scale are one site."""
        groups: dict[str, list[str]] = {}
        for name in self._sums:
            pair = self.matched.pairs[name]
            groups.setdefault(pair.scale or name, []).append(name)
        for names in groups.values():
            yield self._site([self.matched.pairs[name] for name in names])

    def _site(self, pairs: list[Counterpart]) -> Site:
        a, b = self.matched.a, self.matched.b
        sums = [self._sums[pair.second] for pair in _once(pairs)]
        stored = bool(pairs[0].source)
        sources = [pair.source or pair.second for pair in pairs]
        makers = [b.maker[name] for name in sources if name in b.maker]
        owner = next((node for node in makers if node.op_type not in FOLLOWING), makers[0] if makers else None)
        keep = [label(node) for node in makers if node.op_type not in FOLLOWING] or [label(node) for node in makers]
        if stored:
            readers = [node for pair in pairs for node in b.readers.get(pair.second, ())]
            keep += [label(node) for node in readers if node.op_type not in FOLLOWING | STORING]
        node = a.nodes.get(label(owner)) if owner is not None else None
        if node is None:
            node = a.maker.get(pairs[0].first)
        count = max(self.inputs, 1)
        return Site(
            label(node) if node is not None else pairs[0].first, node.op_type if node is not None else "input",
            "storage" if stored else "computation", pairs[0].scale, sum(s.relevance for s in sums) / count,
            sum(s.score for s in sums) / count, decibel(sum(s.signal for s in sums), sum(s.local for s in sums)),
            tuple(name for name in dict.fromkeys(keep) if name in a.nodes and a.nodes[name].name),
        )  # fmt: skip


def _comparable(a: Any, b: Any) -> bool:
    """Whether two values are floating arrays of one shape."""
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return both and a.shape == b.shape and a.dtype.kind == "f" and b.dtype.kind == "f"


def _once(pairs: list[Counterpart]) -> list[Counterpart]:
    """One for each value of the first model: what several readers get of it is one error."""
    return list({pair.first: pair for pair in reversed(pairs)}.values())


def _of_node(graph: Wiring, name: str, sqnr: Mapping[str, float]) -> float:
    node = graph.nodes.get(name)
    values = [name] if node is None else node.output
    return min((sqnr[value] for value in values if value in sqnr), default=float("nan"))


def _proposed(sites: list[Site], most: int, total: float) -> list[str]:
    """The nodes to keep: those of the worst sites that fit into the number, until nearly all that moves is accounted for."""
    chosen: dict[str, None] = {}
    covered = 0.0
    for site in sites:
        wider = chosen | dict.fromkeys(site.keep)
        if covered >= _ENOUGH * total:
            break
        if site.keep and len(wider) <= most and not site.negligible:
            chosen = wider
            covered += site.relevance
    return list(chosen)
