"""Random small convolutional networks, node by node, for incremental inference. Not here: what is checked on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from analyzer.errors import AnalyzerError
from analyzer.executor.session import Session

Array = NDArray[Any]


class Builder:
    """A growing graph with the current value's channels and sides."""

    def __init__(self, seed: int, channels: int, sides: tuple[int, ...]) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.value, self.channels, self.sides = "x", channels, sides
        self.first = (channels, *sides)

    def constant(self, value: Array) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        """A random initializer."""
        return self.constant((self.draw.standard_normal(shape) * scale).astype(np.float32))

    def add(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """A node; its output becomes the current value."""
        self.value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [self.value], name=f"{op}_{len(self.nodes)}", **attributes))
        return self.value

    def pick(self, *choices: Any) -> Any:
        """One of them."""
        return choices[int(self.draw.integers(len(choices)))]

    def conv(self, out: int | None = None, kernel: int | None = None, **fixed: Any) -> None:
        """A convolution of any kind that fits."""
        rank = len(self.sides)
        kernels = [kernel or self.pick(1, 2, 3, 5) for _ in range(rank)]
        strides = fixed.pop("strides", [self.pick(1, 1, 2, 3) for _ in range(rank)])
        dilations = fixed.pop("dilations", [self.pick(1, 1, 2) for _ in range(rank)])
        group = self.pick(1, self.channels)
        out = out or group * self.pick(1, 2, 3)
        if out % group:
            group = 1
        attributes: dict[str, Any] = {
            "strides": strides,
            "dilations": dilations,
            "group": group,
            "kernel_shape": kernels,
        }
        how = fixed.pop("auto_pad", self.pick("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"))
        if how == "pads":
            attributes["pads"] = fixed.pop("pads", [self.pick(0, 1, 2, 3) for _ in range(2 * rank)])
        else:
            attributes["auto_pad"] = how
            if how.startswith("SAME"):
                attributes["dilations"] = [1] * rank
        w = self.random(
            out, self.channels // group, *kernels, scale=(self.channels // group * np.prod(kernels)) ** -0.5
        )
        inputs = [self.value, w, self.random(out, scale=0.3)] if self.pick(True, False) else [self.value, w]
        self.settle("Conv", inputs, out, **attributes)

    def pool(self, op: str | None = None) -> None:
        """A pooling of any kind that fits."""
        rank, op = len(self.sides), op or self.pick("MaxPool", "AveragePool")
        kernels = [self.pick(2, 3) for _ in range(rank)]
        attributes: dict[str, Any] = {
            "kernel_shape": kernels, "strides": [self.pick(1, 2, 3) for _ in range(rank)], "ceil_mode": self.pick(0, 1),
            "pads": [self.pick(0, 1) for _ in range(2 * rank)],
        }  # fmt: skip
        if op == "AveragePool":
            attributes["count_include_pad"] = self.pick(0, 1)
        elif self.pick(True, False):
            attributes["dilations"] = [self.pick(1, 2) for _ in range(rank)]
        self.settle(op, [self.value], self.channels, **attributes)

    def settle(self, op: str, inputs: list[str], channels: int, **attributes: Any) -> None:
        """Add a windowed node where its output isn't empty."""
        before = self.value, self.channels, self.sides
        self.add(op, inputs, **attributes)
        self.channels = channels
        shape = self.shape()
        if shape is None or min(shape[2:]) < 1:
            self.nodes.pop()
            self.value, self.channels, self.sides = before
        else:
            self.sides = shape[2:]

    def shape(self) -> tuple[int, ...] | None:
        """The current value's shape for one sample, None where the runtime refuses it or sees another one than ONNX."""
        model = self.model([self.value], None)
        try:
            known = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
            found = Session(model.SerializeToString(), threads=1).run({"x": np.zeros((1, *self.first), np.float32)})
        except AnalyzerError:
            return None
        shape = tuple(found[self.value].shape)
        return shape if shape == tuple(d.dim_value for d in known) else None

    def pointwise(self) -> None:
        """Something at every place by itself."""
        kind = self.pick(
            "Relu", "Clip", "BatchNormalization", "PRelu", "LRN", "Mul", "Softmax", "Sigmoid", "1x1", "Pad"
        )
        c = self.channels
        if kind == "Clip":
            self.add("Clip", [self.value, self.constant(np.float32(-0.5)), self.constant(np.float32(0.7))])
        elif kind == "BatchNormalization":
            parts = [self.random(c), self.random(c), self.random(c), self.constant(np.full(c, 1.3, np.float32))]
            self.add(kind, [self.value, *parts])
        elif kind == "PRelu":
            self.add(kind, [self.value, self.random(c, *[1] * len(self.sides))])
        elif kind == "LRN" and len(self.sides) == 2:
            self.add(kind, [self.value], size=3)
        elif kind == "Mul":
            shape = self.pick((), (1,), (c, *[1] * len(self.sides)), (1, c, *self.sides), self.sides)
            self.add(kind, [self.value, self.random(*shape)])
        elif kind == "Softmax" and c > 1:
            self.add(kind, [self.value], axis=1)
        elif kind == "1x1":
            self.conv(self.pick(2, 3, 4), 1, strides=[1] * len(self.sides), auto_pad="VALID")
        elif kind == "Pad":
            pads = [0, 0, *(self.pick(0, 1, 2) for _ in self.sides), 0, 0, *(self.pick(0, 1) for _ in self.sides)]
            held = [self.constant(np.array(pads)), self.constant(np.float32(0.4))]
            self.settle("Pad", [self.value, *held], c)
        else:
            self.add(kind if kind in ("Relu", "Sigmoid") else "Tanh", [self.value])

    def residual(self) -> None:
        """A block whose input is added to or joined with its output."""
        start, rank = (self.value, self.channels), len(self.sides)
        same = {"strides": [1] * rank, "dilations": [1] * rank, "auto_pad": "SAME_UPPER"}
        joined = self.pick(True, False)
        self.conv(self.pick(2, 4), self.pick(1, 3), **same)
        self.add("Relu", [self.value])
        self.conv(self.pick(2, 3) if joined else start[1], self.pick(3, 5), **same)
        if joined:
            self.add("Concat", [start[0], self.value], axis=1)
            self.channels += start[1]
        else:
            self.add(self.pick("Add", "Mul", "Max"), [self.value, start[0]])

    def enlarge(self) -> None:
        """Positions repeated by whole numbers."""
        factors = [self.pick(1, 2, 3) for _ in self.sides]
        scales = self.constant(np.array([1, 1, *factors], np.float32))
        self.settle(
            "Resize", [self.value, "", scales], self.channels, mode="nearest",
            **self.pick({"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, {}),
        )  # fmt: skip

    def head(self, kind: str) -> None:
        """Scores of three classes, or the map itself."""
        if kind == "flat":
            self.add("Flatten", [self.value])
            size = self.channels * int(np.prod(self.sides))
            self.add("Gemm", [self.value, self.random(size, 3, scale=size**-0.5), self.random(3)])
        elif kind == "mean":
            self.add("GlobalAveragePool", [self.value])
            self.add("Flatten", [self.value])
            self.add("MatMul", [self.value, self.random(self.channels, 3)])

    def model(self, outputs: list[str], batch: int | str | None = "n", opset: int = 17) -> onnx.ModelProto:
        """The graph as a model; ``batch`` None means one sample, fixed."""
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1 if batch is None else batch, *self.first])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in self.weights.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def random_network(seed: int, rank: int = 2, head: str | None = None) -> Builder:
    """A network of some random layers, the outputs of which depend on its input."""
    for attempt in range(20):
        draw = np.random.default_rng([seed, attempt])
        sides = tuple(int(n) for n in draw.integers(9, 24, rank))
        made = Builder(seed * 100 + attempt, int(draw.integers(1, 4)), sides)
        made.conv()
        for _ in range(int(draw.integers(2, 6))):
            made.pick(made.conv, made.pool, made.pointwise, made.pointwise, made.residual, made.enlarge)()
            if np.prod(made.sides) > 4000:
                break
        made.conv()
        made.head(head or made.pick("flat", "mean"))
        session = Session(made.model([made.value]).SerializeToString(), threads=1)
        one, other = (draw.standard_normal((1, *made.first)).astype(np.float32) for _ in range(2))
        a, b = (session.run({"x": x})[made.value] for x in (one, other))
        if np.abs(a - b).max() > 1e-2 * np.abs(a).max():
            return made
    raise AssertionError(f"no live network from seed {seed}")
