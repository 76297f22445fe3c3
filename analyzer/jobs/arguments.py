"""A command's arguments: parameters and input files as text, read for a model.

Belongs here: from text to parameters and feeds. Not here: reading one file (``analyzer.inputs``), rules (``rule_options``),
explaining (``explain_files``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.nearest import did_you_mean

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput
    from analyzer.model import Model


def parse_params(texts: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``KEY=VALUE`` and ``METHOD.KEY=VALUE`` as method -> parameter -> value, read as JSON where it can be.

    Raises
    ------
    UsageError
        ``params.syntax``, ``params.unknown``.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for text in texts:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise UsageError("params.syntax", f"parameter {text!r} is not KEY=VALUE", "as in -p steps=20")
        value = _value(raw)
        method_name, dot, name = key.partition(".")
        if dot and method_name in found:
            found[method_name][name] = value
            continue
        with_parameter = [m for m in methods if key in registry.get(m).parameters]
        if not with_parameter:
            known = sorted({p for m in methods for p in registry.get(m).parameters})
            raise UsageError(
                "params.unknown",
                f"no chosen method has a parameter {key!r}{did_you_mean(key, known)}",
                f"their parameters: {', '.join(known) or 'none'}",
            )
        for method in with_parameter:
            found[method][key] = value
    return found


def parse_layout(texts: Sequence[str]) -> str | dict[str, str] | None:
    """``LETTERS`` for the first input, or ``NAME=LETTERS`` for each.

    Raises
    ------
    UsageError
        ``layout.syntax`` for both together.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    parts = [text.rpartition("=") for text in texts]
    if not all(equals for _, equals, _ in parts):
        raise UsageError(
            "layout.syntax", "a layout for each input needs its name", "as in --layout x=NTC --layout y=NC"
        )
    return {name: letters for name, _, letters in parts} or None


def _value(raw: str) -> Any:
    if raw.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[raw.lower()]
    try:
        return json.loads(raw)
    except ValueError:
        pass
    parts = raw.split(",")
    if len(parts) > 1:
        try:
            return [json.loads(part) for part in parts]
        except ValueError:
            pass
    if raw.endswith(".npy") and not raw.startswith(("image:", "samples:")):  # those are read later, to fit the input
        from analyzer.inputs import read_array

        return read_array(raw).values
    return raw


Read = tuple[str, list["LoadedInput"], dict[str, np.ndarray[Any, Any]]]


def read_all(model: Model, texts: Sequence[str]) -> list[Read]:
    """Inputs as (name, files, feed). All ``NAME=FILE`` texts together are one input; every other file is one.

    Raises
    ------
    UsageError
        ``data.inputs`` where a model with several inputs isn't given all of them.
    """
    model.require_inputs()
    named: dict[str, str] = {}
    plain = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or name not in model.inputs:
            if equals and not Path(text).exists() and Path(path).exists():
                known = ", ".join(model.inputs)
                raise UsageError("data.unknown_input", f"the model has no input {name!r}", f"its inputs: {known}")
            plain.append(text)
        elif name in named:
            raise UsageError("data.inputs", f"input {name!r} is given twice", "one sample, or batch, a run")
        else:
            named[name] = path
    if named and plain:
        raise UsageError("data.inputs", f"{plain[0]!r} is given without an input's name", "write NAME=FILE for each")
    if named:
        files = [_read(model, name, path) for name, path in named.items()]
        return [(files[0].path.stem, files, {f.name: f.array for f in files})]
    return _with_unique_names([_read_plain(model, path) for path in plain])


def read_one(model: Model, texts: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """One file, or ``NAME=FILE`` texts, as a feed.

    Raises
    ------
    UsageError
        ``data.inputs`` where there are several.
    """
    read = read_all(model, texts)
    if len(read) != 1:
        raise UsageError("data.inputs", f"{len(read)} inputs were given where one is wanted", "give one")
    return read[0][2]


def _read_plain(model: Model, path: str) -> Read:
    from analyzer.inputs.reading import TABLES, read_columns

    names = list(model.inputs)
    if len(names) > 1:
        archive = Path(path)
        if archive.suffix.lower() in TABLES:
            files = read_columns(path, [model.column_input(name) for name in names], model.preprocess)
        elif archive.suffix == ".npz":
            files = [_read(model, name, path, key=name) for name in names]
        else:
            raise UsageError(
                "data.inputs",
                f"the model has {len(names)} inputs: {', '.join(names)}",
                "give NAME=FILE for each, or one .npz with an array for each, or one .csv with a column for each",
            )
        return archive.stem, files, {f.name: f.array for f in files}
    read = _read(model, names[0], path)
    return read.path.stem, [read], {names[0]: read.array}


def _read(model: Model, name: str, path: str, key: str | None = None) -> LoadedInput:
    from analyzer.inputs import read_array, read_input

    taken, shape = model.column_input(name), model.column_input(name).shape
    if not model.inputs[name].ranked and Path(path).suffix == ".npy":  # of any rank: that of the file
        shape = (None,) * read_array(path).values.ndim
    return read_input(
        path, name, taken.dtype, shape, model.preprocess, key=key, features=taken.features, missing=taken.missing
    )


def _with_unique_names(read: list[Read]) -> list[Read]:
    """Inputs with numbers appended to equal names, so that no result overwrites another."""
    taken: set[str] = set()
    renamed = []
    for name, files, feed in read:
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        free = next(each for each in itertools.chain([name], numbered) if each not in taken)
        taken.add(free)
        renamed.append((free, files, feed))
    return renamed
