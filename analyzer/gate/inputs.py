"""The inputs of a run: their names, labels and slices, batches that a model takes, within the run's limits.

Belongs here: what is known of the inputs before any is explained. Not here: statements about all of them (``statements``), their
explanations (``context``), reading data (``analyzer.data``).
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from analyzer.data.batches import grouped, stacked
from analyzer.data.dataset import Dataset, Sample
from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.evaluation.paired_inputs import InputMatch
from analyzer.gate.outcome import Array, Outcome
from analyzer.gate.policy import Policy
from analyzer.memory import resident_memory
from analyzer.model import Model
from analyzer.targets.resolve import scored_value

#: The largest batch.
_MOST = 32


class Cancel(Protocol):
    """Says whether a run should stop: a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether it should."""
        ...


class StoppedError(AnalyzerError):
    """The run was cancelled."""

    exit_code = 130


class LimitError(InputError):
    """A limit of the policy was reached."""


@dataclass(frozen=True)
class Batch:
    """Inputs that are run together.

    Attributes
    ----------
    at
        Their positions among the run's inputs.
    feed
        The model's inputs, batch first; where the model's batch is fixed filled up with repetitions of the last.
    """

    at: tuple[int, ...]
    feed: dict[str, Array]

    @property
    def rows(self) -> slice:
        """The rows that are no repetitions."""
        return slice(0, len(self.at))


@dataclass
class GateInputs:
    """One run of a gate: its inputs and its limits.

    Attributes
    ----------
    folder
        The policy's, which its paths are relative to.
    readable
        Positions in the data set of the inputs that could be read; everything else counts along these.
    clock
        Seconds, for checks that time something.
    outcomes
        What the checks that have run found, by their ids.
    evaluations, explanations
        How many the current check has made: of one sample each.
    """

    policy: Policy
    folder: Path
    model: Model
    reference: Model | None
    dataset: Dataset
    readable: tuple[int, ...]
    cancel: Cancel | None = None
    progress: Callable[[str, int, int], None] | None = None
    clock: Callable[[], float] = time.perf_counter
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic, repr=False)
    check: str = ""
    evaluations: int = 0
    explanations: int = 0

    @property
    def count(self) -> int:
        """How many inputs there are."""
        return len(self.readable)

    @property
    def seed(self) -> int:
        """Of every random choice."""
        return self.policy.data.seed

    @property
    def confidence(self) -> float:
        """Of every interval and test."""
        return self.policy.policy.confidence

    def generator(self, *more: int) -> np.random.Generator:
        """The current check's random numbers: the same whatever other checks there are."""
        return np.random.default_rng([self.seed, zlib.crc32(self.check.encode()), *more])

    def sample(self, at: int) -> Sample:
        """An input, read anew."""
        return self.dataset.read(self.readable[at])

    def id(self, at: int) -> str:
        """An input's name."""
        return str(self.dataset.ids[self.readable[at]])

    @functools.cached_property
    def labels(self) -> tuple[int | None, ...]:
        """The true class of every input, where it is known."""
        return tuple(self.dataset.labels[at] for at in self.readable)

    def parts(self, per_class: bool = False, columns: Sequence[str] = ()) -> dict[str, Array]:
        """Name of a part of the data -> which inputs are in it, bool: by class (else by predicted class), by slice column.

        Raises
        ------
        UsageError
            ``config.gate`` for a column that the data hasn't got.
        """
        found: dict[str, Array] = {}
        if per_class:
            known = all(label is not None for label in self.labels)
            classes = np.array(self.labels if known else self.predicted, np.int64)
            names = self.model.labels.names if self.model.labels is not None else ()
            for at in np.unique(classes):
                name = names[at] if 0 <= at < len(names) else str(at)
                found[f"{'class' if known else 'predicted'} {name}"] = classes == at
        for column in columns:
            if column not in self.dataset.groups:
                there = ", ".join(self.dataset.groups) or "none"
                raise UsageError("config.gate", f"the data has no column {column!r}", f"its columns: {there}")
            values = np.array([self.dataset.groups[column][at] for at in self.readable])
            found |= {f"{column} {value}": values == value for value in np.unique(values)}
        return found

    def batches(self, at: Sequence[int] | None = None, most: int = _MOST) -> Iterator[Batch]:
        """The inputs, or those at some positions, as batches that the model takes; inputs of other shapes apart.

        Parameters
        ----------
        most
            So many together at most, as far as the model's batch isn't fixed.

        Raises
        ------
        LimitError
            ``limit.time``, ``limit.memory``.
        StoppedError
            ``signal.cancelled``.
        """
        chosen = range(self.count) if at is None else at

        def read() -> Iterator[tuple[int, Mapping[str, Array]]]:
            for done, position in enumerate(chosen):
                self.within_limits()
                self._advance(done, len(chosen))
                yield position, self.sample(position).feed

        for rows in grouped(self.model, read(), most):
            yield self.joined(rows)
        self._advance(len(chosen), len(chosen))

    def joined(self, rows: Sequence[tuple[int, Mapping[str, Array]]]) -> Batch:
        """Inputs of one shape, each a batch of one with its position, as a batch that the model takes."""
        return Batch(tuple(at for at, _ in rows), stacked(self.model, [feed for _, feed in rows]))

    def feed_for(self, model: Model, feed: dict[str, Array]) -> dict[str, Array]:
        """A feed of the model as another, the reference, names and types its inputs.

        Raises
        ------
        UsageError
            ``compare.inputs`` where the two don't take the same.
        """
        return feed if model is self.model else InputMatch.of(self.model, model).feed(feed)

    @functools.cached_property
    def predicted(self) -> tuple[int, ...]:
        """The class that the model gives every input; -1 for a model without classes."""
        return self.predictions(self.model)

    def predictions(self, model: Model) -> tuple[int, ...]:
        """The class that a model gives every input; -1 where its scores are no classes'."""
        found = np.full(self.count, -1)
        output = scored_value(model).output
        for batch in self.batches():
            scores = np.asarray(model.predict(self.feed_for(model, batch.feed))[output])[batch.rows]
            self.evaluations += len(batch.at)
            if scores.ndim == 2 and scores.shape[1] > 1:
                found[list(batch.at)] = scores.argmax(axis=1)
        return tuple(int(each) for each in found)

    def within_limits(self) -> None:
        """Stop where the run was cancelled or has used up what it may.

        Raises
        ------
        LimitError
            ``limit.time``, ``limit.memory``.
        StoppedError
            ``signal.cancelled``.
        """
        if self.cancel is not None and self.cancel.is_set():
            raise StoppedError("signal.cancelled", "the run was cancelled")
        limits = self.policy.limits
        since, self.looked = time.monotonic() - self.looked, time.monotonic()
        if limits.worker_timeout_s is not None and since > limits.worker_timeout_s:
            message = f"a step has taken {since:.1f} s of {limits.worker_timeout_s:g}"
            raise LimitError("limit.time", message, "raise limits.worker_timeout_s, or give smaller inputs")
        if limits.wall_s is not None and (spent := time.monotonic() - self.started) > limits.wall_s:
            message = f"the run has taken {spent:.0f} s of {limits.wall_s:g}"
            raise LimitError("limit.time", message, "raise limits.wall_s, or give fewer samples")
        if limits.memory_mb is not None and (used := resident_memory() / 2**20) > limits.memory_mb:
            message = f"the run takes {used:.0f} MiB of {limits.memory_mb:g}"
            raise LimitError("limit.memory", message, "raise limits.memory_mb, or give smaller inputs")

    def _advance(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.check, done, total)
