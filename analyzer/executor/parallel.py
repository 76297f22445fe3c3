"""A function over many items in several threads: results in the order of the items, few items under way.

Belongs here: the thread pool. Not here: what runs in it (``batched_runs``, ``incremental.runner``), how many threads are
worth having (``session_pool``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """The results for all items, in their order.

    Parameters
    ----------
    items
        Taken one after the other in the caller's thread, as late as ``ahead`` allows.
    workers
        Threads; with one, everything runs in the caller's thread and nothing is taken ahead.
    ahead
        How many items may have been taken whose results haven't been given out; one more than ``workers`` by default.

    Notes
    -----
    After the first error, or when the caller stops listening, no further item is started.
    """
    if workers == 1:
        yield from map(function, items)
        return
    ahead = workers + 1 if ahead is None else ahead
    pool, pending = ThreadPoolExecutor(workers, thread_name_prefix="evaluations"), deque[Future[Result]]()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
