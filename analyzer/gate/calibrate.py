"""Thresholds from models that are known to be good: what they reach over several draws, less some times its noise.

Belongs here: which key of a check a statement's bound comes from, the arithmetic, the policy as text. Not here: running
(``run``), the decision that a model is good.

Every float of every check is moved by a few units in its last place before a run, each by its own amount, so that the bound of
a statement names the key that it comes from. The noise of a statement is its largest distance from the median over models and
seeds, or how far its confidence interval reaches towards the bound where that is more, or a thousandth of the median.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from analyzer.evaluation.statistics import Bounded, Side
from analyzer.gate.check import Check
from analyzer.gate.outcome import GateResult
from analyzer.gate.policy import ModelSection, Policy, load_policy
from analyzer.gate.run import run_gate
from analyzer.gate.toml_text import Key, to_toml
from analyzer.report.text import clean

_LEAST_NOISE = 1e-3
Place = tuple[int, str]


@dataclass(frozen=True)
class Threshold:
    """A key of a check whose value was derived.

    Attributes
    ----------
    median, noise, count
        Of the statements' estimates over all runs; see the module.
    """

    check: str
    key: str
    was: float
    value: float
    side: Side
    median: float
    noise: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """A policy with derived thresholds.

    Attributes
    ----------
    toml
        As text, with where every threshold comes from.
    notes
        What was left as it was, and why.
    runs
        How many runs of the gate it took.
    """

    toml: str
    thresholds: tuple[Threshold, ...]
    notes: tuple[str, ...]
    runs: int


def calibrate(
    path: str | os.PathLike[str],
    good: Sequence[str | os.PathLike[str]] = (),
    *,
    seeds: int = 3,
    factor: float = 2.0,
    progress: Callable[[str, int, int], None] | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Calibration:
    """Run a policy on good models with several seeds and derive its thresholds.

    Parameters
    ----------
    good
        Model files; the policy's own where there are none.
    seeds
        So many, from the policy's on: of the draw of inputs and of every random choice.
    factor
        Times the noise is what a model may fall short of the median.

    Raises
    ------
    AnalyzerError
        As :func:`analyzer.gate.run.run_gate`.
    """
    path = Path(path)
    policy = load_policy(path)
    marked, places = _marked(policy)
    results = []
    for model in [_good(policy.model, each) for each in good] or [policy.model]:
        for seed in range(policy.data.seed, policy.data.seed + seeds):
            data = policy.data.model_copy(update={"seed": seed})
            run = marked.model_copy(update={"model": model, "data": data})
            results.append(run_gate(run, folder=path.parent, progress=progress, device=device, threads=threads))
    found, notes = _found(results, places)
    derived: list[Threshold] = []
    checks = list(policy.check)
    for (at, key), tests in found.items():
        check = checks[at]
        threshold = _loosest(check, key, tests, factor)
        changed = _with(check, key, threshold.value)
        if changed is None:
            notes.append(f"{check.id}: {key} = {threshold.value} isn't allowed: left at {threshold.was}")
            continue
        checks[at] = changed
        derived.append(replace(threshold, value=getattr(changed, key)))
    toml = _text(policy.model_copy(update={"check": checks}), derived, results, factor)
    return Calibration(toml, tuple(derived), tuple(notes), len(results))


def _good(section: ModelSection, path: str | os.PathLike[str]) -> ModelSection:
    return section.model_copy(update={"path": str(Path(path).absolute()), "sha256": None})


def _marked(policy: Policy) -> tuple[Policy, dict[tuple[int, float], str]]:
    """The policy with every float of a check moved by its own amount, and (position of the check, value) -> key."""
    places: dict[tuple[int, float], str] = {}
    checks = []
    for at, check in enumerate(policy.check):
        floats = [name for name in type(check).model_fields if isinstance(getattr(check, name), float)]
        moved = {name: _moved(getattr(check, name), rank + 1) for rank, name in enumerate(floats)}
        places |= {(at, value): name for name, value in moved.items()}
        checks.append(check.model_copy(update=moved))
    return policy.model_copy(update={"check": checks}), places


def _moved(value: float, rank: int) -> float:
    """A value that differs by a few units in its last place, towards zero; from zero upwards."""
    return value * (1 - rank * 2.0**-50) if value else rank * 1e-300


def _found(
    results: Sequence[GateResult], places: dict[tuple[int, float], str]
) -> tuple[dict[Place, list[Bounded]], list[str]]:
    """The statements whose bound is a key of their check, by check and key; and what isn't."""
    found: dict[Place, list[Bounded]] = {}
    notes: dict[str, None] = {}
    for result in results:
        for at, check in enumerate(result.checks):
            whole = [test for test in check.outcome.tests if not test.part]
            if not whole:
                notes[f"{check.id}: it states nothing about all inputs: {clean(check.message)}"] = None
            for test in whole:
                key = places.get((at, test.bound))
                if key is None or not math.isfinite(test.estimate):
                    notes[f"{check.id}: {test.name}: no key of its own, or no value: left as it was"] = None
                else:
                    found.setdefault((at, key), []).append(test)
    return found, list(notes)


def _loosest(check: Check, key: str, tests: Sequence[Bounded], factor: float) -> Threshold:
    """The threshold that every statement with this key keeps."""
    names = list(dict.fromkeys(test.name for test in tests))
    found = [_derived(check, key, [test for test in tests if test.name == name], factor) for name in names]
    return (min if found[0].side == "at least" else max)(found, key=lambda each: each.value)


def _derived(check: Check, key: str, tests: Sequence[Bounded], factor: float) -> Threshold:
    estimates = np.array([test.estimate for test in tests])
    side = tests[0].side
    sign = 1 if side == "at least" else -1
    reach = [sign * (test.estimate - (test.low if sign > 0 else test.high)) for test in tests]
    median = float(np.median(estimates))
    spread = float(np.abs(estimates - median).max())
    noise = max(spread, *(each for each in reach if math.isfinite(each)), _LEAST_NOISE * abs(median), 0.0)
    value = _rounded(median - sign * factor * noise, sign)
    return Threshold(check.id, key, getattr(check, key), value, side, median, noise, len(tests))


def _rounded(value: float, sign: int) -> float:
    """Three digits, to the side that demands less."""
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{(math.floor if sign > 0 else math.ceil)(value / unit) * unit:.12g}")


def _with(check: Check, key: str, value: float) -> Check | None:
    """A check with another value, moved into shares' range where it must be; None where it isn't allowed."""
    given: dict[str, Any] = check.model_dump(exclude_unset=True)
    for each in (value, min(max(value, 0.0), 1.0)):
        try:
            return type(check).model_validate(given | {key: each})
        except ValidationError:
            continue
    return None


def _text(policy: Policy, derived: Sequence[Threshold], results: Sequence[GateResult], factor: float) -> str:
    models = {each.record["model"]["sha256"]: clean(each.record["model"]["path"], 300) for each in results}
    seeds = sorted({int(each.record["seed"]) for each in results})
    version = results[0].record["versions"].get("onnxplain", "unknown")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    top = [
        f"Calibrated {today} by onnxplain {version}: median over {len(results)} runs, less {factor:g} times the noise.",
        *(f"good model: {path} sha256 {digest}" for digest, path in models.items()),
        *(f"data: {clean(sha, 80)}" for sha in sorted({f"sha256 {each.record['data']['sha256']}" for each in results})),
        f"seeds: {', '.join(map(str, seeds))}",
    ]
    comments: dict[Key, Sequence[str]] = {(): top}
    ids = [check.id for check in policy.check]
    for each in derived:
        told = f"was {each.was:g}; median {each.median:.4g}, noise {each.noise:.3g}, {each.count} estimates"
        comments["check", ids.index(each.check), each.key] = [told]
    return to_toml(policy.model_dump(by_alias=True, exclude_unset=True), comments)
