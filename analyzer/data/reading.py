"""Reading files for a model: a file or ``NAME=FILE`` texts as what its inputs take.

Belongs here: which file is for which input. Not here: reading one file (``analyzer.inputs``), many samples (``dataset``).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.inputs import LoadedInput, read_array, read_columns, read_input
from analyzer.inputs.columns import ColumnInput
from analyzer.inputs.reading import TABLES
from analyzer.onnx_model import OnnxModel

Feed = dict[str, np.ndarray[Any, Any]]
Read = tuple[str, list[LoadedInput], Feed]


def read_all(model: OnnxModel, texts: Sequence[str]) -> list[Read]:
    """Inputs as (name, files, feed). All ``NAME=FILE`` texts together are one input; every other file is one.

    Names are unique: equal ones are numbered, so that no result overwrites another.

    Raises
    ------
    UsageError
        ``data.inputs`` where a model with several inputs isn't given all of them.
    """
    named, plain = named_files(model, texts)
    if named:
        files = read_named(model, named)
        return [(files[0].path.stem, files, feed_of(files))]
    read = [(Path(path).stem, read_file(model, path)) for path in plain]
    names = unique(name for name, _ in read)
    return [(name, files, feed_of(files)) for name, (_, files) in zip(names, read, strict=True)]


def read_one(model: OnnxModel, texts: Sequence[str]) -> Feed:
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


def named_files(model: OnnxModel, texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Texts as input name -> file for those that are ``NAME=FILE``, or else as files.

    Raises
    ------
    UsageError
        ``data.inputs`` for both together and for a name that is there twice, ``data.unknown_input``.
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
    return named, plain


def read_named(
    model: OnnxModel, named: Mapping[str, str | os.PathLike[str]], *, any_batch: bool = False
) -> list[LoadedInput]:
    """One file for each input that is named; ``any_batch`` as in :func:`read_file`."""
    return [_read(model, column_input(model, name, any_batch=any_batch), Path(path)) for name, path in named.items()]


def read_file(model: OnnxModel, path: str | Path, *, any_batch: bool = False) -> list[LoadedInput]:
    """One file as all of the model's inputs, one each.

    Parameters
    ----------
    any_batch
        Whether it may hold fewer samples than a model takes whose batch is fixed.

    Raises
    ------
    UsageError
        ``data.inputs`` for a file that is for one of several inputs.
    """
    taken = [column_input(model, name, any_batch=any_batch) for name in model.inputs]
    if len(taken) == 1:
        return [_read(model, taken[0], path)]
    suffix = Path(path).suffix.lower()
    if suffix in TABLES:
        return read_columns(path, taken, model.preprocess)
    if suffix == ".npz":
        return [_read(model, each, path, key=each.name) for each in taken]
    raise UsageError(
        "data.inputs",
        f"the model has {len(taken)} inputs: {', '.join(each.name for each in taken)}",
        "give NAME=FILE for each, or one .npz with an array for each, or one .csv with a column for each",
    )


def feed_of(files: Iterable[LoadedInput]) -> Feed:
    """What was read, as the model takes it."""
    return {each.name: each.array for each in files}


def column_input(model: OnnxModel, name: str, *, any_batch: bool = False) -> ColumnInput:
    """An input as the readers take it, on request with the batch left free that the model fixes."""
    taken = model.column_input(name)
    if not any_batch or model.fixed_batch is None:
        return taken
    return ColumnInput(name, taken.dtype, (None, *taken.shape[1:]), taken.features, taken.missing)


def unique(names: Iterable[str]) -> list[str]:
    """Names, those that were there before with a number behind them."""
    taken, seen, found = set[str](), Counter[str](), []
    for name in names:
        new = name
        while new in taken:
            seen[name] += 1
            new = f"{name}-{seen[name] + 1}"
        taken.add(new)
        found.append(new)
    return found


def _read(model: OnnxModel, taken: ColumnInput, path: str | Path, key: str | None = None) -> LoadedInput:
    shape = taken.shape
    if not model.inputs[taken.name].ranked and Path(path).suffix == ".npy":  # of any rank: that of the file
        shape = (None,) * read_array(path).values.ndim
    return read_input(
        path, taken.name, taken.dtype, shape, model.preprocess, key=key, features=taken.features, missing=taken.missing
    )
