"""Runs on an accelerator: what stays the same is put there once, only small rows and wanted outputs cross.

Belongs here: onnxruntime's IO binding. Not here: batches (``batched_runs``), sessions (``session``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.session import run_error

Array = NDArray[Any]


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
        import onnxruntime

        kind, _, index = str(session.device).partition(":")
        self._session, self._outputs = session.runtime, tuple(outputs)
        self._held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), kind, int(index or 0))
            for name, value in constant.items()
        }

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The wanted outputs for the other inputs.

        Raises
        ------
        AnalyzerError
            As :meth:`Session.run <analyzer.executor.session.Session.run>`.
        """
        try:
            binding = self._session.io_binding()
            for name, value in self._held.items():
                binding.bind_ortvalue_input(name, value)
            for name, array in feed.items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            for name in self._outputs:
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            return dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))
        except Exception as problem:
            raise run_error(problem) from None
