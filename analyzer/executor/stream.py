"""A stream of evaluations through one session: batches of a tuned size, a few runs at once, results in order.

Belongs here: cutting into batches, running them, filling up fixed batches, halving where memory runs out. Not here:
which size is best (``tuning``), what the evaluations are (``streams``, ``methods``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.batch_size import Tuner
from analyzer.executor.binding import Bound
from analyzer.executor.session import OutOfMemoryError

Array = NDArray[Any]
#: Name -> array with one entry per evaluation on its first axis.
Rows = Mapping[str, Array]
#: Gives up to so many next evaluations; fewer only before the end, none at the end.
Source = Callable[[int], Rows]
#: (fetched values, evaluations) -> their scores.
Scoring = Callable[[Mapping[str, Array], int], Array]


class Runs(Protocol):
    """What of a session a stream needs."""

    @property
    def device(self) -> str: ...

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]: ...


class Stream:
    """Evaluations through one session.

    Parameters
    ----------
    session
        Runs a feed; may be called from several threads.
    wanted
        Names of the values to fetch.
    workers
        How many runs go on at once.
    alone
        Whether a run keeps to the thread that calls it: then its processor time is measured, which other work on the
        machine doesn't change; else the time on the clock.
    fixed, most
        The model's fixed batch or None, and the largest batch to try.

    Attributes
    ----------
    evaluations
        How many were run, without what fills up fixed batches.
    """

    def __init__(
        self,
        session: Runs,
        wanted: Sequence[str],
        workers: int = 1,
        *,
        alone: bool = True,
        fixed: int | None = None,
        most: int = 64,
    ) -> None:
        self.session = session
        self.wanted = tuple(wanted)
        self.workers = max(1, workers)
        self.fixed = fixed
        self.tuner = Tuner(fixed, most)
        self.evaluations = 0
        self._clock = time.thread_time if alone else time.perf_counter

    def scores(
        self,
        source: Source,
        score: Scoring,
        always: Rows | None = None,
        prepare: Callable[[Rows], Rows] = dict,
    ) -> Iterator[tuple[Rows, Array]]:
        """Run everything that a source gives.

        Parameters
        ----------
        source
            Asked for as many evaluations as one batch holds, in the caller's thread.
        score
            Makes scores (n,) of what a run of n evaluations fetched.
        always
            Inputs that are the same for all evaluations; on a device they are put there once.
        prepare
            Makes a feed of rows, in the thread that runs it: full copies live as long as their batch.

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
        run = self._runner(always or {})

        def evaluate(rows: Rows) -> Array:
            return self._evaluate(rows, run, prepare, score)

        if self.workers == 1:
            while count_of(rows := source(self.tuner.size)):
                scores = evaluate(rows)
                self.evaluations += len(scores)
                yield rows, scores
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="evaluations")
        pending: deque[tuple[Rows, Future[Array]]] = deque()
        ended = False
        try:
            while True:
                while not ended and len(pending) <= self.workers:
                    rows = source(self.tuner.size)
                    ended = not count_of(rows)
                    if not ended:
                        pending.append((rows, pool.submit(evaluate, rows)))
                if not pending:
                    return
                rows, future = pending.popleft()
                scores = future.result()
                self.evaluations += len(scores)
                yield rows, scores
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _runner(self, always: Rows) -> Callable[[Rows], Mapping[str, Array]]:
        if self.session.device != "cpu":
            return Bound(self.session, always, self.wanted).run
        return lambda feed: self.session.run({**feed, **always}, self.wanted)

    def _evaluate(
        self,
        rows: Rows,
        run: Callable[[Rows], Mapping[str, Array]],
        prepare: Callable[[Rows], Rows],
        score: Scoring,
    ) -> Array:
        count = count_of(rows)
        full = self.fixed or count
        try:
            began = self._clock()
            got = run(prepare(rows if full == count else _filled(rows, full)))
            self.tuner.learn(count, self._clock() - began)
            return np.asarray(score(got, full), np.float64)[:count]
        except (OutOfMemoryError, MemoryError) as problem:
            if count == 1 or self.fixed:
                raise _too_large(full, problem) from None
        self.tuner.halve(count)
        half = count // 2
        parts = ({name: value[part] for name, value in rows.items()} for part in (slice(half), slice(half, None)))
        return np.concatenate([self._evaluate(part, run, prepare, score) for part in parts])


def count_of(rows: Rows) -> int:
    """How many evaluations rows stand for."""
    return next((len(value) for value in rows.values()), 0)


def rows_of(**arrays: Array) -> Source:
    """A source of arrays that are there already."""
    taken = 0

    def source(count: int) -> Rows:
        nonlocal taken
        start, taken = taken, taken + count
        return {name: value[start:taken] for name, value in arrays.items()}

    return source


def _filled(rows: Rows, size: int) -> Rows:
    return {
        name: np.concatenate([value, np.repeat(value[-1:], size - len(value), axis=0)]) for name, value in rows.items()
    }


def _too_large(size: int, problem: Exception) -> OutOfMemoryError:
    what = "one evaluation doesn't" if size == 1 else f"the model's batch of {size} doesn't"
    said = getattr(problem, "message", "") or type(problem).__name__
    return OutOfMemoryError("limit.memory", f"{what} fit into memory: {said}", "give a smaller input, or free memory")
