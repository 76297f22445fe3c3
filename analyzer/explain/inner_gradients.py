"""Derivatives of the explained score by inner values, all in one sweep.

Belongs here: the gradient at many places at once. Not here: relevance at one inner value (``at=`` of an explanation), engines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.explain.backends import Backends
from analyzer.explain.request import Request
from analyzer.onnx_model import Array, OnnxModel
from analyzer.targets.resolve import resolve_on
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.engines.traced_score import TracedScore


class InnerGradients:
    """Gradients of explained scores by many inner values of a model.

    The trace is taken before constants are folded into layers, so that every value of the file is in it; the last one is kept.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._last: tuple[Any, TracedScore] | None = None

    def of(self, feed: dict[str, Array], request: Request, names: Iterable[str]) -> dict[str, Array]:
        """The gradient of the explained score by every named value that it depends on.

        Parameters
        ----------
        request
            What is explained: its target, score and inputs.
        names
            ONNX values; those that aren't in the trace, and those that the score doesn't depend on, are left out.

        Returns
        -------
        dict
            Name -> array of the value's shape, float32 or wider.

        Raises
        ------
        UnsupportedError, UsageError
            As for an explanation by the gradient.
        """
        import torch

        from analyzer.engines import protocol
        from analyzer.engines.precision import float32_products
        from analyzer.engines.traced_score import reverse
        from analyzer.importer.conversion import as_tensor, to_numpy
        from analyzer.importer.precision import raised
        from graph_rules import sweep

        explained = resolve_on(
            self._backends.model, feed, request.target, score=request.score, layer=request.layer, place=request.place,
            gradients=True,
        )  # fmt: skip
        assert isinstance(explained.target, Resolved)  # a detection has been resolved to its class score
        model, weights = explained.model, explained.target.weights
        traced = self._traced(model, feed, explained.scored.value, request.inputs)
        found, device = traced.trace.values, traced.device
        plan = traced.plan(protocol.GRADIENT, tuple(traced.nodes.values()))
        stops = [(name, found[name]) for name in names if name in found and found[name] in plan.active]
        given = [as_tensor(feed[name]).to(device) for name in traced.trace.inputs]
        given = [each.to(raised(each.dtype, torch.float32)) for each in given]

        def weigh(scores: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(np.asarray(weights), device=device).to(scores.dtype).reshape(scores.shape)

        with float32_products(device, model.tf32):
            run = sweep.forward(plan, given, keep=[node for _, node in stops], together=True)
            swept = reverse(run, weigh, stops)
        return {name: to_numpy(value) for name, value in swept.relevance.items()}

    def _traced(
        self, model: OnnxModel, feed: dict[str, Array], value: str, chosen: tuple[str, ...] | None
    ) -> TracedScore:
        import torch

        from analyzer.engines.traced_score import TracedScore
        from analyzer.importer.trace import trace

        key = model, value, chosen, tuple((name, each.shape, each.dtype.str) for name, each in feed.items())
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        made = trace(model.graph, feed, torch.float32, optimize=False)
        made.module.to(model.device)
        traced = TracedScore.on(made, value, "float32", model.device, chosen)
        self._last = (key, traced) if made.data_dependent is None else None
        return traced
