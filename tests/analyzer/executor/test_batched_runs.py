"""Batched runs: order, bounds, halving, filling up, errors; the search for a batch size."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError, InputError
from analyzer.executor import batch_size
from analyzer.executor.batch_size import BatchSizeTuner
from analyzer.executor.batched_runs import BatchedRuns, Rows, rows_of
from analyzer.executor.runtime_errors import OutOfMemoryError, run_error

Array = NDArray[Any]


class Fake:
    """A session that squares; batches above a size don't fit into memory, one value is refused."""

    device = "cpu"

    def __init__(self, fits: int = 10**9, slow: bool = False, refused: float | None = None) -> None:
        self.fits, self.slow, self.refused = fits, slow, refused
        self.sizes: list[int] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        x = feed["x"]
        with self._lock:
            self.sizes.append(len(x))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.slow:  # later batches end before earlier ones
                time.sleep(0.002 * float(np.random.default_rng(int(x[0])).random()))
            if len(x) > self.fits:
                raise run_error(
                    RuntimeError(f"bfc_arena.cc:376 Failed to allocate memory for requested buffer of {len(x)}")
                )
            if self.refused is not None and self.refused in x:
                raise InputError("runtime.op_failed", "refused", "try another input")
            return {"y": x.astype(np.float64) ** 2}
        finally:
            with self._lock:
                self.at_once -= 1


def y_of(got: Mapping[str, Array], count: int) -> Array:
    """The fetched value itself."""
    assert len(got["y"]) == count
    return got["y"]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("fixed", [None, 1, 7])
def test_scores_come_in_order_with_their_rows(workers: int, fixed: int | None) -> None:
    session, x = Fake(slow=True), np.arange(300.0)
    runs = BatchedRuns(session, ["y"], workers, fixed_batch=fixed, largest_batch=16)
    pairs = list(runs.scores(rows_of(x=x), y_of))
    np.testing.assert_array_equal(np.concatenate([rows["x"] for rows, _ in pairs]), x)
    np.testing.assert_array_equal(np.concatenate([scores for _, scores in pairs]), x**2)
    assert runs.evaluations == 300
    assert session.most_at_once <= workers
    assert set(session.sizes) == {fixed} if fixed else max(session.sizes) <= 16


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_more_rows_are_drawn_than_can_soon_be_run(workers: int) -> None:
    drawn = 0

    def source(count: int) -> Rows:
        nonlocal drawn
        take = min(count, 500 - drawn)
        drawn += take
        return {"x": np.zeros(take)}

    done = 0
    for rows, _ in BatchedRuns(Fake(), ["y"], workers, largest_batch=4).scores(source, y_of):
        done += len(rows["x"])
        assert drawn - done <= 4 * (workers + 1)
    assert done == drawn == 500


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fits", [1, 3, 8])
def test_batches_are_halved_where_memory_runs_out(workers: int, fits: int) -> None:
    session, x = Fake(fits), np.arange(200.0)
    runs = BatchedRuns(session, ["y"], workers, largest_batch=64)
    runs.tuner._trying, runs.tuner._best = None, 64
    got = np.concatenate([scores for _, scores in runs.scores(rows_of(x=x), y_of)])
    np.testing.assert_array_equal(got, x**2)
    assert runs.tuner.size <= fits
    tail = session.sizes[-5:]
    assert max(tail) <= fits
    again = len(session.sizes)
    list(runs.scores(rows_of(x=x), y_of))
    assert max(session.sizes[again:]) <= fits  # what didn't fit isn't tried again


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("count", "total", "size"), [(300, None, 16), (5, None, 16), (49, 49, 13), (3, 3, 3), (32, 32, 16)]
)
def test_padded_batches_have_one_size(workers: int, count: int, total: int | None, size: int) -> None:
    """A power of two, or what leaves least over where the number of evaluations is known."""
    session, x = Fake(), np.arange(float(count))
    runs = BatchedRuns(session, ["y"], workers, largest_batch=20, padded=True)
    pairs = list(runs.scores(rows_of(x=x), y_of, total=total))
    np.testing.assert_array_equal(np.concatenate([rows["x"] for rows, _ in pairs]), x)
    np.testing.assert_array_equal(np.concatenate([scores for _, scores in pairs]), x**2)
    assert set(session.sizes) == {size}
    assert runs.evaluations == count
    list(runs.scores(rows_of(x=np.arange(90.0)), y_of, total=90))
    assert set(session.sizes) == {size}  # no other size later, whatever it is asked for


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fits", [1, 3, 8])
@pytest.mark.parametrize("count", [2, 200])
def test_padded_batches_are_halved_where_memory_runs_out(workers: int, fits: int, count: int) -> None:
    session, x = Fake(fits), np.arange(float(count))
    runs = BatchedRuns(session, ["y"], workers, largest_batch=64, padded=True)
    got = np.concatenate([scores for _, scores in runs.scores(rows_of(x=x), y_of)])
    np.testing.assert_array_equal(got, x**2)
    assert runs.tuner.size <= fits
    with pytest.raises(OutOfMemoryError, match="one evaluation"):
        list(BatchedRuns(Fake(fits=0), ["y"], workers, padded=True).scores(rows_of(x=x), y_of))


def test_a_model_of_a_fixed_batch_keeps_it_on_a_device() -> None:
    session = Fake()
    list(BatchedRuns(session, ["y"], fixed_batch=7, padded=True).scores(rows_of(x=np.arange(20.0)), y_of, total=20))
    assert set(session.sizes) == {7}


@pytest.mark.parametrize("fixed", [None, 6])
def test_what_never_fits_is_one_clear_error(fixed: int | None) -> None:
    runs = BatchedRuns(Fake(fits=0), ["y"], 2, fixed_batch=fixed)
    with pytest.raises(OutOfMemoryError) as caught:
        list(runs.scores(rows_of(x=np.arange(20.0)), y_of))
    assert caught.value.code == "limit.memory"
    assert ("one evaluation" if fixed is None else "batch of 6") in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer",
        "std::bad_alloc",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_how_runtimes_say_that_memory_ran_out(said: str) -> None:
    assert isinstance(run_error(RuntimeError(said)), OutOfMemoryError)
    assert isinstance(run_error(MemoryError()), OutOfMemoryError)
    assert not isinstance(run_error(RuntimeError("Non-zero status code while running Conv")), OutOfMemoryError)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_first_error_ends_the_runs(workers: int) -> None:
    session, drawn = Fake(refused=30.0), 0

    def source(count: int) -> Rows:
        nonlocal drawn
        drawn += count
        return {"x": np.arange(drawn - count, drawn, dtype=float)}  # without an end

    scores: list[float] = []
    with pytest.raises(AnalyzerError) as caught:
        for _, some in BatchedRuns(session, ["y"], workers, largest_batch=4).scores(source, y_of):
            scores += list(some)
    assert caught.value.code == "runtime.op_failed"
    assert scores == [float(i) ** 2 for i in range(len(scores))]
    assert len(scores) <= 30
    ran = len(session.sizes)
    time.sleep(0.05)
    assert len(session.sizes) == ran
    assert threading.active_count() < 20


def test_runs_left_half_way_stops() -> None:
    session = Fake(slow=True)
    runs = BatchedRuns(session, ["y"], 3).scores(rows_of(x=np.arange(1000.0)), y_of)
    next(runs)
    runs.close()
    ran = len(session.sizes)
    time.sleep(0.05)
    assert len(session.sizes) == ran < 100


def test_a_fault_in_what_makes_scores_surfaces() -> None:
    def wrong(got: Mapping[str, Array], count: int) -> Array:
        raise InputError("target.no_batch", "no batch")

    with pytest.raises(InputError, match="no batch"):
        list(BatchedRuns(Fake(), ["y"], 2).scores(rows_of(x=np.arange(9.0)), wrong))


# --- the batch size -------------------------------------------------------------------------------------------------


def searched(
    cost: Any, most: int = 256, growth: int = 0, monkeypatch: pytest.MonkeyPatch | None = None
) -> BatchSizeTuner:
    """A tuner that has learned what batches cost until it settled."""
    held = 0
    if monkeypatch is not None:
        monkeypatch.setattr(batch_size, "resident_bytes", lambda: held)
    tuner = BatchSizeTuner(None, most)
    for _ in range(100):
        size = tuner.size
        held = max(held, growth * size)
        tuner.learn(size, cost(size))
    assert tuner.settled
    return tuner


def test_the_cheapest_size_is_found() -> None:
    assert searched(lambda n: 1.0 + 0.001 * n).size == 256
    assert searched(lambda n: 1.0 * n).size == 1
    assert searched(lambda n: 1.0 * n * (1 + 0.2 * abs(np.log2(n) - 3))).size == 8
    assert searched(lambda n: 1.0 + 0.001 * n, most=20).size == 16


def test_a_gain_that_is_noise_is_not_worth_the_memory() -> None:
    assert searched(lambda n: n * (1 - 0.001 * n)).size == 1


def test_the_search_ends_before_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert searched(lambda n: 1.0 + 0.001 * n, growth=50 * 2**20, monkeypatch=monkeypatch).size == 4


def test_nothing_is_searched_for_a_fixed_batch() -> None:
    tuner = BatchSizeTuner(5)
    tuner.learn(5, 1.0)
    assert tuner.size == 5
    assert tuner.settled


def test_halving_ends_the_search() -> None:
    tuner = BatchSizeTuner(None, 64)
    tuner.learn(1, 1.0)
    tuner.learn(1, 1.0)
    assert tuner.size == 2
    tuner.halve(2)
    assert tuner.size == 1
    assert tuner.settled
