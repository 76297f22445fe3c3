"""Finding out what form a data set has, and what is known of all its samples: labels, slices, where the masks lie.

Belongs here: folders, manifests, archives, tables, single files, lists of them. Not here: reading samples (``forms``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analyzer.data.archives import of_rows, open_archive, row_ids
from analyzer.data.classes import Classes
from analyzer.data.folders import walk
from analyzer.data.forms import Files, Form, Joined, Named, TableRows
from analyzer.data.mask_files import MaskFiles
from analyzer.data.masks import NO_MASKS, FileMasks
from analyzer.data.reading import column_input, feed_of, read_named, unique
from analyzer.errors import InconclusiveError, InputError, UsageError
from analyzer.inputs.columns import TEXT_CELLS, column_data
from analyzer.inputs.reading import recognise
from analyzer.inputs.tables import Table
from analyzer.onnx_model import OnnxModel

#: Columns of a manifest that name the samples' files, and those that are no slices.
_PATHS, _LABEL, _MASK = ("path", "file"), "label", "mask"


AnyPath = str | os.PathLike[str]
#: A path, several, or one for each of the model's inputs.
DataPath = AnyPath | Sequence[AnyPath] | Mapping[str, AnyPath]


def form_of(model: OnnxModel, path: DataPath, masks: Path | None = None) -> Form:
    """The samples that a path, or several, stand for.

    Parameters
    ----------
    masks
        A folder of masks, or one mask for all samples.

    Raises
    ------
    UsageError, InputError, InconclusiveError
        See :func:`analyzer.data.dataset.open_dataset`.
    """
    lookup = MaskFiles(masks) if masks is not None else None
    if isinstance(path, Mapping):
        form = _named(model, path, lookup)
    else:
        form = _form(model, Path(path), lookup) if isinstance(path, str | os.PathLike) else _joined(model, path, lookup)
    if lookup is not None and form.ids and not any(form.masks.has(at) for at in range(len(form.ids))):
        wanted = Path(form.ids[0]).stem
        raise UsageError(
            "data.masks",
            f"no mask in {masks} is called like a sample",
            f"the first sample's is {wanted}.png or {wanted}.npy",
        )
    return form


def _named(model: OnnxModel, named: Mapping[str, AnyPath], masks: MaskFiles | None) -> Form:
    """A file for each input."""
    read = read_named(model, named, any_batch=True)
    feed = model.feed(feed_of(read))
    count, path = model.batch_of(feed), read[0].path
    axes = model.batch_axes(feed, count)
    return Named(read, axes, row_ids(path, count), [None] * count, {}, of_rows(masks, path, count))


def _joined(model: OnnxModel, given: Sequence[AnyPath], lookup: MaskFiles | None) -> Form:
    """Several data sets as one, whose ids tell them apart."""
    paths = [Path(each) for each in given]
    parts = [_form(model, each, lookup) for each in paths]
    names = unique(each.name or str(each) for each in paths)
    ids = [
        f"{name}/{own}" if each.is_dir() else own
        for name, each, part in zip(names, paths, parts, strict=True)
        for own in part.ids
    ]
    return Joined(parts, unique(ids))


def _form(model: OnnxModel, path: Path, masks: MaskFiles | None) -> Form:
    if path.is_dir():
        return _folder(model, path, masks)
    first = column_input(model, next(iter(model.inputs)))
    kind = recognise(path, first.shape)
    if kind == "array":
        return open_archive(model, path, masks)
    if kind == "table" and not (path.suffix.lower() == ".txt" and first.dtype.kind in "USO"):
        return _table(model, path, masks)
    return Files(model, [path], [path.name], [None], masks=_of_files(masks, [Path(path.name)]))


# folders --------------------------------------------------------------------------------------------------------------------


def _folder(model: OnnxModel, folder: Path, masks: MaskFiles | None) -> Form:
    """All files in a folder and below it that aren't hidden, in the order of their names; masks that lie among them aside."""
    apart = None if masks is None else masks.within(folder)
    if masks is not None and folder.resolve().is_relative_to(masks.path.resolve()):
        raise UsageError("data.masks", f"{masks.path} holds the data too", "put the masks into a folder of their own")
    inside = [each for each in walk(folder) if not apart or each.parts[: len(apart)] != apart]
    classes = Classes(model)
    labels = [_label_of(classes, each.parts[:-1]) for each in inside]
    ids, paths = [each.as_posix() for each in inside], [folder / each for each in inside]
    return Files(model, paths, ids, labels, masks=_of_files(masks, inside))


def _of_files(masks: MaskFiles | None, names: Sequence[Path]) -> FileMasks:
    return NO_MASKS if masks is None else masks.of(names)


def _label_of(classes: Classes, folders: Sequence[str]) -> int | None:
    """The class of a file: that of the outermost of its folders that is called like a class."""
    found = (classes.folder(name) for name in folders)
    return next((index for index in found if index is not None), None)


# tables ---------------------------------------------------------------------------------------------------------------------


def _table(model: OnnxModel, path: Path, masks: MaskFiles | None) -> Form:
    """A manifest, or a table whose rows are the samples; a column ``label`` that no input takes is the label."""
    taken = [column_input(model, name, any_batch=True) for name in model.inputs]
    own = {name for each in taken for name in (*(each.wanted or ()), each.name)}
    try:
        table = Table(path)
        where = next((n for n in table.names if n.lower() in _PATHS and n not in own), None)
        if where is not None:
            return _manifest(model, path, table, where, masks)
        data, beside = column_data(table, taken, others=_names_its_columns(model), beside=(_LABEL,))
    except InputError as problem:
        if problem.code != "data.empty":
            raise
        raise InconclusiveError(problem.code, problem.message, problem.hint) from None
    count = len(data[0].values)
    labels = _labels(model, path, beside.pop(_LABEL, None), count)
    found = of_rows(masks, path, count)
    return TableRows(model, path, taken, data, row_ids(path, count), labels, beside, found)


def _names_its_columns(model: OnnxModel) -> bool:
    """Whether every column that the model takes has a name of its own, by which others can be told apart."""
    return all(column_input(model, name).wanted is not None for name in model.inputs)


def _manifest(model: OnnxModel, path: Path, table: Table, where: str, masks: MaskFiles | None) -> Form:
    """A table that names a file for each sample, relative to it, and what is known of the sample."""
    columns = text_columns(table)
    texts = columns.pop(where)
    if "" in texts:
        raise InputError("data.missing_value", f"{path}, row {texts.index('') + 1}: no {where}", "name a file")
    labels = _labels(model, path, columns.pop(_LABEL, None), len(texts))
    drawn = columns.pop(_MASK, None)
    found = FileMasks([path.parent / text if text else None for text in drawn or ()])
    if masks is not None:
        found = masks.of([Path(text) for text in texts])
    return Files(model, [path.parent / text for text in texts], unique(texts), labels, columns, found)


def text_columns(table: Table) -> dict[str, list[str]]:
    """All columns of a table with names, as text.

    Raises
    ------
    InputError
        ``data.unknown_column`` for a name that is there twice, ``data.ragged_table``, ``data.empty``.
    """
    names = [name for name in table.names if name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError("data.unknown_column", f"{table.path} has two columns {twice[:80]!r}", "leave one out")
    at = [number for number, name in enumerate(table.names) if name]
    cells = table.columns(at, [TEXT_CELLS] * len(at), True)
    return {name: [str(cell).strip() for cell in own] for name, own in zip(names, cells, strict=True)}


def _labels(model: OnnxModel, path: Path, texts: Sequence[str] | None, count: int) -> list[int | None]:
    if texts is None:
        return [None] * count
    classes = Classes(model)
    return [classes.label(text, f"{path}, row {at + 1}") for at, text in enumerate(texts)]
