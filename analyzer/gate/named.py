"""What a policy names must be there before anything runs: paths, the method, its parameters.

Belongs here: refusing what isn't there. Not here: baselines, which a run may still be without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analyzer.errors import UsageError
from analyzer.gate.check import Check
from analyzer.gate.policy import Policy
from analyzer.methods import registry
from analyzer.nearest import did_you_mean


def exists(path: Path) -> bool:
    """Whether something is at a path.

    Raises
    ------
    UsageError
        ``config.gate`` for what can't be a path.
    """
    try:
        return path.exists()
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise UsageError("config.gate", f"{str(path)[:100]}…: {why}", "name a file or folder") from None


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
            if not exists(base / text):
                message = f"check {check.id!r}: {key}: {base / text}: no such file or folder"
                raise UsageError("data.missing", message, f"{key} is relative to the policy")


def require_method(policy: Policy) -> None:
    """Refuse a policy whose method isn't there, or hasn't got a parameter or a value of it.

    Raises
    ------
    UsageError
        ``config.gate``, naming the key.
    """
    problem = next(problems_of_method(policy), None)
    if problem is not None:
        raise UsageError("config.gate", problem, "`onnxplain methods` lists them")
    section = policy.explain
    given = {**section.params, **({"composite": section.preset} if section.preset is not None else {})}
    try:
        registry.get(section.method).check(given)
    except UsageError as fault:
        raise UsageError("config.gate", f"explain: {fault.message}", fault.hint) from None


def problems_of_method(policy: Policy) -> Iterator[str]:
    """A method that isn't there, or that hasn't got a parameter."""
    section = policy.explain
    info = registry.methods().get(section.method)
    if info is None:
        yield f"explain.method: no method is called {section.method!r}{did_you_mean(section.method, registry.methods())}"
        return
    given = [("preset", "composite")] * (section.preset is not None) + [(f"params.{n}", n) for n in section.params]
    for key, name in given:
        if name not in info.parameters:
            yield f"explain.{key}: {section.method} has no parameter {name!r}{did_you_mean(name, info.parameters)}"
