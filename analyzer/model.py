"""What a user holds: a model that can be run, verified and explained.

Belongs here: the facade, which calls the rooms below, and :func:`load`. Not here: what a model is (``onnx_model``), reading
the file safely (``importer.loading``), one explanation (``explain``). Nothing below imports this.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from analyzer.errors import UsageError
from analyzer.importer.bfloat16 import in_single
from analyzer.importer.loading import read_model
from analyzer.memory import release_memory
from analyzer.onnx_model import Array, Feed, OnnxModel

if TYPE_CHECKING:
    import torch

    from analyzer.data.dataset import Dataset
    from analyzer.data.opening import DataPath
    from analyzer.explain.backends import Backends
    from analyzer.explanation import Explanation
    from analyzer.importer.parity import Parity
    from analyzer.importer.trace import Trace
    from analyzer.inputs import Labels, Preprocess
    from analyzer.inputs.decode import Decode
    from analyzer.targets.language import TargetLike
    from analyzer.visualization.activations import Activations
    from analyzer.visualization.dream import Dream
    from analyzer.visualization.filters import Filters
    from analyzer.visualization.maximized import Maximized
    from analyzer.visualization.receptive_fields import ReceptiveField
    from analyzer.visualization.top_inputs import TopInputs


class Model(OnnxModel):
    """An ONNX model, ready to be run, verified and explained.

    Make one with :func:`analyzer.load`. As a context manager it lets go of everything that it holds at the end.
    """

    @functools.cached_property
    def backends(self) -> Backends:
        """Its engines, with its traces and compiled sweeps."""
        from analyzer.explain.backends import Backends

        return Backends(self)

    def clear(self) -> None:
        """Let go of sessions, traces, plans and compiled sweeps; they are made anew when asked for."""
        if "backends" in self.__dict__:
            self.backends.clear()
            del self.__dict__["backends"]
        super().clear()
        release_memory()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self.clear()

    def predict(self, x: Array | Feed, backend: str = "onnxruntime") -> dict[str, Array]:
        """The outputs for an input.

        Parameters
        ----------
        x
            Array for the first input or input name -> array, batch first. A model whose batch is fixed is run part by
            part.
        backend
            ``onnxruntime``, or ``torch`` to run the trace.

        Returns
        -------
        dict
            Output name -> array. An output of dictionaries (ZipMap) is given as its tensor of probabilities.

        Raises
        ------
        InputError
            ``data.*`` where the input doesn't fit, ``runtime.*`` where the runtime fails, ``model.changed``.
        """
        feed = self.feed(x)
        if backend == "torch":
            return self.in_parts(feed, self.backends.tracer.run_verified)
        if backend != "onnxruntime":
            raise UsageError("backend.unknown", f"unknown backend {backend!r}", "use onnxruntime or torch")
        found = self.in_parts(feed, lambda part: self.values(part, list(self.outputs)))
        self.files.require_not_overwritten()
        return found

    def trace(self, x: Array | Feed, precision: torch.dtype | None = None) -> Trace:
        """The trace for an input's signature, made once."""
        return self.backends.tracer.get(self.feed(x), precision)

    def verify(self, x: Array | Feed) -> Parity:
        """Hold the trace against onnxruntime on an input, every output.

        Returns
        -------
        Parity
            With the first ONNX node that differs where they disagree.
        """
        return self.backends.tracer.verify(self.feed(x))

    def activations(self, x: Array | Feed, names: str | Sequence[str] | None = None) -> Activations:
        """Inner values for an input, through onnxruntime.

        Parameters
        ----------
        x
            As in :meth:`explain`; many samples are run part by part.
        names
            Which values: names of values, nodes or modules, kinds of operators (``Conv``), or patterns of these with ``*``
            and ``?``. None: all that depend on an input, up to 1 GiB.

        Returns
        -------
        dict
            Value name -> array, in running order. Sequences and maps aren't in it; its ``skipped`` names them.

        Raises
        ------
        UsageError
            ``layer.unknown``, ``layer.in_body``, ``activations.too_large``.
        """
        from analyzer.visualization.activations import activations

        return activations(self, self.feed(x), names)

    def filters(self, names: str | Sequence[str] | None = None) -> Filters:
        """The weights of convolutions and products, outputs first, by their values' names.

        Names as in :meth:`activations`; more, and the errors: :func:`analyzer.visualization.filters.filters`.
        """
        from analyzer.visualization.filters import filters

        return filters(self, names)

    def receptive_fields(
        self,
        x: Array | Feed | None = None,
        names: str | Sequence[str] | None = None,
        input: str | None = None,  # noqa: A002 -- the word for it
    ) -> dict[str, ReceptiveField]:
        """What the units of layers can see of an input, from the graph alone, by their values' names.

        Of ``x`` the shape counts; it may be left out where the model's own are fixed but for the batch. Names as in
        :meth:`activations`; more, and the errors: :func:`analyzer.visualization.receptive_fields.receptive_fields`.
        """
        from analyzer.visualization.receptive_fields import declared_shapes, receptive_fields

        shapes = declared_shapes(self) if x is None else {name: value.shape for name, value in self.feed(x).items()}
        return receptive_fields(self, shapes, names, input)

    def top_inputs(
        self,
        dataset: Dataset | DataPath,
        layer: str | None = None,
        *,
        channel: int | None = None,
        unit: int | Sequence[int] | None = None,
        of_class: int | str | None = None,
        reduce: Literal["max", "mean"] = "max",
        k: int = 9,
        method: str | None = "gradient-x-input",
        seed: int = 0,
        ledger: str | os.PathLike[str] | None = None,
        progress: Callable[[float, float], None] | None = None,
        **params: Any,
    ) -> TopInputs:
        """The samples of a data set that drive a unit, channel, layer or class most and least.

        This shows the data, not the feature: what the samples have in common may be something else than what it responds to.

        Parameters
        ----------
        dataset
            A data set, or what :func:`analyzer.data.dataset.open_dataset` opens: a folder, a manifest, an archive, a table.
        layer
            Name of a node, value or module; without ``channel`` and ``unit`` the mean of its value counts.
        channel
            One channel of it.
        unit
            One element of its value: an index without the batch axis.
        of_class
            A class instead of a layer, by number or label: its score.
        reduce
            How a channel's places become one number, ``max`` or ``mean``.
        k
            So many of each.
        method, seed, params
            Of the relevance of the unit on each sample found, see :meth:`explain`; None for none.
        ledger
            A file that notes how far the run is: a call that was cut off goes on from there.
        progress
            Called with (samples done, samples).

        Raises
        ------
        UsageError
            ``layer.unknown``, ``unit.*``, ``params.*``, ``ledger.*``, ``data.*``.
        InconclusiveError
            ``data.empty``, ``data.nothing_usable``.
        """
        from analyzer.data.dataset import Dataset, open_dataset
        from analyzer.visualization.top_inputs import top_inputs
        from analyzer.visualization.units import Unit

        index = None if unit is None else (unit,) if isinstance(unit, int) else tuple(unit)
        asked = Unit(layer, channel, index, of_class, reduce)
        data = dataset if isinstance(dataset, Dataset) else open_dataset(self, dataset, seed=seed)
        return top_inputs(
            self.backends, data, asked, k=k, method=method, seed=seed, ledger=None if ledger is None else Path(ledger),
            progress=progress, **params,
        )  # fmt: skip

    def maximize(
        self,
        target: TargetLike | None = None,
        layer: str | None = None,
        *,
        channel: int | None = None,
        unit: int | Sequence[int] | None = None,
        direction: Array | None = None,
        score: Literal["log-probability", "logit"] = "log-probability",
        start: Literal["noise", "mean", "best"] | Array | Feed = "noise",
        data: Dataset | DataPath | None = None,
        generator: Model | str | os.PathLike[str] | None = None,
        results: int = 1,
        restarts: int = 1,
        parametrisation: Literal["pixels", "fourier"] = "pixels",
        decorrelate: bool = False,
        bounds: tuple[float, float] | None = None,
        input: str | None = None,  # noqa: A002 -- the word for it
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        **params: Any,
    ) -> Maximized:
        """Inputs that drive a class, unit, channel, layer or direction as strongly as possible: activation maximization.

        They show what the network responds to, not what the world holds. The scores are those that onnxruntime gives the
        inputs found. Ctrl-C keeps the best so far.

        Parameters
        ----------
        target
            A class by number or label, or anything else that is linear in a value, see :mod:`analyzer.targets.language`.
        layer
            Name of a node, value or module instead of an output; alone, the mean of its squares.
        channel, unit, direction
            One channel of the layer, over its places; one element, an index without the axis of samples; a vector along
            its channels.
        score
            Of a class: ``log-probability`` where the graph allows it, or ``logit``.
        start
            ``noise`` around the middle of the range; ``mean`` of ``data``, or the middle; ``best``, what scores best in
            ``data``; or an input.
        data
            A data set, or what :func:`analyzer.data.dataset.open_dataset` opens.
        generator
            An ONNX model that makes inputs from codes: the codes are looked through, and ``l2`` is about them.
        results, restarts
            So many inputs, each the best of so many ascents.
        parametrisation
            ``pixels``, or ``fourier``: the spectrum, so that natural frequencies are as quick to change.
        decorrelate
            Whether colours are optimised along their principal axes in photos.
        bounds
            The valid range; None for that of the preprocessing, or of the columns that the model was fitted on.
        input
            Name of the input that is changed; others stay as in ``start``.
        progress
            Called with (steps done, steps).
        params
            Of :class:`analyzer.visualization.regularisers.Regularisers` (``l2``, ``tv``, ``linf``, ``blur``, ``jitter``,
            ``rotate``, ``scale``, ``diversity``) and of :class:`analyzer.visualization.search.Steps` (``steps``, ``rate``,
            ``optimizer``, ``patience``, ``frames``).

        Raises
        ------
        UsageError
            ``params.*``, ``target.*``, ``layer.unknown``, ``unit.*``, ``maximize.*``, ``generator.size``.
        UnsupportedError
            ``maximize.tokens`` for inputs of whole numbers, ``model.no_gradient``, ``op.unsupported``.
        ParityError
            The trace disagrees with onnxruntime.
        """
        from analyzer.data.dataset import Dataset, open_dataset
        from analyzer.visualization.maximize import maximize
        from analyzer.visualization.maximized import Wish
        from analyzer.visualization.objectives import Goal
        from analyzer.visualization.search import regularisers_and_steps

        index = None if unit is None else (unit,) if isinstance(unit, int) else tuple(unit)
        regularisers, steps = regularisers_and_steps(params)
        dataset = data if data is None or isinstance(data, Dataset) else open_dataset(self, data, seed=seed)
        made = (
            load(generator, self.device, threads=self.threads)
            if isinstance(generator, str | os.PathLike)
            else generator
        )
        wish = Wish(start, dataset, results, restarts, parametrisation, decorrelate, regularisers, steps, bounds, input,
                    seed)  # fmt: skip
        return maximize(
            self.backends, Goal(target, layer, channel, index, direction, score), wish,
            None if made is None else made.backends, progress,
        )  # fmt: skip

    def dream(
        self,
        photo: Array,
        layer: str | None = None,
        *,
        target: TargetLike | None = None,
        channel: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        **params: Any,
    ) -> Dream:
        """Make stronger what a layer sees in a photo: DeepDream. Ctrl-C keeps the picture so far.

        Parameters
        ----------
        photo
            Of any size, in the numbers and layout of the model's input, without the axis of samples.
        layer
            Name of a node, value or module: the mean of its squares, or of one ``channel``.
        target
            A class, or anything that :meth:`maximize` takes, instead of a layer.
        progress
            Called with (steps done, steps).
        params
            Of :class:`analyzer.visualization.dream.Manner`: ``octaves``, ``octave_scale``, ``steps``, ``rate``, ``tile``,
            ``jitter``, ``frames``.

        Raises
        ------
        UsageError
            ``params.*``, ``target.*``, ``layer.unknown``, ``unit.*``, ``maximize.no_target``.
        UnsupportedError
            ``dream.no_picture``, ``model.no_gradient``, ``op.unsupported``.
        """
        from analyzer.visualization.dream import Manner, dream
        from analyzer.visualization.objectives import Goal
        from analyzer.visualization.search import checked_fields

        manner = Manner(**checked_fields("dream", params, Manner))
        return dream(self.backends, np.asarray(photo), Goal(target, layer, channel), manner, seed, progress)

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
        inputs: str | Sequence[str] | None = None,
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
        inputs
            Names of the inputs that are explained, each of which gets a map; the others are held fixed, and named in the
            notes. None: those of floating-point numbers, and those of whole numbers that select words or categories;
            masks, positions, token types and caches only where nothing else is there.
        progress
            Called with (done, total) model evaluations by methods that take many.
        params
            The method's parameters.

        Raises
        ------
        UsageError
            Unknown method or parameter, target out of range, missing layer.
        InputError
            The input doesn't fit, the trace disagrees with onnxruntime, or the model's file has changed (``model.changed``).
        UnsupportedError
            The method can't be used on this model; names the nodes in the way.
        """
        from analyzer.explain.pipeline import explain
        from analyzer.explain.request import Request

        request = Request.of(
            method, target=target, score=score, seed=seed, backend=backend, precision=precision, progress=progress,
            layer=layer, at=at, inputs=inputs, **params,
        )  # fmt: skip
        found = explain(self.backends, self.feed(x), request)
        self.files.require_not_overwritten()
        return found

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

        found = explain_targets(self.backends, self.feed(x), Request.of(method, **options), targets)
        self.files.require_not_overwritten()
        return found


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    device: str = "auto",
    *,
    preprocess: str | os.PathLike[str] | Preprocess | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | Labels | None = None,
    threads: int = 0,
    decode: str | os.PathLike[str] | Mapping[str, Any] | Decode | None = None,
    layout: str | Mapping[str, str] | None = None,
    tf32: bool = False,
) -> Model:
    """Load a model.

    Parameters
    ----------
    source
        Path of an ``.onnx`` file, its bytes, or a ``ModelProto`` (never changed).
    device
        ``auto`` (CUDA where it works), ``cpu``, ``cuda`` or ``cuda:N``.
    preprocess
        How pictures become inputs: a preset's name, a TOML file, a :class:`~analyzer.inputs.Preprocess`. None looks for
        ``MODEL.preprocess.toml`` beside the model and for the metadata key ``preprocess``.
    labels
        Class names: a file, a list, or :class:`~analyzer.inputs.Labels`. None looks into the model's metadata.
    threads
        Threads inside one operator; 0 chooses by the machine.
    decode
        What a detector's outputs mean: a preset's name, a TOML file, a mapping, a
        :class:`~analyzer.inputs.decode.Decode`. None looks for ``MODEL.decode.toml`` beside the model and for the
        metadata key ``decode``.
    layout
        What the axes of the first input count, or input name -> that: a letter each, N samples, C channels or features,
        T time or tokens, D, H and W places, as in ``NTC``. None reads it from the graph.
    tf32
        On CUDA, compute products in TF32: about twice as fast, but what they read is rounded to eleven significant bits, so
        scores may differ from the CPU's by 2e-2 of the largest, and maps by more. Without it CUDA computes in full float32.

    Raises
    ------
    UsageError
        ``model.not_found``, ``device.*``, ``layout.*``, ``config.preprocess``, ``config.decode``.
    InputError
        ``model.*``, ``graph.*``, ``tensor.*``, ``external.*``: the file is not a valid, safe model.
    """
    from analyzer.inputs import Labels, discover, labels_from_metadata, load_preprocess, read_labels
    from analyzer.inputs.decode_files import discover_decode, load_decode

    loaded = in_single(read_model(source if isinstance(source, (bytes, onnx.ModelProto)) else Path(source)))
    metadata = {entry.key: entry.value for entry in loaded.proto.metadata_props}
    how = load_preprocess(preprocess) if preprocess is not None else discover(loaded.path, metadata)
    if labels is None:
        named = labels_from_metadata(metadata)
    elif isinstance(labels, (str, os.PathLike)):
        named = read_labels(labels)
    else:
        named = labels if isinstance(labels, Labels) else Labels(tuple(labels))
    spec = load_decode(decode) if decode is not None else discover_decode(loaded.path, metadata)
    return Model(loaded, device, how, named, threads, spec, layout, tf32)
