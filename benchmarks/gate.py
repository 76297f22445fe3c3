"""How often the gate's checks are wrong: models and explanations of known truth, judged again and again on fresh scenes.

Every case is a check with what it must say of a model and a method: to pass what is good, to fail what a fault was planted
in. Each run draws scenes that nothing has seen, with seeds of its own. Counted are false alarms (a good model fails), misses (a
planted fault passes), and runs in which a check can't tell, which blocks as failing does but names no fault.

Checks of the same model and method are judged together, as a policy does, so that the correction for their number counts.

    python -m benchmarks.gate [--runs 100] [--inputs 60] [--only CASE…]

Cases stand in ``benchmarks/gate_cases*.py``; results of cases that aren't run again are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import pkgutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.gate.context import GateContext
from analyzer.gate.decide import decided
from analyzer.gate.outcome import Outcome
from analyzer.gate.policy import parse_policy
from models.shapes import scenes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
#: Scenes that no training or held-out set drew: those use small seeds.
SEED = 20_261_127


@dataclass(frozen=True)
class Case:
    """A check and what it must say.

    Attributes
    ----------
    name
        Unlike any other's.
    good
        Whether it must pass.
    what
        The model and the explanation, or the fault that was planted, in words.
    check
        As a policy has it, without an id.
    model, reference
        Load the model, and the one that it is compared with; called once.
    explain
        The policy's section.
    within
        What must be registered while it runs: a method, an operator.
    change
        Makes other inputs of the scenes: (images, masks, labels) as the model takes them -> images.
    region
        The mask of every input; None for that of its object.
    """

    name: str
    good: bool
    what: str
    check: Mapping[str, Any]
    model: Callable[[], analyzer.Model]
    explain: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[[], analyzer.Model] | None = None
    within: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    change: Callable[[Any, Any, Any], Any] | None = None
    region: Callable[[], Any] | None = None

    @property
    def together(self) -> tuple[Any, ...]:
        """What cases must share to be judged by one policy."""
        return (
            self.model,
            self.reference,
            json.dumps(dict(self.explain), sort_keys=True),
            self.within,
            self.change,
            self.region,
            self.good,
        )


class Rows:
    """Scenes as a data set in memory."""

    digest = "0" * 64

    def __init__(self, name: str, images: Any, masks: Any, labels: Any) -> None:
        self.masked, self._images, self._masks = name, images, masks
        self.ids = tuple(f"scene{at}" for at in range(len(images)))
        self.labels = tuple(int(label) for label in labels)
        self.groups: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, at: int) -> Any:
        feed = {self.masked: self._images[at : at + 1]}
        return SimpleNamespace(id=self.ids[at], feed=feed, label=self.labels[at], mask=self._masks[at], groups={})


def statuses(cases: list[Case], data: Any, seed: int) -> list[str]:
    """What every check says of one draw of scenes; the cases share everything but the check."""
    first = cases[0]
    images, masks, labels = data
    model = _loaded(first.model)
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    if first.change is not None:
        x = first.change(x, masks, labels)
    if first.region is not None:
        masks = np.broadcast_to(first.region(), masks.shape)
    policy = parse_policy(
        {
            "schema": 1, "model": {"path": "model.onnx"}, "data": {"path": "scenes", "seed": seed, "masks": "masks"},
            "explain": dict(first.explain), "check": [{"id": case.name, **case.check} for case in cases],
        }
        | ({} if first.reference is None else {"reference": {"path": "reference.onnx"}})
    )  # fmt: skip
    rows: Any = Rows(next(iter(model.inputs)), x, masks, labels)
    reference = None if first.reference is None else _loaded(first.reference)
    gate = GateContext(policy, ROOT, model, reference, rows, tuple(range(len(rows))))
    outcomes = []
    for check in policy.check:
        gate.check = check.id
        try:
            outcomes.append(check.run(gate))
        except AnalyzerError as problem:
            outcomes.append(Outcome(status="error", message=str(problem)))
    return [status for status, *_ in decided(outcomes, policy)]


_LOADED: dict[Any, analyzer.Model] = {}


def _loaded(make: Callable[[], analyzer.Model]) -> analyzer.Model:
    if make not in _LOADED:
        _LOADED[make] = make()
    return _LOADED[make]


def all_cases() -> list[Case]:
    """Those of every ``gate_cases*.py``."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names if name.startswith("gate_cases")]
    return [case for module in modules for case in module.CASES]


def measure(cases: list[Case], runs: int, inputs: int) -> Iterator[dict[str, Any]]:
    """Case -> how often it said what, after every run."""
    groups: dict[Any, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.together, []).append(case)
    said = {case.name: Counter[str]() for case in cases}
    seconds = dict.fromkeys(said, 0.0)
    for run in range(runs):
        data = scenes.dataset(inputs, SEED + run)
        for group in groups.values():
            began = time.process_time()
            with group[0].within():
                found = statuses(group, data, SEED + run)
            for case, status in zip(group, found, strict=True):
                said[case.name][status] += 1
                seconds[case.name] += (time.process_time() - began) / len(group)
        print(f"run {run + 1} of {runs}", flush=True)
        yield {case.name: _row(case, said[case.name], inputs, seconds[case.name]) for case in cases}


def _row(case: Case, said: Counter[str], inputs: int, seconds: float) -> dict[str, Any]:
    """What is kept of a case."""
    runs = said.total()
    return {
        "kind": case.check["kind"], "must": "pass" if case.good else "fail", "what": case.what, "runs": runs,
        "inputs": inputs, "said": dict(said), "wrong": said["fail" if case.good else "pass"],
        "cannot tell": runs - said["pass"] - said["fail"], "seconds per run": round(seconds / runs, 2),
        "check": dict(case.check), "explain": dict(case.explain),
    }  # fmt: skip


def written(rows: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| check | must | of | runs | wrong | can't tell | CPU s per run |", "|---|---|---|---|---|---|---|",
        *(
            f"| {row['kind']} | {row['must']} | {row['what']} | {row['runs']} × {row['inputs']} scenes | {row['wrong']} | "
            f"{row['cannot tell']} | {row['seconds per run']} |"
            for row in sorted(rows.values(), key=lambda row: (row["kind"], row["must"] != "pass", row["what"]))
        ),
    ]  # fmt: skip
    alarms, good = (sum(row[key] for row in rows.values() if row["must"] == "pass") for key in ("wrong", "runs"))
    missed, bad = (sum(row[key] for row in rows.values() if row["must"] == "fail") for key in ("wrong", "runs"))
    told = f"{alarms} false alarms in {good} verdicts on what is good, {missed} misses in {bad} on planted faults.\n"
    return f"{told}\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write ``results/gate.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--runs", type=int, default=100)
    cli.add_argument("--inputs", type=int, default=60)
    cli.add_argument("--only", nargs="*", help="cases, or kinds of checks")
    given = cli.parse_args()
    cases = [c for c in all_cases() if not given.only or c.name in given.only or c.check["kind"] in given.only]
    target = RESULTS / "gate.json"
    known = json.loads(target.read_text())["cases"] if target.exists() else {}
    known = {case.name: known[case.name] for case in all_cases() if case.name in known}
    for found in measure(cases, given.runs, given.inputs):
        known |= found
        target.write_text(json.dumps({"seed": SEED, "cases": dict(sorted(known.items()))}, indent=2) + "\n")
        (RESULTS / "gate.md").write_text(written(known))
    print(written(known))


if __name__ == "__main__":
    main()
