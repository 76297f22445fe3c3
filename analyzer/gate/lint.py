"""Looking a policy over without running it: what it names exists, and its checks have what they need.

Belongs here: everything that can be told before an input runs. Not here: keys and values (``policy``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import UsageError
from analyzer.gate.named import exists, paths_of, problems_of_method
from analyzer.gate.policy import Policy, load_policy
from analyzer.gate.run import opened

_HINT = "paths are relative to the policy; `onnxplain methods` lists methods"


@dataclass(frozen=True)
class Looked:
    """A policy that can run.

    Attributes
    ----------
    digest
        The policy's.
    checks
        Their ids.
    inputs
        How many inputs there are.
    warnings
        What will keep it from passing.
    """

    digest: str
    checks: tuple[str, ...]
    inputs: int
    warnings: tuple[str, ...]


def lint(path: str | os.PathLike[str]) -> Looked:
    """Look a policy over.

    Raises
    ------
    UsageError
        ``config.gate``, ``config.gate_syntax``, ``data.missing``: whatever is wrong with it, all of it in one line.
    InputError, InconclusiveError
        The model or the data can't be opened.
    """
    path = Path(path)
    policy = load_policy(path)
    problems = [*_paths(policy, path.parent), *problems_of_method(policy)]
    if problems:
        raise UsageError(
            "config.gate",
            f"{path}: {'; '.join(problems)}",
            "paths are relative to the policy; `onnxplain methods` lists methods",
        )
    *_, dataset = opened(policy, path.parent)
    unlabelled = all(label is None for label in dataset.labels)
    needing = [check.id for check in policy.check if "labels" in check.needs]
    if unlabelled and (needing or policy.explain.target == "label"):
        what = f"check {needing[0]!r} needs labels" if needing else 'explain.target = "label"'
        raise UsageError("config.gate", f"{path}: {what}, and the data has none", "label the data")
    few = len(dataset) < policy.policy.min_n
    warnings = [f"the data has {len(dataset)} inputs and policy.min_n is {policy.policy.min_n}: statements about all "
                "inputs will be inconclusive"] if few else []  # fmt: skip
    return Looked(policy.digest, tuple(check.id for check in policy.check), len(dataset), tuple(warnings))


def _paths(policy: Policy, base: Path) -> Iterator[str]:
    """Paths that lead nowhere."""
    named = {"model.path": policy.model.path, "data.path": policy.data.path, "data.masks": policy.data.masks}
    if policy.reference is not None:
        named["reference.path"] = policy.reference.path
    for check in policy.check:
        named |= {f"{key} of check {check.id!r}": value for key, value in paths_of(check).items()}
    for key, value in named.items():
        if value is not None and not exists(base / value):
            yield f"{key}: {base / value}: no such file or folder"
