"""Words that several formats use: the verdict in a sentence, a check's statements, the worst parts of the data.

Belongs here: text without markup, harmless in a line. Not here: escaping for a format (its own file).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from analyzer.evaluation.statistics import Bounded
from analyzer.gate.decide import told
from analyzer.gate.outcome import CheckResult, GateResult
from analyzer.report.text import clean

#: Characters of a message that are told.
MOST = 2000
_VERDICTS = {
    "pass": "Passed: every required check passed.",
    "fail": "Failed: {names}.",
    "inconclusive": "Inconclusive, so it doesn't pass: {names}.",
}


def model_name(result: GateResult) -> str:
    """The model's file name."""
    path = clean(result.record.get("model", {}).get("path", ""), 500)
    return clean(re.split(r"[\\/]", path.rstrip("/\\"))[-1], 120) or "model"


def verdict_line(result: GateResult) -> str:
    """The verdict in a sentence, with the checks that it rests on."""
    blocking = [check for check in result.checks if check.blocks]
    failed = [check.id for check in blocking if check.status == "fail"]
    others = [check.id for check in blocking if check.status != "fail"]
    if result.status == "fail":
        undecided = f" Not decided: {', '.join(others)}." if others else ""
        return _VERDICTS["fail"].format(names=", ".join(failed)) + undecided
    return _VERDICTS.get(result.status, "").format(names=", ".join(others) or "no required check was decided")


def message(check: CheckResult) -> str:
    """Why a check has its status."""
    return clean(check.message, MOST)


def statements(check: CheckResult) -> list[str]:
    """What the check states about all inputs."""
    return [clean(told(test), MOST) for test in check.outcome.tests if not test.part]


def worst_parts(check: CheckResult, most: int = 5) -> list[Bounded]:
    """The classes and slices that look most like breaking their bound."""
    parts = [test for test in check.outcome.tests if test.part and test.p_violates == test.p_violates]
    return sorted(parts, key=lambda test: (test.holds, test.p_violates, test.part))[:most]


def facts(result: GateResult) -> list[tuple[str, str]]:
    """Name -> value of what the run was made with."""
    record = result.record
    data = record.get("data", {})
    found = [
        ("model", f"{model_name(result)} sha256 {record.get('model', {}).get('sha256', '')}"),
        ("policy", f"sha256 {record.get('policy', {}).get('sha256', '')}"),
        ("data", f"{len(result.inputs)} inputs of {data.get('path', '')} sha256 {data.get('sha256', '')}"),
        ("seed", str(record.get("seed", ""))),
        ("versions", ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items())),
    ]
    if record.get("reference"):
        found.insert(1, ("reference", f"{record['reference']['path']} sha256 {record['reference']['sha256']}"))
    return [(name, clean(value, MOST)) for name, value in found]


def unreadable(result: GateResult, most: int = 10) -> Sequence[str]:
    """Inputs that couldn't be read, with the reason."""
    return [clean(f"{name}: {why}", MOST) for name, why in list(result.unreadable.items())[:most]]
