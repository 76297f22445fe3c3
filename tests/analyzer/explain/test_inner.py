"""Inner units as targets, relevance at inner values, totals by node, several targets in one pass.

Compared with models cut out of the full one by onnx's extractor, which don't contain what lies outside.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from analyzer import Model, load
from analyzer.errors import UnsupportedError, UsageError
from graph_rules import sweep
from tests.graph_rules.nets import ResNetLike, VGGLike, exported, pictures, seeded

SHAPE = (2, 3, 12, 12)
X = pictures(*SHAPE, seed=3)
INNER = "/blocks/blocks.0/relu2/Relu"
SWEEPS = ["gradient", "saliency", "sensitivity", "gradient-x-input", "guided-backprop", "deconvnet", "lrp"]


@pytest.fixture(scope="module")
def resnet() -> Model:
    return exported(seeded(ResNetLike), X)


def cut(model: Model, inputs: list[str], outputs: list[str]) -> Model:
    """The part of a model between values, as a model of its own."""
    full = onnx.shape_inference.infer_shapes(model.proto)
    return load(Extractor(full).extract_model(inputs, outputs))


def value_of(model: Model, node: str) -> str:
    return next(str(n.output[0]) for n in model.proto.graph.node if n.name == node)


# --- relevance at an inner value ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SWEEPS)
def test_relevance_at_an_inner_value_is_that_of_the_model_behind_it(resnet: Model, method: str) -> None:
    value = value_of(resnet, INNER)
    behind = cut(resnet, [value], [resnet.proto.graph.output[0].name])
    there = resnet.values(resnet.feed(X), [value])[value]
    params: dict[str, Any] = {"composite": "epsilon"} if method == "lrp" else {}
    found = resnet.explain(X, method=method, target=[1, 4], at=INNER, **params)
    expected = behind.explain(there, method=method, target=[1, 4], **params).attribution
    assert list(found.attributions) == [INNER]
    assert found.attribution.shape == there.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found.attribution, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_first_layer_stays_the_first_layer(resnet: Model) -> None:
    """A rule for the first layer is for the model's, not for the first one behind the inner value."""
    plain = resnet.explain(X, method="lrp", composite="epsilon-plus", at=INNER)
    flat = resnet.explain(X, method="lrp", composite="epsilon-plus-flat", at=INNER)
    np.testing.assert_array_equal(plain.attribution, flat.attribution)


@pytest.mark.parametrize("suffix", ["npz", "json", "png", "html"])
def test_relevance_at_an_inner_value_is_saved(resnet: Model, suffix: str, tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / f"inner.{suffix}"
    found = resnet.explain(X, method="lrp", at=INNER)
    found.save(path)
    assert path.stat().st_size > 500
    if suffix == "npz":
        np.testing.assert_array_equal(np.load(path)["attribution"], found.attribution)


def test_only_single_sweeps_can_be_given_at_an_inner_value(resnet: Model) -> None:
    for method in ("integrated-gradients", "grad-cam", "occlusion"):
        with pytest.raises(UsageError, match=r"methods that can: .*lrp"):
            resnet.explain(X, method=method, at=INNER)


@pytest.mark.parametrize(("option", "method"), [("at", "lrp"), ("layer", "gradient"), ("layer", "occlusion")])
def test_unknown_inner_values_are_refused(resnet: Model, option: str, method: str) -> None:
    options: dict[str, Any] = {option: "/blocks/blocks.0/relu2/Rel"}
    with pytest.raises(UsageError, match=r"no node or value '/blocks/blocks\.0/relu2/Rel'") as problem:
        resnet.explain(X, method=method, **options)
    assert "did you mean" in str(problem.value)


# --- inner units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*SWEEPS, "integrated-gradients", "occlusion", "kernel-shap"])
@pytest.mark.parametrize("target", ["top1", 3, "[:,2,1:3,4]", "contrast:1,2"])
def test_an_inner_unit_is_explained_as_the_output_of_the_model_before_it(
    resnet: Model, method: str, target: str | int
) -> None:
    value = value_of(resnet, INNER)
    before = cut(resnet, ["x" if "x" in resnet.inputs else next(iter(resnet.inputs))], [value])
    params: dict[str, Any] = {"steps": 8} if method == "integrated-gradients" else {}
    params |= {"samples": 32, "segments": "grid:2"} if method == "kernel-shap" else {}
    found = resnet.explain(X, method=method, target=target, layer=INNER, **params)
    same: Any = target
    if (
        target == "top1"
    ):  # of an output of this shape it would be a region, of an inner unit it is the strongest element
        elements = [name.removeprefix("element [") for name in found.target]
        same = [f"[{sample},{element}" for sample, element in enumerate(elements)]
    expected = before.explain(X, method=method, target=same, **params)
    scale = np.abs(expected.attribution).max()
    assert target == "top1" or found.target == expected.target
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)
    np.testing.assert_allclose(found.attribution, expected.attribution, rtol=0, atol=2e-5 * scale)


def test_a_target_may_name_the_inner_value_itself(resnet: Model) -> None:
    value = value_of(resnet, INNER)
    by_layer = resnet.explain(X, target="[:,2]", layer="blocks.0")
    for name in (INNER, value):
        by_target = resnet.explain(X, target=f"{name}[:,2]")
        np.testing.assert_array_equal(by_target.attribution, by_layer.attribution)
    with pytest.raises(UsageError, match="names a value, and so does layer"):
        resnet.explain(X, target=f"{value}[:,2]", layer=INNER)


def test_the_prediction_stays_that_of_the_model(resnet: Model) -> None:
    inner, outer = resnet.explain(X, layer=INNER), resnet.explain(X)
    assert inner.record["prediction"] == outer.record["prediction"]


def test_cam_methods_keep_their_own_layer(resnet: Model) -> None:
    found = resnet.explain(X, method="grad-cam", layer=INNER)
    assert found.params["layer"] == INNER
    assert found.score.tolist() == resnet.explain(X, method="grad-cam").score.tolist()


def test_a_value_without_a_row_for_each_sample_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[1, 0]),
         helper.make_node("Transpose", ["t"], ["y"], "back", perm=[1, 0])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(UsageError, match="has no row for each of the 2 samples"):
        model.explain(np.ones((2, 3), np.float32), layer="turn")


# --- totals by node -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "alpha-beta"])
def test_totals_are_the_sums_of_the_relevance_there(resnet: Model, composite: str) -> None:
    e = resnet.explain(X, method="lrp", composite=composite)
    order = [node.name for node in resnet.proto.graph.node]
    assert list(e.nodes) == [name for name in order if name in e.nodes]
    assert len(e.nodes) >= len(order) - 2
    for name in list(e.nodes)[::2]:
        there = resnet.explain(X, method="lrp", composite=composite, at=name).attribution.astype(np.float64)
        totals = e.nodes[name]
        parts = there.sum(), there.clip(min=0).sum(), there.clip(max=0).sum()
        np.testing.assert_allclose((totals.sum, totals.positive, totals.negative), parts, rtol=1e-5, atol=1e-6)


def test_the_leak_is_the_share_of_the_biases() -> None:
    """y = w x + b under epsilon 0 in closed form; the ReLU hands everything on."""
    w, b = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32), np.array([0.25, 1.0], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["z"], "layer", transB=1),
         helper.make_node("Relu", ["z"], ["a"], "relu"), helper.make_node("ReduceSum", ["a"], ["y"], "sum", keepdims=1)],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )  # fmt: skip
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = np.array([[2.0, 0.5]], np.float32)
    e = model.explain(x, method="lrp", composite="epsilon", epsilon=0.0, initial="logit")
    z = x @ w.T + b
    assert (z > 0).all()
    assert e.nodes["layer"].sum == pytest.approx(z.sum())
    assert e.nodes["layer"].leak == pytest.approx(b.sum())
    assert e.nodes["layer"].bias == pytest.approx(b.sum())
    assert e.nodes["relu"].leak == e.nodes["relu"].bias == pytest.approx(0)
    assert e.nodes["layer"].sum - e.nodes["layer"].leak == pytest.approx(e.attribution.sum())
    stabilised = model.explain(x, method="lrp", composite="epsilon", epsilon=1.0, initial="logit").nodes["layer"]
    assert stabilised.bias == pytest.approx((b * z / (z + 1)).sum())
    assert stabilised.leak == pytest.approx(((b + 1) * z / (z + 1)).sum())


def test_deeplift_totals_are_shares_of_the_difference(resnet: Model) -> None:
    e = resnet.explain(X, method="deeplift", pooling="exact")
    assert e.completeness is not None
    full = e.completeness.expected.sum()
    last, first = list(e.nodes.values())[-1], next(iter(e.nodes.values()))
    assert last.sum == pytest.approx(full, rel=1e-4)
    assert first.sum == pytest.approx(full, rel=1e-4)
    assert all(abs(node.leak) <= 1e-4 * abs(full) for node in e.nodes.values())


def test_totals_of_what_isnt_one_sweep_are_refused(resnet: Model) -> None:
    cases: dict[str, dict[str, Any]] = {
        "integrated-gradients": {"steps": 3}, "occlusion": {}, "eigen-cam": {}, "deeplift": {"variant": "reveal-cancel"}
    }  # fmt: skip
    for method, params in cases.items():
        with pytest.raises(UnsupportedError, match=f"{method} isn't one reverse sweep"):
            resnet.explain(X, method=method, **params).nodes  # noqa: B018


def test_totals_of_a_fixed_batch_add_up_its_pieces() -> None:
    free = exported(seeded(VGGLike), X)
    proto = onnx.ModelProto()
    proto.CopyFrom(free.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    fixed = load(proto).explain(X, method="lrp").nodes
    for name, totals in free.explain(X, method="lrp").nodes.items():
        assert fixed[name].sum == pytest.approx(totals.sum, rel=1e-4, abs=1e-6)


def test_an_explanation_is_pickled_without_its_model(resnet: Model) -> None:
    again = pickle.loads(pickle.dumps(resnet.explain(X, method="lrp")))
    assert again.attribution.shape == X.shape
    with pytest.raises(UsageError, match="lost its model"):
        again.nodes  # noqa: B018


# --- several targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*SWEEPS, "integrated-gradients", "grad-cam", "smoothgrad", "deeplift"])
def test_several_targets_equal_one_by_one(resnet: Model, method: str) -> None:
    targets: list[Any] = [0, "top2", "contrast:1,2", [4, 3]]
    params: dict[str, Any] = (
        {"steps": 4} if method == "integrated-gradients" else {"samples": 3} if method == "smoothgrad" else {}
    )
    together = resnet.explain_targets(X, targets, method, **params)
    for target, found in zip(targets, together, strict=True):
        separate = resnet.explain(X, method, target, **params)
        assert found.target == separate.target
        np.testing.assert_array_equal(found.attribution, separate.attribution)
        np.testing.assert_array_equal(found.score, separate.score)


def test_one_forward_pass_serves_all_targets(resnet: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    forward: Callable[..., object] = sweep.forward

    def counted(*args: object, **kwargs: object) -> object:
        passes.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(sweep, "forward", counted)
    found = resnet.explain_targets(X, list(range(5)), "lrp", backend="torch", composite="epsilon-plus")
    assert len(passes) == 1
    assert len({e.attribution.tobytes() for e in found}) == 5
