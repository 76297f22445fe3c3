"""Which rule each node gets, on real exports; tables rebuilt by hand equal the built-in ones exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import analyzer
from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.methods import registry
from graph_rules import composites

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
BOX = {"low": -3.0, "high": 3.0}
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"needs the reference networks in {GOLDEN}")


@pytest.fixture(scope="module")
def resnet() -> analyzer.Model:
    return analyzer.load(GOLDEN / "resnet" / "model_opset18_dynamo.onnx", device="cpu")


@pytest.fixture(scope="module")
def transformer() -> analyzer.Model:
    return analyzer.load(GOLDEN / "transformer" / "model_opset17_legacy.onnx", device="cpu")


def inputs(name: str) -> np.ndarray:
    with np.load(GOLDEN / name / "io.npz") as read:
        return np.asarray(read["input"])


def relevance(model: analyzer.Model, x: np.ndarray, **params: Any) -> np.ndarray:
    return model.explain(x, method="lrp", target=[0, 1], **params).raw


# --- a table made by hand equals the built-in one ----------------------------------------------------------------

REBUILT: dict[str, tuple[str, dict[str, str]]] = {
    "epsilon-plus": ("epsilon", {"convolution": "zplus"}),
    "zplus": ("epsilon", {"*": "zplus"}),
    "epsilon-plus-flat": ("epsilon", {"Conv": "zplus", "first": "flat", "/conv1/Conv": "flat"}),
    "epsilon-alpha2-beta1": ("epsilon-plus", {"Conv@depth<0.5": "alpha-beta:2,1", "Conv@depth>=0.5": "alpha-beta"}),
    "epsilon-gamma-box": ("epsilon", {"convolution": "gamma:0.25", "first@depth<0.2": "z-box"}),
    "gamma": ("zplus", {"linear": "gamma", "*@depth:0-1": "gamma:0.25"}),
    "w2": ("flat", {"*": "w2"}),
    "epsilon": ("gamma", {"*Conv*": "epsilon", "node_*": "epsilon", "Gemm": "epsilon", "convolution": "epsilon"}),
}


@golden
@pytest.mark.parametrize("name", REBUILT)
def test_a_rebuilt_composite_equals_the_built_in_one(name: str) -> None:
    model = analyzer.load(GOLDEN / "resnet" / "model_opset17_legacy.onnx", device="cpu")
    x = inputs("resnet")
    start, rules = REBUILT[name]
    if name == "epsilon":
        rules = {key: rule for key, rule in rules.items() if not key.startswith("node_")}
    bounds = BOX if "box" in name else {}
    expected = relevance(model, x, composite=name, **bounds)
    assert np.abs(expected).max() > 0
    assert np.array_equal(relevance(model, x, composite=start, rules=rules, **bounds), expected)


@golden
@pytest.mark.parametrize(("net", "name"), [("resnet", name) for name in composites.names()] + [
    ("transformer", name) for name in ("epsilon", "epsilon-plus", "attn-lrp")
])  # fmt: skip
def test_the_rules_that_are_listed_are_those_that_are_used(net: str, name: str, request: pytest.FixtureRequest) -> None:
    """Every node given by name the rule that the list says it has: the same relevance to the last bit."""
    model, x = request.getfixturevalue(net), inputs(net)
    rows = analyzer.rules(model, x, name, **BOX)
    layers = {row.node: row.rule or "" for row in rows if row.kind in ("convolution", "linear")}
    other = "epsilon" if name != "epsilon" else "zplus"
    expected = relevance(model, x, composite=name, **BOX)
    rest = {row.kind: row.rule or "" for row in rows if row.node not in layers}
    assert np.array_equal(relevance(model, x, composite=other, rules=layers | rest, **BOX), expected)


@golden
def test_depth_ranges_change_the_layers_they_name(resnet: analyzer.Model) -> None:
    rows = analyzer.rules(resnet, composite="epsilon", rules={"Conv@depth<0.5": "zplus"})
    convolutions = [row for row in rows if row.kind == "convolution"]
    assert len(convolutions) == 9
    for row in convolutions:
        assert row.override is (row.depth < 0.5)
        assert row.rule == ("zplus" if row.depth < 0.5 else "epsilon:1e-06")
        assert row.key == ("Conv@depth<0.5" if row.depth < 0.5 else "convolution")
    by_name = {"rules": {row.node: "zplus" for row in convolutions if row.depth < 0.5}}
    x = inputs("resnet")
    found = relevance(resnet, x, composite="epsilon", rules={"Conv@depth<0.5": "zplus"})
    assert np.array_equal(found, relevance(resnet, x, composite="epsilon", **by_name))
    assert not np.array_equal(found, relevance(resnet, x, composite="epsilon"))


@golden
def test_depths_of_a_resnet_and_a_transformer(resnet: analyzer.Model, transformer: analyzer.Model) -> None:
    """conv1, three blocks of two (shortcuts beside the first), fc; two blocks of attention 2 + feed-forward 2, fc."""
    found = [row.depth * 8 for row in analyzer.rules(resnet) if row.kind in ("convolution", "linear")]
    assert sorted(found) == [1, 2, 3, 4, 4, 5, 6, 6, 7, 8]
    layers = [row for row in analyzer.rules(transformer) if row.kind == "linear"]
    q_k_v_o = [1, 1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9]
    assert [round(row.depth * 9) for row in layers] == q_k_v_o


@golden
def test_layer_norm_as_identity_and_attention_by_its_values(transformer: analyzer.Model) -> None:
    rules = {"layer-norm": "pass", "attention": "values-take-all", "softmax": "block"}
    rows = analyzer.rules(transformer, composite="attn-lrp", rules=rules)
    assert {row.rule for row in rows if row.kind == "layer-norm"} == {"pass"}
    assert {row.rule for row in rows if row.kind == "attention"} == {"values-take-all:1e-06"}
    x = inputs("transformer")
    one = relevance(transformer, x, composite="attn-lrp", rules=rules)
    # with the values taking all, nothing arrives at the softmax: what it does makes no difference
    assert np.array_equal(one, relevance(transformer, x, composite="attn-lrp", rules=rules | {"softmax": "gradient"}))
    assert not np.array_equal(one, relevance(transformer, x, composite="attn-lrp"))


@golden
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_mixing_form_of_a_composite(resnet: analyzer.Model, gamma: float) -> None:
    """gamma = 0 is z+, gamma = 1 epsilon with the same stabiliser."""
    x = inputs("resnet")
    found = relevance(resnet, x, composite="gamma", gamma=gamma, mixing=True, precision="float64")
    expected = relevance(resnet, x, composite="epsilon" if gamma else "zplus", precision="float64")
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    by_rule = relevance(resnet, x, composite="epsilon", rules={"*": f"gamma:{gamma},mixing"}, precision="float64")
    assert np.array_equal(found, by_rule)


# --- the list ----------------------------------------------------------------------------------------------------


@golden
def test_every_onnx_node_on_the_way_is_listed_in_order(resnet: analyzer.Model) -> None:
    rows = analyzer.rules(resnet)
    names = [node.name for node in resnet.proto.graph.node]
    listed = [row.node for row in rows]
    assert [name for name in names if name in listed] == list(dict.fromkeys(listed))
    assert {row.operator for row in rows} == {"Conv", "Relu", "MaxPool", "Add", "ReduceMean", "Reshape", "Gemm"} | {
        row.operator for row in rows if row.kind == "movement"
    }


@golden
@pytest.mark.parametrize("key", ["/bn1/BatchNormalization", "/bn1/*"])
def test_a_node_that_was_folded_away_is_said_to_be(key: str) -> None:
    model = analyzer.load(GOLDEN / "resnet" / "model_opset17_legacy_nofold.onnx", device="cpu")
    with pytest.raises(UsageError, match="'/bn1/BatchNormalization' was folded into '/conv1/Conv', name that"):
        analyzer.rules(model, rules={key: "pass"})


def unlike() -> onnx.ModelProto:
    """A layer and a determinant, for which no composite has a rule."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="layer"),
        helper.make_node("Det", ["h"], ["d"], name="determinant"),
        helper.make_node("Add", ["d", "c"], ["y"], name="plus"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 3, 3])],
        [helper.make_tensor_value_info("y", 1, ["n"])],
        [onnx.numpy_helper.from_array(np.diag([1, 2, 3]).astype(np.float32), "w"),
         onnx.numpy_helper.from_array(np.float32(1), "c")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_nodes_without_a_rule_are_listed_and_a_rule_can_be_given() -> None:
    model = analyzer.load(unlike(), device="cpu")
    lacking = [row for row in analyzer.rules(model) if row.rule is None]
    assert {(row.node, row.operator, row.key, row.override) for row in lacking} == {("determinant", "Det", None, False)}
    given = analyzer.rules(model, rules={row.kind: "gradient" for row in lacking})
    assert all(row.rule for row in given)
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    with pytest.raises(AnalyzerError, match=r"rule\.missing"):
        model.explain(x, method="lrp")
    assert np.isfinite(model.explain(x, method="lrp", rules={"Det": "gradient"}).attribution).all()


@golden
def test_an_explanation_records_its_overrides(resnet: analyzer.Model, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('composite = "epsilon"\n[rules]\n"Conv@depth<0.5" = "zplus"\n')
    x = inputs("resnet")
    one = resnet.explain(x, method="lrp", target=[0, 1], rules=str(tmp_path / "r.toml"))
    assert one.record["overrides"] == {"Conv@depth<0.5": "zplus"}
    assert one.params["rules"] == {"Conv@depth<0.5": "zplus"}
    assert one.params["composite"] == "epsilon"
    assert "overrides" not in resnet.explain(x, method="lrp", target=[0, 1]).record
    again = resnet.explain(x, method="lrp", target=[0, 1], **one.params)
    assert np.array_equal(one.raw, again.raw)
    assert np.array_equal(one.raw, relevance(resnet, x, rules=tmp_path / "r.toml"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"composite": "epsilon-pluss"}, "did you mean epsilon-plus?"),
        ({"rules": {"Mul": "epsilon"}}, "did you mean MatMul?"),
        ({"rules": {"MatMul@depth>0.5": "gama"}}, "did you mean gamma["),
        ({"rules": {"MatMul@depth<0.5": "gamma"}}, "'MatMul' is at depth 1"),
        ({"epsilom": 1.0}, "did you mean epsilon?"),
        ({"composite": "epsilon-gamma-box"}, "low and high"),
    ],
)
def test_refusals(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        analyzer.rules(analyzer.load(unlike(), device="cpu"), **params)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_no_trial_input_fits_wants_one() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"]), helper.make_node("Reshape", ["y", "s"], ["z"])], "g",
        [helper.make_tensor_value_info("x", 1, ["n", "m"])], [helper.make_tensor_value_info("z", 1, [4])],
        [onnx.numpy_helper.from_array(np.array([4]), "s")],
    )  # fmt: skip
    model = analyzer.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(InputError) as caught:
        analyzer.rules(model)
    assert caught.value.code == "inspect.no_trial"
    assert analyzer.rules(model, np.eye(2, dtype=np.float32))[0].operator == "MatMul"


def test_parameters_of_the_list_are_those_of_the_method() -> None:
    """``rules(**params)`` of any explanation's own parameters works."""
    assert analyzer.rules(analyzer.load(unlike(), device="cpu"), **registry.get("lrp").check({}))
