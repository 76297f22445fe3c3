"""What is known of a model without running it, as far as methods ask for it.

Belongs here: the questions that decide whether a method suits a model, answered from a trace of types and shapes. Not here:
the verdicts (``analyzer.jobs.suitability``), what each method needs (it says so itself: ``fits``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.engines.protocol import TableSpec
from analyzer.perturbation.evaluator import Evaluator

if TYPE_CHECKING:
    from analyzer.engines.traced_score import TracedScore


@dataclass(frozen=True)
class LayerFacts:
    """The layer that class activation maps are read at.

    Attributes
    ----------
    inputs
        The explained inputs that it depends on.
    grid
        The size of every dimension of places.
    obstacles
        Nodes behind it that are neither averaging nor linear.
    pooled
        Whether all of its places are averaged before anything else reads them.
    """

    name: str
    inputs: tuple[str, ...]
    grid: tuple[int, ...]
    obstacles: tuple[str, ...]
    pooled: bool


@dataclass(frozen=True)
class StaticContext:
    """A model for inputs of which types and shapes are known.

    Attributes
    ----------
    evaluator
        On inputs whose numbers mean nothing; it must not be asked for scores.
    traced
        The trace up to the default score; None where only runs of the model are wanted.
    """

    evaluator: Evaluator
    traced: TracedScore | None = None

    def require_rules(self, table: TableSpec) -> None:
        """Refuse a table that lacks a rule for a node, as :meth:`TracedScore.plan` does."""
        assert self.traced is not None
        self.traced.plan(table, tuple(self.traced.nodes.values()))

    @functools.cached_property
    def layer(self) -> LayerFacts:
        """The layer of class activation maps; errors as in :meth:`TracedScore.feature_layer`."""
        from graph_rules.cam import pooled_at_once

        assert self.traced is not None
        found = self.traced.feature_layer("auto")
        inputs = tuple(entry.name for entry in self.traced.explained if entry.node in found.sources)
        pooled = pooled_at_once(found.node, self.traced.output)
        return LayerFacts(found.name, inputs, found.layout.grid, self.traced.obstacles(found.node), pooled)

    def mapped_inputs(self) -> list[str]:
        """The inputs that the layer's map can be laid over."""
        model, shapes = self.evaluator.model, {name: self.evaluator.inputs[name].shape for name in self.layer.inputs}
        return [n for n, shape in shapes.items() if len(model.axes(n, shape).places) == len(self.layer.grid)]
