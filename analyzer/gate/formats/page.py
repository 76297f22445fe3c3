"""HTML: one self-contained page, the verdict on top, a card for each check with the inputs behind its verdict.

Belongs here: putting what was found into the template. Not here: words (``wording``), pictures (``analyzer.report``), how the
page looks (``page.css`` and the report's own style sheet). The page loads nothing and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation
from analyzer.gate.formats.wording import facts, message, model_name, unreadable, verdict_line, worst_parts
from analyzer.gate.outcome import Array, CheckResult, Exhibit, GateResult
from analyzer.report.cards import Section, section
from analyzer.report.explained import panel, sample
from analyzer.report.html import style_of
from analyzer.report.page import render, resource
from analyzer.report.text import clean, number

#: Room at both ends of a statement's bar, as a share of what it shows.
_MARGIN = 0.12
_PACKAGE = "analyzer.gate.formats"


@dataclass(frozen=True)
class Statement:
    """A statement beside its bar, whose positions are in percent of its width; None where there is none."""

    name: str
    part: str
    value: str
    demand: str
    count: int
    state: str
    estimate: float | None = None
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    kept_from: float = 0.0
    kept_to: float = 0.0


@dataclass(frozen=True)
class View:
    """An input as one of an exhibit's explanations saw it."""

    caption: str
    section: Section


@dataclass(frozen=True)
class Shown:
    """An exhibit: which input, what is to be seen, its explanations."""

    id: str
    caption: str
    views: tuple[View, ...]


def write(result: GateResult, images: int = 24) -> str:
    """The result as a page."""
    shown = _exhibits(result, images)
    sections = [view.section for each in shown.values() for one in each for view in one.views]
    return render(
        "page.html.j2",
        style_of(sections) + "\n" + resource("page.css", _PACKAGE),
        _PACKAGE,
        status=result.status,
        title=model_name(result),
        verdict=verdict_line(result),
        facts=facts(result),
        checks=[_card(at, check, shown.get(at, [])) for at, check in _blocking_first(result.checks)],
        unreadable=unreadable(result),
        unread=len(result.unreadable),
    )


def _card(at: int, check: CheckResult, exhibits: Sequence[Shown]) -> dict[str, Any]:
    """What the template tells of a check."""
    outcome = check.outcome
    return {
        "anchor": f"check-{at}",
        "id": clean(check.id, 100),
        "kind": clean(check.kind, 60),
        "status": check.status,
        "note": "" if check.required else "not required",
        "message": message(check),
        "statements": [statement(test) for test in outcome.tests if not test.part],
        "parts": [statement(test) for test in worst_parts(check)],
        "left_out": [(clean(why, 300), count) for why, count in outcome.left_out.items()],
        "details": [(clean(name, 80), _detail(value)) for name, value in outcome.details.items()][:20],
        "cost": f"{check.evaluations} evaluations, {check.explanations} explanations, {check.seconds:.1f} s",
        "exhibits": exhibits,
        "more": len(outcome.exhibits) - len(exhibits),
    }


def _detail(value: object) -> str:
    return number(value) if isinstance(value, float) else clean(value, 300)


def statement(test: Bounded) -> Statement:
    """A statement with the positions of its bar."""
    interval = "" if math.isnan(test.low) else f" [{number(test.low)}, {number(test.high)}]"
    worse, better = (test.low, test.high) if test.side == "at least" else (-test.high, -test.low)
    bound_at = test.bound if test.side == "at least" else -test.bound
    plain = Statement(
        name=clean(test.name, 200),
        part=clean(test.part, 120),
        value=f"{number(test.estimate)}{interval}",
        demand=f"{test.side} {number(test.bound)}",
        count=test.count,
        state="kept" if worse >= bound_at else "broken" if better < bound_at else "unknown",
    )
    ends = [value for value in (test.estimate, test.bound, test.low, test.high) if math.isfinite(value)]
    if not (math.isfinite(test.estimate) and math.isfinite(test.bound)):
        return plain
    span = (max(ends) - min(ends)) or abs(test.bound) or 1.0
    start, width = min(ends) - _MARGIN * span, (1 + 2 * _MARGIN) * span

    def at(value: float) -> float | None:
        return round(100 * (value - start) / width, 3) if math.isfinite(value) else None

    bound = at(test.bound) or 0.0
    kept = (bound, 100.0) if test.side == "at least" else (0.0, bound)
    return replace(
        plain, estimate=at(test.estimate), bound=bound, low=at(test.low), high=at(test.high), kept_from=kept[0],
        kept_to=kept[1],
    )  # fmt: skip


def _exhibits(result: GateResult, images: int) -> dict[int, list[Shown]]:
    """Position of a check -> the exhibits that there is room for: one of each check in turn, those of blocking checks first."""
    left, found = images, dict[int, list[Shown]]()
    for at, exhibit in _in_turn(result.checks):
        wanted = 1 if exhibit.other is None else 2
        if wanted > left:
            continue
        left -= wanted
        found.setdefault(at, []).append(_shown(exhibit, f"{at}-{len(found.get(at, []))}"))
    return found


def _in_turn(checks: Sequence[CheckResult]) -> Iterator[tuple[int, Exhibit]]:
    order = _blocking_first(checks)
    for rank in range(max((len(check.outcome.exhibits) for check in checks), default=0)):
        yield from (
            (at, check.outcome.exhibits[rank]) for at, check in order if rank < len(check.outcome.exhibits)
        )  # fmt: skip


def _blocking_first(checks: Sequence[CheckResult]) -> list[tuple[int, CheckResult]]:
    """The checks with their numbers: those that failed, what else keeps the gate from passing, the rest."""
    return sorted(enumerate(checks, start=1), key=lambda each: (each[1].status != "fail", not each[1].blocks))


def _shown(exhibit: Exhibit, anchor: str) -> Shown:
    views = [_view("as it is" if exhibit.other else "", exhibit.id, exhibit.explanation, exhibit.mask, f"{anchor}a")]
    if exhibit.other is not None:
        caption, explanation = exhibit.other
        views.append(_view(caption, exhibit.id, explanation, exhibit.mask, f"{anchor}b"))
    return Shown(clean(exhibit.id, 120), clean(exhibit.caption, 400), tuple(views))


def _view(caption: str, name: str, explanation: Explanation, mask: Array | None, anchor: str) -> View:
    region = None if mask is None else np.squeeze(np.asarray(mask, bool))
    drawn = replace(panel(explanation, 0), region=region if region is not None and region.ndim == 2 else None)
    one = section(1, sample(explanation, 0, name), [replace(drawn, seconds=None)])
    return View(clean(caption, 200), replace(one, anchor=f"exhibit-{anchor}"))
