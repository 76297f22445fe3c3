"""Filters: the weights of a model's layers, as numbers that they stand for.

Belongs here: finding a layer's weights, dequantising, putting outputs first. Not here: pictures (``analyzer.jobs``).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.executor.incremental import Graph as ShapedGraph
from analyzer.executor.incremental import Source
from analyzer.importer.graph import Node
from analyzer.importer.table import RANDOM
from analyzer.inputs.graph_channels import KEEPS_AXES
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.layers import Layer, chosen

Array = NDArray[Any]
COMPUTED = "its weights are computed from the input"
_BLOCKED = "its weights lie in blocks for one processor"


@dataclass(frozen=True)
class _Form:
    """Where an operator has its weights: positions of weights, scale and zero point, and which axis counts outputs.

    Attributes
    ----------
    product
        Whether the weights are a matrix or a stack of such, inputs on the last axis but one.
    inputs_first
        Whether a kernel's first axis counts inputs.
    """

    weights: int = 1
    scale: int | None = None
    zero: int | None = None
    product: bool = False
    inputs_first: bool = False


_FORMS = {
    "Conv": _Form(),
    "FusedConv": _Form(),
    "NhwcFusedConv": _Form(),
    "ConvTranspose": _Form(inputs_first=True),
    "ConvInteger": _Form(zero=3),
    "QLinearConv": _Form(3, 4, 5),
    "MatMul": _Form(product=True),
    "FusedMatMul": _Form(product=True),
    "Gemm": _Form(product=True),
    "FusedGemm": _Form(product=True),
    "QLinearMatMul": _Form(3, 4, 5, product=True),
    "MatMulInteger": _Form(zero=3, product=True),
    "DynamicQuantizeMatMul": _Form(1, 2, 3, product=True),
    "MatMulIntegerToFloat": _Form(1, 3, 5, product=True),
    "QGemm": _Form(3, 4, 5, product=True),
}


@dataclass(frozen=True, eq=False)
class Filter:
    """The weights of one layer.

    Attributes
    ----------
    weights
        (outputs, inputs of a group, *kernel) float; of a product (outputs, inputs), behind the axes of its stack.
    groups
        Of a convolution; 1 else.
    kind
        ``convolution`` or ``product``.
    quantised
        Whether the file holds whole numbers for them.
    scaled
        Whether the numbers are those that the layer works with; False where it holds whole numbers and no scale.
    colours
        Whether it reads an input picture of three channels as it is.
    """

    layer: Layer
    weights: Array
    groups: int
    kind: Literal["convolution", "product"]
    quantised: bool
    scaled: bool
    colours: bool


class Filters(dict[str, Filter]):
    """Value name of a layer -> its weights.

    Attributes
    ----------
    skipped
        Value name -> why a layer's weights aren't there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: dict[str, str] = {}


def filters(model: OnnxModel, names: str | Sequence[str] | None = None) -> Filters:
    """The weights of convolutions and products.

    Parameters
    ----------
    names
        As :func:`analyzer.visualization.layers.chosen` takes them; None for all.

    Raises
    ------
    UsageError
        ``layer.unknown``, ``layer.in_body``; ``layer.no_filters`` where a named layer has none.
    UnsupportedError
        ``filters.none`` where no layer of the model has any.
    """
    wanted = None if names is None else {layer.value for layer in chosen(model, names)}
    reading, found = _Weights(model), Filters()
    for node in model.graph.nodes:
        form = _FORMS.get(node.op_type)
        if form is None or (wanted is not None and not wanted & set(node.outputs)):
            continue
        value = node.outputs[0]
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            found.skipped[value] = _BLOCKED
        elif (filter_ := _filter(model, node, form, reading)) is not None:
            found[value] = filter_
        elif not form.product or wanted is not None:  # products of two computed values are no layers
            found.skipped[value] = COMPUTED
    if not found:
        having = ", ".join(dict.fromkeys(node.op_type for node in model.graph.nodes if node.op_type in _FORMS))
        why = next(iter(found.skipped.values()), "")
        if wanted is None:
            message = "no layer of the model has filters" + (f": {why}" if why else "")
            raise UnsupportedError("filters.none", message, "convolutions and products with weights have")
        message = f"what is named has no filters{f': {why}' if why else ''}"
        raise UsageError("layer.no_filters", message, f"operators with weights here: {having or 'none'}")
    return found


def _filter(model: OnnxModel, node: Node, form: _Form, reading: _Weights) -> Filter | None:
    """A node's weights; None where they are computed from the input."""
    at = form.weights
    if (
        node.op_type in ("MatMul", "FusedMatMul")
        and not reading.known(node.inputs[1])
        and reading.known(node.inputs[0])
    ):
        at = 0  # a weight on the left
    raw = reading.value(node.inputs[at])
    if raw is None or raw.ndim < 2:
        return None
    scale, zero = (reading.value(node.inputs[i]) if i is not None and i < len(node.inputs) else None
                   for i in (form.scale, form.zero))  # fmt: skip
    weights = raw if raw.dtype.kind == "f" else raw.astype(np.float64)
    if zero is not None and zero.size:
        weights = weights - _along(zero.astype(np.float64), weights, form)
    if scale is not None:
        weights = (weights * _along(scale.astype(np.float64), weights, form)).astype(np.float32)
    groups = int(node.attr("group", 1))
    if form.product:
        transposed = bool(node.attr("transB", 0)) if at else not node.attr("transA", 0)
        weights = weights if transposed else np.swapaxes(weights, -1, -2)
    elif form.inputs_first:
        weights = _outputs_first(weights, groups)
    layer = Layer(node.outputs[0], node.name, node.op_type)
    colours = not form.product and groups == 1 and weights.shape[1] == 3 and reading.is_input(node.inputs[0])
    quantised = raw.dtype.kind in "iu" or reading.is_dequantised(node.inputs[at])
    scaled = raw.dtype.kind == "f" or scale is not None
    return Filter(layer, weights, groups, "product" if form.product else "convolution", quantised, scaled, colours)


def _along(parameter: Array, weights: Array, form: _Form) -> Array:
    """A scale or zero point as it lies along the weights: one for all, or one for each output."""
    if parameter.size == 1:
        return parameter.reshape(())
    axis = weights.ndim - 1 if form.product else 0
    if parameter.ndim > 1:
        return parameter
    return parameter.reshape([-1 if at == axis else 1 for at in range(weights.ndim)])


def _outputs_first(weights: Array, groups: int) -> Array:
    """(inputs, outputs of a group, *kernel) as (outputs, inputs of a group, *kernel)."""
    inputs, outputs, *kernel = weights.shape
    apart = weights.reshape(groups, inputs // groups, outputs, *kernel)
    return np.swapaxes(apart, 1, 2).reshape(groups * outputs, inputs // groups, *kernel)


class _Weights:
    """The constants of a model by name, those that nodes make of others computed through onnxruntime."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._held = model.graph.initializers
        self._makers = {value: node for node in model.graph.nodes for value in node.outputs if value}

    @functools.cached_property
    def _graph(self) -> ShapedGraph:
        return ShapedGraph(Source(self._model.proto, self._model.files), {})

    @functools.cached_property
    def _constant(self) -> set[str]:
        """Names of all values that depend on no input and on no chance."""
        found = set(self._held)
        for node in self._model.graph.nodes:
            read = {name for name in node.inputs if name}.union(*(graph.captured for graph in node.subgraphs))
            if read <= found and node.op_type not in RANDOM:
                found.update(name for name in node.outputs if name)
        return found

    def known(self, name: str) -> bool:
        """Whether a value is constant."""
        return name in self._constant

    def value(self, name: str) -> Array | None:
        """A constant's value; None where it depends on an input."""
        if name in self._held:
            return np.asarray(self._held[name]())
        if not self.known(name):
            return None
        content = self._graph.part([], {}, [name])
        return np.asarray(self._model.open_session(content, self._model.files, threads=1).run({}, [name])[name])

    def is_dequantised(self, name: str) -> bool:
        """Whether a weight is made of whole numbers."""
        node = self._makers.get(name)
        while node is not None and node.op_type in ("Transpose", "Reshape", "Identity", "Cast"):
            node = self._makers.get(node.inputs[0])
        return node is not None and node.op_type == "DequantizeLinear"

    def is_input(self, name: str) -> bool:
        """Whether a value is an input but for what is done to each of its numbers."""
        node = self._makers.get(name)
        while node is not None and node.op_type in KEEPS_AXES | {"Transpose", "BatchNormalization"}:
            computed = [each for each in node.inputs if each and not self.known(each)]
            if len(computed) != 1:
                return False
            name = computed[0]
            node = self._makers.get(name)
        return name in self._model.inputs
