"""Scores of changed copies of the inputs: the only way from a perturbation to numbers.

Belongs here: evaluating a model on copies of one sample, which input is changed, what the other inputs are meanwhile. Not
here: what the changes are (``replacement``, ``features``, ``random_masks``), sessions and batches (``analyzer.executor``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.engines.parity import first_nonfinite
from analyzer.errors import InputError, UsageError
from analyzer.executor import devices
from analyzer.executor.batched_runs import BatchedRuns, Batches, Rows, Scoring, Source, rows_of
from analyzer.executor.mask_ops import Windows
from analyzer.executor.masked_model import MaskedModelSpec
from analyzer.inputs.graph_selection import auxiliary
from analyzer.model_facts import probabilities_of
from analyzer.onnx_model import OnnxModel
from analyzer.perturbation.replacement import BackgroundRows, MaskedInput, RepeatedRows, Replacement
from analyzer.perturbation.spatial_layout import SpatialLayout
from analyzer.targets.target import Target, no_batch

if TYPE_CHECKING:
    from analyzer.engines.protocol import Engine

Array = NDArray[Any]
#: Bytes of perturbed inputs in one batch, and the largest batch.
_BATCH_BYTES, _BATCH_MOST = 24 * 2**20, 256


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
    chosen
        Names of the inputs to change; None for those that are changed by default.
    engine_on
        Makes a white-box engine for changed inputs and weights on the explained value, for methods that perturb an
        embedding.
    masks
        Where perturbed copies were made last: inside the graph or on the host; None where there were none.
    files
        Records of the files that parameters named.
    replaced
        Table, or column of one -> what replaces its values, (n, columns) or (n,), as far as parameters say it.
    """

    model: OnnxModel
    inputs: dict[str, Array]
    target: Target
    output: Array
    seed: int
    progress: Callable[[int, int], None] | None = None
    chosen: tuple[str, ...] | None = None
    engine_on: Callable[[dict[str, Array], Array], Engine] = field(kw_only=True, repr=False)
    masks: Literal["graph", "host"] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    replaced: dict[str, Array] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """How many samples are explained."""
        return len(self.target.names)

    @functools.cached_property
    def score(self) -> Array:
        """The explained score of every sample, shape (batch,), float64."""
        return self.target.score(self.output)

    @functools.cached_property
    def changed(self) -> tuple[str, ...]:
        """The inputs that perturbation methods change: the chosen ones, else those of the model's that have samples.

        Raises
        ------
        UsageError
            ``input.no_batch`` where an input doesn't count samples along its first axis, or none does.
        """
        fit = [n for n, v in self.inputs.items() if self.batch_axis(n) == 0 and v.dtype.kind in self._kinds]
        wrong = [name for name in self.chosen or () if name not in fit]
        if wrong:
            message = (
                f"input {wrong[0]!r} has no numbers whose first axis counts the samples: nothing in it can be changed"
            )
            raise UsageError("input.no_batch", message, f"inputs that can be: {', '.join(fit) or 'none'}")
        if not fit:
            raise UsageError("input.no_batch", "no input has a batch axis to perturb", "give a batch-first input")
        usual = [name for name in fit if name in self.model.explained_inputs or self._beside_text(name)]
        return self.chosen or self.columns or tuple(usual or fit)

    @functools.cached_property
    def _kinds(self) -> str:
        """Kinds of types that can be changed: numbers and, in rows that hold text, text and truth values."""
        rows = any(value.dtype.kind == "O" and self.batch_axis(name) == 0 for name, value in self.inputs.items())
        return "fiubO" if rows else "fiu"

    def _beside_text(self, name: str) -> bool:
        """Whether an input is text, or a column or several beside it."""
        value = self.inputs[name]
        column = value.ndim <= 2 and not auxiliary(name, value.dtype.kind in "iu")
        return "O" in self._kinds and (value.dtype.kind == "O" or column)

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """The changed inputs that hold text."""
        return tuple(name for name in self.changed if self.inputs[name].dtype.kind == "O")

    @property
    def perturbed(self) -> str:
        """The one input that is changed, or the first of several."""
        return self.changed[0]

    def changing(self, *names: str) -> Self:
        """The same evaluator that changes other inputs."""
        return replace(self, chosen=names)

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

    def require_batch(self) -> None:
        """Refuse inputs of which none can be changed, as :attr:`changed` does."""
        _ = self.changed

    def require_axes(self) -> None:
        """Refuse inputs without an axis for masks, as :attr:`layout` does for one of them."""
        for name in self.changed:
            _ = self.changing(name).layout

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The inputs of a table whose columns are inputs of their own; empty for other models."""
        one = [value.ndim and len(value) == value.size == self.batch for value in self.inputs.values()]
        names = tuple(name for name, value in self.inputs.items() if value.dtype.kind in self._kinds)
        lines = all(value.ndim == 1 for value in self.inputs.values())
        found = names if all(one) and (len(names) > 1 or lines) else ()
        return tuple(name for name in found if self.chosen is None or name in self.chosen)

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

    def generator(self, at: int = 0) -> np.random.Generator:
        """The random numbers of the ``at``-th input: its own, so that they don't depend on how many are drawn at once."""
        return np.random.default_rng([self.seed, at] if at else self.seed)

    def advance(self, done: int, total: int) -> None:
        """Report progress in model evaluations."""
        if self.progress is not None:
            self.progress(done, total)

    def batch_size(self) -> int:
        """The most perturbed copies of a sample that are run at once."""
        fixed = self.model.fixed_batch
        if fixed is not None:
            return fixed
        if self.target.single or self.model.coupling(self.inputs, self.batch).kind != "none":
            return 1  # its outputs hold, or depend on, one sample at a time
        bytes_each = max(1, sum(value[:1].nbytes for value in self.inputs.values() if value.ndim))
        most = _BATCH_BYTES if self.model.device == "cpu" else devices.batch_bytes(self.model.device)
        return int(np.clip(most // bytes_each, 1, _BATCH_MOST))

    def evaluate(self, sample: int, copies: Iterable[Array]) -> Iterator[float]:
        """Scores of perturbed copies of one sample, in order; memory is the batches that are run at once.

        Parameters
        ----------
        copies
            Each of the perturbed input's shape without the batch axis.
        """
        remaining = iter(copies)

        def source(count: int) -> Rows:
            block = list(itertools.islice(remaining, count))
            return {"copies": np.stack(block)} if block else {}

        return one_by_one(self.hosted(sample, source, lambda rows: {self.perturbed: rows["copies"]}))

    def windows(self, sample: int, windows: Sequence[tuple[slice, ...]], replacement: Replacement) -> Iterator[float]:
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
        parts = {self.perturbed: MaskedInput(mask_ops, replacement)}
        return one_by_one(self.masked(sample, parts, source, len(windows)))

    def masked(
        self, sample: int, parts: Mapping[str, MaskedInput], source: Source, total: int | None = None
    ) -> Iterator[tuple[Rows, Array]]:
        """Scores of one sample under masks, in order: made inside the graph, or on the host where that can't be.

        Parameters
        ----------
        parts
            Name of a masked input -> how it is masked. Inside the graph there is one, which becomes one array.
        source
            Gives the rows of all their masks.
        total
            How many those are, where that is known.

        Yields
        ------
        tuple
            The rows of a batch with their scores (n,), float64.
        """

        def copies(rows: Rows) -> dict[str, Array]:
            return {name: part.copies(self.inputs[name][sample, ...], rows) for name, part in parts.items()}

        opened = self._opened(sample, *next(iter(parts.items()))) if len(parts) == 1 else None
        if opened is not None:
            self.masks = "graph"
            yield from self._finite(sample, opened(source, total), copies)
            return

        times = {len(part.replacement.rows) for part in parts.values() if isinstance(part.replacement, BackgroundRows)}
        if not times:
            yield from self.hosted(sample, source, copies)
            return
        if len(times) > 1:
            raise UsageError(
                "fill.unsuitable",
                f"inputs have different numbers of background samples: {sorted(times)}",
                "give as many of each",
            )
        repeated = RepeatedRows(source, times.pop())
        yield from repeated.averaged(scores for _, scores in self.hosted(sample, repeated.rows, copies))

    def _opened(self, sample: int, name: str, part: MaskedInput) -> Callable[[Source, int | None], Batches] | None:
        """Runs of a model with the masks of one input inside; None where they must be made on the host."""
        replacement, x = part.replacement, self.inputs[name][sample]
        if not isinstance(replacement, np.ndarray) or self.holes(name):
            return None
        if any(value.dtype.kind == "O" for value in self.inputs.values()):  # devices hold no text
            return None
        others = self._others(sample, name)
        constant = {n: v for n, v in self.inputs.items() if n != name and self.batch_axis(n) is None}
        spec = MaskedModelSpec(
            part.mask_ops, name, x.dtype.name, x.shape,
            tuple((other, value.dtype.name, value.shape, axis) for other, (value, axis) in others.items()),
            tuple(constant), self._fetched, self.model.fixed_batch, not replacement.any(),
        )  # fmt: skip
        opened = self.model.session_pool.masked(spec, self.batch_size())
        if opened is None:
            return None
        runs, graph = opened
        constant |= {graph.original: x[None], **{graph.fixed[role]: value for role, value in part.fixed.items()}}
        constant |= {graph.others[other]: value for other, (value, _) in others.items()}
        if graph.replacement:
            constant[graph.replacement] = replacement[None]

        def prepare(rows: Rows) -> Rows:
            return {wanted: rows[part.prefix + role] for role, wanted in graph.rows.items()}

        return lambda source, total: runs.scores(source, self._scoring(sample), constant, prepare, total)

    def holes(self, name: str) -> bool:
        """Whether values of an input are missing: they must be replaced by selecting, for NaN times 0 is NaN."""
        value = self.inputs[name]
        return name in self.model.takes_missing and value.dtype.kind == "f" and bool(np.isnan(value).any())

    def hosted(
        self, sample: int, source: Source, copies: Callable[[Rows], Mapping[str, Array]]
    ) -> Iterator[tuple[Rows, Array]]:
        """Scores of copies of one sample that are made on the host, in the threads that run them, with their rows."""
        self.masks = "host"
        runs = self._unmasked()
        found = runs.scores(source, self._scoring(sample), prepare=lambda rows: self._feed(sample, copies(rows)))
        yield from self._finite(sample, found, copies)

    def require_scores(self, sample: int, scores: Array, feed: Callable[[int], Rows] | None = None) -> None:
        """Refuse scores of changed copies of a sample that aren't finite.

        Parameters
        ----------
        feed
            Makes the model's inputs for the copy that a score is of again; None where they can't be made.

        Raises
        ------
        InputError
            ``score.nonfinite`` naming the first node whose value isn't finite.
        """
        lost = np.flatnonzero(~np.isfinite(scores))
        if lost.size:
            where = "" if feed is None else first_nonfinite(self.model, feed(int(lost[0])))
            raise InputError(
                "score.nonfinite",
                f"a changed copy of sample {sample} has the score {scores[lost[0]]}{where}",
                "choose another fill, one that the model has a value for, or fewer segments at once",
            )

    def _finite(
        self, sample: int, batches: Batches, copies: Callable[[Rows], Mapping[str, Array]]
    ) -> Iterator[tuple[Rows, Array]]:
        """Batches of rows with their scores, all of them finite; ``copies`` makes the copies of rows once more."""
        with contextlib.closing(batches):
            for rows, scores in batches:

                def feed(at: int, rows: Rows = rows) -> Rows:
                    return self._feed(sample, copies({role: value[at : at + 1] for role, value in rows.items()}))

                self.require_scores(sample, scores, feed)
                yield rows, scores

    def _unmasked(self) -> BatchedRuns:
        return self.model.session_pool.unmasked(self._fetched, self.batch_size())

    def _others(self, sample: int, name: str) -> dict[str, tuple[Array, int]]:
        """The inputs beside one that have samples: one sample's part, and the axis that counts them."""
        axes = {other: self.batch_axis(other) for other in self.inputs if other != name}
        return {other: (self.repeated(other, sample), axis) for other, axis in axes.items() if axis is not None}

    def _feed(self, sample: int, copies: Mapping[str, Array]) -> dict[str, Array]:
        """All inputs of a batch of copies of some of them."""
        count = len(next(iter(copies.values())))
        return {
            name: np.ascontiguousarray(copies[name], value.dtype)
            if name in copies
            else self.repeated(name, sample, count)
            for name, value in self.inputs.items()
        }

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
            return scores

        return score


def one_by_one(batches: Iterable[tuple[Rows, Array]]) -> Iterator[float]:
    """The scores of batches, apart."""
    for _, scores in batches:
        yield from map(float, scores)
