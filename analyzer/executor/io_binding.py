"""Runs on an accelerator: what stays the same is put there once, only small rows and wanted outputs cross.

Belongs here: onnxruntime's IO binding. Not here: batches (``batched_runs``), sessions (``session``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def put(value: Array, device: str) -> Any:
    """An array copied to a device, as onnxruntime's value."""
    import onnxruntime

    kind, _, index = device.partition(":")
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), kind, int(index or 0))


def run_bound(
    session: Any, feed: Mapping[str, Array], held: Mapping[str, Any], outputs: Sequence[str]
) -> dict[str, Array]:
    """One run of onnxruntime's session.

    Parameters
    ----------
    feed
        Inputs that are copied to the device for this run.
    held
        Inputs that are there already.
    outputs
        Names of the outputs, which are brought back to the host.
    """
    binding = session.io_binding()
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    for name, array in feed.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for name in outputs:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    return {name: value.numpy() for name, value in zip(outputs, binding.get_outputs(), strict=True)}  # no further copy


def bindable(value: Any) -> bool:
    """Whether a value is an array of numbers that IO binding takes."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


@dataclass
class _Held:
    array: Array
    users: int
    value: Any = None


class HeldInputs:
    """Arrays that are put on a device once for all sessions of a model while they are held; may be used from several threads.

    They are known by identity: nobody may write to an array while it is held.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}

    @contextlib.contextmanager
    def hold(self, feed: Mapping[str, Array]) -> Iterator[None]:
        """Hold a feed's arrays from the first run that reads them to the end of the block; on the CPU nothing is held."""
        arrays = [] if self._device == "cpu" else [value for value in feed.values() if bindable(value)]
        with self._lock:
            for array in arrays:
                self._held.setdefault(id(array), _Held(array, 0)).users += 1
        try:
            yield
        finally:
            with self._lock:
                for array in arrays:
                    self._held[id(array)].users -= 1
                    if not self._held[id(array)].users:
                        del self._held[id(array)]

    def find(self, array: Array) -> Any:
        """The array on the device; None where it isn't held."""
        with self._lock:
            found = self._held.get(id(array))
            if found is not None and found.value is None:
                found.value = put(array, self._device)
            return None if found is None else found.value


class BoundSession:
    """A session with some of its inputs held on its device; may be run from several threads.

    Parameters
    ----------
    session
        A :class:`~analyzer.executor.session.Session`.
    constant
        Inputs to hold.
    outputs
        Names of the outputs, brought back to the host.
    """

    def __init__(self, session: Any, constant: Mapping[str, Array], outputs: Sequence[str]) -> None:
        self._session, self._outputs = session, tuple(outputs)
        self._held = {name: put(value, session.device) for name, value in constant.items()}

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The wanted outputs for the other inputs.

        Raises
        ------
        AnalyzerError
            As :meth:`Session.run <analyzer.executor.session.Session.run>`.
        """
        found: dict[str, Array] = self._session.run(feed, self._outputs, self._held)
        return found
