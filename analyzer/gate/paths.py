"""Paths that checks name: what must be there before anything runs.

Belongs here: which they are, refusing those that lead nowhere. Not here: the paths of sections (``run``), baselines, which a
run may still be without.
"""

from __future__ import annotations

from pathlib import Path

from analyzer.errors import UsageError
from analyzer.gate.check import Check
from analyzer.gate.policy import Policy


def paths_of(check: Check) -> dict[str, str]:
    """Key -> path of every field that is a :data:`analyzer.gate.check.FilePath`, as the check's schema marks it."""
    properties = type(check).model_json_schema()["properties"]
    marked = [name for name, content in properties.items() if "'format': 'path'" in str(content)]
    return {name: value for name in marked if isinstance(value := getattr(check, name, None), str)}


def require_paths(policy: Policy, base: Path) -> None:
    """Refuse a policy whose checks name what isn't there.

    Raises
    ------
    UsageError
        ``data.missing``, naming check and key.
    """
    for check in policy.check:
        for key, text in paths_of(check).items():
            if not (base / text).exists():
                message = f"check {check.id!r}: {key}: {base / text}: no such file or folder"
                raise UsageError("data.missing", message, f"{key} is relative to the policy")
