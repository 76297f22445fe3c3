"""Finding and reading preprocessing: presets by name, TOML and JSON files, what a model carries, the default.

Belongs here: where a `Preprocess` comes from and what is wrong with one that can't be read. Not here: what it does
(``schema``).
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from analyzer.errors import InputError, UsageError
from analyzer.inputs.files import decode_text, read_bytes
from analyzer.inputs.schema import CODE, PRESETS, Preprocess
from analyzer.inputs.shapes import Dims, image_shape, numpy_dtype, show

__all__ = ["PRESETS", "Preprocess", "default_for", "discover", "load_preprocess"]

_LIMIT = 2**20
_SIZE_KEYS = ("resize", "resize_short", "crop", "letterbox")


def load_preprocess(source: str | os.PathLike[str] | Mapping[str, Any] | Preprocess) -> Preprocess:
    """A preset by its name, a TOML or JSON file by its path, or a mapping of the same keys.

    A file may start from a preset with ``preset = "imagenet"`` and override keys; sizes it gives replace the preset's.

    Raises
    ------
    UsageError
        ``config.preprocess``, naming file, key and what is allowed; ``data.missing`` for a path that isn't there.
    """
    if isinstance(source, Preprocess):
        return source
    if isinstance(source, Mapping):
        return _build(dict(source), "preprocessing")
    if isinstance(source, str) and source in PRESETS:
        return PRESETS[source]
    path = Path(source)
    if isinstance(source, str) and not path.suffix and len(path.parts) == 1 and not path.exists():
        raise UsageError(CODE, f"no preprocessing is called {source!r}", _near(source, PRESETS, "presets"))
    try:
        text = decode_text(read_bytes(path, _LIMIT), path, CODE)
    except InputError as problem:
        raise UsageError(CODE, problem.message, problem.hint) from None
    return _parse(text, str(path))


def discover(model_path: str | os.PathLike[str] | None, metadata: Mapping[str, str] | None = None) -> Preprocess | None:
    """The preprocessing that comes with a model, if any does.

    First ``MODEL.preprocess.toml`` beside the model (``squeeze.onnx``: ``squeeze.preprocess.toml``), then the
    model's metadata key ``preprocess``, which holds TOML, JSON or a preset's name (never a path).

    Raises
    ------
    UsageError
        ``config.preprocess`` where one is there but can't be read.
    """
    if model_path is not None:
        beside = Path(model_path)
        beside = beside.with_name(f"{beside.stem}.preprocess.toml")
        if beside.exists():
            return load_preprocess(beside)
    text = (metadata or {}).get("preprocess", "").strip()
    if not text:
        return None
    if text in PRESETS:
        return PRESETS[text]
    where = "the model's metadata key 'preprocess'"
    if len(text) > _LIMIT:
        raise UsageError(CODE, f"{where} is longer than 1 MiB", "say --preprocess NAME or FILE")
    return _parse(text, where)


def default_for(shape: Dims, dtype: Any = "float32") -> Preprocess:
    """What is assumed where nothing says how a picture becomes the input: values in [0, 1]; 0..255 for uint8 inputs.

    Raises
    ------
    UsageError
        ``config.preprocess`` where the input takes no picture.
    """
    kind = numpy_dtype(dtype)
    image = image_shape(shape)
    if image is None or not (kind.kind == "f" or kind == np.uint8):
        raise UsageError(CODE, f"input {show(shape)} of type {kind} takes no picture", "give an array file")
    color = "grey" if image.channels == 1 else "RGB"
    span, preset = ("[0, 1]", "unit") if kind.kind == "f" else ("0..255", "raw")
    return PRESETS[preset].model_copy(update={"note": f"no preprocessing given: assumed {color} in {span}"})


def _parse(text: str, where: str) -> Preprocess:
    try:
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise UsageError(
            CODE, f"{where} is neither TOML nor JSON: {problem}", "TOML: key = value, one a line"
        ) from None
    return _build(values, where)


def _build(values: dict[str, Any], where: str) -> Preprocess:
    base: dict[str, Any] = {}
    if (preset := values.pop("preset", None)) is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise UsageError(CODE, f"{where}: preset {_short(preset)} is unknown", _near(preset, PRESETS, "allowed"))
        base = PRESETS[preset].to_dict()
        if any(key in values for key in _SIZE_KEYS):
            base = {key: value for key, value in base.items() if key not in (*_SIZE_KEYS, "follow_model")}
    try:
        return Preprocess.model_validate({**base, **values})
    except ValidationError as problem:
        raise _explain(problem, where) from None


def _explain(problem: ValidationError, where: str) -> UsageError:
    """The first fault as one line: file, key, value, what is allowed."""
    fault = problem.errors(include_url=False)[0]
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        known = [*Preprocess.model_fields, "preset"]
        return UsageError(CODE, f"{where}: key {_short(key)} is unknown", _near(key, known, "allowed"))
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if not key:
        return UsageError(CODE, f"{where}: {message}", "leave one of them out or change it")
    hint = ""
    if fault["type"] == "literal_error":
        allowed = [word.strip("'") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        message, hint = "is not allowed", _near(fault["input"], allowed, "allowed")
    return UsageError(CODE, f"{where}: {key} = {_short(fault['input'])} {message}", hint)


def _near(word: Any, known: Iterable[str], label: str) -> str:
    known = list(known)
    folded = {name.casefold(): name for name in known}
    match = difflib.get_close_matches(str(word)[:100].casefold(), folded, n=1, cutoff=0.6)
    listing = f"{label}: {', '.join(known)}"
    return f"did you mean {folded[match[0]]!r}? {listing}" if match else listing


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
