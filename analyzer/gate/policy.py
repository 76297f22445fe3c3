"""The policy of a gate: what ``gate.toml`` may say, read and checked before anything runs.

Belongs here: the sections, reading the file, its digest, its JSON schema. Not here: the checks and their parameters
(``checks``), running (``run``).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationError

from analyzer.errors import UsageError
from analyzer.gate.check import Check, Count, Positive, Share, Strict
from analyzer.gate.checks import kinds
from analyzer.inputs.files import read_bytes
from analyzer.nearest import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Most bytes of a policy.
_LIMIT = 2**20
#: Data that may come with masks of its own: archives and manifests.
_MAY_HOLD_MASKS = (".npz", ".csv", ".tsv", ".txt")
Answer = Literal["pass", "warn", "fail"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelSection(Strict):
    """A model file and how it is loaded; paths are relative to the policy's folder."""

    path: str
    sha256: Sha256 | None = None
    """Refuses any other file."""
    preprocess: str | None = None
    """A preset or a file, as ``onnxplain explain --preprocess`` takes it; what lies beside the model where it isn't given."""
    labels: str | None = None
    """A file of class names, one in each line."""
    decode: str | None = None
    """How a detector's outputs are read."""
    layout: str | dict[str, str] | None = None
    """What the axes of the input are, as ``NCHW``; read from the model where it isn't given."""


class DataSection(Strict):
    """The inputs that the model is judged on: a folder, a manifest, an archive or a table."""

    path: str
    samples: Count | None = None
    """So many, drawn with the seed; all where it isn't given."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the draw and of every random choice."""
    stratify: str | None = None
    """``label`` or a slice column whose proportions the drawn samples keep."""
    masks: str | None = None
    """Where the object lies: a folder of masks with the inputs' names, or one mask for all."""
    min_valid_fraction: Share = 0.99
    """With fewer readable inputs than that the gate is inconclusive."""


class ExplainSection(Strict):
    """How the model is explained."""

    method: str = "lrp"
    """As ``onnxplain methods`` lists them."""
    preset: str | None = None
    """The composite, for a method that has that parameter."""
    params: dict[str, Any] = {}
    """The method's parameters."""
    target: str = "predicted"
    """``predicted``, ``label``, or any target."""
    output: Literal["logit", "probability"] = "logit"
    """The score that is explained."""


class LimitsSection(Strict):
    """What a run may take; a check that is cut off is an error, so that the gate fails closed."""

    wall_s: Positive | None = None
    """Seconds of the whole run."""
    memory_mb: Positive | None = None
    """MiB that the process may hold."""
    worker_timeout_s: Positive | None = None
    """Seconds that a step, a batch as a rule, may take; it is judged when the step ends."""


class PolicySection(Strict):
    """How statements become verdicts."""

    on_error: Answer = "fail"
    """What a required check that broke down means: ``fail`` keeps the gate from passing."""
    on_skipped: Answer = "fail"
    """The same of one that didn't run,"""
    on_inconclusive: Answer = "fail"
    """and of one that couldn't be decided."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of every interval and every decision."""
    correction: Literal["holm", "none"] = "holm"
    """Adjusts for how many statements are tested, so that good models are rarely blocked by chance."""
    min_n: Count = 59
    """Statements about all inputs need so many: 59 without a miss are what 95 % at 95 % confidence needs. Checks of these inputs,
    or of the model alone (finite, op_coverage, output_parity, determinism), don't."""


class ReportSection(Strict):
    """What is written."""

    formats: list[Literal["json", "junit", "sarif", "html", "md"]] = ["json", "junit", "sarif", "html", "md"]
    """The reports; result and evidence are always written."""
    dir: str = "gate-out"
    """Where they go, relative to the policy."""
    embed_images: Annotated[int, Field(ge=0, le=1000)] = 24
    """So many inputs are shown in the HTML report."""


class Policy(Strict):
    """A policy as it was read; :func:`load_policy` makes one."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    model: ModelSection
    reference: ModelSection | None = None
    data: DataSection
    explain: ExplainSection = ExplainSection()
    limits: LimitsSection = LimitsSection()
    policy: PolicySection = PolicySection()
    check: Annotated[list[SerializeAsAny[Check]], Field(min_length=1)]
    report: ReportSection = ReportSection()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides: the policy in canonical JSON, defaults filled in, without the report."""
        return _digest(self.model_dump(mode="json", by_alias=True, exclude={"report"}))

    @functools.cached_property
    def method_digest(self) -> str:
        """SHA-256 of how the model is explained, defaults filled in."""
        return _digest(self.explain.model_dump(mode="json"))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@functools.cache
def _adapter() -> TypeAdapter[Any]:
    from pydantic import create_model

    union: Any = Union[tuple(kinds().values())]  # noqa: UP007
    checks: Any = Annotated[list[Annotated[union, Field(discriminator="kind")]], Field(min_length=1)]
    model = create_model("Policy", __base__=Policy, __doc__=Policy.__doc__, check=(checks, ...))
    return TypeAdapter(model)


def schema() -> dict[str, Any]:
    """The JSON schema of a policy."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter().json_schema(by_alias=True)}


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read and check a policy.

    Raises
    ------
    UsageError
        ``config.gate`` naming the key, ``config.gate_syntax`` naming the line.
    """
    file = Path(path)
    content = read_bytes(file, _LIMIT)
    try:
        given = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(
            "config.gate_syntax", f"{file}: {problem or 'nested too deeply'}", "write a TOML file"
        ) from None
    return parse_policy(given, str(file))


def parse_policy(given: Mapping[str, Any], where: str = "policy") -> Policy:
    """Check a policy that is given as a mapping; errors as of :func:`load_policy`."""
    try:
        found: Policy = _adapter().validate_python(given)
    except ValidationError as problem:
        raise UsageError("config.gate", f"{where}: {_told(problem.errors()[0], given)}", _HINT) from None
    ids = [check.id for check in found.check]
    twice = next((each for at, each in enumerate(ids) if each in ids[:at]), None)
    if twice is not None:
        raise UsageError(
            "config.gate", f"{where}: check.id: two checks are called {twice!r}", "give each a name of its own"
        )
    for check in found.check:
        if "reference" in check.needs and found.reference is None:
            message = f"{where}: check {check.id!r} compares with a reference, and there is no [reference]"
            raise UsageError("config.gate", message, "add [reference] with the path of a model")
        masked = (
            found.data.masks or getattr(check, "masks", None) or Path(found.data.path).suffix.lower() in _MAY_HOLD_MASKS
        )
        if "masks" in check.needs and not masked:
            message = f"{where}: check {check.id!r} needs masks"
            raise UsageError("config.gate", message, "give masks= in the check, or in [data]")
    return found


_HINT = "`onnxplain gate lint --schema` prints what a policy may hold"


def _told(problem: ErrorDetails, given: Mapping[str, Any]) -> str:
    """One fault of a policy, with the key that it is in."""
    where, kind = [part for part in problem["loc"] if part not in kinds()], problem["type"]
    key = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in where).replace(".[", "[")
    at = given.get("check")
    index = next((part for part in where if isinstance(part, int)), None)
    if where[:1] == ["check"] and isinstance(at, list) and index is not None and isinstance(at[index], Mapping):
        name = at[index].get("id")
        key += f" (check {str(name)[:60]!r})" if isinstance(name, str) else ""
    if kind == "extra_forbidden":
        section = _section(given, where[:-1])
        return f"{key}: there is no such key{did_you_mean(str(where[-1]), section)}"
    if kind == "union_tag_invalid":
        tag = str(problem["ctx"]["tag"])[:60]
        return f"{key}.kind: no check is called {tag!r}{did_you_mean(tag, kinds())}"
    if kind == "union_tag_not_found":
        return f"{key}: kind is missing"
    if kind == "missing":
        return f"{key}: it is missing"
    value = repr(problem["input"])
    shown = "" if isinstance(problem["input"], Mapping) else f"{value[:60]} is not valid: "
    text = problem["msg"]
    return f"{key}: {shown}{text[0].lower()}{text[1:]}"


def _section(given: Mapping[str, Any], where: list[Any]) -> list[str]:
    """The keys that a section may have."""
    if not where:
        return [field.alias or name for name, field in Policy.model_fields.items()]
    if where[0] == "check":
        found: Any = given
        for part in where:
            found = found[part]
        kind = kinds().get(found.get("kind"))
        return list(kind.model_fields) if kind is not None else []
    sections: dict[str, type[Strict]] = {
        "model": ModelSection, "reference": ModelSection, "data": DataSection, "explain": ExplainSection,
        "limits": LimitsSection, "policy": PolicySection, "report": ReportSection,
    }  # fmt: skip
    return list(sections[where[0]].model_fields) if where[0] in sections else []
