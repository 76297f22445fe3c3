"""Copies of models with weights drawn anew: which weights there are, of any kind of model, and what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.evaluation.randomised import layers, randomised
from tests.analyzer.evaluation.maps import Array, draw, load
from tests.common.models import assemble, cases

CASES = {case.name: case for case in cases(2)}
FLOAT = TensorProto.FLOAT


def named(proto: onnx.ModelProto, **options: Any) -> dict[str, list[str]]:
    """Layer -> the names of its weights."""
    return {layer.name: [name for _, name in layer.weights] for layer in layers(load(proto), **options)}


def values(model: analyzer.Model) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("cnn", {"conv1": ["w1"], "conv2": ["w2"], "head": ["w3"]}),
        ("nhwc", {"conv1": ["w1"], "conv2": ["w2"], "head": ["w3"]}),
        ("mlp", {"first": ["w1"], "second": ["w2"]}),
        ("series", {"conv1": ["w1"], "conv2": ["w2"], "head": ["w3"]}),
        ("tokens", {"embed": ["table"], "first": ["w1"], "second": ["w2"]}),
        ("two", {"conv": ["w1"], "head1": ["w2"], "first": ["v1"], "head2": ["v2"]}),
        ("half", {"conv1": ["w1"], "conv2": ["w2"], "head": ["w3"]}),
    ],
)
def test_every_kind_of_network_has_its_layers_in_order(case: str, expected: dict[str, list[str]]) -> None:
    found = named(CASES[case].proto)
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("draw_kind", ["permuted", "normal"])
@pytest.mark.parametrize("case", list(CASES))
def test_drawn_weights_keep_their_scale_and_nothing_else_changes(case: str, draw_kind: Any) -> None:
    model = load(CASES[case].proto)
    before = model.proto.SerializeToString()
    known = layers(model)
    other = randomised(model, known[-1:], 0, draw_kind)
    old, new = values(model), values(other)
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed == {name for _, name in known[-1].weights}
    for name in changed:
        assert new[name].dtype == old[name].dtype
        if draw_kind == "permuted":
            np.testing.assert_array_equal(np.sort(new[name], None), np.sort(old[name], None))
        else:
            assert new[name].std() == pytest.approx(float(old[name].std()), rel=0.8)
    assert model.proto.SerializeToString() == before
    assert other.explain(CASES[case].feed, "gradient").score.shape == (2,)


def test_a_layer_is_drawn_alike_in_any_company_and_anew_with_another_seed() -> None:
    model = load(CASES["cnn"].proto)
    known = layers(model)
    alone, together, again = (
        values(randomised(model, chosen, seed)) for chosen, seed in ((known[1:2], 0), (known, 0), (known[1:2], 1))
    )
    np.testing.assert_array_equal(alone["w2"], together["w2"])
    assert (alone["w2"] != again["w2"]).any()


def test_normal_weights_have_the_old_mean_and_deviation() -> None:
    weights = (3 + 0.5 * draw(1, 200, 100)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"], name="linear")]
    proto = assemble(nodes, {"x": (FLOAT, ["n", 200])}, {"scores": (FLOAT, ["n", 100])}, {"w": weights})
    model = load(proto)
    drawn = values(randomised(model, layers(model), 0, "normal"))["w"]
    assert drawn.mean() == pytest.approx(3, abs=0.02) and drawn.std() == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(drawn.reshape(-1), weights.reshape(-1))[0, 1]) < 0.05


def test_biases_and_norms_follow_a_parameter() -> None:
    model = load(CASES["cnn"].proto)
    kept, drawn = (values(randomised(model, layers(model, biases), 0, biases=biases)) for biases in (False, True))
    old = values(model)
    for name in ("b1", "b2", "b3"):
        np.testing.assert_array_equal(kept[name], old[name])
        assert (drawn[name] != old[name]).any() and sorted(drawn[name]) == sorted(old[name])
    norm = [
        helper.make_node("Conv", ["x", "w"], ["z"], name="conv"),
        helper.make_node("BatchNormalization", ["z", "scale", "shift", "mean", "var"], ["scores"], name="norm"),
    ]
    weights = {"w": draw(1, 4, 2, 1, 1), "scale": draw(2, 4), "shift": draw(3, 4), "mean": draw(4, 4)}
    weights["var"] = np.abs(draw(5, 4)) + 0.1
    proto = assemble(norm, {"x": (FLOAT, ["n", 2, 4, 4])}, {"scores": (FLOAT, ["n", 4, 4, 4])}, weights)
    assert list(named(proto)) == ["conv"] and list(named(proto, biases=True)) == ["conv", "norm"]
    model = load(proto)
    drawn = values(randomised(model, layers(model, True), 0, "normal", True))
    assert (drawn["var"] > 0).all() and sorted(drawn["var"]) == sorted(weights["var"])


def _constant(name: str, value: Array) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def test_constants_behind_transposes_and_of_constant_nodes_count_once() -> None:
    """A weight that two nodes read, once transposed, belongs to the first; a table of shapes is no weight."""
    nodes = [
        _constant("w", draw(1, 6, 6)),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["z"], name="tied_first"),
        helper.make_node("MatMul", ["z", "w"], ["y"], name="tied_second"),
        helper.make_node("Shape", ["head"], ["size"]),
        helper.make_node("Slice", ["size", "zero", "one"], ["six"]),
        helper.make_node("Concat", ["minus", "six"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["y", "wanted"], ["same"], name="reshape"),
        helper.make_node("MatMul", ["same", "head"], ["scores"], name="head"),
    ]
    weights = {"head": draw(2, 6, 3), "zero": np.array([0]), "one": np.array([1]), "minus": np.array([-1])}
    proto = assemble(nodes, {"x": (FLOAT, ["n", 6])}, {"scores": (FLOAT, ["n", 3])}, weights)
    assert named(proto) == {"tied_first": ["w"], "head": ["head"]}
    model = load(proto)
    other = randomised(model, layers(model)[:1], 0)
    stored = next(e.t for node in other.proto.graph.node if node.op_type == "Constant" for e in node.attribute)
    assert (numpy_helper.to_array(stored) != draw(1, 6, 6)).any()
    assert (other.predict(draw(3, 2, 6))["scores"] != model.predict(draw(3, 2, 6))["scores"]).any()


def test_masks_tables_of_rotations_and_preprocessing_are_no_weights() -> None:
    """What is added or multiplied element by element must be a table with more than two values to count."""
    mask = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"], name="preprocess"),
        helper.make_node("MatMul", ["centred", "w"], ["z"], name="scores_of_pairs"),
        helper.make_node("Add", ["z", "mask"], ["masked"], name="mask"),
        helper.make_node("Add", ["masked", "positions"], ["scores"], name="positions"),
    ]
    weights = {"mean": draw(1, 1, 1, 4), "w": draw(2, 4, 4), "mask": mask, "positions": draw(3, 4, 4)}
    proto = assemble(nodes, {"x": (FLOAT, ["n", 4, 4])}, {"scores": (FLOAT, ["n", 4, 4])}, weights)
    assert named(proto) == {"scores_of_pairs": ["w"], "positions": ["positions"]}


def test_recurrent_layers_and_their_biases() -> None:
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w", "r", "b"], ["", "last"], name="lstm", hidden_size=5, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["last"], ["swapped"], perm=[1, 0, 2]),
        helper.make_node("Flatten", ["swapped"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["scores"], name="head"),
    ]
    weights = {"w": draw(1, 2, 20, 3), "r": draw(2, 2, 20, 5), "b": draw(3, 2, 40), "head": draw(4, 10, 1)}
    proto = assemble(nodes, {"x": (FLOAT, [6, "n", 3])}, {"scores": (FLOAT, ["n", 1])}, weights)
    assert named(proto) == {"lstm": ["w", "r"], "head": ["head"]}


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quantised_weights_are_permuted_and_their_scales_kept(kind: Any) -> None:
    stored = np.random.default_rng(0).integers(0, 100, (6, 3)).astype(kind)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "point"], ["wide"], axis=1),
        helper.make_node("MatMul", ["x", "wide"], ["scores"], name="linear"),
    ]
    weights = {"w": stored, "scale": np.array([0.1, 0.2, 0.3], np.float32), "point": np.zeros(3, kind)}
    proto = assemble(nodes, {"x": (FLOAT, ["n", 6])}, {"scores": (FLOAT, ["n", 3])}, weights)
    assert named(proto, biases=True) == {"linear": ["w"]}
    model = load(proto)
    new = values(randomised(model, layers(model), 0, "normal"))
    assert new["w"].dtype == kind and sorted(new["w"].reshape(-1)) == sorted(stored.reshape(-1))
    assert (new["w"] != stored).any() and new["scale"].tolist() == weights["scale"].tolist()


def test_integer_products_and_four_bits() -> None:
    stored = np.random.default_rng(0).integers(-8, 8, (6, 4)).astype(np.int8)
    packed = helper.make_tensor("w4", TensorProto.INT4, [6, 4], stored.reshape(-1).tolist())
    nodes = [
        helper.make_node("DequantizeLinear", ["w4", "one"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["z"], name="four"),
        helper.make_node("DynamicQuantizeLinear", ["z"], ["q", "scale", "point"]),
        helper.make_node("MatMulInteger", ["q", "w8", "point"], ["whole"], name="eight"),
        helper.make_node("Cast", ["whole"], ["scores"], to=FLOAT),
    ]
    weights = {"one": np.array(1, np.float32), "w8": stored[:4, :3]}
    proto = assemble(nodes, {"x": (FLOAT, ["n", 6])}, {"scores": (FLOAT, ["n", 3])}, weights, opset=21)
    proto.ir_version = 10
    proto.graph.initializer.append(packed)
    assert named(proto) == {"four": ["w4"], "eight": ["w8"]}
    model = load(proto)
    new = randomised(model, layers(model), 0)
    four = next(tensor for tensor in new.proto.graph.initializer if tensor.name == "w4")
    assert four.data_type == TensorProto.INT4
    assert sorted(numpy_helper.to_array(four).astype(int).reshape(-1)) == sorted(stored.astype(int).reshape(-1))
    assert new.predict(draw(1, 2, 6))["scores"].shape == (2, 3)


def test_weights_inside_branches_and_functions() -> None:
    """Two branches with weights of the same name are two layers, where the branch stands."""

    def branch(name: str, seed: int) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("MatMul", ["z", "inner"], ["y"], name=name)], name, [],
            [helper.make_tensor_value_info("y", FLOAT, ["n", 4])], [numpy_helper.from_array(draw(seed, 4, 4), "inner")],
        )  # fmt: skip

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="first"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch("then", 1), else_branch=branch("else", 2)),
        helper.make_node("Scaled", ["y", "head"], ["scores"], name="call", domain="own"),
    ]
    weights = {"w": draw(3, 4, 4), "head": draw(4, 4, 3), "yes": np.array(True)}
    proto = assemble(
        nodes, {"x": (FLOAT, ["n", 4])}, {"scores": (FLOAT, ["n", 3])}, weights, domains={"own": 1}
    )  # fmt: skip
    inside = [
        _constant("table", draw(5, 4, 4)),
        helper.make_node("MatMul", ["a", "table"], ["m"], name="in_function"),
        helper.make_node("MatMul", ["m", "b"], ["c"], name="by_argument"),
    ]
    proto.functions.append(
        helper.make_function("own", "Scaled", ["a", "b"], ["c"], inside, [helper.make_opsetid("", 17)])
    )
    model = load(proto)
    found = {layer.name: [name for _, name in layer.weights] for layer in layers(model)}
    assert found == {
        "first": ["w"], "then": ["inner"], "else": ["inner"], "call": ["head"], "in_function": ["table"],
    }  # fmt: skip
    x, old = draw(6, 2, 4), model.predict(draw(6, 2, 4))["scores"]
    changed = {layer.name: (randomised(model, [layer], 0).predict(x)["scores"] != old).any() for layer in layers(model)}
    assert changed == {"first": True, "then": True, "else": False, "call": True, "in_function": True}


def test_a_copy_is_loaded_as_the_model_was_with_its_external_weights(tmp_path: Path) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CASES["series"].proto)
    path = tmp_path / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = analyzer.load(path, "cpu", labels=["ant", "bee", "cat"], layout="NCT", threads=1)
    other = randomised(model, layers(model)[:1], 0)
    assert (other.device, other.threads, other.labels, other.layouts) == (
        model.device, model.threads, model.labels, model.layouts,
    )  # fmt: skip
    new, old = values(other), values(load(CASES["series"].proto))
    assert {name for name in old if not np.array_equal(new[name], old[name])} == {"w1"}
    assert other.predict(CASES["series"].feed)["scores"].shape == (2, 3)


def test_large_weights_that_stay_in_the_file(tmp_path: Path) -> None:
    weights = draw(1, 128, 64)  # larger than what is kept in the protobuf
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"], name="linear")]
    proto = assemble(nodes, {"x": (FLOAT, ["n", 128])}, {"scores": (FLOAT, ["n", 64])}, {"w": weights})
    path = tmp_path / "model.onnx"
    onnx.save_model(proto, path)
    model = analyzer.load(path, "cpu", threads=1)
    new = values(randomised(model, layers(model), 0))["w"]
    np.testing.assert_array_equal(np.sort(new, None), np.sort(weights, None))


def test_a_model_without_weights_is_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["scores"])]
    proto = assemble(nodes, {"x": (FLOAT, ["n", 3])}, {"scores": (FLOAT, ["n", 3])}, {})
    with pytest.raises(UnsupportedError, match="no weights to randomise"):
        layers(load(proto))
