"""Localisation AUC: how well relevance tells places inside the mask from those outside."""

from __future__ import annotations

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.located import Located, Relevance, located
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "localisation-auc", "localisation", needs="mask", higher_is_better=True,
    range="[0, 1]; 0.5 for a map that knows nothing", cost="none",
    blind_spot="How strong the relevance is: it looks at the order alone, of the many places without relevance too.",
    source="Fawcett 2006, An introduction to ROC analysis; for maps: Hedström et al. 2023, Quantus (AUC)",
)  # fmt: skip
def localisation_auc(context: MetricContext, *, relevance: Relevance = "signed") -> Measure:
    """Area under the ROC curve of relevance as a detector of the mask: the chance that a place inside outranks one outside."""
    return Measure.of(context.judged(lambda sample: _auc(located(context, sample, relevance))))


def _auc(found: Located | str) -> float | str:
    if isinstance(found, str):
        return found
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(found.mask, found.values))
