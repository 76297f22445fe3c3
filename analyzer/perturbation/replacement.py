"""What stands in for removed elements: one replacement, many background rows, or what surrounds the hole.

Belongs here: reading a method's ``fill`` against an input, and scores under masks where the replacement isn't one array.
Not here: how a replacement is computed (``analyzer.inputs``), which elements are removed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.executor.batched_runs import Rows, Source, count_of
from analyzer.executor.mask_ops import MaskOps, mixed
from analyzer.inputs import fill, read_csv, read_input
from analyzer.inputs.fills import FILLS
from analyzer.inputs.layout import channel_axis, spatial_axes
from analyzer.nearest import nearest

if TYPE_CHECKING:
    from analyzer.perturbation.evaluator import Evaluator

Array = NDArray[Any]
#: A number, a name, ``image:FILE``, ``samples:FILE`` or an array.
Fill = float | int | str | np.ndarray
#: Up to so many columns or words are taken one by one; a longer row is taken for a series.
COLUMNS = 128
#: What the parameter's line says.
BLENDED = "a number, mean, blur, noise, image:FILE, samples:FILE or an array"
FILLING = BLENDED.replace("noise", "noise, inpaint")
BACKGROUND = "most rows of samples:FILE that are used, at least 1"


@dataclass(frozen=True)
class BackgroundRows:
    """Removed elements take the values of background samples in turn; a score is the mean over them.

    The interventional (marginal) value function of Lundberg, Lee 2017, eq. 11 (features taken as independent).

    Attributes
    ----------
    rows
        (background, ...) of the input's type, the same for all explained samples.
    note
        What the user should know; empty where nothing.
    """

    rows: Array
    note: str = ""

    @property
    def cost(self) -> int:
        """Model evaluations for one mask."""
        return len(self.rows)

    def __getitem__(self, sample: int) -> BackgroundRows:
        return self

    def scores(
        self, evaluator: Evaluator, sample: int, mask_ops: MaskOps, source: Source, fixed: Rows
    ) -> Iterator[tuple[Rows, Array]]:
        """As :meth:`~analyzer.perturbation.evaluator.Evaluator.masked`."""
        x, repeated = evaluator.inputs[evaluator.perturbed][sample], _Repeated(source, len(self.rows))

        def copies(rows: Rows) -> Array:
            return mixed(x[None], self.rows[rows[_ROW]], mask_ops.masks(rows, fixed))

        yield from repeated.averaged(scores for _, scores in evaluator.hosted(sample, repeated.rows, copies))

    def averages(
        self, run: Callable[[Iterable[Array]], Iterator[float]], x: Array, masks: Iterable[Array]
    ) -> Iterator[float]:
        """Mean scores of copies made one by one, of which ``run`` gives the scores."""
        scores = run(np.where(mask, x, row) for mask in masks for row in self.rows)
        while group := list(itertools.islice(scores, len(self.rows))):
            yield float(np.mean(group))


@dataclass(frozen=True)
class Inpainting:
    """Removed elements are inpainted from those that are left, for every mask anew.

    Attributes
    ----------
    axes
        The place axes of a sample, without the batch.
    """

    axes: tuple[int, ...]
    cost = 1
    note = ""

    def __getitem__(self, sample: int) -> Inpainting:
        return self

    def scores(
        self, evaluator: Evaluator, sample: int, mask_ops: MaskOps, source: Source, fixed: Rows
    ) -> Iterator[tuple[Rows, Array]]:
        """As :meth:`~analyzer.perturbation.evaluator.Evaluator.masked`."""
        from analyzer.inputs.inpainting import inpaint

        x = evaluator.inputs[evaluator.perturbed][sample]

        def copies(rows: Rows) -> Array:
            return np.stack([inpaint(x, ~mask, self.axes) for mask in mask_ops.masks(rows, fixed)])

        yield from evaluator.hosted(sample, source, copies)


#: One sample's replacement: of the sample's shape, or one of the kinds above.
Replacement = NDArray[Any] | BackgroundRows | Inpainting
_ROW = "background"
_KNOWN = (*FILLS, "inpaint", "image", "samples")


class _Repeated:
    """Every row of a source as many times as there are background samples, and the mean of their scores."""

    def __init__(self, source: Source, times: int) -> None:
        self._source, self._times = source, times
        self._blocks: deque[Rows] = deque()
        self._block: Rows = {}
        self._given = 0

    def rows(self, count: int) -> Rows:
        """So many evaluations, fewer at the end; the rows' own arrays and which background sample each is mixed with."""
        pieces: list[Rows] = []
        while count and (found := count_of(piece := self._piece(count))):
            pieces.append(piece)
            count -= found
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}

    def _piece(self, count: int) -> Rows:
        if self._given == self._times * count_of(self._block):
            self._block, self._given = self._source(-(-count // self._times)), 0
            if not count_of(self._block):
                return {}
            self._blocks.append(self._block)
        end = min(self._given + count, self._times * count_of(self._block))
        at = np.arange(self._given, end)
        self._given = end
        return {**{name: value[at // self._times] for name, value in self._block.items()}, _ROW: at % self._times}

    def averaged(self, scores: Iterable[Array]) -> Iterator[tuple[Rows, Array]]:
        """The source's rows with their mean scores."""
        waiting = np.zeros(0)
        for more in scores:
            waiting = np.concatenate([waiting, more])
            while self._blocks and len(waiting) >= (size := self._times * count_of(self._blocks[0])):
                yield self._blocks.popleft(), waiting[:size].reshape(-1, self._times).mean(axis=1)
                waiting = waiting[size:]


def cost_of(replacement: Any) -> int:
    """Model evaluations for one mask."""
    return int(getattr(replacement, "cost", 1))


def notes_of(replacement: Any) -> list[str]:
    """What the user should know of a replacement."""
    note = getattr(replacement, "note", "")
    return [note] if note else []


def replaced(
    evaluator: Evaluator,
    name: str,
    how: Fill | list[Any],
    *,
    values: Array | None = None,
    columns: tuple[str, ...] = (),
    background: int = 100,
    without: Sequence[str] = (),
) -> Any:
    """What removed elements of an input become, by sample.

    Parameters
    ----------
    how
        See :data:`FILLING`. A 2-D array of more than one row, for an input of rank 2, holds background samples.
    values
        What is changed where that isn't the input: (batch, ...), an embedding or a table put together from ``columns``.
    background
        The most background samples; from more, so many are drawn with the evaluator's seed.
    without
        Kinds of fill that the method can't use: ``inpaint`` where its masks blend, ``samples`` where it needs one array.

    Returns
    -------
    ndarray, BackgroundRows or Inpainting
        The first of the values' shape and type; each gives a sample's :data:`Replacement` by its number.

    Raises
    ------
    UsageError
        ``fill.*``, ``params.invalid``.
    InputError
        ``data.*`` where a file can't be read or doesn't fit.
    """
    value = evaluator.inputs[name] if values is None else values
    if isinstance(how, str):
        with contextlib.suppress(ValueError):
            how = float(how)
    if isinstance(how, list | tuple):
        how = np.asarray(how)
    if background < 1:
        raise UsageError("params.invalid", f"background must be at least 1, not {background}", "100 is usual")
    kind, colon, path = how.strip().partition(":") if isinstance(how, str) else ("", "", "")
    kind = kind.lower()
    if kind and kind not in _KNOWN:
        near = nearest(kind, _KNOWN)
        hint = f"did you mean {near!r}? " if near else ""
        raise UsageError("fill.unknown", f"no fill is called {kind[:80]!r}", f"{hint}allowed: {FILLING}")
    if kind in ("image", "samples"):
        if not colon or not path:
            raise UsageError("fill.unknown", f"fill {kind!r} needs a file", f'as in "{kind}:FILE"')
        if values is not None and not columns:
            raise UsageError("params.invalid", f"fill {how!r} doesn't suit an embedding", "give a number, such as 0")
        rows = _read(evaluator, name, path, value, columns)
        if kind == "image" and len(rows) != 1:
            raise UsageError("fill.bad_shape", f"{path} holds {len(rows)} samples, not one", f'write "samples:{path}"')
        return _one(rows, value) if kind == "image" else _samples(evaluator, rows, value, background, without)
    if kind == "inpaint":
        return _surroundings(evaluator, value, values is not None, without)
    if isinstance(how, np.ndarray):
        many = value.ndim == 2 and how.ndim == 2 and len(how) > 1
        return _samples(evaluator, how, value, background, without) if many else _one(how, value)
    if value.dtype.kind in "iu":
        if isinstance(how, str) or how != int(how):
            raise UsageError("params.invalid", f"fill {how!r} doesn't suit whole numbers", "give a number, such as 0")
        return np.full_like(value, int(how))
    layout: Any = (
        "HWC" if value.ndim > 2 and channel_axis(value.shape, evaluator.model.preprocess) == value.ndim - 1 else "CHW"
    )
    return fill(value, how, layout=layout, seed=evaluator.seed).astype(value.dtype, copy=False)


def _one(given: Array, value: Array) -> Array:
    """An array as the replacement of every sample, of the values' shape and type."""
    given = _fitting(given, value)
    try:
        return np.broadcast_to(given, value.shape).copy()
    except ValueError:
        raise UsageError(
            "fill.bad_shape", f"a fill of shape {given.shape} doesn't broadcast to {value.shape}", "reshape it"
        ) from None


def _samples(
    evaluator: Evaluator, given: Array, value: Array, background: int, without: Sequence[str]
) -> Array | BackgroundRows:
    rows = _fitting(given, value)
    if rows.shape[1:] != value.shape[1:]:
        raise UsageError(
            "fill.bad_shape",
            f"background samples of shape {list(rows.shape[1:])} don't stand in for {list(value.shape[1:])}",
            "give the model's columns, in its order",
        )
    if len(rows) == 1:
        return _one(rows, value)
    if "samples" in without:
        raise UsageError("fill.unsuitable", f"this method takes one replacement, not {len(rows)}", "give one sample")
    note = ""
    if len(rows) > background:
        note = f"{background} of {len(rows)} background samples are used, drawn with the seed"
        rows = rows[np.sort(np.random.default_rng(evaluator.seed).choice(len(rows), background, replace=False))]
    return BackgroundRows(np.ascontiguousarray(rows), note)


def _fitting(given: Array, value: Array) -> Array:
    """Of the values' type."""
    if given.dtype.kind not in "fiub":
        raise UsageError("fill.bad_shape", f"a fill of type {given.dtype} holds no numbers", "give an array of numbers")
    if not np.isfinite(given).all():
        raise UsageError("fill.nonfinite", "the fill holds NaN or infinite values", "give finite values")
    made = given.astype(value.dtype)
    if value.dtype.kind in "iu" and (made != given).any():
        raise UsageError("params.invalid", f"the fill doesn't suit whole numbers of type {value.dtype}", "round it")
    return made


def _surroundings(evaluator: Evaluator, value: Array, inner: bool, without: Sequence[str]) -> Inpainting:
    if "inpaint" in without:
        raise UsageError("fill.unsuitable", "this method can't inpaint: its masks blend", "use blur, or occlusion")
    if inner or value.dtype.kind != "f" or value.ndim < 2 or (value.ndim == 2 and value.shape[1] <= COLUMNS):
        raise UsageError(
            "fill.unsuitable", "inpaint needs a picture or a series: columns and words have no surroundings", "use mean"
        )
    return Inpainting(tuple(axis - 1 for axis in spatial_axes(value.shape, evaluator.model.preprocess)))


def _read(evaluator: Evaluator, name: str, path: str, value: Array, columns: tuple[str, ...]) -> Array:
    """A file's samples, (n, ...), in the model's input space."""
    if columns:
        data = read_csv(path)
        if data.feature_names is not None and set(columns) <= set(data.feature_names):
            data = read_csv(path, columns=columns)
        elif data.values.shape[1] != len(columns):
            raise InputError(
                "data.bad_shape",
                f"{path} has {data.values.shape[1]} columns, the model has {len(columns)}: {', '.join(columns)}",
                "name the columns in its first row, or give just these in their order",
            )
        evaluator.files.append({"path": path, "sha256": data.sha256})
        return data.values
    shape = (None, *value.shape[1:])
    read = read_input(path, name, value.dtype, shape, evaluator.model.preprocess)
    evaluator.files.append(read.record)
    return read.array
