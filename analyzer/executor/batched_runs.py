"""Many evaluations through one session: batches of a tuned size, a few runs at once, results in order.

Belongs here: cutting evaluations into batches, running them, filling up batches, halving where memory runs out. Not
here: which size is best (``batch_size``), opening sessions (``session_pool``), the threads (``parallel``), what the
evaluations are (``analyzer.perturbation``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.batch_size import BatchSizeTuner, device_batch
from analyzer.executor.io_binding import BoundSession
from analyzer.executor.parallel import ordered_map
from analyzer.executor.runtime_errors import OutOfMemoryError

Array = NDArray[Any]
#: Name -> array with one entry per evaluation on its first axis.
Rows = Mapping[str, Array]
#: Gives up to so many next evaluations; fewer only before the end, none at the end.
Source = Callable[[int], Rows]
#: (fetched values, evaluations) -> their scores.
Scoring = Callable[[Mapping[str, Array], int], Array]
#: Rows of batches with their scores (n,), float64.
Batches = Generator[tuple[Rows, Array], None, None]
_Run = Callable[[Rows], Mapping[str, Array]]


class RunsFeeds(Protocol):
    """What of a session is needed here."""

    @property
    def device(self) -> str: ...

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]: ...


class BatchedRuns:
    """Evaluations through one session.

    Parameters
    ----------
    session
        Runs a feed; may be called from several threads.
    outputs
        Names of the values to fetch.
    workers
        How many runs go on at once.
    single_threaded
        Whether a run keeps to the thread that calls it: then its processor time is measured, which other work on the
        machine doesn't change; else the time on the clock.
    fixed_batch, largest_batch
        The model's fixed batch or None, and the largest batch to try.
    padded
        Whether all batches have one size, chosen beforehand: fewer evaluations are filled up to it, and what fills up is
        dropped. For devices, where each new size is dear.

    Attributes
    ----------
    evaluations
        How many were run, without what fills up batches.
    """

    def __init__(
        self,
        session: RunsFeeds,
        outputs: Sequence[str],
        workers: int = 1,
        *,
        single_threaded: bool = True,
        fixed_batch: int | None = None,
        largest_batch: int = 64,
        padded: bool = False,
    ) -> None:
        self.session = session
        self.outputs = tuple(outputs)
        self.workers = max(1, workers)
        self._largest = largest_batch
        self.fixed_batch = fixed_batch
        self.padded = padded
        self._chosen = not padded or fixed_batch is not None
        self.tuner = BatchSizeTuner(fixed_batch, largest_batch)
        self.evaluations = 0
        self._clock = time.thread_time if single_threaded else time.perf_counter

    def scores(
        self,
        source: Source,
        score: Scoring,
        constant: Rows | None = None,
        prepare: Callable[[Rows], Rows] = dict,
        total: int | None = None,
    ) -> Batches:
        """Run everything that a source gives.

        Parameters
        ----------
        source
            Asked for as many evaluations as one batch holds, in the caller's thread.
        score
            Makes scores (n,) of what a run of n evaluations fetched.
        constant
            Inputs that are the same for all evaluations; on a device they are put there once.
        prepare
            Makes a feed of rows, in the thread that runs it: full copies live as long as their batch.
        total
            How many evaluations the source has, where that is known.

        Yields
        ------
        tuple
            The rows of a batch, without what fills it up, and their scores, float64, in the order of the source. At most
            one batch more than there are workers is under way.

        Raises
        ------
        AnalyzerError
            The first error of a run, after which no further batch is started; ``limit.memory`` where not even one
            evaluation fits into memory.
        """
        if not self._chosen:
            self.tuner, self._chosen = BatchSizeTuner(device_batch(self._largest, total)), True
        run = self._runner(constant or {})

        def evaluate(rows: Rows) -> tuple[Rows, Array]:
            return rows, self._evaluate(rows, run, prepare, score)

        with contextlib.closing(ordered_map(evaluate, self._batches(source), self.workers)) as results:
            for rows, scores in results:
                self.evaluations += len(scores)
                yield rows, scores

    def _batches(self, source: Source) -> Iterator[Rows]:
        """The source's evaluations in batches of the size that is best when they are drawn."""
        while count_of(rows := source(self.tuner.size)):
            yield rows

    def _runner(self, constant: Rows) -> _Run:
        if self.session.device != "cpu":
            return BoundSession(self.session, constant, self.outputs).run
        return lambda feed: self.session.run({**feed, **constant}, self.outputs)

    def _evaluate(self, rows: Rows, run: _Run, prepare: Callable[[Rows], Rows], score: Scoring) -> Array:
        count = count_of(rows)
        full = self.fixed_batch or (max(count, self.tuner.size) if self.padded else count)
        try:
            began = self._clock()
            got = run(prepare(rows if full == count else _filled_up(rows, full)))
            self.tuner.learn(count, self._clock() - began)
            return np.asarray(score(got, full), np.float64)[:count]
        except (OutOfMemoryError, MemoryError) as problem:
            if full == 1 or self.fixed_batch:
                raise _too_large(full, problem) from None
        self.tuner.halve(full)
        if count <= full // 2:
            return self._evaluate(rows, run, prepare, score)
        half = count // 2
        parts = ({name: value[part] for name, value in rows.items()} for part in (slice(half), slice(half, None)))
        return np.concatenate([self._evaluate(part, run, prepare, score) for part in parts])


def count_of(rows: Rows) -> int:
    """How many evaluations rows stand for."""
    return next((len(value) for value in rows.values()), 0)


def rows_of(**arrays: Array) -> Source:
    """A source of arrays that are there already."""
    position = 0

    def source(count: int) -> Rows:
        nonlocal position
        start, position = position, position + count
        return {name: value[start:position] for name, value in arrays.items()}

    return source


def _filled_up(rows: Rows, size: int) -> Rows:
    return {
        name: np.concatenate([value, np.repeat(value[-1:], size - len(value), axis=0)]) for name, value in rows.items()
    }


def _too_large(size: int, problem: Exception) -> OutOfMemoryError:
    what = "one evaluation doesn't" if size == 1 else f"the model's batch of {size} doesn't"
    reason = getattr(problem, "message", "") or type(problem).__name__
    return OutOfMemoryError("limit.memory", f"{what} fit into memory: {reason}", "give a smaller input, or free memory")
