"""What a method works with: the model, the inputs, what is explained, and a way to evaluate it.

Belongs here: the context and the result of a method. Not here: choosing the target (``run``), torch (``whitebox``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.explanation import Completeness
from analyzer.score import Scored
from analyzer.specs import batch_axis
from analyzer.target import Resolved, weighted

if TYPE_CHECKING:
    from analyzer.methods.whitebox import Engine
    from analyzer.model import Model

Array = NDArray[Any]
#: Bytes of perturbed inputs in one batch, and the largest batch.
_BATCH_BYTES, _BATCH_MOST = 24 * 2**20, 64


@dataclass
class Result:
    """What a method returns.

    Attributes
    ----------
    attributions
        Input name -> array of the input's rank.
    raws
        Where a map's native resolution differs from the input's; else left empty.
    completeness
        For methods that promise a sum.
    notes
        What the user should know.
    record
        Further figures for the explanation's record (R², standard errors, the layer that was chosen).
    """

    attributions: dict[str, Array]
    raws: dict[str, Array] = field(default_factory=dict)
    completeness: Completeness | None = None
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """One call of a method.

    Attributes
    ----------
    inputs
        Input name -> array, batch first.
    scored
        The ONNX value that holds the scores.
    resolved
        The target's weights on that value.
    output
        That value for the unchanged input.
    """

    model: Model
    inputs: dict[str, Array]
    scored: Scored
    resolved: Resolved
    output: Array
    seed: int
    precision: str
    progress: Callable[[int, int], None] | None = None

    @property
    def batch(self) -> int:
        """How many samples are explained."""
        return len(self.resolved.names)

    @functools.cached_property
    def score(self) -> Array:
        """The explained score of every sample, shape (batch,), float64."""
        return self.resolved.score(self.output)

    @functools.cached_property
    def engine(self) -> Engine:
        """The white-box engine on these inputs; imports torch."""
        from analyzer.methods.whitebox import Engine

        return Engine.on(self.model, self.inputs, self.scored.value, self.resolved.weights, self.precision)

    @functools.cached_property
    def perturbed(self) -> str:
        """The input that perturbation methods change: the first one whose first axis is the batch."""
        for name, value in self.inputs.items():
            if value.ndim and len(value) == self.batch and value.dtype.kind in "fiu":
                return name
        raise UsageError("input.no_batch", "no input has a batch axis to perturb", "give a batch-first input")

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
        return names if all(one) and len(names) > 1 else ()

    def batch_axis(self, name: str) -> int | None:
        """The axis of an input that counts the samples; None where the input is the same for all."""
        main, specs = self.model.inputs.get(self.perturbed), self.model.inputs
        first = main.shape[0] if main is not None and main.shape else None
        value = self.inputs[name]
        return batch_axis(specs[name].shape if name in specs else (), first, value, self.batch)

    def advance(self, done: int, total: int) -> None:
        """Report progress in model evaluations."""
        if self.progress is not None:
            self.progress(done, total)

    def batch_size(self) -> int:
        """How many perturbed copies of a sample are run at once."""
        fixed = self.model.fixed_batch
        if fixed is not None:
            return fixed
        bytes_each = max(1, sum(value[:1].nbytes for value in self.inputs.values() if value.ndim))
        return int(np.clip(_BATCH_BYTES // bytes_each, 1, _BATCH_MOST))

    def evaluate(self, sample: int, copies: Iterable[Array], *, joined: bool = False) -> Iterator[float]:
        """Scores of perturbed copies of one sample, in order, a batch at a time; memory is one batch.

        Parameters
        ----------
        copies
            Each of the perturbed input's shape without the batch axis; joined, a row with one number for each of
            :attr:`columns`.
        """
        size, pending = self.batch_size(), []
        for copy in copies:
            pending.append(copy)
            if len(pending) == size:
                yield from self._run(sample, pending, joined)
                pending = []
        if pending:
            yield from self._run(sample, pending, joined)

    def _run(self, sample: int, copies: list[Array], joined: bool) -> list[float]:
        count, size = len(copies), self.batch_size()
        if self.model.fixed_batch is not None:
            copies = copies + [copies[-1]] * (size - count)
        feed = {}
        for name, value in self.inputs.items():
            if joined and name in self.columns:
                column = np.stack(copies)[:, self.columns.index(name)].reshape(-1, *value.shape[1:])
                feed[name] = (np.rint(column) if value.dtype.kind in "iu" else column).astype(value.dtype)
            elif name == self.perturbed and not joined:
                feed[name] = np.stack(copies).astype(value.dtype, copy=False)
            else:
                axis = self.batch_axis(name)
                feed[name] = value if axis is None else np.repeat(value.take([sample], axis), len(copies), axis)
        output = self.model.values(feed, [self.scored.value])[self.scored.value]
        if not np.ndim(output) or len(output) != len(copies):
            raise UsageError(
                "target.no_batch",
                f"output {self.scored.output!r} of shape {list(np.shape(output))} has no batch axis",
                "perturbation methods need one score per sample",
            )
        weights = np.broadcast_to(self.resolved.weights[sample : sample + 1], output.shape)
        return [float(v) for v in weighted(output, weights)[:count]]

    def complete(self, attributions: Mapping[str, Array], expected: Array) -> Completeness:
        """The sum of all attributions beside what it should be."""
        total = sum(np.asarray(a, np.float64).reshape(len(a), -1).sum(axis=1) for a in attributions.values())
        return Completeness(np.asarray(total), np.asarray(expected, np.float64))
