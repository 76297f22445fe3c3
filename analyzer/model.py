"""A model: one ONNX file with its sessions and traces.

Belongs here: what a model is and what it can be asked. Not here: how it is read (``importer.loading``), traced
(``importer``), run (``executor``) or explained (``methods``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.executor import devices
from analyzer.executor.session import Session
from analyzer.executor.session_pool import SessionPool
from analyzer.importer.loading import LoadedModel, tensor_to_numpy
from analyzer.targets.scores import Scored, explained, probabilities_of
from analyzer.tensor_spec import TensorSpec, fitted, spec_of

if TYPE_CHECKING:
    import torch

    from analyzer.compiler.sweep_cache import Shelf
    from analyzer.engines.tracer import Traces
    from analyzer.explanation import Explanation
    from analyzer.importer.graph import Graph
    from analyzer.importer.parity import Parity
    from analyzer.importer.trace import Trace
    from analyzer.inputs import Labels, Preprocess
    from analyzer.targets.detection.schema import Decode
    from analyzer.targets.language import TargetLike

Array = NDArray[Any]
Feed = Mapping[str, Array]
#: What :meth:`Model.explain` takes beside a method's own parameters.
_OPTIONS = ("score", "seed", "backend", "precision", "layer", "at", "progress")


class Model:
    """An ONNX model, ready to be run, verified and explained.

    Make one with :func:`analyzer.load`.

    Attributes
    ----------
    path, sha256, size
        The file and its digest; size in bytes, external data included.
    inputs, outputs
        Name -> :class:`TensorSpec`.
    device
        ``cpu`` or ``cuda:N``.
    preprocess, labels, decode
        How pictures become inputs, what classes are called, and what a detector's outputs mean, where known.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        device: str = "auto",
        preprocess: Preprocess | None = None,
        labels: Labels | None = None,
        threads: int = 0,
        decode: Decode | None = None,
    ) -> None:
        self.loaded = loaded
        self.proto: onnx.ModelProto = loaded.proto
        self.path: Path | None = loaded.path
        self.sha256: str = loaded.sha256
        self.size: int = loaded.size
        self.device: str = devices.resolve(device)
        self.threads = threads
        self.preprocess = preprocess
        self.labels = labels
        self.decode = decode
        self._sessions: dict[tuple[str, ...], Session] = {}

    # --- what it is -----------------------------------------------------------------------------------------------

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

    @functools.cached_property
    def shelf(self) -> Shelf:
        """Its compiled explanations."""
        from analyzer.compiler.sweep_cache import Shelf

        return Shelf(self)

    def __repr__(self) -> str:
        name = self.path.name if self.path else self.sha256[:12]
        return f"<Model {name}: {', '.join(f'{k} {v}' for k, v in self.inputs.items())}>"

    # --- running it -----------------------------------------------------------------------------------------------

    def predict(self, x: Array | Feed, backend: str = "onnxruntime") -> dict[str, Array]:
        """The outputs for an input.

        Parameters
        ----------
        x
            Array for the first input or input name -> array, batch first. A model whose batch is fixed is run piece by
            piece.
        backend
            ``onnxruntime``, or ``torch`` to run the trace.

        Returns
        -------
        dict
            Output name -> array. An output of dictionaries (ZipMap) is given as its tensor of probabilities.

        Raises
        ------
        InputError
            ``data.*`` where the input doesn't fit, ``runtime.*`` where the runtime fails.
        """
        feed = self.feed(x)
        if backend == "torch":
            return self._in_pieces(feed, self.traces.run_verified)
        if backend != "onnxruntime":
            raise UsageError("backend.unknown", f"unknown backend {backend!r}", "use onnxruntime or torch")
        return self._in_pieces(feed, lambda part: self.values(part, list(self.outputs)))

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
            whole = next((s for k, s in self._sessions.items() if set(expose) <= set(k)), None)
            if whole is not None:
                return whole
            source, folder = self.source()
            self._sessions[expose] = Session(source, self.device, expose, folder, self.threads)
        return self._sessions[expose]

    @functools.cached_property
    def streams(self) -> SessionPool:
        """Sessions for many evaluations, as perturbation methods need them."""
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
            ``data.bad_shape``, ``data.bad_type``, ``data.nonfinite``, ``data.missing_input``, ``data.unknown_input``.
        """
        given = dict(x) if isinstance(x, Mapping) else {next(iter(self.inputs), ""): x}
        overridable = {value.name for value in self.proto.graph.input}
        for name in given:
            if name not in overridable:
                known = ", ".join(self.inputs)
                raise InputError("data.unknown_input", f"the model has no input {name!r}", f"its inputs: {known}")
        for name in self.inputs:
            if name not in given:
                raise InputError("data.missing_input", f"input {name!r} is missing", f"it takes {self.inputs[name]}")
        return {name: fitted(name, np.asarray(value), self.inputs.get(name)) for name, value in given.items()}

    def _in_pieces(
        self, feed: dict[str, Array], run: Callable[[dict[str, Array]], dict[str, Array]]
    ) -> dict[str, Array]:
        size = self.pieces(feed)
        if size is None:
            return run(feed)
        count = len(next(iter(feed.values())))
        parts = [run({k: v[i : i + size] for k, v in feed.items()}) for i in range(0, count, size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def pieces(self, feed: Feed) -> int | None:
        """The fixed batch size that an input must be cut to, None where it can be run whole."""
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

    # --- tracing it -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def graph(self) -> Graph:
        """The model as the interpreter walks it."""
        from analyzer.importer.graph import build

        return build(self.proto, lambda tensor: tensor_to_numpy(tensor, self.loaded))

    @functools.cached_property
    def traces(self) -> Traces:
        """Its traces and what came of verifying them."""
        from analyzer.engines.tracer import Traces

        return Traces(self)

    def trace(self, feed: Feed, precision: torch.dtype | None = None) -> Trace:
        """The trace for an input's signature, made once."""
        return self.traces.get(feed, precision)

    def run_trace(self, feed: dict[str, Array]) -> dict[str, Array]:
        """The trace's outputs, not held against anything."""
        return self.traces.run(feed)

    def verify(self, x: Array | Feed) -> Parity:
        """Hold the trace against onnxruntime on an input, every output.

        Returns
        -------
        Parity
            With the first ONNX node that differs where they disagree.
        """
        return self.traces.verify(self.feed(x))

    def require_parity(self, feed: Feed) -> Parity:
        """Verify, and refuse to go on where the trace disagrees.

        Raises
        ------
        ParityError
            ``parity.mismatch`` naming the first ONNX node that differs.
        """
        return self.traces.require(self.feed(feed))

    # --- explaining it --------------------------------------------------------------------------------------------

    def scored(self, output: str | None = None, score: str = "logit") -> Scored:
        """Which value is explained: the logits of the first floating-point output unless asked otherwise.

        Parameters
        ----------
        output
            Name of an output, or of an inner node, value or module.

        Raises
        ------
        UsageError
            ``target.unknown_output``.
        """
        if output is not None and output not in {o.name for o in self.proto.graph.output}:
            from analyzer.targets.inner import value_named

            with contextlib.suppress(UsageError):  # an unknown name is refused below, as an output
                value = value_named(self.graph, output)
                if value not in {o.name for o in self.proto.graph.output}:
                    return Scored(value, value, "value")
                output = value
        return explained(self.proto.graph, output, score)

    def explain(
        self,
        x: Array | Feed,
        method: str = "gradient",
        target: TargetLike = "top1",
        *,
        score: str = "logit",
        seed: int = 0,
        backend: str = "auto",
        precision: str = "float32",
        layer: str | None = None,
        at: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        **params: Any,
    ) -> Explanation:
        """Explain the model on an input.

        Parameters
        ----------
        x
            Array for the first input, or input name -> array; batch first, in the model's own input space.
        method
            A name of :func:`analyzer.methods`.
        target
            What is explained; see :mod:`analyzer.targets.language`. One per call or one per sample.
        score
            ``logit`` takes a final softmax, log-softmax or sigmoid off, ``probability`` keeps it.
        seed
            Of every random choice.
        backend
            Where a white-box explanation runs: ``torch``; ``onnxruntime``, as a compiled graph that is kept on disk;
            ``auto``: the compiled graph where it is there already, else torch.
        precision
            ``float32`` or ``float64`` for white-box methods.
        layer
            Explains an inner unit instead of an output: the target is resolved on this node's, value's or module's
            value. For methods with a parameter ``layer`` (CAM) it is that parameter.
        at
            Gives the relevance or gradient at this inner node, value or module instead of the inputs, under its name;
            for methods that are one reverse sweep.
        progress
            Called with (done, total) model evaluations by methods that take many.
        params
            The method's parameters.

        Raises
        ------
        UsageError
            Unknown method or parameter, target out of range, missing layer.
        InputError
            The input doesn't fit, or the trace disagrees with onnxruntime.
        UnsupportedError
            The method can't be used on this model; names the nodes in the way.
        """
        from analyzer.explain.pipeline import explain
        from analyzer.explain.request import Request

        request = Request(
            method, params, target, score, seed, backend, precision, progress=progress, layer=layer, at=at
        )
        return explain(self, self.feed(x), request)

    def explain_targets(
        self, x: Array | Feed, targets: Sequence[TargetLike], method: str = "gradient", **options: Any
    ) -> list[Explanation]:
        """Explain several targets of the same input; white-box methods run the model forward once for all.

        Parameters
        ----------
        targets
            Each as in :meth:`explain`.
        options
            Everything else that :meth:`explain` takes, the method's parameters included.

        Returns
        -------
        list
            One explanation per target.
        """
        from analyzer.explain.pipeline import explain_targets
        from analyzer.explain.request import Request

        known = {name: options.pop(name) for name in _OPTIONS if name in options}
        return explain_targets(self, self.feed(x), Request(method, options, **known), targets)
