"""A function over many items in several threads: order, how far ahead items are taken, errors, stopping early."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from analyzer.executor.parallel import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def later_ones_are_quicker(item: int) -> int:
        time.sleep(0.002 * (5 - item % 5))
        return item**2

    assert list(ordered_map(later_ones_are_quicker, range(40), workers)) == [item**2 for item in range(40)]


def test_no_items_no_results() -> None:
    assert list(ordered_map(str, [], 3)) == []


@pytest.mark.parametrize(("workers", "ahead", "most"), [(1, None, 1), (3, None, 4), (2, 5, 5)])
def test_items_are_taken_as_late_as_allowed(workers: int, ahead: int | None, most: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    given = 0
    for _ in ordered_map(str, items(), workers, ahead):
        given += 1
        assert taken - given < most
    assert given == taken == 50


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_started_after_an_error(workers: int) -> None:
    started: list[int] = []

    def refuse_the_tenth(item: int) -> int:
        started.append(item)
        if item == 10:
            raise ValueError("the tenth")
        return item

    with pytest.raises(ValueError, match="the tenth"):
        list(ordered_map(refuse_the_tenth, range(1000), workers))
    assert max(started) <= 10 + workers


def test_a_caller_that_stops_listening_ends_the_threads() -> None:
    before = threading.active_count()
    results = ordered_map(str, range(1000), 3)
    next(results)
    results.close()
    assert threading.active_count() == before
