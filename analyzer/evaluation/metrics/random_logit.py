"""Random logit: whether the map of another class is another map."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sample_similarity import Similarity, similarity
from analyzer.targets.language import TargetLike


@metric(
    "random-logit", "randomisation", needs="explanations", higher_is_better=False,
    range="[-1, 1]: 1 the map doesn't ask which class is explained, -1 what speaks for one speaks against the other",
    cost="1 explanation",
    blind_spot="Whether the map is right: a random one passes; and classes may rightly share their evidence.",
    source="Sixt, Granz, Landgraf 2020, When explanations lie: why many modified BP attributions fail",
)  # fmt: skip
def random_logit(context: MetricContext, *, similar: Similarity = "spearman") -> Measure:
    """Similarity of the map with that of another class, drawn by the seed; it needs a class as the target."""
    others = [_other(context, sample) for sample in range(context.batch)]
    record = {"other_class": [None if isinstance(each, str) else each for each in others]}
    if all(isinstance(each, str) for each in others):
        return Measure.of([str(each) for each in others], record=record)
    targets: list[TargetLike] = [
        context.target_of(sample) if isinstance(each, str) else each for sample, each in enumerate(others)
    ]
    maps = context.explain_in(context.model, targets).attributions

    def alike(sample: int) -> float | str:
        each = others[sample]
        if isinstance(each, str):
            return each
        return similarity(context, context.map(sample), context.map(sample, maps), similar)

    return Measure.of(context.judged(alike), record=record)


def _other(context: MetricContext, sample: int) -> int | str:
    """Another class than the explained one, or why there is none."""
    own, weights = context.explanation.classes[sample], getattr(context.evaluator.target, "weights", None)
    if own < 0 or weights is None or weights.ndim != 2:
        return "what is explained is no class"
    count = weights.shape[1]
    if count < 2:
        return "the model has one score, so there is no other class"
    drawn = int(context.generator(sample).integers(count - 1))
    return drawn + (drawn >= own)
