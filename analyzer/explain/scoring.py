"""Scores of changed copies of an input for what a request explains.

Belongs here: the evaluator that perturbation methods get, for whoever judges an explanation. Not here: one explanation
(``pipeline``), evaluating (``analyzer.perturbation.evaluator``).
"""

from __future__ import annotations

from typing import Any

from analyzer.compiler.subject import Subject
from analyzer.explain.backends import Backends
from analyzer.explain.request import Request
from analyzer.methods import registry
from analyzer.onnx_model import Array
from analyzer.perturbation.evaluator import Evaluator
from analyzer.targets.probability import probability_of
from analyzer.targets.resolve import resolve_on


def evaluator_of(
    backends: Backends, feed: dict[str, Array], request: Request, *, probability: bool = False
) -> Evaluator:
    """The evaluator on inputs that fit the model, for the score that the request explains.

    Parameters
    ----------
    probability
        Whether scores are the probability of the class whose logit is explained; where none is, they stay as they are.

    Raises
    ------
    UsageError, UnsupportedError
        As resolving the target does.
    """
    info = registry.methods().get(request.method)  # None for an explanation that was made elsewhere
    own = info is not None and info.reads_a_layer  # where its map lies, not what is explained
    explained = resolve_on(
        backends.model, feed, request.target, score=request.score, layer=None if own else request.layer, place=request.place,
        gradients=info is not None and info.needs == "trace",
    )  # fmt: skip

    def engine_on(inputs: dict[str, Array], weights: Array) -> Any:
        subject = Subject(inputs, explained.scored.value, weights, request.inputs)
        return backends.on(explained.model).torch(subject, request.precision, verify=False)

    target = probability_of(explained.scored, explained.target, explained.output) if probability else explained.target
    return Evaluator(
        explained.model, feed, target, explained.output, request.seed, request.progress, request.inputs,
        engine_on=engine_on,
    )  # fmt: skip
