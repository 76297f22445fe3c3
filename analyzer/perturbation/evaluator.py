"""Scores of changed copies of the inputs: the only way from a perturbation to numbers.

Belongs here: evaluating a model on copies of one sample, which input is changed, what the other inputs are meanwhile. Not
here: what the changes are (``replacement``, ``features``, ``random_masks``), sessions and batches (``analyzer.executor``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.executor.batched_runs import Rows, Scoring, Source, rows_of
from analyzer.executor.mask_ops import MaskOps, Segments, Windows, mixed
from analyzer.executor.masked_model import MaskedModelSpec
from analyzer.onnx_model import OnnxModel, probabilities_of
from analyzer.perturbation.spatial_layout import SpatialLayout
from analyzer.targets.target import Target, no_batch

if TYPE_CHECKING:
    from analyzer.engines.protocol import Engine

Array = NDArray[Any]
#: Bytes of perturbed inputs in one batch, and the largest batch.
_BATCH_BYTES, _BATCH_MOST = 24 * 2**20, 256


class ComputedReplacement(Protocol):
    """A replacement that isn't one array: it scores masks in a way of its own."""

    def scores(
        self, evaluator: Evaluator, sample: int, mask_ops: MaskOps, source: Source, fixed: Rows
    ) -> Iterator[tuple[Rows, Array]]:
        """As :meth:`Evaluator.masked`."""
        ...


@dataclass
class Evaluator:
    """One model on one batch of inputs with one target.

    Attributes
    ----------
    inputs
        Input name -> array, batch first.
    target
        What is explained.
    output
        The value that the target is on, for the unchanged inputs.
    engine_on
        Makes a white-box engine for changed inputs and weights on the explained value, for methods that perturb an
        embedding.
    masks
        Where perturbed copies were made last: inside the graph or on the host; None where there were none.
    files
        Records of the files that parameters named.
    """

    model: OnnxModel
    inputs: dict[str, Array]
    target: Target
    output: Array
    seed: int
    progress: Callable[[int, int], None] | None = None
    engine_on: Callable[[dict[str, Array], Array], Engine] = field(kw_only=True, repr=False)
    masks: Literal["graph", "host"] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def batch(self) -> int:
        """How many samples are explained."""
        return len(self.target.names)

    @functools.cached_property
    def score(self) -> Array:
        """The explained score of every sample, shape (batch,), float64."""
        return self.target.score(self.output)

    @functools.cached_property
    def perturbed(self) -> str:
        """The input that perturbation methods change: the first one whose first axis is the batch."""
        for name, value in self.inputs.items():
            if self.batch_axis(name) == 0 and value.dtype.kind in "fiu":
                return name
        raise UsageError("input.no_batch", "no input has a batch axis to perturb", "give a batch-first input")

    @functools.cached_property
    def layout(self) -> SpatialLayout:
        """Where the perturbed input's spatial axes are.

        Raises
        ------
        UsageError
            ``input.no_axes`` for an input of one number per sample.
        """
        found = SpatialLayout.of(self.model, self.perturbed, self.inputs[self.perturbed].shape)
        if not found.axes:
            raise UsageError(
                "input.no_axes",
                f"input {self.perturbed!r} is one number per sample, so masks have no axis to lie along",
                "use occlusion, feature-ablation, kernel-shap or lime, which take columns as they are",
            )
        return found

    @property
    def unchanged(self) -> list[str]:
        """A note that names the inputs with samples that perturbation methods leave as they are; empty without such."""
        others = [n for n in self.inputs if n != self.perturbed and self.batch_axis(n) is not None]
        return [f"only input {self.perturbed!r} is changed, not {', '.join(map(repr, others))}"] if others else []

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The numeric inputs of a table whose columns are inputs of their own; empty for other models."""
        one = [value.ndim and len(value) == value.size == self.batch for value in self.inputs.values()]
        names = tuple(name for name, value in self.inputs.items() if value.dtype.kind in "fiu")
        lines = all(value.ndim == 1 for value in self.inputs.values())
        return names if all(one) and (len(names) > 1 or lines) else ()

    def batch_axis(self, name: str) -> int | None:
        """The axis of an input that counts the samples; None where the input is the same for all."""
        return self._batch_axes[name]

    @functools.cached_property
    def _batch_axes(self) -> dict[str, int | None]:
        return self.model.batch_axes(self.inputs, self.batch)

    def repeated(self, name: str, sample: int, times: int = 1) -> Array:
        """An input for so many copies of one sample; as it is where it is the same for all samples."""
        value, axis = self.inputs[name], self.batch_axis(name)
        return value if axis is None else np.repeat(value.take([sample], axis), times, axis)

    def advance(self, done: int, total: int) -> None:
        """Report progress in model evaluations."""
        if self.progress is not None:
            self.progress(done, total)

    def batch_size(self) -> int:
        """The most perturbed copies of a sample that are run at once."""
        fixed = self.model.fixed_batch
        if fixed is not None:
            return fixed
        if self.target.single or self.model.couples_rows:  # its outputs hold, or depend on, one sample at a time
            return 1
        bytes_each = max(1, sum(value[:1].nbytes for value in self.inputs.values() if value.ndim))
        return int(np.clip(_BATCH_BYTES // bytes_each, 1, _BATCH_MOST))

    def evaluate(self, sample: int, copies: Iterable[Array], *, joined: bool = False) -> Iterator[float]:
        """Scores of perturbed copies of one sample, in order; memory is the batches that are run at once.

        Parameters
        ----------
        copies
            Each of the perturbed input's shape without the batch axis; joined, a row with one number for each of
            :attr:`columns`.
        """
        remaining = iter(copies)

        def source(count: int) -> Rows:
            block = list(itertools.islice(remaining, count))
            return {"copies": np.stack(block)} if block else {}

        self.masks = "host"
        yield from _one_by_one(self._unmasked(sample, source, lambda rows: self._feed(sample, rows["copies"], joined)))

    def windows(
        self, sample: int, windows: Sequence[tuple[slice, ...]], replacement: Array | ComputedReplacement
    ) -> Iterator[float]:
        """Scores of one sample with each of some windows replaced, in order.

        Parameters
        ----------
        windows
            One slice per spatial axis of the perturbed input, see :attr:`layout`.
        replacement
            What replaces a window; an array is of the sample's shape and dtype.
        """
        sides, axes = self.layout.sides, self.layout.sample_axes
        bounds = [[part.indices(side)[:2] for part, side in zip(window, sides, strict=True)] for window in windows]
        source = rows_of(bounds=np.array(bounds, np.int64).reshape(-1, len(axes), 2))
        mask_ops = Windows(self.layout.shape[1:], axes)
        return _one_by_one(self.masked(sample, mask_ops, source, replacement))

    def segments(
        self, sample: int, ids: Array, source: Source, replacement: Array | ComputedReplacement
    ) -> Iterator[float]:
        """Scores of one sample with some of its segments replaced, in order.

        Parameters
        ----------
        ids
            Of the sample's rank and broadcastable to it, numbered from 0.
        source
            Gives rows ``present``: (n, segments) bool, false for what is replaced.
        replacement
            What replaces a segment; an array is of the sample's shape and dtype.
        """
        mask_ops, fixed = Segments(ids.shape), {"ids": ids.reshape(-1).astype(np.int64)}
        return _one_by_one(self.masked(sample, mask_ops, source, replacement, fixed))

    def masked(
        self,
        sample: int,
        mask_ops: MaskOps,
        source: Source,
        replacement: Array | ComputedReplacement,
        fixed: Rows | None = None,
    ) -> Iterator[tuple[Rows, Array]]:
        """Scores of one sample under masks, in order: made inside the graph, or on the host where that can't be.

        Parameters
        ----------
        mask_ops
            The kind of mask.
        source
            Gives their rows.
        replacement
            What masked elements become; an array is of the sample's shape and dtype.
        fixed
            The mask operators' arrays that all evaluations share.

        Yields
        ------
        tuple
            The rows of a batch with their scores (n,), float64.
        """
        fixed = fixed or {}
        if not isinstance(replacement, np.ndarray):
            yield from replacement.scores(self, sample, mask_ops, source, fixed)
            return
        x, others = self.inputs[self.perturbed][sample], self._others(sample)
        spec = MaskedModelSpec(
            mask_ops, self.perturbed, x.dtype.name, x.shape,
            tuple((name, value.dtype.name, value.shape, axis) for name, (value, axis) in others.items()),
            tuple(self._constant), self._fetched, self.model.fixed_batch, not replacement.any(),
        )  # fmt: skip
        opened = self.model.session_pool.masked(spec, self.batch_size())
        self.masks = "host" if opened is None else "graph"
        if opened is None:
            yield from self.hosted(
                sample, source, lambda rows: mixed(x[None], replacement[None], mask_ops.masks(rows, fixed))
            )
            return
        runs, graph = opened
        constant = {graph.original: x[None], **{graph.fixed[role]: value for role, value in fixed.items()}}
        constant |= {**self._constant, **{graph.others[name]: value for name, (value, _) in others.items()}}
        if graph.replacement:
            constant[graph.replacement] = replacement[None]
        yield from runs.scores(
            source, self._scoring(sample), constant, lambda rows: {graph.rows[role]: v for role, v in rows.items()}
        )

    def hosted(self, sample: int, source: Source, copies: Callable[[Rows], Array]) -> Iterator[tuple[Rows, Array]]:
        """Scores of copies of one sample that are made on the host, in the threads that run them, with their rows."""
        self.masks = "host"
        yield from self._unmasked(sample, source, lambda rows: self._feed(sample, copies(rows)))

    def _unmasked(self, sample: int, source: Source, feed: Callable[[Rows], Rows]) -> Iterator[tuple[Rows, Array]]:
        """Scores of feeds to the model as it is, with the rows that they are made of."""
        runs = self.model.session_pool.unmasked(self._fetched, self.batch_size())
        yield from runs.scores(source, self._scoring(sample), prepare=feed)

    def _others(self, sample: int) -> dict[str, tuple[Array, int]]:
        """The other inputs that have samples: one sample's part, and the axis that counts them."""
        axes = {name: self.batch_axis(name) for name in self.inputs if name != self.perturbed}
        return {name: (self.repeated(name, sample), axis) for name, axis in axes.items() if axis is not None}

    @functools.cached_property
    def _constant(self) -> dict[str, Array]:
        """The other inputs that are the same for all samples."""
        return {n: v for n, v in self.inputs.items() if n != self.perturbed and self.batch_axis(n) is None}

    def _feed(self, sample: int, copies: Array, joined: bool = False) -> dict[str, Array]:
        """All inputs of a batch of copies."""
        feed = {}
        for name, value in self.inputs.items():
            if joined and name in self.columns:
                column = copies[:, self.columns.index(name)].reshape(-1, *value.shape[1:])
                feed[name] = (np.rint(column) if value.dtype.kind in "iu" else column).astype(value.dtype)
            elif name == self.perturbed and not joined:
                feed[name] = np.ascontiguousarray(copies, value.dtype)
            else:
                feed[name] = self.repeated(name, sample, len(copies))
        return feed

    @functools.cached_property
    def _tensors(self) -> dict[str, str]:
        """Each of the values that the target reads -> the tensor that holds it."""
        return {name: probabilities_of(self.model.proto.graph, name) for name in self.target.reads}

    @property
    def _fetched(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._tensors.values()))

    def _scoring(self, sample: int) -> Scoring:
        def score(got: Mapping[str, Array], count: int) -> Array:
            scores = self.target.score_copies(sample, {name: got[tensor] for name, tensor in self._tensors.items()})
            if len(scores) != count:
                name, tensor = next(iter(self._tensors.items()))
                raise no_batch(name, np.shape(got[tensor]))
            if not np.isfinite(scores).all():
                raise InputError(
                    "score.nonfinite",
                    f"a changed copy of sample {sample} has the score {scores[~np.isfinite(scores)][0]}",
                    "choose another fill, one that the model has a value for, or fewer segments at once",
                )
            return scores

        return score


def _one_by_one(batches: Iterable[tuple[Rows, Array]]) -> Iterator[float]:
    for _, scores in batches:
        yield from map(float, scores)
