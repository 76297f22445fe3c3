"""What a check finds, and what a run of the gate gives.

Belongs here: the values. Not here: checks (``checks``), deciding (``decide``), writing them (``formats``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation, jsonable

Array = NDArray[Any]
Status = Literal["pass", "warn", "fail", "error", "skipped", "inconclusive"]


@dataclass(frozen=True)
class Exhibit:
    """An input behind a verdict, as reports show it.

    Attributes
    ----------
    id
        Which input.
    caption
        What is to be seen, in a sentence.
    explanation
        Its explanation, a batch of one.
    other
        Another explanation beside it: of the reference, or of the input after an intervention; with its caption.
    mask
        A region to outline, bool, of the input's places.
    """

    id: str
    caption: str
    explanation: Explanation
    other: tuple[str, Explanation] | None = None
    mask: Array | None = None


@dataclass
class Outcome:
    """What a check finds; :mod:`analyzer.gate.decide` makes a status of it.

    Attributes
    ----------
    tests
        Statements about all inputs, or about a part of them, each beside its bound. All must hold.
    status, message
        For what is decided without statistics, or can't be decided: the status and why.
    code
        For scripts, where it says more than the status.
    because
        What a broken bound is put down to: the node, the input; told with it.
    values
        Name -> a value for each input, NaN where there is none; in the order of the inputs of the run.
    left_out
        Why inputs have no value -> how many.
    most_left_out
        The share of inputs without a value beyond which the rest show nothing.
    exhibits
        The inputs to look at.
    details
        Further JSON-ready figures.
    """

    tests: list[Bounded] = field(default_factory=list)
    status: Status | None = None
    message: str = ""
    code: str = ""
    because: str = ""
    values: dict[str, Array] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    most_left_out: float = 1.0
    exhibits: list[Exhibit] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """One check of a run.

    Attributes
    ----------
    id, kind
        As the policy has them.
    status
        After correction for how many statements were tested, and after the check's level.
    code
        A stable dotted code for scripts: ``check.fail``, ``limit.time``, or an error's own code.
    message
        The reason in a sentence.
    required
        Whether it decides the gate; a check of level ``warn`` doesn't.
    blocks
        Whether it keeps the gate from passing, after the policy's answers to what isn't decided.
    adjusted
        For each of the outcome's tests: its adjusted p-value that the bound is broken.
    evaluations, explanations, seconds
        What it took.
    """

    id: str
    kind: str
    status: Status
    code: str
    message: str
    required: bool
    outcome: Outcome
    adjusted: tuple[float, ...] = ()
    evaluations: int = 0
    explanations: int = 0
    seconds: float = 0.0
    blocks: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without pictures."""
        outcome = self.outcome
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "required": self.required,
            "blocks": self.blocks,
            "outcome": {name: _written(getattr(outcome, name)) for name in _plain()},
            "tests": [
                {name: _written(value) for name, value in {**vars(test), "p_violates_adjusted": p}.items()}
                for test, p in zip(outcome.tests, self.adjusted, strict=True)
            ],
            "values": {name: [_written(float(v)) for v in values] for name, values in outcome.values.items()},
            "left_out": outcome.left_out,
            "exhibits": [{"id": exhibit.id, "caption": exhibit.caption} for exhibit in outcome.exhibits],
            "details": jsonable(outcome.details),
            "evaluations": self.evaluations,
            "explanations": self.explanations,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], seconds: float = 0.0) -> CheckResult:
        """What :meth:`to_dict` wrote; exhibits have no pictures in it and are left out."""
        names = [each.name for each in fields(Bounded)]
        tests = [Bounded(**{name: _read(name, test[name]) for name in names}) for test in given["tests"]]
        outcome = Outcome(
            tests=tests, left_out=dict(given["left_out"]), details=dict(given["details"]),
            values={name: np.array([_read("", v) for v in values], float) for name, values in given["values"].items()},
            **{name: given["outcome"][name] for name in _plain()},
        )  # fmt: skip
        plain = ("id", "kind", "status", "code", "message", "required", "blocks", "evaluations", "explanations")
        adjusted = tuple(_read("", test["p_violates_adjusted"]) for test in given["tests"])
        return cls(outcome=outcome, adjusted=adjusted, seconds=seconds, **{name: given[name] for name in plain})


@dataclass(frozen=True)
class GateResult:
    """A run of the gate.

    Attributes
    ----------
    status
        ``pass``, ``fail`` or ``inconclusive``.
    checks
        In the policy's order.
    inputs
        Ids of the inputs that could be read, in the order of every check's values.
    unreadable
        Id -> why it couldn't be read.
    record
        What reproduces it: digests of policy, model, reference and data, seed, versions, device.
    seconds
        Name -> wall time; the only part that differs between two runs with one seed.
    """

    status: Status
    checks: tuple[CheckResult, ...]
    inputs: tuple[str, ...]
    unreadable: Mapping[str, str]
    record: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 4 inconclusive or nothing checked; 2 and 5 where a check ended in a fault of the policy, or of this
        package.
        """
        codes = [check.code for check in self.checks if check.required]
        if self.status == "inconclusive" and "internal" in codes:
            return 5
        if self.status == "inconclusive" and any(code.startswith("config.") for code in codes):
            return 2
        return {"pass": 0, "fail": 1}.get(self.status, 4)

    @property
    def passed(self) -> bool:
        """Whether the model may be deployed."""
        return self.status == "pass"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "checks": [check.to_dict() for check in self.checks],
            "inputs": list(self.inputs),
            "unreadable": dict(self.unreadable),
            **jsonable(self.record),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> GateResult:
        """What :meth:`to_dict` wrote, without exhibits.

        Raises
        ------
        InputError
            ``evidence.invalid`` for anything else.
        """
        own = ("status", "exit_code", "checks", "inputs", "unreadable", "seconds")
        try:
            seconds = {str(name): float(value) for name, value in given["seconds"].items()}
            checks = tuple(CheckResult.from_dict(each, seconds.get(each["id"], 0.0)) for each in given["checks"])
            record = {name: value for name, value in given.items() if name not in own}
            return cls(
                given["status"], checks, tuple(given["inputs"]), dict(given["unreadable"]), record, seconds
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            text = f"no result of a gate: {type(problem).__name__}: {problem}"
            raise InputError("evidence.invalid", text, "give what `onnxplain gate run` wrote") from None

    @property
    def metrics(self) -> dict[str, float]:
        """Every finite estimate by ``check/statistic`` or ``check/statistic/part``, for a tracker of experiments; ``passed``.

        Names hold letters, digits and ``_-. /`` only, as MLflow wants them.
        """
        found = {"passed": float(self.passed)}
        for check in self.checks:
            for test in check.outcome.tests:
                parts = [check.id, test.name, *([test.part] if test.part else [])]
                name = "/".join(re.sub(r"[^A-Za-z0-9_. -]", "_", part)[:80] for part in parts)
                if math.isfinite(test.estimate):
                    found[name] = float(test.estimate)
        return found


def _plain() -> list[str]:
    """The fields of an outcome that hold a text or a number."""
    return [each.name for each in fields(Outcome) if each.default is not MISSING]


def _written(value: Any) -> Any:
    """JSON-ready: NaN as null, infinity as text, so that reading it gives the same number."""
    if isinstance(value, float | np.floating) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return jsonable(value)


def _read(name: str, value: Any) -> Any:
    """What :func:`_written` wrote of a field."""
    if name in ("name", "side", "part", "count"):
        return value
    return math.nan if value is None else float(value)


def values_of(found: Mapping[int, float], count: int) -> Array:
    """Index -> value as an array over all inputs, NaN where there is none."""
    values = np.full(count, np.nan)
    values[list(found)] = list(found.values())
    return values
