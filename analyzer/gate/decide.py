"""From what checks find to whether the model passes.

Belongs here: statuses of checks and of the gate. Not here: statistics (``analyzer.evaluation.statistics``), running checks.

A check of statements about all inputs passes where each of them is shown to hold, fails where one is shown to be broken, and is
inconclusive where there are too few inputs to tell. Statements about parts of the data (classes, slices) can only break: a part
is small, and demanding of each that it is shown to hold would ask for hundreds of inputs of each. The more statements are tested
the likelier one of them looks broken by chance, so p-values for broken bounds are adjusted over the whole run (Holm); those for
kept bounds need no adjusting, since all of them must be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.evaluation.statistics import Bounded, holm
from analyzer.gate.outcome import CheckResult, Outcome, Status
from analyzer.gate.policy import Policy


def decided(outcomes: Sequence[Outcome | None], policy: Policy) -> list[tuple[Status, str, tuple[float, ...]]]:
    """For each check's outcome, None where there is none: status, message, adjusted p-values of its tests."""
    p_values = [test.p_violates for outcome in outcomes if outcome is not None for test in outcome.tests]
    adjusted = iter(holm(p_values) if policy.policy.correction == "holm" else p_values)
    found: list[tuple[Status, str, tuple[float, ...]]] = []
    for outcome in outcomes:
        if outcome is None:
            found.append(("skipped", "", ()))
            continue
        own = tuple(next(adjusted) for _ in outcome.tests)
        found.append((*_one(outcome, own, policy), own))
    return found


def _one(outcome: Outcome, adjusted: Sequence[float], policy: Policy) -> tuple[Status, str]:
    if outcome.status is not None:
        return outcome.status, outcome.message
    section = policy.policy
    left = "".join(f"; {count} left out: {why}" for why, count in outcome.left_out.items())
    level = 1 - section.confidence
    broken = [test for test, p in zip(outcome.tests, adjusted, strict=True) if p <= level and not test.holds]
    if broken:
        worst = min(broken, key=lambda test: test.p_violates)
        return "fail", told(worst) + (f"; {outcome.because}" if outcome.because else "") + left
    whole = [test for test in outcome.tests if not test.part]
    fewest = min((test.count for test in whole), default=0)
    if fewest < section.min_n:
        return "inconclusive", f"{fewest} inputs have a value, {section.min_n} are needed{left}"
    if (gone := sum(outcome.left_out.values())) > outcome.most_left_out * (gone + fewest):
        return "inconclusive", f"{fewest} of {gone + fewest} inputs have a value, the others would have to be few{left}"
    unsure = next((test for test in whole if not (test.holds and test.p_clears <= level)), None)
    if unsure is not None:
        return "inconclusive", f"{told(unsure)}: too few inputs to tell"
    return "pass", outcome.message or "; ".join(told(test) for test in whole)


def told(test: Bounded) -> str:
    """A statement in words."""
    where = f" in {test.part}" if test.part else ""
    low, high = (f"{end:.4g}" if end == end else unknown for end, unknown in ((test.low, "-∞"), (test.high, "∞")))
    interval = f" [{low}, {high}]" if test.low == test.low or test.high == test.high else ""
    return f"{test.name}{where} is {test.estimate:.4g}{interval}, {test.side} {test.bound:g} is wanted ({test.count} inputs)"


def blocks(status: Status, required: bool, policy: Policy, code: str = "") -> bool:
    """Whether a check keeps the gate from passing; one that the policy is wrong about always does, whatever its answers are."""
    section = policy.policy
    answers = {"error": section.on_error, "skipped": section.on_skipped, "inconclusive": section.on_inconclusive}
    return required and (status == "fail" or answers.get(status) == "fail" or code.startswith("config."))


def verdict(checks: Sequence[CheckResult]) -> Status:
    """The gate's status; it fails closed."""
    required = [check for check in checks if check.required]
    if any(check.status == "fail" for check in required):
        return "fail"
    decided_one = any(check.status in ("pass", "warn") for check in required)
    return "inconclusive" if any(check.blocks for check in required) or not decided_one else "pass"
