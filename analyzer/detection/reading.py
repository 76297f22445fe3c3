"""Finding and reading a decode spec: presets by name, TOML and JSON files, what a model carries.

Belongs here: where a `Decode` comes from and what is wrong with one that can't be read. Not here: what it means
(``schema``).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analyzer.detection.schema import CODE, PRESETS, Decode
from analyzer.errors import InputError, UsageError
from analyzer.inputs.files import decode_text, read_bytes

_LIMIT = 4 * 2**20


def load_decode(source: str | os.PathLike[str] | Mapping[str, Any] | Decode) -> Decode:
    """A preset by its name, a TOML or JSON file by its path, or a mapping of the same keys.

    A file may start from a preset with ``preset = "yolov8"`` and override keys.

    Raises
    ------
    UsageError
        ``config.decode``, naming file, key and what is allowed.
    """
    if isinstance(source, Decode):
        return source
    if isinstance(source, Mapping):
        return _build(dict(source), "decode spec")
    if isinstance(source, str) and source in PRESETS:
        return PRESETS[source]
    path = Path(source)
    if isinstance(source, str) and not path.suffix and len(path.parts) == 1 and not path.exists():
        raise UsageError(CODE, f"no decode spec is called {source!r}", _listing("presets", PRESETS))
    try:
        text = decode_text(read_bytes(path, _LIMIT), path, CODE)
    except InputError as problem:
        raise UsageError(CODE, problem.message, problem.hint) from None
    return _parse(text, str(path))


def discover_decode(model_path: str | os.PathLike[str] | None, metadata: Mapping[str, str]) -> Decode | None:
    """The decode spec that comes with a model, if any does.

    First ``MODEL.decode.toml`` beside the model (``yolo.onnx``: ``yolo.decode.toml``), then the model's metadata key
    ``decode``, which holds TOML, JSON or a preset's name (never a path).

    Raises
    ------
    UsageError
        ``config.decode`` where one is there but can't be read.
    """
    if model_path is not None:
        beside = Path(model_path)
        beside = beside.with_name(f"{beside.stem}.decode.toml")
        if beside.exists():
            return load_decode(beside)
    text = metadata.get("decode", "").strip()
    if not text:
        return None
    if text in PRESETS:
        return PRESETS[text]
    where = "the model's metadata key 'decode'"
    if len(text) > _LIMIT:
        raise UsageError(CODE, f"{where} is longer than 4 MiB", "give --decode FILE")
    return _parse(text, where)


def _parse(text: str, where: str) -> Decode:
    try:
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise UsageError(CODE, f"{where} is neither TOML nor JSON: {problem}", "TOML: key = value") from None
    return _build(values, where)


def _build(values: dict[str, Any], where: str) -> Decode:
    base: dict[str, Any] = {}
    if (preset := values.pop("preset", None)) is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise UsageError(CODE, f"{where}: preset {_short(preset)} is unknown", _listing("allowed", PRESETS))
        base = PRESETS[preset].to_dict()
    try:
        return Decode.model_validate({**base, **values})
    except ValidationError as problem:
        raise _explained(problem, where) from None


def _explained(problem: ValidationError, where: str) -> UsageError:
    """The first fault as one line: file, key, value, what is allowed."""
    fault = problem.errors(include_url=False)[0]
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        allowed = [name for name in Decode.model_fields if name != "name"]
        return UsageError(CODE, f"{where}: key {_short(key)} is unknown", _listing("allowed", [*allowed, "preset"]))
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if not key:
        return UsageError(CODE, f"{where}: {message}", "docs/detectors.md has examples")
    if fault["type"] == "literal_error":
        return UsageError(
            CODE, f"{where}: {key} = {_short(fault['input'])} is not allowed", f"allowed: {fault['ctx']['expected']}"
        )
    return UsageError(CODE, f"{where}: {key} = {_short(fault['input'])} {message}", "docs/detectors.md has examples")


def _listing(label: str, names: Iterable[str]) -> str:
    return f"{label}: {', '.join(names)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
