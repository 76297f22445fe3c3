"""The batch size of many evaluations: on the CPU the cheapest, found on the first batches; on a device one that fits.

Belongs here: which size to try next and when to stop, the size for a device. Not here: running batches (``batched_runs``).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

#: A larger batch must be cheaper by this share, for it takes memory.
_GAIN = 0.03
#: Timed runs of each size; the first one pays for memory that the later ones find.
_TRIALS = 2
#: Sizes in a row that aren't cheaper before the search ends.
_PATIENCE = 2
#: Bytes that the process may grow by while larger batches are tried.
_LARGEST_GROWTH = 256 * 2**20


def device_batch(largest: int, total: int | None = None) -> int:
    """The one batch size of a session on a device, where every new size costs more than many runs do: kernels are chosen and
    memory is laid out for it.

    Parameters
    ----------
    largest
        The largest size that may be chosen.
    total
        How many evaluations there will be, of which as few as possible should be left over; None where that isn't known.
    """
    most = 1 << (max(1, largest).bit_length() - 1)
    return most if not total else -(-total // -(-total // most))


class BatchSizeTuner:
    """Sizes for the batches of one session; may be used from several threads.

    Parameters
    ----------
    fixed
        The only batch size that is used as long as it fits into memory, or None.
    largest
        The largest size to try.
    """

    def __init__(self, fixed: int | None = None, largest: int = 64) -> None:
        self._lock = threading.Lock()
        self._largest = fixed or max(1, largest)
        self._trying: int | None = None if fixed else 1
        self._best = fixed or 1
        self._costs: dict[int, list[float]] = {}
        self._worse = 0
        self._resident_bytes = resident_bytes()

    @property
    def size(self) -> int:
        """How many evaluations to run next."""
        with self._lock:
            return min(self._trying or self._best, self._largest)

    @property
    def settled(self) -> bool:
        """Whether the search has ended."""
        return self._trying is None

    def learn(self, size: int, seconds: float) -> None:
        """Record how long a batch took."""
        with self._lock:
            if size != self._trying:
                return
            costs = self._costs.setdefault(size, [])
            costs.append(seconds / size)
            if len(costs) >= _TRIALS:
                self._step(size)

    def halve(self, size: int) -> None:
        """A batch of this size didn't fit into memory: from now on none is larger than half of it."""
        with self._lock:
            self._largest = min(self._largest, max(1, size // 2))
            self._best = min(self._best, self._largest)
            self._trying = None

    def _step(self, size: int) -> None:
        cost = min(self._costs[size])
        if size == 1 or cost < (1 - _GAIN) * min(self._costs[self._best]):
            self._best, self._worse = size, 0
        else:
            self._worse += 1
        grown = resident_bytes() - self._resident_bytes
        fits = 2 * size <= self._largest and 2 * grown <= _LARGEST_GROWTH
        self._trying = 2 * size if fits and self._worse < _PATIENCE else None


def resident_bytes() -> int:
    """Bytes of memory that the process occupies; 0 where the system doesn't say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def usable_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:
        return os.cpu_count() or 1
