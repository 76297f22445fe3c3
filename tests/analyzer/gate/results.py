"""Results of gates that are made up: every status, statements of every shape, foreign strings. Not here: what is checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.evaluation.statistics import Bounded
from analyzer.explanation import Explanation
from analyzer.gate.outcome import CheckResult, Exhibit, GateResult, Outcome, Status

#: Markup, rich's markup, terminal sequences, what XML can't hold, what reads backwards, what is endless.
HOSTILE = (
    "<script>document.title='owned'</script>", "[/foo][bold]x[/bold]", "\x1b[31mred\x1b]8;;http://evil\x07",
    "nul \x00 bell \x07 not a character \uffff \ufffe", "\u202egpj.exe", "lone \ud800 surrogate", "x" * 10_000,
    "| a | b |\n# title\n- [link](javascript:alert(1)) ![i](http://evil/x.png) `code` www.evil.org @team",
    "]]></system-out><testcase name='forged'/>", "{{ 7 * 7 }}{% raw %}", "%s %(x)s",
)  # fmt: skip
RECORD: dict[str, Any] = {
    "policy": {"sha256": "ab" * 32},
    "model": {"path": "models/some model.onnx", "sha256": "cd" * 32},
    "reference": None,
    "data": {"path": "val/", "sha256": "ef" * 32, "inputs": 3},
    "seed": 0,
    "device": "cpu",
    "versions": {"python": "3.11.7", "onnxplain": "0.2.0"},
}


def explanation(seed: int = 0, label: str = "cat") -> Explanation:
    """An explanation of an 8 x 8 picture."""
    rng = np.random.default_rng(seed)
    x = rng.random((1, 3, 8, 8), np.float32)
    maps = {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}
    return Explanation(method="lrp", params={}, attributions=maps, raws=maps, inputs={"x": x}, target=("cat (1)",), classes=(1,),
                       score=np.array([2.0]), score_kind="logit", signed=True,
                       record={"prediction": {"kind": "probability", "top": [[[1, label, 0.9]]]}})  # fmt: skip


def bounded(estimate: float = 0.9, bound: float = 0.8, part: str = "", name: str = "the share", **rest: Any) -> Bounded:
    """A statement that something is at least a bound."""
    given = {"low": estimate - 0.05, "high": estimate + 0.05, "side": "at least", "count": 100}
    clears, violates = (0.001, 1.0) if estimate >= bound else (1.0, 0.001)
    return Bounded(name=name, estimate=estimate, bound=bound, part=part,
                   **{**given, "p_clears": clears, "p_violates": violates, **rest})  # fmt: skip


def check(
    id_: str, status: Status = "pass", blocks: bool = False, message: str = "why", tests: tuple[Bounded, ...] = (),
    kind: str = "finite", **outcome: Any,
) -> CheckResult:  # fmt: skip
    """A check's result."""
    found = Outcome(list(tests), values={"v": np.array([1.0, np.nan, np.inf])}, **outcome)
    code = f"check.{status}"
    adjusted = tuple(test.p_violates for test in tests)
    return CheckResult(
        id_, kind, status, code, message, status != "warn", found, adjusted, 10, 5, 0.25, blocks
    )  # fmt: skip


def result(*checks: CheckResult, status: Status = "fail", **record: Any) -> GateResult:
    """A gate's result."""
    return GateResult(
        status, checks, ("a", "b", "c"), {"broken.png": "no picture"}, RECORD | record, {"total": 1.0}
    )  # fmt: skip


def every_status() -> GateResult:
    """One check of each status."""
    return result(
        check("passes", tests=(bounded(), bounded(0.7, 0.6, part="class cat"))),
        check("warns", "warn"),
        check("fails", "fail", True, tests=(bounded(0.2), bounded(0.1, part="class dog"))),
        check("breaks", "error", True),
        check("is-skipped", "skipped"),
        check("is-unsure", "inconclusive", True, tests=(bounded(low=np.nan, high=np.inf, p_clears=np.nan),)),
    )


def hostile(text: str) -> GateResult:
    """Foreign text wherever some may be."""
    return result(
        check("fails", "fail", True, text, (bounded(0.2, name=text, part=text), bounded(0.1, name=text)),
              left_out={text: 3}, details={text: text},
              exhibits=[Exhibit(text, text, explanation(label=text), (text, explanation()))]),
        check("warns", "warn", message=text),
        model={"path": f"models/{text}.onnx", "sha256": "cd" * 32},
        reference={"path": text, "sha256": "01" * 32},
        data={"path": text, "sha256": "ef" * 32, "inputs": 3},
        versions={"onnxplain": text},
    )  # fmt: skip
