"""A model's sessions for many evaluations: how many threads they get, how many of them stay open.

Belongs here: opening sessions for evaluations, on inputs as they are and behind mask operators. Not here: running batches
(``batched_runs``), building masked models (``masked_model``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError
from analyzer.executor.batch_size import usable_cores
from analyzer.executor.batched_runs import BatchedRuns
from analyzer.executor.devices import memory_of
from analyzer.executor.masked_model import CannotMaskError, MaskedModel, MaskedModelSpec, build_masked_model
from analyzer.executor.session import Session
from analyzer.importer.checked_files import CheckedFiles

Array = NDArray[Any]
_Entry = tuple[BatchedRuns, MaskedModel | None] | None
#: Most runs at once: each needs memory for its own activations.
_MOST_WORKERS = 8
#: Most open sessions, and the bytes of weights that they may hold together on the CPU (on a device a quarter of its memory);
#: a larger model's weights are held once only.
_MOST_SESSIONS, _MOST_BYTES = 4, 192 * 2**20


class PooledModel(Protocol):
    """What the pool needs of a model."""

    proto: onnx.ModelProto
    device: str
    threads: int
    size: int

    @property
    def files(self) -> CheckedFiles: ...

    @property
    def fixed_batch(self) -> int | None: ...

    def source(self) -> tuple[Path | bytes, CheckedFiles]: ...

    def session(self, expose: tuple[str, ...] = ()) -> Session: ...

    def open_session(
        self,
        source: Path | bytes,
        files: CheckedFiles | None = None,
        *,
        expose: Sequence[str] = (),
        threads: int | None = None,
    ) -> Session: ...

    def close_sessions(self) -> None: ...


class SessionPool:
    """Batched runs of a model, each made when it is first asked for; those used last stay open with their tuned batch sizes.

    Many runs at once with one thread each cost less processor time than one run with many threads, which wait for each
    other; a model with more threads than runs lets each run have several.
    """

    def __init__(self, model: PooledModel) -> None:
        self._model = model
        #: Incremental inference that was prepared, by what it was prepared for.
        self.incremental: dict[Any, Any] = {}
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        total = model.threads or usable_cores()
        on_host = self._on_host = model.device == "cpu"
        self._most_bytes = _MOST_BYTES if on_host else max(memory_of(model.device) // 4, _MOST_BYTES)
        self.workers = min(total, _MOST_WORKERS) if on_host else 2  # on a device the second prepares while one runs
        self.threads = max(1, total // self.workers) if on_host else 1

    def unmasked(self, outputs: Sequence[str], largest_batch: int, *, whole: bool = False) -> BatchedRuns:
        """Runs on inputs that are given in full.

        Parameters
        ----------
        outputs
            Outputs, inner values or inputs of the graph.
        largest_batch
            The largest batch to try.
        whole
            Whether an evaluation is a whole input with all of its rows, so that a fixed batch isn't filled up.

        Raises
        ------
        InputError
            ``runtime.load_failed``.
        """
        key = "unmasked", tuple(outputs), largest_batch == 1, whole
        entry = self._entry(key, lambda: (self._open_unmasked(outputs, largest_batch, whole), None))
        assert entry is not None
        return entry[0]

    def masked(self, spec: MaskedModelSpec, largest_batch: int) -> tuple[BatchedRuns, MaskedModel] | None:
        """Runs behind mask operators, and the names of their inputs; None where masks must be made on the host.

        A large model's are made there too: a second session would cost more than masks do beside such a model's runs.
        """
        if self.is_large and self._on_host:
            return None
        entry = self._entry((spec, largest_batch == 1), lambda: self._open_masked(spec, largest_batch))
        return None if entry is None or entry[1] is None else (entry[0], entry[1])

    @property
    def is_large(self) -> bool:
        """Whether the model is so large that its weights should be held once only."""
        return self._model.size > self._most_bytes

    def close(self) -> None:
        """Close all sessions, the model's own included; they are opened anew when they are needed."""
        self._entries.clear()
        self._model.close_sessions()

    @property
    def evaluations(self) -> int:
        """How many the open sessions have run."""
        return sum(entry[0].evaluations for entry in self._entries.values() if entry is not None)

    def _entry(self, key: Any, make: Callable[[], _Entry]) -> _Entry:
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        fitting = self._most_bytes // max(self._model.size, 1)
        while self._entries and len(self._entries) >= min(fitting, _MOST_SESSIONS):
            self._entries.popitem(last=False)
        if self.is_large and not self._on_host:
            self._model.close_sessions()
        self._entries[key] = make()
        return self._entries[key]

    def _runs(
        self, session: Session | PassThroughSession, outputs: Sequence[str], largest_batch: int, whole: bool = False
    ) -> BatchedRuns:
        # A large model on the host shares the model's own session: one run at a time, which has all of its threads.
        shared = self.is_large and self._on_host
        single = self._on_host and (self._model.threads == 1 if shared else self.threads == 1)
        return BatchedRuns(
            session,
            outputs,
            1 if shared else self.workers,
            single_threaded=single,
            fixed_batch=None if whole else self._model.fixed_batch,
            largest_batch=largest_batch,
            padded=not self._on_host,
        )

    def _open_unmasked(self, outputs: Sequence[str], largest_batch: int, whole: bool) -> BatchedRuns:
        graph = self._model.proto.graph
        graph_inputs, graph_outputs = {v.name for v in graph.input}, {v.name for v in graph.output}
        expose = tuple(name for name in outputs if name not in graph_outputs and name not in graph_inputs)
        if self._model.threads == 1 or (self.is_large and self._on_host):
            session = self._model.session(expose)
        else:
            session = self._model.open_session(*self._model.source(), expose=expose, threads=self.threads)
        return self._runs(PassThroughSession(session, graph_inputs), outputs, largest_batch, whole)

    def _open_masked(self, spec: MaskedModelSpec, largest_batch: int) -> _Entry:
        files = self._model.files
        files.require_unchanged()
        try:
            masked = build_masked_model(self._model.proto, spec)
            session = self._model.open_session(masked.content, files, threads=self.threads)
        except (CannotMaskError, AnalyzerError):
            return None
        return self._runs(session, spec.outputs, largest_batch), masked


class PassThroughSession:
    """A session that also gives out inputs, and ignores those that its graph has no use for."""

    device = "cpu"  # every feed is full copies, so nothing is worth holding on a device

    def __init__(self, session: Session, inputs: set[str]) -> None:
        self._session, self._inputs = session, inputs

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """As :meth:`Session.run <analyzer.executor.session.Session.run>`."""
        names = self._session.outputs if outputs is None else outputs
        computed = [name for name in names if name not in self._inputs]
        used = {name: value for name, value in feed.items() if name in self._session.inputs}
        got = self._session.run(used, computed) if computed else {}
        return {name: got[name] if name in got else np.asarray(feed[name]) for name in names}
