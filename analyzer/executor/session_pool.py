"""The streams of one model: how many threads they get, which sessions they run, how many of those are kept.

Belongs here: opening sessions for many evaluations, plain ones and ones behind a prelude. Not here: batches
(``stream``), what is put before the model (``composing``).
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
from analyzer.executor.masked_model import CannotComposeError, Composed, Wiring, compose
from analyzer.executor.session import Session
from analyzer.executor.stream import Stream

Array = NDArray[Any]
#: Runs at once at most: each needs memory for its own activations.
_MOST_WORKERS = 8
#: Sessions kept at most, and the bytes of weights that they may hold together; a larger model's are held once only.
_KEPT, _MOST_BYTES = 4, 192 * 2**20


class Runnable(Protocol):
    """What of a model its streams need; see :class:`analyzer.model.Model`."""

    proto: onnx.ModelProto
    device: str
    threads: int
    size: int
    path: Path | None

    @property
    def fixed_batch(self) -> int | None: ...

    def source(self) -> tuple[Path | bytes, Path | None]: ...

    def session(self, expose: tuple[str, ...] = ()) -> Session: ...

    def close_sessions(self) -> None: ...


class Streams:
    """Streams of a model, each opened when it is first asked for; the ones used last are kept with what they learned.

    Many runs at once with one thread each cost less processor time than one run with many threads, which wait for each
    other; a model with more threads than runs lets each run have several.
    """

    def __init__(self, model: Runnable) -> None:
        self._model = model
        #: Incremental inference that was prepared, by what it was prepared for.
        self.incremental: dict[Any, Any] = {}
        self._kept: OrderedDict[Any, tuple[Stream, Composed | None] | None] = OrderedDict()
        total = model.threads or usable_cores()
        on_host = model.device == "cpu"
        self.workers = min(total, _MOST_WORKERS) if on_host else 2  # on a device the second prepares while one runs
        self.threads = max(1, total // self.workers) if on_host else 1

    def plain(self, wanted: Sequence[str], most: int) -> Stream:
        """A stream of whole inputs.

        Parameters
        ----------
        wanted
            Outputs, inner values or inputs of the graph.
        most
            The largest batch to try.

        Raises
        ------
        InputError
            ``runtime.load_failed``.
        """
        opened = self._opened(("plain", tuple(wanted)), lambda: (self._plain(wanted, most), None))
        assert opened is not None
        return opened[0]

    def composed(self, wiring: Wiring, most: int) -> tuple[Stream, Composed] | None:
        """A stream behind a prelude, and what its inputs are called; None where masks must be made on the host.

        A large model's are made there too: a second session would cost more than masks beside such a model's runs.
        """
        if self.single and self._model.device == "cpu":
            return None
        opened = self._opened(wiring, lambda: self._composed(wiring, most))
        return None if opened is None or opened[1] is None else (opened[0], opened[1])

    @property
    def single(self) -> bool:
        """Whether the model is so large that its weights should be held once only."""
        return self._model.size > _MOST_BYTES

    def close(self) -> None:
        """Let go of all sessions, the model's own included; they are opened anew when asked for."""
        self._kept.clear()
        self._model.close_sessions()

    @property
    def evaluations(self) -> int:
        """How many the streams that are kept have run."""
        return sum(opened[0].evaluations for opened in self._kept.values() if opened is not None)

    def _opened(
        self, key: Any, make: Callable[[], tuple[Stream, Composed | None] | None]
    ) -> tuple[Stream, Composed | None] | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        fitting = _MOST_BYTES // max(self._model.size, 1)
        while self._kept and len(self._kept) >= min(fitting, _KEPT):
            self._kept.popitem(last=False)
        if self.single and self._model.device != "cpu":
            self._model.close_sessions()
        self._kept[key] = make()
        return self._kept[key]

    def _stream(self, session: Session | Passing, wanted: Sequence[str], most: int) -> Stream:
        own = (
            self.single and self._model.device == "cpu"
        )  # then one run at a time has all threads of the model's session
        alone = self._model.device == "cpu" and (self._model.threads == 1 if own else self.threads == 1)
        workers = 1 if own else self.workers
        return Stream(session, wanted, workers, alone=alone, fixed=self._model.fixed_batch, most=most)

    def _plain(self, wanted: Sequence[str], most: int) -> Stream:
        graph = self._model.proto.graph
        inputs, outputs = {value.name for value in graph.input}, {value.name for value in graph.output}
        expose = tuple(name for name in wanted if name not in outputs and name not in inputs)
        if self._model.threads == 1 or (self.single and self._model.device == "cpu"):
            return self._stream(Passing(self._model.session(expose), inputs), wanted, most)
        source, folder = self._model.source()
        session = Session(source, self._model.device, expose, folder, self.threads)
        return self._stream(Passing(session, inputs), wanted, most)

    def _composed(self, wiring: Wiring, most: int) -> tuple[Stream, Composed] | None:
        folder = self._model.path.parent if self._model.path is not None else None
        try:
            composed = compose(self._model.proto, wiring)
            session = Session(composed.content, self._model.device, (), folder, self.threads)
        except (CannotComposeError, AnalyzerError):
            return None
        return self._stream(session, wiring.wanted, most), composed


class Passing:
    """A session that also gives out inputs, and overlooks those that its graph has no use for."""

    device = "cpu"  # what is run through it is a full copy every time, so nothing is worth holding on a device

    def __init__(self, session: Session, inputs: set[str]) -> None:
        self._session, self._inputs = session, inputs

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """As :meth:`Session.run <analyzer.executor.session.Session.run>`."""
        names = self._session.outputs if outputs is None else outputs
        made = [name for name in names if name not in self._inputs]
        got = self._session.run({k: v for k, v in feed.items() if k in self._session.inputs}, made) if made else {}
        return {name: got[name] if name in got else np.asarray(feed[name]) for name in names}
