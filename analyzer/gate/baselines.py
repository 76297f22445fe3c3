"""Baselines: what the checks of a run found, kept in a file, so that a later run can be held against it.

Belongs here: which figures of a run are kept, reading and writing them, how far two sets of figures differ. Not here: the check
that compares (``checks.snapshot``), when a baseline may be written (``cli``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from analyzer.errors import InconclusiveError, InputError
from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import jsonable
from analyzer.files import write_atomically
from analyzer.gate.check import Check, Finite, Strict
from analyzer.gate.checks import kinds
from analyzer.gate.outcome import GateResult, Outcome
from analyzer.inputs.files import read_bytes

#: Most bytes of a baseline.
_LIMIT = 64 * 2**20
#: Under this name a snapshot's own figures stand among the details of its outcome.
MEASURED = "measured"


class Statistic(Strict):
    """One figure of a run.

    The ends of its confidence interval are None where it has none.
    """

    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    n: Annotated[int, Field(ge=0)]


#: Id of a check -> name of a figure, with its part -> the figure.
Statistics = dict[str, dict[str, Statistic]]


class Baseline(Strict):
    """The figures of a run, and what they are of."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    record: dict[str, Any]
    """Digests of model, data and method, the seed, versions: :func:`analyzer.gate.record.record_of`."""
    statistics: Statistics

    def mismatch(self, record: Mapping[str, Any]) -> str:
        """What of data, method and seed differs from a run's, in words; empty where the two can be compared."""
        wanted = {"data": "sha256", "method": "sha256", "seed": ""}
        differs = [name for name, key in wanted.items() if _at(self.record, name, key) != _at(record, name, key)]
        return " and ".join(f"another {name}" if name != "data" else "other data" for name in differs)


@dataclass(frozen=True)
class Change:
    """A figure that differs from the baseline's."""

    check: str
    name: str
    before: float
    after: float

    @property
    def absolute(self) -> float:
        """By how much."""
        return abs(self.after - self.before)

    @property
    def relative(self) -> float:
        """By which share of what it was; infinite where that was 0."""
        return 0.0 if not self.absolute else self.absolute / abs(self.before) if self.before else math.inf


def statistics_of(check: Check | type[Check], outcome: Outcome) -> dict[str, Statistic]:
    """The figures of one check that are kept: its statements' estimates; none of times, and of a check that reads others."""
    if not check.repeatable or check.reads_others:
        return {}
    return {_name(test): _statistic(test) for test in outcome.tests if math.isfinite(test.estimate)}


def baseline_of(result: GateResult) -> Baseline:
    """The figures of a run that are kept."""
    known = kinds()
    found: Statistics = {}
    for check in result.checks:
        if own := statistics_of(known[check.kind], check.outcome):
            found[check.id] = own
        for name, figures in check.outcome.details.get(MEASURED, {}).items():
            found[name] = {key: Statistic.model_validate(value) for key, value in figures.items()}
    return Baseline(record=jsonable(dict(result.record)), statistics=found)


def changes(before: Statistics, after: Statistics) -> list[Change]:
    """How the figures that are in both differ, those that changed by the largest share first."""
    found = [
        Change(check, name, figure.value, after[check][name].value)
        for check, figures in before.items()
        for name, figure in figures.items()
        if name in after.get(check, {})
    ]
    return sorted(found, key=lambda change: (-change.relative, -change.absolute, change.check, change.name))


def only_in(one: Statistics, other: Statistics) -> list[str]:
    """The figures of the first that the second hasn't got, as texts."""
    return [f"{check}: {name}" for check, own in one.items() for name in own if name not in other.get(check, {})]


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises
    ------
    InconclusiveError
        ``gate.no_baseline`` where there is none.
    InputError
        ``gate.baseline`` for a file that is none.
    """
    if not path.exists():
        raise InconclusiveError(
            "gate.no_baseline", f"there is no baseline {path}", "`onnxplain gate update` writes it from a run"
        )
    try:
        return Baseline.model_validate_json(read_bytes(path, _LIMIT))
    except (ValidationError, RecursionError) as problem:
        first = problem.errors()[0] if isinstance(problem, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        where = ".".join(str(part) for part in first["loc"])
        text = f"{path} is no baseline: {where + ': ' if where else ''}{first['msg']}"
        raise InputError("gate.baseline", text, "`onnxplain gate update` writes it anew") from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline whole or not at all, with sorted keys, so that a change of it can be read.

    Raises
    ------
    AnalyzerError
        ``output.*`` where the system refuses.
    """
    text = json.dumps(baseline.model_dump(mode="json", by_alias=True), indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))


def measured(name: str, values: Iterable[float]) -> dict[str, Statistic]:
    """Mean and quantiles of values of the inputs, as figures to keep; those that aren't finite are left out."""
    import numpy as np

    found = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not found.size:
        return {}
    figures = {"mean": float(found.mean())}
    figures |= {f"{share} % quantile": float(np.quantile(found, share / 100)) for share in (10, 50, 90)}
    return {f"{what} of {name}": Statistic(value=value, n=len(found)) for what, value in figures.items()}


def _name(test: Bounded) -> str:
    return f"{test.name} in {test.part}" if test.part else test.name


def _statistic(test: Bounded) -> Statistic:
    low, high = (float(end) if math.isfinite(end) else None for end in (test.low, test.high))
    return Statistic(value=float(test.estimate), low=low, high=high, n=test.count)


def _at(record: Mapping[str, Any], name: str, key: str) -> Any:
    found = record.get(name)
    return found.get(key) if key and isinstance(found, Mapping) else found
