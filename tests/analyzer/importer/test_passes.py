"""Passes: values stay as they were, what should be folded is, what is read elsewhere isn't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from analyzer.importer.graph import build
from analyzer.importer.trace import Trace, trace

Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]
aten = torch.ops.aten
RNG = np.random.default_rng(0)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, always the same."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(
    nodes: Sequence[Node], constants: Mapping[str, np.ndarray], shape: Sequence[int], outputs: Sequence[str] = ("y",)
) -> tuple[Trace, Trace]:
    """The trace with and without passes, after checking in float64 that every value that both name is the same."""
    protos = [helper.make_node(op, list(i), list(o), name=f"/{op}_{n}", **a) for n, (op, i, o, a) in enumerate(nodes)]
    graph = helper.make_graph(
        protos,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    graph_ = build(model, numpy_helper.to_array)
    feed = {"x": array(*shape, seed=100)}
    plain, passed = (trace(graph_, feed, torch.float64, optimize) for optimize in (False, True))
    for seed in (101, 102):
        other = {"x": torch.from_numpy(array(*shape, seed=seed)).double()}
        before, after = values(plain, other), values(passed, other)
        for name in outputs:
            assert name in after or passed.values.get(name) is not None or name in passed.outputs
        for name in before.keys() & after.keys():
            torch.testing.assert_close(
                after[name], before[name], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )
        for name, value in plain.run(other).items():
            torch.testing.assert_close(passed.run(other)[name], value, rtol=1e-12, atol=1e-12)
    return plain, passed


def values(of: Trace, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every value that a trace names, by running its graph node by node."""
    known: dict[torch.fx.Node, Any] = {}
    inputs = iter(of.inputs)
    with torch.no_grad():
        for node in of.module.graph.nodes:
            if node.op == "placeholder":
                known[node] = feed[next(inputs)]
            elif node.op == "get_attr":
                known[node] = getattr(of.module, node.target)
            elif node.op == "call_function":
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*args, **kwargs)
    return {name: known[node] for name, node in of.values.items()}


def operators(of: Trace) -> list[str]:
    return [str(node.target) for node in of.module.graph.nodes if node.op == "call_function"]


def norm(channels: int, seed: int = 50) -> dict[str, np.ndarray]:
    return {
        "s": array(channels, seed=seed), "t": array(channels, seed=seed + 1), "m": array(channels, seed=seed + 2),
        "v": np.abs(array(channels, seed=seed + 3)) + 0.1,
    }  # fmt: skip


def normalise(given: str, made: str, epsilon: float = 1e-3) -> Node:
    return ("BatchNormalization", [given, "s", "t", "m", "v"], [made], {"epsilon": epsilon})


LAYERS: dict[str, tuple[Node, dict[str, np.ndarray], tuple[int, ...], int]] = {
    "conv1d": (("Conv", ["x", "w"], ["z"], {}), {"w": array(4, 3, 2)}, (2, 3, 7), 4),
    "conv2d": (
        ("Conv", ["x", "w", "b"], ["z"], {"pads": [1, 1, 1, 1]}),
        {"w": array(4, 3, 3, 3), "b": array(4, seed=1)},
        (2, 3, 5, 5),
        4,
    ),
    "conv2d-grouped": (
        ("Conv", ["x", "w", "b"], ["z"], {"group": 2}),
        {"w": array(6, 2, 3, 3), "b": array(6, seed=1)},
        (2, 4, 5, 5),
        6,
    ),
    "conv3d": (("Conv", ["x", "w"], ["z"], {}), {"w": array(4, 3, 2, 2, 2)}, (1, 3, 4, 4, 4), 4),
    "transposed": (
        ("ConvTranspose", ["x", "w", "b"], ["z"], {"strides": [2, 2]}),
        {"w": array(3, 4, 2, 2), "b": array(4, seed=1)},
        (2, 3, 4, 4),
        4,
    ),
    "transposed-grouped": (
        ("ConvTranspose", ["x", "w"], ["z"], {"group": 2, "strides": [2, 2]}),
        {"w": array(4, 3, 2, 2)},
        (2, 4, 4, 4),
        6,
    ),
    "transposed-1d-grouped": (
        ("ConvTranspose", ["x", "w", "b"], ["z"], {"group": 3}),
        {"w": array(6, 2, 2), "b": array(6, seed=1)},
        (1, 6, 4),
        6,
    ),
    "gemm": (("Gemm", ["x", "w", "b"], ["z"], {"transB": 1}), {"w": array(4, 5), "b": array(4, seed=1)}, (3, 5), 4),
    "gemm-scalar-bias": (("Gemm", ["x", "w", "b"], ["z"], {}), {"w": array(5, 4), "b": array(1, seed=1)}, (3, 5), 4),
    "gemm-beta": (
        ("Gemm", ["x", "w", "b"], ["z"], {"beta": 0.5}),
        {"w": array(5, 4), "b": array(4, seed=1)},
        (3, 5),
        4,
    ),
    "matmul": (("MatMul", ["x", "w"], ["z"], {}), {"w": array(5, 4)}, (3, 5), 4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_batch_normalisation_is_folded(name: str) -> None:
    layer, constants, shape, channels = LAYERS[name]
    _, passed = both([layer, normalise("z", "y")], constants | norm(channels), shape)
    assert not any("batch_norm" in op for op in operators(passed))
    assert len([op for op in operators(passed) if op in ("aten.convolution.default", "aten.addmm.default")]) == 1
    assert len(passed.changes) == 1
    final = passed.values["y"]
    assert final.meta["onnx"] == f"/{layer[0]}_0"
    assert final.meta["folded"] == "/BatchNormalization_1"
    assert passed.find("/BatchNormalization_1") is final
    assert "z" not in passed.values


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("swap", [False, True])
def test_a_bias_that_was_exported_as_an_addition_is_merged(name: str, swap: bool) -> None:
    layer, constants, shape, channels = LAYERS[name]
    spatial = len(shape) - 2
    addend = array(channels, *[1] * spatial, seed=9)
    operands = ["c", "z"] if swap else ["z", "c"]
    _, passed = both([layer, ("Add", operands, ["y"], {})], constants | {"c": addend}, shape)
    assert "aten.add.Tensor" not in operators(passed)
    assert len(passed.changes) == 1
    assert passed.find("/Add_1") is passed.values["y"]
    assert passed.values["y"].meta["op"] == layer[0]


def test_bias_then_normalisation() -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    nodes = [layer, ("Add", ["z", "c"], ["h"], {}), normalise("h", "y")]
    _, passed = both(nodes, constants | norm(channels) | {"c": array(1, channels, 1, seed=9)}, shape)
    assert operators(passed) == ["aten.convolution.default"]
    assert len(passed.changes) == 2


def test_a_bias_behind_a_batched_matrix_product_is_merged() -> None:
    nodes: list[Node] = [("MatMul", ["x", "w"], ["z"], {}), ("Add", ["z", "c"], ["y"], {})]
    plain, passed = both(nodes, {"w": array(5, 4), "c": array(4, seed=1)}, (2, 3, 5))
    assert "aten.add.Tensor" in operators(plain)
    assert "aten.add.Tensor" not in operators(passed)
    assert "aten.addmm.default" in operators(passed)
    assert "z" not in passed.values  # its value exists nowhere any more


def test_two_layers_with_equal_weights_keep_their_own() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}), normalise("z", "h"), ("Conv", ["h", "w"], ["u"], {}),
        ("Relu", ["u"], ["y"], {}),
    ]  # fmt: skip
    _, passed = both(nodes, {"w": array(3, 3, 1, 1)} | norm(3), (1, 3, 4, 4))
    kernels = [node.args[1].target for node in passed.module.graph.nodes if node.target is aten.convolution.default]
    assert len(set(kernels)) == 2


# --- what must stay ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["BatchNormalization", "Add"])
def test_a_value_that_is_read_twice_is_not_folded(second: str) -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    after = normalise("z", "h") if second == "BatchNormalization" else ("Add", ["z", "c"], ["h"], {})
    nodes = [layer, after, ("Relu", ["z"], ["r"], {}), ("Mul", ["h", "r"], ["y"], {})]
    plain, passed = both(nodes, constants | norm(channels) | {"c": array(1, channels, 1)}, shape)
    assert operators(plain) == operators(passed)
    assert passed.changes == ()


@pytest.mark.parametrize("second", ["BatchNormalization", "Add"])
def test_a_value_that_is_an_output_is_not_folded(second: str) -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    after = normalise("z", "y") if second == "BatchNormalization" else ("Add", ["z", "c"], ["y"], {})
    plain, passed = both([layer, after], constants | norm(channels) | {"c": array(1, channels, 1)}, shape, ("y", "z"))
    assert operators(plain) == operators(passed)
    assert passed.values["z"].target is aten.convolution.default


@pytest.mark.parametrize(
    "addend",
    [array(2, 4, 6), array(1, 1, 6), array(6), array(2, 1, 1), array(1, 4, 6)],
    ids=["full", "per-place", "trailing", "per-sample", "channel-and-place"],
)
def test_an_addend_that_is_no_bias_stays(addend: np.ndarray) -> None:
    layer, constants, shape, _ = LAYERS["conv1d"]
    _, passed = both([layer, ("Add", ["z", "c"], ["y"], {})], constants | {"c": addend}, shape)
    assert "aten.add.Tensor" in operators(passed)


def test_an_addend_that_widens_the_value_stays() -> None:
    layer, constants, _, _ = LAYERS["conv1d"]
    _, passed = both([layer, ("Add", ["z", "c"], ["y"], {})], constants | {"c": array(3, 4, 1)}, (1, 3, 7))
    assert "aten.add.Tensor" in operators(passed)


def test_a_sum_of_two_layers_stays() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["a"], {}),
        ("Conv", ["x", "u"], ["b"], {}),
        ("Add", ["a", "b"], ["y"], {}),
    ]
    _, passed = both(nodes, {"w": array(4, 3, 2), "u": array(4, 3, 2, seed=1)}, (2, 3, 7))
    assert "aten.add.Tensor" in operators(passed)


@pytest.mark.parametrize("name", ["conv1d", "transposed-grouped", "gemm-beta", "matmul"])
@pytest.mark.parametrize(
    ("op", "operands"),
    [("Sub", "zc"), ("Sub", "cz"), ("Mul", "zc"), ("Mul", "cz"), ("Div", "zc"), ("Neg", "z"), ("Div", "cz")],
)
def test_a_constant_behind_a_layer_is_folded_however_it_is_written(name: str, op: str, operands: str) -> None:
    layer, constants, shape, channels = LAYERS[name]
    constant = array(channels, *[1] * (len(shape) - 2), seed=9)
    _, passed = both([layer, (op, list(operands), ["y"], {})], constants | {"c": constant}, shape)
    folded = (op, operands) != ("Div", "cz")  # a quotient isn't linear in its divisor
    assert (len([o for o in operators(passed) if "view" not in o]) == 1) == folded


def test_constants_are_folded_in_the_order_in_which_they_run() -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    nodes = [
        layer,
        normalise("z", "a"),
        ("Mul", ["a", "c"], ["b"], {}),
        normalise("b", "d"),
        ("Add", ["d", "c"], ["y"], {}),
    ]
    _, passed = both(nodes, constants | norm(channels) | {"c": array(1, channels, 1, seed=9)}, shape)
    assert operators(passed) == ["aten.convolution.default"]


def test_a_division_by_zero_stays() -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    zero = np.zeros((1, channels, 1), np.float32)
    graph = [layer, ("Div", ["z", "c"], ["q"], {}), ("IsInf", ["q"], ["i"], {}), ("Cast", ["i"], ["y"], {"to": 1})]
    _, passed = both(graph, constants | {"c": zero}, shape)
    assert "aten.div.Tensor" in operators(passed)


@pytest.mark.parametrize("scalar", [True, False])
def test_an_addend_behind_a_reshape_of_feature_maps(scalar: bool) -> None:
    """The reshaped value's axis 1 is not the convolution's channels any more."""
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}), ("Reshape", ["z", "shape"], ["r"], {}), ("Add", ["r", "c"], ["y"], {}),
    ]  # fmt: skip
    addend = array(1, 1, 1, seed=1) if scalar else array(1, 12, 1, seed=1)
    constants = {"w": array(4, 3, 2, 2), "shape": np.array([2, 12, 5]), "c": addend}
    both(nodes, constants, (2, 3, 4, 6))


def test_an_addend_behind_a_reshape_of_rows() -> None:
    """Rows put side by side: the last axis is not the matrix product's any more."""
    nodes: list[Node] = [
        ("MatMul", ["x", "w"], ["z"], {}), ("Reshape", ["z", "shape"], ["r"], {}), ("Add", ["r", "c"], ["y"], {}),
    ]  # fmt: skip
    for shape, addend in (
        ([3, 8], array(8)),
        ([2, 3, 4], array(4)),
        ([3, 2, 4], array(2, 4)),
        ([12, 2], array(2)),
        ([2, 3, 4], array(1)),
    ):
        both(nodes, {"w": array(5, 4), "shape": np.array(shape), "c": addend}, (6, 5))


def test_a_bias_of_every_row_is_not_merged() -> None:
    nodes: list[Node] = [("Gemm", ["x", "w", "b"], ["z"], {}), ("Add", ["z", "c"], ["y"], {})]
    both(nodes, {"w": array(5, 4), "b": array(3, 4, seed=1), "c": array(4, seed=2)}, (3, 5))
    both(nodes, {"w": array(5, 4), "b": array(3, 1, seed=1), "c": array(4, seed=2)}, (3, 5))


@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_a_scaled_product(beta: float) -> None:
    nodes: list[Node] = [
        ("Gemm", ["x", "w", "b"], ["z"], {"alpha": 0.5, "beta": beta}),
        normalise("z", "h"),
        ("Relu", ["h"], ["y"], {}),
    ]
    both(nodes, {"w": array(5, 4), "b": array(4, seed=1)} | norm(4), (3, 5))


def test_normalisation_by_the_batch_stays() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}),
        ("BatchNormalization", ["z", "s", "t", "m", "v"], ["y", "", ""], {"training_mode": 1}),
    ]  # fmt: skip
    plain, passed = both(nodes, {"w": array(4, 3, 2)} | norm(4), (3, 3, 7))
    assert operators(plain) == operators(passed)


def test_normalisation_with_computed_statistics_stays() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}), ("ReduceMean", ["x"], ["r"], {"axes": [0, 2], "keepdims": 0}),
        ("BatchNormalization", ["z", "s", "t", "r", "v"], ["y"], {}),
    ]  # fmt: skip
    _, passed = both(nodes, {"w": array(3, 3, 2)} | norm(3), (2, 3, 7))
    assert "aten.sub.Tensor" in operators(passed)


def test_a_computed_kernel_is_not_scaled() -> None:
    nodes: list[Node] = [
        ("Slice", ["x", "zero", "two", "last"], ["k"], {}), ("Conv", ["x", "k"], ["z"], {}), normalise("z", "y"),
    ]  # fmt: skip
    constants = {"zero": np.array([0]), "two": np.array([2]), "last": np.array([2])} | norm(3)
    _, passed = both(nodes, constants, (3, 3, 5))
    assert any("batch_norm" in op for op in operators(passed))


def test_a_product_with_a_constant_on_the_left_stays() -> None:
    nodes: list[Node] = [("MatMul", ["w", "x"], ["z"], {}), ("Add", ["z", "c"], ["y"], {})]
    both(nodes, {"w": array(4, 5), "c": array(3)}, (5, 3))
    both(nodes, {"w": array(4, 5), "c": array(4, 1)}, (5, 3))


# --- random chains -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_keep_every_value(seed: int) -> None:
    """Convolutions, normalisations, additions, ReLUs, skips and second outputs in random order."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    constants: dict[str, np.ndarray] = {}
    known = ["x"]
    for step in range(9):
        given, made = known[-1], f"h{step}"
        kind = rng.choice(["Conv", "BatchNormalization", "Add", "Relu", "Skip", "Sub"])
        if kind == "Conv":
            constants[f"w{step}"] = array(4, 4, 1, 1, seed=step)
            nodes.append(("Conv", [given, f"w{step}"], [made], {}))
        elif kind == "BatchNormalization":
            fresh = {f"{k}{step}": v for k, v in norm(4, 200 + 7 * step).items()}
            constants |= fresh
            nodes.append(("BatchNormalization", [given, *fresh], [made], {}))
        elif kind in ("Add", "Sub"):
            constants[f"c{step}"] = array(*([4, 1, 1], [1], [1, 1, 3], [1, 4, 1, 1])[rng.integers(4)], seed=step)
            nodes.append((str(kind), [given, f"c{step}"], [made], {}))
        elif kind == "Skip":
            nodes.append(("Add", [given, str(rng.choice(known))], [made], {}))
        else:
            nodes.append(("Relu", [given], [made], {}))
        known.append(made)
    outputs = list(dict.fromkeys([known[-1], str(rng.choice(known[1:]))]))
    both(nodes, constants, (2, 4, 3, 3), outputs)
