"""What an ONNX model is, and how it is run.

Belongs here: running the file through onnxruntime, and what running it tells. Not here: what it declares (``model_facts``), how
it is read (``importer.loading``), and whatever needs to know what an explanation is: this is what engines, targets and
perturbation methods take; :class:`analyzer.model.Model` is what a user holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import InputError
from analyzer.executor import devices
from analyzer.executor.io_binding import HeldInputs
from analyzer.executor.row_coupling import NO_COUPLING, Coupling, found_coupling
from analyzer.executor.session import Session
from analyzer.executor.session_pool import SessionPool
from analyzer.importer.checked_files import CheckedFiles
from analyzer.importer.loading import LoadedModel, tensor_to_numpy
from analyzer.importer.parity import tolerance_of
from analyzer.model_facts import Array, Feed, ModelFacts, probabilities_of
from analyzer.tensor_spec import fitted

if TYPE_CHECKING:
    from analyzer.importer.graph import Graph
    from analyzer.inputs import Labels, Preprocess
    from analyzer.inputs.decode import Decode

__all__ = ["Array", "Feed", "OnnxModel"]


class OnnxModel(ModelFacts):
    """An ONNX model: what its file declares, and its sessions.

    Attributes
    ----------
    path, sha256, size
        The file and its digest; size in bytes, external data included.
    device
        ``cpu`` or ``cuda:N``.
    held
        Arrays that lie on the device for the length of a call.
    tf32
        Whether products on CUDA are in TF32; never on the CPU.
    labels, decode
        What classes are called, and what a detector's outputs mean, where known.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        device: str = "auto",
        preprocess: Preprocess | None = None,
        labels: Labels | None = None,
        threads: int = 0,
        decode: Decode | None = None,
        layout: str | Mapping[str, str] | None = None,
        tf32: bool = False,
    ) -> None:
        super().__init__(loaded, preprocess, layout)
        self.path: Path | None = loaded.path
        self.sha256: str = loaded.sha256
        self.size: int = loaded.size
        self.device: str = devices.resolve(device)
        self.threads = threads
        self.tf32: bool = tf32 and self.device != "cpu"
        self.labels = labels
        self.decode = decode
        self.held = HeldInputs(self.device)
        #: Models that are this one and something behind it, by what that is; whoever makes them keeps them here.
        self.extensions: dict[Any, Any] = {}
        #: Outputs that were written behind the model that the file holds.
        self.behind: tuple[str, ...] = ()
        self._sessions: dict[tuple[str, ...], Session] = {}
        self._couplings: dict[Any, Coupling] = {}

    @property
    def compared(self) -> list[str]:
        """The outputs by which engines are held against onnxruntime.

        A model with nodes behind it is held by the outputs before them: a difference that those nodes take may be all
        rounding, as at a reference itself.
        """
        return [name for name in self.outputs if name not in self.behind]

    @functools.cached_property
    def tolerance(self) -> float:
        """The largest relative error by which another engine's outputs count as equal to the model's own."""
        return tolerance_of(self.graph, self.tf32)

    @functools.cached_property
    def graph(self) -> Graph:
        """The model's graph as the importer's interpreter walks it."""
        from analyzer.importer.graph import build

        return build(self.proto, lambda tensor: tensor_to_numpy(tensor, self.loaded))

    def __repr__(self) -> str:
        name = self.path.name if self.path else self.sha256[:12]
        return f"<{type(self).__name__} {name}: {', '.join(f'{k} {v}' for k, v in self.inputs.items())}>"

    def values(self, feed: Feed, names: Sequence[str]) -> dict[str, Array]:
        """Outputs or inner values by name, through onnxruntime."""
        sources = {name: probabilities_of(self.proto.graph, name) for name in names}
        graph_outputs = {o.name for o in self.proto.graph.output}
        expose = tuple(dict.fromkeys(s for s in sources.values() if s not in graph_outputs and s not in feed))
        session = self.session(expose)
        wanted = list(dict.fromkeys(s for s in sources.values() if s not in feed))
        got = session.run({k: v for k, v in feed.items() if k in session.inputs}, wanted)
        return {name: got[source] if source in got else np.asarray(feed[source]) for name, source in sources.items()}

    def session(self, expose: tuple[str, ...] = ()) -> Session:
        """The onnxruntime session that also gives out the named inner values; made once."""
        if expose not in self._sessions:
            wider = next((s for k, s in self._sessions.items() if set(expose) <= set(k)), None)
            if wider is not None:
                return wider
            self._sessions[expose] = self.open_session(*self.source(), expose=expose)
        return self._sessions[expose]

    def open_session(
        self,
        source: Path | bytes,
        files: CheckedFiles | None = None,
        *,
        expose: Sequence[str] = (),
        threads: int | None = None,
    ) -> Session:
        """A new session on the model's device, in its precision, for this model or one made of it."""
        threads = self.threads if threads is None else threads
        return Session(source, self.device, expose, files, threads, tf32=self.tf32, held=self.held)

    def coupling(self, feed: Feed, batch: int) -> Coupling:
        """How rows that run together depend on each other: by the operators, else found out once for an input's shapes."""
        if self.couples_rows is not None:
            return Coupling("some", self.couples_rows)
        if self.random_operator is not None:
            return NO_COUPLING  # nothing can be told from two runs
        key = batch, tuple((name, np.shape(value)) for name, value in feed.items())
        if key not in self._couplings:
            axes = self.batch_axes(feed, batch)
            self._couplings[key] = found_coupling(self._rows, feed, axes, fixed=self.fixed_batch is not None)
        return self._couplings[key]

    def _rows(self, feed: Feed) -> dict[str, Array]:
        """The outputs that have rows, these on the first axis."""
        found = {}
        for name, value in self.values(feed, self.compared).items():
            shape = self.outputs[name].shape
            named = isinstance(self.batch_dimension, str) and self.batch_dimension in shape
            axis = shape.index(self.batch_dimension) if named else 0
            if isinstance(value, np.ndarray) and value.ndim > axis:
                found[name] = np.moveaxis(value, axis, 0)
        return found

    def stackable(self, names: Iterable[str], feed: Feed, batch: int) -> bool:
        """Whether variations of the batch can be run as one larger batch, stacked along the named inputs' first axes."""
        axes = self.batch_axes(feed, batch)
        return all(axes[name] == 0 for name in names) and self.coupling(feed, batch).kind == "none"

    @functools.cached_property
    def session_pool(self) -> SessionPool:
        """Streams of many evaluations, as perturbation methods need them."""
        return SessionPool(self)

    def close_sessions(self) -> None:
        """Let go of the sessions that :meth:`session` made; it makes new ones when asked again."""
        self._sessions.clear()

    @property
    def files(self) -> CheckedFiles:
        """The files that its sessions are read from, as they were when they were checked."""
        return self.loaded.files

    def source(self) -> tuple[Path | bytes, CheckedFiles]:
        """What onnxruntime reads: the file, or what was loaded where that differs from it; the files as they were checked."""
        if self.path is None or self.loaded.repaired:
            return self.proto.SerializeToString(), self.files
        return self.path, self.files

    def feed(self, x: Array | Feed) -> dict[str, Array]:
        """An input as name -> array, checked against the model's inputs.

        Raises
        ------
        InputError
            ``model.no_inputs``; ``data.bad_shape``, ``data.bad_type``, ``data.nonfinite``, ``data.missing_input``,
            ``data.unknown_input``.
        """
        if not isinstance(x, Mapping):
            self.require_inputs()
        given = dict(x) if isinstance(x, Mapping) else {next(iter(self.inputs)): x}
        overridable = {value.name for value in self.proto.graph.input}
        for name in given:
            if name not in overridable:
                known = ", ".join(self.inputs)
                raise InputError("data.unknown_input", f"the model has no input {name!r}", f"its inputs: {known}")
        for name in self.inputs:
            if name not in given:
                raise InputError("data.missing_input", f"input {name!r} is missing", f"it takes {self.inputs[name]}")
        feed = {name: fitted(name, np.asarray(value), self.inputs.get(name)) for name, value in given.items()}
        loose = next((name for name, spec in self.inputs.items() if not spec.ranked), None)
        if loose is not None and not any(value.ndim for value in feed.values()):  # which ends some native operators
            raise InputError("data.bad_shape", f"input {loose!r} is one number", "give an array, batch axis first")
        return feed

    def in_parts(self, feed: dict[str, Array], run: Callable[[dict[str, Array]], dict[str, Array]]) -> dict[str, Array]:
        """Outputs of an input that is cut to the model's fixed batch where it must be."""
        size = self.part_size(feed)
        if size is None:
            return run(feed)
        count = len(next(iter(feed.values())))
        parts = [run({k: v[i : i + size] for k, v in feed.items()}) for i in range(0, count, size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def variations_at_once(self, feed: Feed) -> int:
        """How many variations of a batch are best swept at once."""
        if self.fixed_batch is not None:
            return 1
        on_device = self.device != "cpu"
        most_bytes, most = (devices.batch_bytes(self.device), 64) if on_device else (2**22, 16)
        return int(np.clip(most_bytes // max(sum(value.nbytes for value in feed.values()), 1), 1, most))

    def part_size(self, feed: Feed) -> int | None:
        """The fixed batch size that an input must be cut to, None where it fits as it is."""
        size = self.fixed_batch
        if size is None:
            return None
        counts = {len(v) if np.ndim(v) else 0 for v in feed.values()}
        count = next(iter(counts))
        if len(counts) != 1 or count == size:
            return None
        if count % size or not count:
            raise InputError(
                "data.bad_shape",
                f"the model's batch is fixed at {size}, the input has {count} samples",
                f"give a multiple of {size} samples",
            )
        return size

    def clear(self) -> None:
        """Let go of sessions and of the graph; they are made anew when asked for."""
        if "session_pool" in self.__dict__:
            self.session_pool.close()
        self.close_sessions()
        for extension in self.extensions.values():
            extension.model.clear()
        self.extensions.clear()
        self._couplings.clear()
        for name in ("session_pool", "graph"):
            self.__dict__.pop(name, None)
