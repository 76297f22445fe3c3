"""What an ONNX model is, and how it is run.

Belongs here: the file, its inputs and outputs, running it through onnxruntime. Not here: how it is read
(``importer.loading``), and whatever needs to know what an explanation is: this is what engines, targets and perturbation
methods take; :class:`analyzer.model.Model` is what a user holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.executor import devices
from analyzer.executor.io_binding import HeldInputs
from analyzer.executor.row_coupling import NO_COUPLING, Coupling, coupling_operator, found_coupling, random_operator
from analyzer.executor.session import Session
from analyzer.executor.session_pool import SessionPool
from analyzer.importer.loading import LoadedModel, tensor_to_numpy
from analyzer.importer.parity import tolerance_of
from analyzer.inputs.columns import ColumnInput, feature_names
from analyzer.inputs.fitted_range import FittedRange, fitted_ranges
from analyzer.inputs.graph_channels import channels_by_graph
from analyzer.inputs.graph_missing import takes_missing
from analyzer.inputs.graph_selection import explained_by_default, selecting_inputs
from analyzer.inputs.layout import Axes, ambiguous, axes_of, named_axes
from analyzer.inputs.shapes import numpy_dtype
from analyzer.tensor_spec import TensorSpec, batch_axis, fitted, spec_of

if TYPE_CHECKING:
    from analyzer.importer.graph import Graph
    from analyzer.inputs import Labels, Preprocess
    from analyzer.inputs.decode import Decode

Array = NDArray[Any]
Feed = Mapping[str, Array]


class OnnxModel:
    """An ONNX model: what is in the file, and its sessions.

    Attributes
    ----------
    path, sha256, size
        The file and its digest; size in bytes, external data included.
    inputs, outputs
        Name -> :class:`~analyzer.tensor_spec.TensorSpec`.
    device
        ``cpu`` or ``cuda:N``.
    held
        Arrays that lie on the device for the length of a call.
    tf32
        Whether products on CUDA are in TF32; never on the CPU.
    preprocess, labels, decode
        How pictures become inputs, what classes are called, and what a detector's outputs mean, where known.
    layouts
        Input name -> what its axes count, where that was given.
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
        self.loaded = loaded
        self.proto: onnx.ModelProto = loaded.proto
        self.path: Path | None = loaded.path
        self.sha256: str = loaded.sha256
        self.size: int = loaded.size
        self.device: str = devices.resolve(device)
        self.threads = threads
        self.tf32: bool = tf32 and self.device != "cpu"
        self.preprocess = preprocess
        self.labels = labels
        self.decode = decode
        self.layouts = named_axes(layout, self.inputs)
        self.held = HeldInputs(self.device)
        #: Models that are this one and something behind it, by what that is; whoever makes them keeps them here.
        self.extensions: dict[Any, Any] = {}
        #: What was found out by running the model, by what was asked.
        self.findings: dict[Any, bool] = {}
        #: Outputs that were written behind the model that the file holds.
        self.behind: tuple[str, ...] = ()
        self._sessions: dict[tuple[str, ...], Session] = {}
        self._couplings: dict[Any, Coupling] = {}

    @functools.cached_property
    def inputs(self) -> dict[str, TensorSpec]:
        """Inputs that must be given, initializers listed as inputs left out."""
        baked = {tensor.name for tensor in self.proto.graph.initializer}
        return {v.name: spec_of(v) for v in self.proto.graph.input if v.name not in baked}

    @functools.cached_property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs; dictionaries of probabilities count as the tensor of probabilities that they are made of."""
        graph, zipped = self.proto.graph, TensorSpec("float32", (None, None))
        return {v.name: spec_of(v) if probabilities_of(graph, v.name) == v.name else zipped for v in graph.output}

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
    def metadata(self) -> dict[str, str]:
        """The file's metadata properties."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @functools.cached_property
    def fixed_batch(self) -> int | None:
        """The batch size where every input has the same fixed first dimension, else None."""
        firsts = {spec.shape[0] for spec in self.inputs.values() if spec.shape}
        only = next(iter(firsts)) if len(firsts) == 1 else None
        return only if isinstance(only, int) and only > 0 else None

    def axes(self, name: str, shape: Sequence[int]) -> Axes:
        """What the axes of an input of some shape count: as given, or else as the preprocessing, graph or sizes say."""
        given = self.layouts.get(name)
        if given is not None and len(given.letters) == len(shape):
            return given
        return axes_of(shape, self.preprocess, self._channels.get(name))

    def guesses_axes(self, name: str, shape: Sequence[int]) -> bool:
        """Whether nothing but sizes that leave it open says where an input's channels are."""
        known = name in self.layouts or name in self._channels or (self.preprocess is not None and len(shape) == 4)
        return not known and ambiguous(shape)

    @functools.cached_property
    def explained_inputs(self) -> tuple[str, ...]:
        """The inputs that are explained where none are named, see :mod:`analyzer.inputs.graph_selection`."""
        return tuple(explained_by_default(self.inputs, selecting_inputs(self.proto.graph)))

    @functools.cached_property
    def _channels(self) -> dict[str, int]:
        return channels_by_graph(self.proto.graph)

    @functools.cached_property
    def takes_missing(self) -> frozenset[str]:
        """The inputs that may hold NaN for a missing value."""
        return takes_missing(self.proto.graph)

    def column_input(self, name: str) -> ColumnInput:
        """An input as one that takes columns of a table."""
        spec = self.inputs[name]
        return ColumnInput(
            name, numpy_dtype(spec.dtype), spec.shape, self._features.get(name), name in self.takes_missing
        )

    @functools.cached_property
    def _features(self) -> dict[str, tuple[str, ...]]:
        """What the metadata calls the inputs' columns."""
        widths = {name: ColumnInput(name, np.dtype(object), spec.shape).width for name, spec in self.inputs.items()}
        return feature_names(self.metadata, widths)

    @functools.cached_property
    def fitted_ranges(self) -> dict[str, FittedRange]:
        """Input name -> what its columns were when the model was fitted, for inputs of which the file says it."""
        return fitted_ranges(self.proto.graph, self.metadata, lambda tensor: tensor_to_numpy(tensor, self.loaded))

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
        folder: Path | None = None,
        *,
        expose: Sequence[str] = (),
        threads: int | None = None,
    ) -> Session:
        """A new session on the model's device, in its precision, for this model or one made of it."""
        threads = self.threads if threads is None else threads
        return Session(source, self.device, expose, folder, threads, tf32=self.tf32, held=self.held)

    @functools.cached_property
    def batch_dimension(self) -> int | str | None:
        """The declared size, or name, of the axis that counts samples: that of an output, else of the first input.

        Inputs have it where they declare the same name: second in a sequence-first network, not at all in what all samples
        share.
        """
        named = {size for spec in self.inputs.values() for size in spec.shape if isinstance(size, str)}
        firsts = [spec.shape[0] for spec in self.outputs.values() if spec.shape]
        found = next((size for size in firsts if isinstance(size, str) and size in named), None)
        return found or next((spec.shape[0] for spec in self.inputs.values() if spec.shape), None)

    def batch_axes(self, feed: Feed, batch: int) -> dict[str, int | None]:
        """Input name -> the axis that counts its ``batch`` samples; None for an input that all samples share."""
        return {
            name: self.layouts[name].batch
            if name in self.layouts
            else batch_axis(
                self.inputs[name].shape if name in self.inputs else (), self.batch_dimension, np.asarray(value), batch
            )
            for name, value in feed.items()
        }

    def batch_of(self, feed: Feed) -> int:
        """How many samples an input holds: the size of the declared batch dimension, else of the first axis."""
        for name, value in feed.items():
            given = self.layouts[name].batch if name in self.layouts else None
            if given is not None and given < value.ndim:
                return int(value.shape[given])
            shape = self.inputs[name].shape if name in self.inputs else ()
            if isinstance(self.batch_dimension, str) and self.batch_dimension in shape and value.ndim == len(shape):
                return int(value.shape[shape.index(self.batch_dimension)])
        return next((len(value) for value in feed.values() if value.ndim), 1)

    @functools.cached_property
    def random_operator(self) -> str | None:
        """The operator that draws random numbers; None where there is none."""
        return random_operator(self.proto)

    @functools.cached_property
    def couples_rows(self) -> str | None:
        """The operator by which a row's outputs depend on the rows beside it; None where there is none."""
        return coupling_operator(self.proto)

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

    def source(self) -> tuple[Path | bytes, Path | None]:
        """What onnxruntime reads: the file, or what was loaded where that differs from it; where external data lies."""
        folder = self.path.parent if self.path else None
        if self.path is None or self.loaded.repaired:
            return self.proto.SerializeToString(), folder
        return self.path, folder

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

    def require_inputs(self) -> None:
        """Refuse a model without inputs that must be given.

        Raises
        ------
        InputError
            ``model.no_inputs``.
        """
        if not self.inputs:
            raise InputError("model.no_inputs", "the model has no input that must be given: nothing can be explained")

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
        self.findings.clear()
        for name in ("session_pool", "graph"):
            self.__dict__.pop(name, None)


def probabilities_of(graph: onnx.GraphProto, output: str) -> str:
    """For an output that ZipMap turns into dictionaries: the tensor of probabilities; else the output itself."""
    value = output
    for _ in range(16):
        node = producer(graph, value)
        if node is None or node.op_type not in ("ZipMap", "Identity"):
            break
        value = str(node.input[0])
        if node.op_type == "ZipMap":
            return value
    return output


def producer(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    """The node that gives a value; None for inputs and initializers."""
    return next((node for node in graph.node if value in node.output), None)
