"""What a model's file declares: inputs and outputs, what their axes count, how inputs are read.

Belongs here: facts that follow from the file and from what was said at loading. Not here: running the model (``onnx_model``),
finding each fact in a graph (``analyzer.inputs``, ``executor.row_coupling``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.executor.row_coupling import coupling_operator, random_operator
from analyzer.importer.loading import LoadedModel, tensor_to_numpy
from analyzer.inputs.columns import ColumnInput, feature_names
from analyzer.inputs.fitted_range import FittedRange, fitted_ranges
from analyzer.inputs.graph_channels import channels_by_graph
from analyzer.inputs.graph_missing import takes_missing
from analyzer.inputs.graph_selection import explained_by_default, selecting_inputs
from analyzer.inputs.layout import Axes, ambiguous, axes_of, named_axes
from analyzer.inputs.shapes import numpy_dtype
from analyzer.tensor_spec import TensorSpec, batch_axis, spec_of

if TYPE_CHECKING:
    from analyzer.inputs import Preprocess

Array = NDArray[Any]
Feed = Mapping[str, Array]


class ModelFacts:
    """What a loaded file declares.

    Attributes
    ----------
    inputs, outputs
        Name -> :class:`~analyzer.tensor_spec.TensorSpec`.
    preprocess
        How pictures become inputs, where known.
    layouts
        Input name -> what its axes count, where that was given.
    """

    def __init__(
        self, loaded: LoadedModel, preprocess: Preprocess | None = None, layout: str | Mapping[str, str] | None = None
    ) -> None:
        self.loaded = loaded
        self.proto: onnx.ModelProto = loaded.proto
        self.preprocess = preprocess
        self.layouts = named_axes(layout, self.inputs)

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

    def axes(self, name: str, shape: Sequence[int]) -> Axes:
        """What the axes of an input of some shape count: as given, or else as the preprocessing, graph or sizes say."""
        given = self.layouts.get(name)
        if given is not None and len(given.letters) == len(shape):
            return given
        return axes_of(shape, self.preprocess, self._channels.get(name))

    def guesses_axes(self, name: str, shape: Sequence[int]) -> bool:
        """Whether nothing but sizes that leave it open says where an input's channels are."""
        by_preprocess = self.preprocess is not None and self.preprocess.layout is not None and len(shape) == 4
        known = name in self.layouts or name in self._channels or by_preprocess
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

    def require_inputs(self) -> None:
        """Refuse a model without inputs that must be given.

        Raises
        ------
        InputError
            ``model.no_inputs``.
        """
        if not self.inputs:
            raise InputError("model.no_inputs", "the model has no input that must be given: nothing can be explained")


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
