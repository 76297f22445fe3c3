"""Running a gate: from a policy to a result.

Belongs here: loading what the policy names, running the checks one after the other, what happens where one can't run. Not here:
the checks, deciding on them (``decide``), writing reports (``formats``, ``evidence``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analyzer.data.dataset import Dataset, open_dataset
from analyzer.errors import AnalyzerError, InconclusiveError, InputError, UsageError
from analyzer.gate.check import Check
from analyzer.gate.context import GateContext
from analyzer.gate.decide import blocks, decided, verdict
from analyzer.gate.inputs import Cancel, StoppedError
from analyzer.gate.named import exists, require_method, require_paths
from analyzer.gate.outcome import CheckResult, GateResult, Outcome
from analyzer.gate.policy import ModelSection, Policy, load_policy, parse_policy
from analyzer.gate.record import record_of
from analyzer.model import Model, load

Progress = Callable[[str, int, int], None]


def run_gate(
    policy: str | os.PathLike[str] | Mapping[str, Any] | Policy,
    *,
    folder: str | os.PathLike[str] | None = None,
    before: Callable[[GateContext], None] | None = None,
    cancel: Cancel | None = None,
    progress: Progress | None = None,
    device: str = "auto",
    threads: int = 0,
) -> GateResult:
    """Run a gate. Prints nothing, writes nothing, never exits.

    Parameters
    ----------
    policy
        A ``gate.toml``, or its content.
    folder
        What the policy's paths are relative to; the file's own folder, or the working directory, where it isn't given.
    before
        Called when model and data are known and nothing has run yet: evidence writes the policy's digest here.
    cancel
        Stops the run where it is set, between two batches: a ``threading.Event``.
    progress
        Called with (check's id, done, total inputs).

    Raises
    ------
    UsageError
        ``config.gate`` and others: the policy, or a path in it, is wrong.
    InputError
        The model is not valid, or isn't the one whose digest the policy names (``model.digest_mismatch``).
    InconclusiveError
        ``data.empty``, ``data.unreadable``: there is nothing to check on.
    StoppedError
        ``signal.cancelled``.
    """
    started = time.monotonic()
    base = (
        Path(folder) if folder is not None else Path(policy).parent if isinstance(policy, str | os.PathLike) else Path()
    )
    if isinstance(policy, str | os.PathLike):
        policy = load_policy(policy)
    elif not isinstance(policy, Policy):
        policy = parse_policy(policy)
    model, reference, dataset = opened(policy, base, device, threads)
    readable, unreadable = _readable(dataset, cancel)
    gate = GateContext(policy, base, model, reference, dataset, readable, cancel, progress)
    gate.started = started
    _require_enough(policy, len(readable), unreadable)
    for check in policy.check:
        gate.check = check.id
        check.look(gate)
    if before is not None:
        before(gate)
    ran = {}
    for check in sorted(policy.check, key=lambda check: check.reads_others):
        ran[check.id] = _ran(check, gate)
        gate.outcomes[check.id] = ran[check.id][0]
    checks = _results(policy, [ran[check.id] for check in policy.check])
    status = verdict(checks)
    seconds = {"total": time.monotonic() - started} | {check.id: check.seconds for check in checks}
    ids = tuple(dataset.ids[at] for at in readable)
    return GateResult(status, tuple(checks), ids, unreadable, record_of(gate), seconds)


def _loaded(section: ModelSection, key: str, base: Path, device: str, threads: int) -> Model:
    def found(text: str | None) -> str | None:
        return str(base / text) if text is not None and exists(base / text) else text

    model = load(
        base / section.path, device, preprocess=found(section.preprocess), labels=found(section.labels),
        decode=found(section.decode), layout=section.layout, threads=threads,
    )  # fmt: skip
    if section.sha256 is not None and model.sha256 != section.sha256:
        raise InputError(
            "model.digest_mismatch",
            f"{base / section.path} has the digest {model.sha256[:16]}…, {key}.sha256 names {section.sha256[:16]}…",
            "this is another model than the policy is for",
        )
    return model


def _dataset(policy: Policy, base: Path, model: Model) -> Dataset:
    section = policy.data
    path = base / section.path
    if not exists(path):
        raise UsageError("data.missing", f"{path}: no such file or folder", "data.path is relative to the policy")
    masks = None if section.masks is None else base / section.masks
    if masks is not None and not exists(masks):
        raise UsageError("data.missing", f"{masks}: no such file or folder", "data.masks is relative to the policy")
    return open_dataset(model, path, masks=masks, samples=section.samples, seed=section.seed, stratify=section.stratify)


def opened(policy: Policy, base: Path, device: str = "auto", threads: int = 0) -> tuple[Model, Model | None, Dataset]:
    """The model, the reference and the data that a policy names; errors as of :func:`run_gate`."""
    require_paths(policy, base)
    require_method(policy)
    model = _loaded(policy.model, "model", base, device, threads)
    reference = None if policy.reference is None else _loaded(policy.reference, "reference", base, device, threads)
    return model, reference, _dataset(policy, base, model)


def _readable(dataset: Dataset, cancel: Cancel | None) -> tuple[tuple[int, ...], dict[str, str]]:
    """Positions of the inputs that can be read, and why the others can't."""
    readable, unreadable = [], {}
    for at, name in enumerate(dataset.ids):
        if cancel is not None and cancel.is_set():
            raise StoppedError("signal.cancelled", "the run was cancelled")
        try:
            dataset.read(at)
        except AnalyzerError as problem:
            unreadable[name] = str(problem)
        else:
            readable.append(at)
    return tuple(readable), unreadable


def _require_enough(policy: Policy, readable: int, unreadable: Mapping[str, str]) -> None:
    total = readable + len(unreadable)
    if not total:
        raise InconclusiveError("data.empty", f"{policy.data.path} holds no inputs", "nothing was checked")
    if readable < policy.data.min_valid_fraction * total or not readable:
        name, why = next(iter(unreadable.items()))
        raise InconclusiveError(
            "data.unreadable",
            f"{len(unreadable)} of {total} inputs can't be read, {name} for one: {why}",
            "repair the data, or lower data.min_valid_fraction",
        )


def _ran(check: Check, gate: GateContext) -> tuple[Outcome, str, float, int, int]:
    """A check's outcome, its code, and what it took. Whatever goes wrong is its outcome; only cancelling ends the run."""
    gate.check, gate.evaluations, gate.explanations = check.id, 0, 0
    began, code = time.monotonic(), ""
    gate.looked = began
    try:
        gate.within_limits()
        outcome = check.run(gate)
        gate.within_limits()
    except StoppedError:
        raise
    except InconclusiveError as problem:
        outcome, code = Outcome(status="inconclusive", message=str(problem)), problem.code
    except UsageError as problem:  # a value of the policy that only shows now to be wrong
        own = problem.code.startswith("config.")
        outcome, code = Outcome(status="error", message=str(problem)), problem.code if own else "config.gate"
    except AnalyzerError as problem:
        outcome, code = Outcome(status="error", message=str(problem)), problem.code
    except MemoryError:
        outcome, code = Outcome(status="error", message="out of memory"), "limit.memory"
    except Exception as problem:
        text = " ".join(str(problem).split())[:300]
        outcome = Outcome(status="error", message=f"a fault of onnxplain: {type(problem).__name__}: {text}")
        code = "internal"
    return outcome, code, time.monotonic() - began, gate.evaluations, gate.explanations


def _results(policy: Policy, ran: list[tuple[Outcome, str, float, int, int]]) -> list[CheckResult]:
    found = []
    statuses = decided([outcome for outcome, *_ in ran], policy)
    for check, (outcome, code, seconds, evaluations, explanations), (status, message, adjusted) in zip(
        policy.check, ran, statuses, strict=True
    ):
        required = check.level == "fail"
        shown = "warn" if status == "fail" and not required else status
        code = code or outcome.code or f"check.{shown}"
        result = CheckResult(
            check.id, str(getattr(check, "kind", "")), shown, code, message, required, outcome, adjusted, evaluations,
            explanations, seconds, blocks(shown, required, policy, code),
        )  # fmt: skip
        found.append(result)
    return found


def rejudged(result: GateResult, policy: Policy) -> GateResult:
    """The same findings under a policy's confidence, correction and answers, decided anew: for verifying what was recorded."""
    ran = [
        (c.outcome, "" if c.code.startswith("check.") else c.code, c.seconds, c.evaluations, c.explanations)
        for c in result.checks
    ]
    checks = _results(policy, ran)
    return replace(result, checks=tuple(checks), status=verdict(checks))
