"""Derivatives of the explained score by inner values, all in one sweep.

Belongs here: the gradient at many places at once. Not here: relevance at one inner value (``at=`` of an explanation), engines.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analyzer.explain.backends import Backends
from analyzer.explain.request import Request
from analyzer.onnx_model import Array
from analyzer.targets.resolve import resolve_on


def inner_gradients(
    backends: Backends, feed: dict[str, Array], request: Request, names: Iterable[str]
) -> dict[str, Array]:
    """The gradient of the explained score by every named value that it depends on.

    The trace is taken before constants are folded into layers, so that every value of the file is in it.

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
    from analyzer.engines.traced_score import TracedScore, reverse
    from analyzer.importer.conversion import as_tensor, to_numpy
    from analyzer.importer.trace import trace
    from graph_rules import sweep

    explained = resolve_on(
        backends.model, feed, request.target, score=request.score, layer=request.layer, place=request.place,
        gradients=True,
    )  # fmt: skip
    model, weights = explained.model, np.asarray(explained.target.weights)  # type: ignore[attr-defined]
    made = trace(model.graph, feed, torch.float32, optimize=False)
    device = torch.device(model.device)
    made.module.to(device)
    traced = TracedScore.on(made, explained.scored.value, "float32", model.device, request.inputs)
    plan = traced.plan(protocol.GRADIENT, tuple(traced.nodes.values()))
    stops = [(name, made.values[name]) for name in names if name in made.values and made.values[name] in plan.active]
    given = [as_tensor(feed[name]).to(device) for name in made.inputs]
    given = [each.float() if each.dtype in (torch.float16, torch.bfloat16) else each for each in given]

    def weigh(scores: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(weights, device=device).to(scores.dtype).reshape(scores.shape)

    with float32_products(device, model.tf32):
        run = sweep.forward(plan, given, keep=[node for _, node in stops], together=True)
        found = reverse(run, weigh, stops)
    return {name: to_numpy(value) for name, value in found.relevance.items()}
