"""The registry of metrics: name -> metric, with its direction, range, cost, parameters and source.

Belongs here: declaring, finding and describing metrics. Not here: any metric (``metrics``), running one (``evaluate``).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analyzer.errors import UsageError
from analyzer.methods.parameters import Parameter, all_valid, parameters_of, summary_of
from analyzer.methods.registry import ANY_ROWS
from analyzer.nearest import did_you_mean

Category = Literal["faithfulness", "robustness", "localisation", "complexity", "randomisation", "axiomatic"]
Needs = Literal["map", "mask", "scores", "explanations"]


@dataclass(frozen=True)
class MetricInfo:
    """A registered metric.

    Attributes
    ----------
    category
        What it judges: ``faithfulness`` to the model, ``robustness`` to small changes, ``localisation`` beside a mask,
        ``complexity``, ``randomisation`` of the model or the target, ``axiomatic`` properties.
    needs
        ``map`` for the map alone, ``mask`` for the map and the truth beside it, ``scores`` where the model is run on changed
        inputs, ``explanations`` where inputs are explained again.
    higher_is_better
        None for a metric that only describes.
    range
        What values it takes, as text: ``[0, 1]``.
    cost
        How many model evaluations or explanations of one sample, as text in terms of its parameters.
    blind_spot
        What it can't tell, in a sentence.
    signed
        Whether it reads relevance's signs; else a map and its negative are the same to it.
    modalities
        What kinds of input it is for.
    summary, source
        What it measures in a line; paper and equation.
    quick
        Parameters that make it quick on a small model, for tests.
    """

    name: str
    category: Category
    needs: Needs
    higher_is_better: bool | None
    range: str
    cost: str
    blind_spot: str
    summary: str
    source: str
    parameters: Mapping[str, Parameter]
    function: Callable[..., Any] = field(repr=False)
    quick: Mapping[str, Any] = field(default_factory=dict)
    signed: bool = True
    modalities: tuple[str, ...] = ANY_ROWS

    @property
    def direction(self) -> str:
        """Which values are good, in words."""
        return {True: "higher is better", False: "lower is better", None: "descriptive"}[self.higher_is_better]

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with their values, defaults filled in.

        Raises
        ------
        UsageError
            ``params.unknown`` with the near name, ``params.invalid`` with the type that is wanted.
        """
        return all_valid(self.name, self.parameters, given)


#: What kinds of input metrics are for that change numbers by little.
NUMBERS = ("image", "table", "series")
_METRICS: dict[str, MetricInfo] = {}


def metric(
    name: str,
    category: Category,
    *,
    needs: Needs,
    higher_is_better: bool | None,
    range: str,  # noqa: A002
    cost: str,
    blind_spot: str,
    source: str,
    quick: Mapping[str, Any] | None = None,
    signed: bool = True,
    modalities: tuple[str, ...] = ANY_ROWS,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function ``(context, *, parameters…) -> Measure`` as a metric; the arguments are :class:`MetricInfo`'s.

    The function's keyword-only arguments are the metric's parameters; annotate each as ``Annotated[type, "doc"]``.
    The first line of its docstring is the summary.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _METRICS:
            raise ValueError(f"metric {name!r} is registered twice")
        _METRICS[name] = MetricInfo(
            name, category, needs, higher_is_better, range, cost, blind_spot, summary_of(function), source,
            parameters_of(function), function, dict(quick or {}), signed, modalities,
        )  # fmt: skip
        return function

    return register


def metrics() -> dict[str, MetricInfo]:
    """All metrics by name, in the order of their categories."""
    for module in _modules():
        importlib.import_module(module)
    order = list(typing.get_args(Category))
    return dict(sorted(_METRICS.items(), key=lambda item: (order.index(item[1].category), item[0])))


@functools.cache
def _modules() -> tuple[str, ...]:
    folder, package = Path(__file__).parent / "metrics", __name__.rpartition(".")[0]
    return tuple(f"{package}.metrics.{module.name}" for module in pkgutil.iter_modules([str(folder)]))


def get(name: str) -> MetricInfo:
    """A metric by name.

    Raises
    ------
    UsageError
        ``metric.unknown`` with the near name.
    """
    known = metrics()
    if name not in known:
        raise UsageError(
            "metric.unknown", f"unknown metric {name!r}{did_you_mean(name, known)}", f"metrics: {', '.join(known)}"
        )
    return known[name]
