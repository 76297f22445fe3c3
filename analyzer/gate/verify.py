"""Whether the evidence of a run agrees with itself, with a policy and with a model: an edited threshold or verdict shows.

Belongs here: holding the files of a folder against each other. Not here: writing them (``evidence``), signatures: a statement is
signed and verified with public tools, and binds the digests of all other files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError, InputError
from analyzer.gate.evidence import RESULT, START, STATEMENT, digest_of, statement
from analyzer.gate.outcome import GateResult
from analyzer.gate.policy import Policy, load_policy, parse_policy
from analyzer.gate.run import rejudged
from analyzer.inputs.files import read_bytes

#: Most bytes of a file of evidence.
_LIMIT = 2**30


@dataclass(frozen=True)
class Finding:
    """Something that was held against something else.

    Attributes
    ----------
    what
        What was looked at.
    agrees
        Whether it is as recorded.
    message
        What differs.
    """

    what: str
    agrees: bool
    message: str = ""


def verify(
    folder: str | os.PathLike[str], policy: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
) -> list[Finding]:  # fmt: skip
    """Hold the evidence of a run against itself, and against a policy and a model where they are given.

    Raises
    ------
    InputError
        ``evidence.incomplete``, ``evidence.invalid``.
    UsageError
        Where the policy isn't valid.
    """
    folder = Path(folder)
    start, given, stated = (_read(folder / name) for name in (START, RESULT, STATEMENT))
    result = GateResult.from_dict(given)
    try:
        return list(_findings(folder, start, result, stated, policy, model))
    except (KeyError, TypeError, IndexError, AttributeError) as problem:
        text = f"{folder} holds no evidence of a gate: {type(problem).__name__}: {problem}"
        raise InputError("evidence.invalid", text, "give what `onnxplain gate run` wrote") from None


def _findings(
    folder: Path, start: Mapping[str, Any], result: GateResult, stated: Mapping[str, Any],
    policy: str | os.PathLike[str] | None, model: str | os.PathLike[str] | None,
) -> Iterator[Finding]:  # fmt: skip
    recorded = start["policy"]["sha256"]
    demanded = _policy(start)
    kept = demanded is not None and demanded.digest == recorded
    yield Finding("the policy before the run", kept, "" if kept else f"{START}: its content has another digest")
    yield _same("the policy of the result", result.record["policy"]["sha256"], recorded)
    for key in sorted({*start, *result.record} - {"policy", "started"}):
        yield _same(f"{key} before the run and in the result", result.record.get(key), start.get(key))
    yield _verdict(result, demanded)
    yield from _files(folder, stated)
    expected = statement(result, _digests(stated))
    yield _same("the statement", stated, expected)
    if policy is not None:
        yield _against_policy(Path(policy), demanded, recorded)
    if model is not None:
        yield _against_model(Path(model), result.record["model"]["sha256"])


def _policy(start: Mapping[str, Any]) -> Policy | None:
    try:
        return parse_policy(start["policy"]["content"], START)
    except AnalyzerError:
        return None


def _verdict(result: GateResult, demanded: Policy | None) -> Finding:
    """The verdict decided anew from what was found."""
    what = "the verdict, decided anew"
    if demanded is None:
        return Finding(what, False, "there is no policy to decide by")
    ids = [check.id for check in result.checks], [check.id for check in demanded.check]
    if ids[0] != ids[1]:
        return Finding(what, False, f"the result has the checks {', '.join(ids[0])}, the policy {', '.join(ids[1])}")
    anew = rejudged(result, demanded)
    for old, new in zip(result.checks, anew.checks, strict=True):
        if differing := _differing(old.to_dict(), new.to_dict()):
            key, was, now = differing[0]
            return Finding(what, False, f"check {old.id}: {key} is {was!r} in the result and {now!r} decided anew")
    return _same(what, result.status, anew.status)


def _files(folder: Path, stated: Mapping[str, Any]) -> Iterator[Finding]:
    for name, digest in _digests(stated).items():
        file = folder / Path(name).name
        if not file.is_file():
            yield Finding(name, False, "the statement names it, and it isn't there")
        else:
            agrees = digest_of(file) == digest
            yield Finding(name, agrees, "" if agrees else "it was changed after the statement was written")


def _digests(stated: Mapping[str, Any]) -> dict[str, str]:
    """File -> digest as the statement has them."""
    used = stated["predicate"]["configuration"]
    return {each["name"]: each["digest"]["sha256"] for each in used if each["annotations"]["role"] == "file"}


def _against_policy(path: Path, demanded: Policy | None, recorded: str) -> Finding:
    own = load_policy(path)
    if own.digest == recorded:
        return Finding(f"{path}", True)
    message = f"its digest is {own.digest[:16]}…, {recorded[:16]}… was recorded before the run"
    if demanded is not None:
        one, other = (each.model_dump(mode="json", by_alias=True, exclude={"report"}) for each in (demanded, own))
        keys = [f"{key} was {was!r} and is {now!r}" for key, was, now in _differing(one, other)]
        message += f": {'; '.join(keys[:5])}" + (f"; and {len(keys) - 5} more" if len(keys) > 5 else "")
    return Finding(f"{path}", False, message)


def _against_model(path: Path, recorded: str) -> Finding:
    from analyzer.model import load

    digest = load(path).sha256
    agrees = digest == recorded
    return Finding(f"{path}", agrees, "" if agrees else f"its digest is {digest[:16]}…, {recorded[:16]}… was recorded")


def _same(what: str, one: Any, other: Any) -> Finding:
    differing = _differing(one, other)
    if not differing:
        return Finding(what, True)
    key, was, now = differing[0]
    return Finding(what, False, f"{key + ': ' if key else ''}{was!r} and {now!r} differ")


def _differing(one: Any, other: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """(key, value, other value) of everything that differs between two JSON documents."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        found = [_differing(one.get(n), other.get(n), f"{key}.{n}" if key else n) for n in names]
        return [each for few in found for each in few]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        return [each for at, (a, b) in enumerate(pairs) for each in _differing(a, b, f"{key}[{at}]")]
    return [] if one == other else [(key, one, other)]


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError("evidence.incomplete", f"{file} is missing", "run the gate again")
    try:
        found = json.loads(read_bytes(file, _LIMIT))
    except (ValueError, RecursionError):
        raise InputError("evidence.invalid", f"{file} is no JSON document", "run the gate again") from None
    if not isinstance(found, dict):
        raise InputError("evidence.invalid", f"{file} holds no object", "run the gate again")
    return found
