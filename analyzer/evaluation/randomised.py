"""Copies of a model whose weights are drawn anew, some layers' or all.

A layer is a node with its weights, whatever operator it is: constants of rank 2 or more, stored as initializers or Constant
nodes, read directly or through other constant nodes (a transpose, a dequantisation); tables of positions count too. Weights that
several nodes read belong to the first. Drawn anew they keep the scale of the old ones, so that activations keep theirs: a map
that changes does so for what the model had learnt, not because numbers overflow or vanish.

Belongs here: finding layers, drawing weights, the copy as a model. Not here: which layers are changed and what is made of it
(``metrics``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from analyzer.errors import InputError, UnsupportedError
from analyzer.evaluation.measure import Array
from analyzer.importer.external import is_external
from analyzer.importer.loading import read_model, tensor_to_numpy
from analyzer.importer.subgraphs import subgraphs
from analyzer.model import Model

Draw = Literal["permuted", "normal"]
DrawKind = Annotated[
    Draw,
    "how weights are drawn anew: permuted, the old ones in an order of chance; normal, of their mean and standard deviation "
    "(quantised ones are permuted)",
]
Biases = Annotated[bool, "permute biases and the vectors of normalisations too"]

#: Operators of which every constant of rank 2 or more is a weight; of others it must spread along two axes.
_PRODUCTS = re.compile(r"Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|Attention|Gather|(?<!Rotary)Embed|MoE")
_RECURRENT = re.compile(r"LSTM|GRU|RNN")
#: Operators on quantised weights: their numbers of floating point are scales.
_OF_QUANTISED = re.compile(r"QLinear|Integer|Quant|NBits|Bnb|QMoE|QGemm|QAttention|QEmbed")
#: Operators whose result tells shapes and addresses of what they read, not its values.
_OF_SHAPES = frozenset(("Shape", "Size", "ConstantOfShape", "Range", "NonZero"))
#: Operators whose vectors are learnt.
_VECTORS = re.compile(_PRODUCTS.pattern + r"|Norm|Bias|Add|Sub|Mul|Div|PRelu|Scale")
#: What quantised weights are stored as.
_QUANTISED = frozenset(
    getattr(TensorProto, name)
    for name in ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1")
    if hasattr(TensorProto, name)
)
_FLOATS = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16))
#: Fewer distinct values are a mask or a switch where they aren't multiplied.
_DISTINCT = 3
#: Protobuf holds less than 2 GiB.
_MOST = 2**31 - 2**24

#: A constant: the number of its graph in the order of walking, and its name there.
Key = tuple[int, str]


@dataclass(frozen=True)
class Layer:
    """A node with what it has learnt.

    Attributes
    ----------
    name, operator
        The node's; the name of its first output where it has none.
    weights, vectors
        The constants that it is the first to read: weights, and biases and the like.
    """

    name: str
    operator: str
    weights: tuple[Key, ...]
    vectors: tuple[Key, ...] = ()


def layers(model: Model, biases: bool = False) -> list[Layer]:
    """The model's layers in the order of execution, those with vectors alone only where biases count.

    Raises
    ------
    UnsupportedError
        ``metric.no_weights`` where there is none.
    """
    scan = _Scan.of(model.proto)
    found: list[Layer] = []
    taken: set[Key] = set()
    for node, read in scan.readings:
        own: dict[str, list[Key]] = {"weight": [], "vector": []}
        for at, key in ((at, key) for at, keys in read.items() for key in keys if key not in taken):
            role = _role(node, at, scan.tensors[key], lambda tensor: tensor_to_numpy(tensor, model.loaded))
            if role:
                taken.add(key)
                own[role].append(key)
        name = node.name or next((output for output in node.output if output), node.op_type)
        found.append(Layer(name, node.op_type, tuple(own["weight"]), tuple(own["vector"])))
    known = [layer for layer in found if layer.weights or (biases and layer.vectors)]
    if not known:
        raise UnsupportedError(
            "metric.no_weights",
            "the model has no weights to randomise: no node works with a constant tensor of rank 2 or more",
            "trees, and linear models and support vectors that are attributes of one node, aren't randomised: use another metric",
        )
    return known


def randomised(
    model: Model, chosen: Sequence[Layer], seed: int, draw: Draw = "permuted", biases: bool = False
) -> Model:
    """The model with the weights of some of its layers drawn anew; the same seed gives a layer the same weights in any company.

    It is loaded as the model was; whoever asks for it clears it.

    Raises
    ------
    InputError
        ``limit.file_size`` where its weights don't fit into a model in memory.
    """
    keys = {key for layer in chosen for key in layer.weights}
    vectors = {key for layer in chosen for key in layer.vectors} if biases else set()
    proto = writable_copy(model)
    for number, (key, tensor) in enumerate(_Scan.of(proto).tensors.items()):
        if key in keys or key in vectors:
            values = tensor_to_numpy(tensor, model.loaded)
            rng = np.random.default_rng([seed, number])
            normal = draw == "normal" and key in keys and tensor.data_type in _FLOATS
            _replace(tensor, _normal(values, rng) if normal else _permuted(values, rng))
    return reloaded(model, proto)


def writable_copy(model: Model) -> ModelProto:
    """A copy of a model's protobuf with all weights in it.

    Raises
    ------
    InputError
        ``limit.file_size`` where they don't fit into one.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in _Scan.of(proto).tensors.values():
        if is_external(tensor):
            _replace(tensor, tensor_to_numpy(tensor, model.loaded))
    if proto.ByteSize() > _MOST:
        raise InputError(
            "limit.file_size",
            f"its weights take {proto.ByteSize() / 2**30:.1f} GiB, more than a model in memory may have",
            "take a smaller model, or one of half precision",
        )
    return proto


def reloaded(model: Model, proto: ModelProto) -> Model:
    """A changed copy, loaded as the model was."""
    layout = {name: axes.letters for name, axes in model.layouts.items()}
    return Model(
        read_model(proto), model.device, model.preprocess, model.labels, model.threads, model.decode, layout, model.tf32
    )


def _permuted(values: Array, rng: np.random.Generator) -> Array:
    """The values in another order; they aren't all equal."""
    flat = values.reshape(-1)
    while True:
        found = flat[rng.permutation(flat.size)]
        if not np.array_equal(found, flat):
            return found.reshape(values.shape)


def _normal(values: Array, rng: np.random.Generator) -> Array:
    wide = values.astype(np.float64)
    return np.asarray(wide.mean() + wide.std() * rng.standard_normal(values.shape), values.dtype)


def _replace(tensor: TensorProto, values: Array) -> None:
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _role(node: NodeProto, at: int, tensor: TensorProto, read: Callable[[TensorProto], Array]) -> str:
    """What a constant is to the node that reads it: ``weight``, ``vector`` or nothing that is learnt."""
    operator, quantised = node.op_type, tensor.data_type in _QUANTISED
    learnt = quantised or (tensor.data_type in _FLOATS and _OF_QUANTISED.search(operator) is None)
    if not learnt or int(np.prod(tensor.dims)) < 2 or ("Attention" in operator and at > 2):
        return ""
    product = _PRODUCTS.search(operator) is not None
    rank, spread = len(tensor.dims), sum(size > 1 for size in tensor.dims)
    bias = _RECURRENT.search(operator) is not None and at not in (1, 2)
    weight = not bias and rank >= 2 and (product or spread >= 2)
    if not weight and (quantised or _VECTORS.search(operator) is None):
        return ""
    values = np.asarray(read(tensor)).astype(np.float64)
    wanted = 2 if product or not weight else _DISTINCT
    if not np.isfinite(values).all() or len(np.unique(values)) < wanted:
        return ""
    return "weight" if weight else "vector"


@dataclass
class _Scan:
    """A model's constants, and the nodes that read them.

    Attributes
    ----------
    tensors
        All constant tensors; in the same order for a model and its copies.
    readings
        Nodes that work on something computed, in order, with the constants behind each of their inputs by its number.
    """

    tensors: dict[Key, TensorProto]
    readings: list[tuple[NodeProto, dict[int, tuple[Key, ...]]]]

    @classmethod
    def of(cls, proto: ModelProto) -> _Scan:
        """Graph by graph, those inside a node where it stands; no recursion, so that deep nesting can't exhaust the stack."""
        scan, count = cls({}, []), 0
        for body in (proto.graph, *proto.functions):
            waiting: list[tuple[Iterator[NodeProto], dict[str, tuple[Key, ...]]]] = [scan._entered(body, count, {})]
            count += 1
            while waiting:
                nodes, scope = waiting[-1]
                node = next(nodes, None)
                if node is None:
                    waiting.pop()
                    continue
                inner = list(subgraphs(node))
                scan._read(node, scope, bool(inner))
                waiting += [scan._entered(graph, count + at, scope) for at, graph in enumerate(inner)][::-1]
                count += len(inner)
        return scan

    def _entered(
        self, graph: GraphProto | FunctionProto, number: int, outer: Mapping[str, tuple[Key, ...]]
    ) -> tuple[Iterator[NodeProto], dict[str, tuple[Key, ...]]]:
        """A graph's nodes, and value name -> the constants behind it, those of the graphs around it included."""
        own = {tensor.name: tensor for tensor in graph.initializer} if isinstance(graph, GraphProto) else {}
        for node in graph.node:
            if node.op_type == "Constant":
                own.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
        self.tensors.update(((number, name), tensor) for name, tensor in own.items())
        return iter(graph.node), {**outer, **{name: ((number, name),) for name in own}}

    def _read(self, node: NodeProto, scope: dict[str, tuple[Key, ...]], nested: bool) -> None:
        """Note what a node reads; one of constants alone hands them on to whoever reads it."""
        read = {at: scope[name] for at, name in enumerate(node.input) if name in scope}
        if not read:
            return
        if nested or any(name and name not in scope for name in node.input):
            if not node.op_type.endswith("uantizeLinear"):
                self.readings.append((node, read))
            return
        behind: tuple[Key, ...] = tuple(key for keys in read.values() for key in keys)
        if node.op_type.endswith("uantizeLinear"):  # without scale and zero point
            behind = read.get(0, ())
        elif node.op_type in _OF_SHAPES:
            behind = ()
        scope.update((output, behind) for output in node.output if output)
