"""Which node is the first to make a value that isn't finite, for many inputs.

Belongs here: looking at every inner value. Not here: weights as they are stored (``analyzer.importer.loading`` warns of
those), what a check makes of it.

A value that isn't finite is nobody's fault where it was handed in: minus infinity in an attention mask that the file holds, a
missing value in the input. So what counts is where it comes up: NaN out of none, infinity out of none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.engines.parity import inner_runner
from analyzer.errors import AnalyzerError
from analyzer.gate.differences import has_rows
from analyzer.importer.graph import Graph
from analyzer.importer.loading import describe_nonfinite
from analyzer.model import Model

#: What masks are made of.
_CONSTANTS = ("Constant", "ConstantOfShape")


@dataclass
class InnerValues:
    """Every value of a model's main graph that onnxruntime gives out, for one batch after the other.

    Attributes
    ----------
    names
        Of the values that are looked at; the outputs alone where inner ones can't be given out.
    inner
        Whether inner values are among them.
    """

    model: Model
    names: list[str]
    inner: bool
    run: Callable[[Mapping[str, Any]], dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, model: Model) -> InnerValues:
        """With a session of its own, without optimisations, so that all values exist."""
        names = [name for node in model.graph.nodes for name in node.outputs if name]
        try:
            return cls(model, names, True, inner_runner(model, names))
        except AnalyzerError:  # a value of a kind that can't be given out
            return cls(model, list(model.outputs), False, model.predict)

    def culprits(self, feed: Mapping[str, Any]) -> tuple[dict[int, str], int]:
        """Row -> the first node that makes a value of it which isn't finite, and how many bytes the values took."""
        part = self.model.part_size(dict(feed))
        if part is not None:  # the model takes so many at once, and no others
            found, largest = dict[int, str](), 0
            for start in range(0, self.model.batch_of(feed), part):
                own, size = self.culprits({name: value[start : start + part] for name, value in feed.items()})
                found |= {start + row: node for row, node in own.items()}
                largest = max(largest, size)
            return found, largest
        values = self.run(feed)
        batch = self.model.batch_of(feed)
        size = sum(value.nbytes for value in values.values() if isinstance(value, np.ndarray))
        if not self.inner:
            return _by_output(values, batch), size
        return _by_node(self.model.graph, {**feed, **_stored(self.model.graph)}, values, batch), size


def _by_output(values: Mapping[str, Any], batch: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, value in values.items():
        for kind in (np.isnan, np.isinf):
            for row in _rows(value, kind, batch):
                found.setdefault(row, f"output {name!r}")
    return found


def _by_node(graph: Graph, given: Mapping[str, Any], values: Mapping[str, Any], batch: int) -> dict[int, str]:
    """Walk the graph: a node makes what none of its inputs had."""
    kinds: dict[str, Callable[[Any], Any]] = {"NaN": np.isnan, "an infinite value": np.isinf}
    had = {what: {name for name, value in given.items() if _rows(value, test, 1)} for what, test in kinds.items()}
    found: dict[int, str] = {}
    for node in graph.nodes:
        for what, test in kinds.items():
            for name in node.outputs:
                rows = _rows(values.get(name), test, batch)
                if not rows:
                    continue
                captured = {each for inner in node.subgraphs for each in inner.captured}
                excused = had[what] & {*node.inputs, *captured} or (node.op_type in _CONSTANTS and what != "NaN")
                had[what].add(name)
                if not excused:
                    for row in rows:
                        found.setdefault(row, f"{node} makes {what}")
    return found


def _stored(graph: Graph) -> dict[str, Any]:
    """The weights that hold infinities as masks do, without NaN; other weights that aren't finite excuse nobody."""
    values = {name: read() for name, read in graph.initializers.items()}
    return {
        name: value
        for name, value in values.items()
        if value.dtype.kind == "f" and not np.isfinite(value).all() and not describe_nonfinite(value)
    }


def _rows(value: Any, test: Callable[[Any], Any], batch: int) -> list[int]:
    """The rows of a batch in which a value is so; all of them where it has no rows."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return []
    bad = test(value)
    if not bad.any():
        return []
    if not has_rows(value, batch):
        return list(range(batch))
    return [int(row) for row in np.flatnonzero(bad.reshape(batch, -1).any(axis=1))]
