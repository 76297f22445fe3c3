"""Inputs whose rows are no samples: all of them together are one, as the nodes of a graph are.

Belongs here: the evaluator that takes a whole input for one sample, and the target on it. Not here: finding out that rows
can't be taken apart (``analyzer.executor.row_coupling``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError
from analyzer.executor.batched_runs import BatchedRuns, Batches, Source
from analyzer.explanation import Result
from analyzer.perturbation.evaluator import Evaluator
from analyzer.perturbation.replacement import MaskedInput
from analyzer.perturbation.spatial_layout import SpatialLayout
from analyzer.targets.target import Resolved

Array = NDArray[Any]


@dataclass(frozen=True)
class SumTarget:
    """The sum of a linear target's scores over all rows, as one score.

    Implements :class:`~analyzer.targets.target.Target`.
    """

    rows: Resolved
    single = True

    @property
    def names(self) -> tuple[str, ...]:
        """One name for all."""
        return (", ".join(dict.fromkeys(self.rows.names)),)

    @property
    def classes(self) -> tuple[int, ...]:
        """No class of its own."""
        return (-1,)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the rows' target."""
        return self.rows.notes

    @property
    def reads(self) -> tuple[str, ...]:
        """The one value that the weights apply to."""
        return self.rows.reads

    def score(self, output: Array) -> Array:
        """The sum, shape (1,)."""
        return np.asarray(self.rows.score(output).sum(keepdims=True))

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """The sum for the one copy that was run."""
        return self.score(np.asarray(got[self.rows.value]))


@dataclass
class WholeInput(Evaluator):
    """An evaluator on one sample, which all rows are: its arrays have an axis of 1 more in front, which the model doesn't see.

    Rows are places, and the last axis of an input of rank 2 are its channels.
    """

    @classmethod
    def of(cls, rows: Evaluator) -> WholeInput:
        """The whole input of an evaluator on rows.

        Raises
        ------
        UnsupportedError
            ``input.rows`` for a target that isn't linear, as a detection.
        """
        if not isinstance(rows.target, Resolved):
            raise UnsupportedError(
                "input.rows",
                "the model's rows depend on each other: no row has a score of its own",
                "name an output's element",
            )
        return cls(
            rows.model, {name: value[None] for name, value in rows.inputs.items()}, SumTarget(rows.target), rows.output,
            rows.seed, rows.progress, rows.chosen, engine_on=rows.engine_on,
        )  # fmt: skip

    def batch_axis(self, name: str) -> int | None:
        """The first one, which is put in front."""
        return 0

    def batch_size(self) -> int:
        """One at a time."""
        return 1

    @functools.cached_property
    def layout(self) -> SpatialLayout:
        """Rows are places; channels are where the model has them, or last."""
        shape = self.inputs[self.perturbed].shape
        if len(shape) <= 2:
            return SpatialLayout(shape, tuple(range(1, len(shape))), None)
        own = self.model.axes(self.perturbed, shape[1:]).channels
        channels = 2 if len(shape) == 3 or own is None else 1 + own
        return SpatialLayout(shape, tuple(axis for axis in range(1, len(shape)) if axis != channels), channels)

    def rows_of(self, result: Result) -> Result:
        """A method's result without the axis that was put in front."""
        maps = {name: value[0] for name, value in result.attributions.items()}
        return replace(result, attributions=maps, raws={name: value[0] for name, value in result.raws.items()})

    def _opened(self, sample: int, name: str, part: MaskedInput) -> Callable[[Source, int | None], Batches] | None:
        return None  # masks inside the graph are for a batch of samples

    def _unmasked(self) -> BatchedRuns:
        return self.model.session_pool.unmasked(self._fetched, 1, whole=True)

    def _feed(self, sample: int, copies: Mapping[str, Array]) -> dict[str, Array]:
        return {name: copies.get(name, value)[0].astype(value.dtype, copy=False) for name, value in self.inputs.items()}
