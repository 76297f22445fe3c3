"""Networks whose quantised form has one scale wrong, and the node that is to blame: for finding where explanations drift.

Several architectures made node by node with seeded weights, and the sample models; onnxruntime's static quantiser (QDQ) makes
their int8 form; then one scale is multiplied by a factor. Not here: finding the node (``analyzer.evaluation.drift_by_node``).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Builder:
    """Nodes one after the other, with weights from a fixed seed."""

    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node; gives its output."""
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def weight(self, name: str, *shape: int, fan: int) -> str:
        """Normal numbers of variance 2 / fan."""
        self.weights[name] = (self.rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
        return name

    def constant(self, name: str, value: Any) -> str:
        """A constant."""
        self.weights[name] = np.asarray(value)
        return name

    def conv(
        self, x: str, name: str, cin: int, cout: int, k: Sequence[int] = (3, 3), group: int = 1, stride: int = 1
    ) -> str:
        """A padded convolution with a bias."""
        w = self.weight(f"{name}.w", cout, cin // group, *k, fan=cin // group * int(np.prod(k)))
        self.weights[f"{name}.b"] = (self.rng.standard_normal(cout) * 0.1).astype(np.float32)
        pads = [side // 2 for side in k] * 2
        return self.add("Conv", x, w, f"{name}.b", name=name, pads=pads, group=group, strides=[stride] * len(k))

    def linear(self, x: str, name: str, cin: int, cout: int) -> str:
        """A matrix product with a bias."""
        w = self.weight(f"{name}.w", cin, cout, fan=cin)
        self.weights[f"{name}.b"] = (self.rng.standard_normal(cout) * 0.1).astype(np.float32)
        return self.add("Gemm", x, w, f"{name}.b", name=name)

    def model(self, out: str, shape: Sequence[int]) -> onnx.ModelProto:
        """The model from ``x`` to ``scores``."""
        self.nodes[-1].output[0] = "scores"
        assert out == f"{self.nodes[-1].name}_out"
        values = [("x", ["n", *shape]), ("scores", ["n", None])]
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in values]
        constants = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "net", infos[:1], infos[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plain() -> onnx.ModelProto:
    """Eleven convolutions in a row."""
    b, x = Builder(1), "x"
    for at in range(11):
        x = b.add("Relu", b.conv(x, f"conv{at}", 3 if at == 0 else 12, 12), name=f"relu{at}")
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    return b.model(b.linear(x, "head", 12, 5), (3, 16, 16))


def depthwise() -> onnx.ModelProto:
    """Separable convolutions with bounded rectifiers and skip connections, as in MobileNet."""
    b = Builder(2)
    bounds = b.constant("zero", np.float32(0)), b.constant("six", np.float32(6))
    x = b.add("Clip", b.conv("x", "stem", 3, 16), *bounds)
    for at in range(4):
        y = b.add("Clip", b.conv(x, f"expand{at}", 16, 32, (1, 1)), *bounds)
        y = b.add("Clip", b.conv(y, f"depth{at}", 32, 32, group=32), *bounds)
        x = b.add("Add", b.conv(y, f"project{at}", 32, 16, (1, 1)), x, name=f"skip{at}")
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    return b.model(b.linear(x, "head", 16, 5), (3, 16, 16))


def dense() -> onnx.ModelProto:
    """Every convolution reads all before it, as in DenseNet."""
    b, held = Builder(3), ["x"]
    widths = [3]
    for at in range(7):
        x = held[0] if len(held) == 1 else b.add("Concat", *held, name=f"concat{at}", axis=1)
        held.append(b.add("Relu", b.conv(x, f"conv{at}", sum(widths), 8), name=f"relu{at}"))
        widths.append(8)
    x = b.add("Flatten", b.add("GlobalAveragePool", b.add("Concat", *held, name="all", axis=1)))
    return b.model(b.linear(x, "head", sum(widths), 5), (3, 16, 16))


def series() -> onnx.ModelProto:
    """Convolutions over time with pooling between them."""
    b, x = Builder(4), "x"
    for at in range(7):
        x = b.add("Relu", b.conv(x, f"conv{at}", 4 if at == 0 else 12, 12, (5,)), name=f"relu{at}")
        if at in (2, 4):
            x = b.add("MaxPool", x, name=f"pool{at}", kernel_shape=[2], strides=[2])
    for at in range(2):
        x = b.conv(x, f"mix{at}", 12, 12, (1,))
        x = b.add("Relu", x, name=f"mixed{at}")
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    return b.model(b.linear(x, "head", 12, 4), (4, 64))


def perceptron() -> onnx.ModelProto:
    """Ten linear layers with smooth activation functions."""
    b, x = Builder(5), "x"
    for at in range(10):
        x = b.add("Tanh", b.linear(x, f"linear{at}", 20 if at == 0 else 32, 32), name=f"tanh{at}")
    return b.model(b.linear(x, "head", 32, 4), (20,))


def transformer() -> onnx.ModelProto:
    """Two blocks of attention and feed-forward layers over eight tokens of sixteen numbers."""
    b, x = Builder(6), "x"
    for at in range(2):
        h = _normalised(b, x, f"norm{at}a")
        q, k, v = (b.add("MatMul", h, b.weight(f"{n}{at}.w", 16, 16, fan=32), name=f"{n}{at}") for n in "qkv")
        scores = b.add("MatMul", q, b.add("Transpose", k, name=f"turn{at}", perm=[0, 2, 1]), name=f"scores{at}")
        weights = b.add(
            "Softmax", b.add("Mul", scores, b.constant(f"scale{at}", np.float32(0.25)), name=f"by{at}"), axis=-1
        )
        mixed = b.add("MatMul", weights, v, name=f"mixed{at}")
        x = b.add(
            "Add", x, b.add("MatMul", mixed, b.weight(f"out{at}.w", 16, 16, fan=32), name=f"out{at}"), name=f"res{at}a"
        )
        h = _normalised(b, x, f"norm{at}b")
        h = b.add("Relu", b.add("MatMul", h, b.weight(f"up{at}.w", 16, 32, fan=16), name=f"up{at}"), name=f"act{at}")
        x = b.add(
            "Add", x, b.add("MatMul", h, b.weight(f"down{at}.w", 32, 16, fan=32), name=f"down{at}"), name=f"res{at}b"
        )
    x = b.add("ReduceMean", x, name="pooled", axes=[1], keepdims=0)
    return b.model(b.linear(x, "head", 16, 4), (8, 16))


def _normalised(b: Builder, x: str, name: str) -> str:
    one, zero = b.constant(f"{name}.g", np.ones(16, np.float32)), b.constant(f"{name}.o", np.zeros(16, np.float32))
    return b.add("LayerNormalization", x, one, zero, name=name, axis=-1)


def inputs_of(model: onnx.ModelProto, count: int, seed: int = 0) -> Array:
    """Smooth random inputs of a network made here: noise that neighbouring places share."""
    from scipy.ndimage import gaussian_filter

    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(seed).standard_normal((count, *shape))
    if len(shape) > 1 and shape[-1] != shape[0] * 2:  # not the transformer's tokens
        x = gaussian_filter(x, (0, 0, *[1.5] * (len(shape) - 1)))
        x /= x.std()
    return x.astype(np.float32)


def sample_inputs(name: str, count: int) -> Array:
    """Inputs of a sample model that it wasn't trained on."""
    if name == "digits_cnn":
        from models.digits.data import split as digits

        return digits()[1][0][:count]
    if name == "tumour_mlp":
        from models.tumour.data import split as tumours

        return tumours()[1][0][:count]
    from models.shapes import scenes

    images, _, _ = scenes.dataset(count, 20_261_127)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 255


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    each.__name__: each for each in (plain, depthwise, dense, series, perceptron, transformer)
}


@dataclass(frozen=True)
class Fault:
    """A wrong scale.

    Attributes
    ----------
    network
        A sample model, or a key of ``NETWORKS``.
    node
        Whose scale it is: the node with the weight, or the one whose result is kept by it.
    scales
        What the quantiser may call it, depending on which nodes it leaves alone.
    factor
        Above 1: a weight is read too large, a result is kept too coarsely; below 1: too small, or it is clipped.
    """

    network: str
    node: str
    scales: tuple[str, ...]
    factor: float
    method: str = "lrp"


#: Twelve faults, in weights and in results, of nine networks.
FAULTS = (
    Fault("shapes_cnn", "node_Conv_167", ("body.1.conv1.weight_scale",), 4),
    Fault("shapes_cnn", "node_Conv_161", ("stem.0.weight_scale",), 0.25),
    Fault("shapes_cnn", "node_Conv_173", ("relu_5_scale", "getitem_18_scale"), 0.04),
    Fault("digits_cnn", "/layers/layers.2/Conv", ("layers.2.weight_scale",), 0.1),
    Fault("tumour_mlp", "Add", ("intercepts_scale",), 30, "gradient-x-input"),
    Fault("plain", "conv4", ("relu4_out_scale", "conv4_out_scale"), 0.05),
    Fault("depthwise", "skip3", ("skip3_out_scale",), 0.04),
    Fault("depthwise", "expand0", ("expand0.w_scale",), 8),
    Fault("dense", "conv2", ("conv2.w_scale",), 16),
    Fault("series", "conv0", ("relu0_out_scale", "conv0_out_scale"), 0.04),
    Fault("perceptron", "tanh2", ("tanh2_out_scale",), 0.1, "gradient-x-input"),
    Fault("transformer", "v1", ("v1.w_scale",), 8, "gradient-x-input"),
)


@dataclass(frozen=True)
class Network:
    """A float network on disk, with inputs to calibrate its quantised form and others to compare on."""

    path: Path
    input: str
    calibration: Array
    held_out: Array

    @classmethod
    def of(cls, name: str, folder: Path, held_out: int = 8) -> Network:
        """A sample model or one made here."""
        if name in NETWORKS:
            path, proto = folder / f"{name}.onnx", NETWORKS[name]()
            onnx.save(proto, path)
            x = inputs_of(proto, 24 + held_out)
        else:
            path, x = ROOT / "models" / f"{name}.onnx", sample_inputs(name, 24 + held_out)
            proto = onnx.load(path)
        return cls(path, proto.graph.input[0].name, x[held_out:], x[:held_out])

    def quantised(self, out: Path, keep: Sequence[str] = ()) -> Path:
        """The int8 form by onnxruntime's static quantiser, some nodes left in float."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        rows: Iterator[dict[str, Array]] = iter([{self.input: row[None]} for row in self.calibration])

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(rows, None)

        logging.disable(logging.WARNING)
        try:
            quantize_static(
                self.path, out, Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, nodes_to_exclude=list(keep),
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        return out


def plant(path: Path, fault: Fault) -> bool:
    """Multiply the scale in a file; gives whether it was there.

    Integer biases are in units of their input's times their weight's scale, which onnxruntime takes for granted: they are put
    into the new units.
    """
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = [tensors[name] for name in fault.scales if name in tensors]
    for tensor in found:
        _put(tensor, numpy_helper.to_array(tensor) * np.float32(fault.factor))
    dequantised = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        parts = [dequantised.get(name) for name in node.input[:3]]
        if node.op_type in ("Conv", "Gemm") and len(parts) == 3 and all(part is not None for part in parts):
            x, w, b = (numpy_helper.to_array(tensors[part.input[1]]) for part in parts if part is not None)
            stored = tensors[parts[2].input[0]]  # type: ignore[union-attr]
            bias = numpy_helper.to_array(stored).astype(np.float64) * b
            unit = (x.astype(np.float64) * w).astype(np.float32).reshape(b.shape)
            _put(tensors[parts[2].input[1]], unit)  # type: ignore[union-attr]
            _put(stored, np.rint(bias / unit).clip(-(2**31), 2**31 - 1))
    onnx.save(model, path)
    return bool(found)


def _put(tensor: onnx.TensorProto, value: Array) -> None:
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    tensor.CopyFrom(numpy_helper.from_array(value.astype(kind), tensor.name))


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder for a while."""
    return tempfile.TemporaryDirectory(prefix="onnxplain-drift-")
