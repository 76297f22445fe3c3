"""Renewing the baselines that snapshot checks compare with.

Belongs here: when a baseline may be written. Not here: what is in one (``baselines``), comparing (``checks.snapshot``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from analyzer.errors import AnalyzerError, UsageError
from analyzer.gate.baselines import baseline_of, write_baseline
from analyzer.gate.checks.snapshot import SnapshotCheck
from analyzer.gate.policy import load_policy
from analyzer.gate.run import run_gate
from analyzer.nearest import did_you_mean


class FailingError(AnalyzerError):
    """The gate fails, so what it finds is no baseline."""

    exit_code = 1


def update(
    path: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    device: str = "auto",
    threads: int = 0,
) -> dict[str, Path]:
    """Run a gate and write its baselines, each whole or not at all.

    Parameters
    ----------
    only
        Ids of snapshot checks; all where there are none.
    force
        Also where the variable ``CI`` is set: a pipeline that renews what it compares with compares nothing.

    Returns
    -------
    dict
        Id of a check -> the file that was written.

    Raises
    ------
    UsageError
        ``gate.in_ci``, ``gate.no_snapshot``, ``gate.no_such_check``.
    FailingError
        ``gate.failing`` while a required check that is no snapshot blocks.
    """
    path = Path(path)
    policy = load_policy(path)
    if not force and os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise UsageError("gate.in_ci", "a baseline isn't renewed in CI", "run it where somebody looks, or --force")
    files = {check.id: path.parent / check.baseline for check in policy.check if isinstance(check, SnapshotCheck)}
    for name in only:
        if name not in files:
            raise UsageError("gate.no_such_check", f"no snapshot is called {name!r}{did_you_mean(name, files)}",
                             f"its snapshots: {', '.join(files) or 'none'}")  # fmt: skip
    if not files:
        raise UsageError("gate.no_snapshot", f"{path} has no check of kind snapshot", "add one")
    result = run_gate(policy, folder=path.parent, progress=progress, device=device, threads=threads)
    failing = next((check for check in result.checks if check.blocks and check.id not in files), None)
    if failing is not None:
        message = f"check {failing.id!r} blocks: {failing.message}"
        raise FailingError("gate.failing", message, "what a failing gate finds is no baseline")
    baseline = baseline_of(result)
    chosen = {name: file for name, file in files.items() if not only or name in only}
    for file in chosen.values():
        write_baseline(file, baseline)
    return chosen
