"""What replaces masked elements: one array, many background samples, or what surrounds the hole.

Belongs here: the kinds of replacement, and the masked copies that they make on the host. Not here: reading a method's
``fill`` (``fill_parameter``), computing one (``analyzer.inputs``), which elements are masked.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.batched_runs import Rows, Source, count_of
from analyzer.executor.mask_ops import MaskOps, mixed

Array = NDArray[Any]
#: The row that says which background sample an evaluation takes.
_ROW = "background"


@dataclass(frozen=True)
class BackgroundRows:
    """Masked elements take the values of background samples in turn; a score is the mean over them.

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

    @classmethod
    def of(cls, rows: Array, most: int, seed: int) -> BackgroundRows:
        """All rows, or so many of them drawn with the seed where there are more."""
        if len(rows) <= most:
            return cls(np.ascontiguousarray(rows))
        note = f"{most} of {len(rows)} background samples are used, drawn with the seed"
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        return cls(np.ascontiguousarray(rows[chosen]), note)

    @property
    def cost(self) -> int:
        """Model evaluations for one mask."""
        return len(self.rows)

    def __getitem__(self, sample: int) -> BackgroundRows:
        return self

    def blended(self, x: Array, mask: Array, rows: Rows) -> Array:
        """Copies (n, ...) of a sample, masked elements from the background sample that each row names."""
        return mixed(x[None], self.rows[rows[_ROW]], mask)

    def averages(
        self, evaluate: Callable[[Iterable[Array]], Iterator[float]], x: Array, masks: Iterable[Array]
    ) -> Iterator[float]:
        """Mean scores under masks of copies made one by one, which ``evaluate`` scores."""
        scores = evaluate(np.where(mask, x, row) for mask in masks for row in self.rows)
        while group := list(itertools.islice(scores, len(self.rows))):
            yield float(np.mean(group))


@dataclass(frozen=True)
class Inpainting:
    """Masked elements are inpainted from those that are left, for every mask anew.

    Attributes
    ----------
    axes
        The spatial axes of a sample, without the batch.
    """

    axes: tuple[int, ...]
    cost = 1
    note = ""

    def __getitem__(self, sample: int) -> Inpainting:
        return self

    def blended(self, x: Array, mask: Array, rows: Rows) -> Array:
        """Copies (n, ...) of a sample, holes inpainted."""
        from analyzer.inputs.inpainting import inpaint

        return np.stack([inpaint(x, ~each, self.axes) for each in mask])


#: What masked elements become. By sample it gives that sample's: an array of its shape, or the same kind again.
Replacement = NDArray[Any] | BackgroundRows | Inpainting


def cost_of(replacement: Replacement) -> int:
    """Model evaluations for one mask."""
    return 1 if isinstance(replacement, np.ndarray) else replacement.cost


def notes_of(replacement: Replacement) -> list[str]:
    """What the user should know of a replacement."""
    return [] if isinstance(replacement, np.ndarray) or not replacement.note else [replacement.note]


@dataclass(frozen=True)
class Replacements:
    """What masked elements of several inputs become, by input name; by sample it gives that sample's.

    Where several are background samples, one evaluation takes the same background sample for all of them.

    Attributes
    ----------
    told
        What the user should know of them beside their own notes.
    """

    by_name: Mapping[str, Replacement]
    told: tuple[str, ...] = ()

    @property
    def cost(self) -> int:
        """Model evaluations for one mask."""
        return max(map(cost_of, self.by_name.values()))

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        return list(dict.fromkeys([*self.told, *(note for each in self.by_name.values() for note in notes_of(each))]))

    def __getitem__(self, sample: int) -> dict[str, Replacement]:
        return {n: each[sample, ...] if isinstance(each, np.ndarray) else each for n, each in self.by_name.items()}


@dataclass(frozen=True)
class MaskedInput:
    """One input of one sample under masks.

    Attributes
    ----------
    replacement
        What masked elements become; an array is of the sample's shape and dtype.
    fixed
        The mask operators' arrays that all evaluations share.
    prefix
        Of the names of its rows, where several inputs have rows of their own.
    """

    mask_ops: MaskOps
    replacement: Replacement
    fixed: Rows = field(default_factory=dict)
    prefix: str = ""

    def copies(self, x: Array, rows: Rows) -> Array:
        """Masked copies of the sample, made on the host; as many as there are rows."""
        mask = self.mask_ops.masks({role: rows[self.prefix + role] for role in self.mask_ops.rows}, self.fixed)
        if isinstance(self.replacement, np.ndarray):
            return mixed(x[None], self.replacement[None], mask)
        return self.replacement.blended(x, mask, rows)


class RepeatedRows:
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
        """Up to so many evaluations of the source's current block; none at the end."""
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
        pending = np.zeros(0)
        for more in scores:
            pending = np.concatenate([pending, more])
            while self._blocks and len(pending) >= (size := self._times * count_of(self._blocks[0])):
                yield self._blocks.popleft(), pending[:size].reshape(-1, self._times).mean(axis=1)
                pending = pending[size:]
