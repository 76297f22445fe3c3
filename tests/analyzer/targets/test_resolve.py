"""From a target to the value that holds its scores: what is computed, how weights are laid out, what the record gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer import Model, load
from analyzer.errors import UsageError
from analyzer.targets.resolve import resolve_on
from tests.common.models import assemble

X = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
FLOAT = TensorProto.FLOAT


def model(*nodes: Any, inner: tuple[Any, ...] = ("n", 3), **weights: Any) -> Model:
    """Logits ``z`` of three classes, and nodes that make ``y`` of them."""
    weights = {"w": np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32), **weights}
    product = helper.make_node("MatMul", ["x", "w"], ["z"], name="product")
    return load(assemble([product, *nodes], {"x": (FLOAT, ("n", 6))}, {"y": (FLOAT, inner)}, weights), "cpu")


def test_the_values_of_several_targets_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model(helper.make_node("Softmax", ["z"], ["y"]))
    calls = []
    values = Model.values
    monkeypatch.setattr(Model, "values", lambda self, *args: calls.append(args) or values(self, *args))
    fetched: dict[Any, Any] = {}
    for target in (0, 1, "top1"):
        found = resolve_on(loaded, {"x": X}, target, fetched=fetched)
        assert (found.scored.value, found.scored.kind) == ("z", "logit")
        np.testing.assert_allclose(found.output, X @ np.random.default_rng(1).standard_normal((6, 3)), rtol=1e-5)
    assert len(calls) == 1


def test_the_record_has_the_models_own_prediction() -> None:
    loaded = model(helper.make_node("Softmax", ["z"], ["y"]))
    probabilities = loaded.predict(X)["y"]
    prediction = resolve_on(loaded, {"x": X}, 0).record["prediction"]
    assert prediction["kind"] == "probability"
    for row, top in zip(probabilities, prediction["top"], strict=True):
        assert [index for index, _, _ in top] == list(np.argsort(-row))
        assert [value for _, _, value in top] == pytest.approx(sorted(row.tolist(), reverse=True))


def test_logits_with_another_batch_axis_give_way_to_probabilities() -> None:
    nodes = [
        helper.make_node("Reshape", ["z", "column"], ["t"]), helper.make_node("Sigmoid", ["t"], ["p"]),
        helper.make_node("Reshape", ["p", "rows"], ["y"]),
    ]  # fmt: skip
    loaded = model(*nodes, column=np.array([-1, 1]), rows=np.array([-1, 3]))
    found = resolve_on(loaded, {"x": X}, 2)
    assert (found.scored.value, found.scored.kind) == ("y", "probability")
    np.testing.assert_allclose(found.target.score(found.output), loaded.predict(X)["y"][:, 2], rtol=1e-6)


def test_an_inner_value_needs_the_batch_as_its_first_axis() -> None:
    nodes = [helper.make_node("ReduceSum", ["z"], ["s"], keepdims=0), helper.make_node("Add", ["z", "s"], ["y"])]
    loaded = model(*nodes)
    assert resolve_on(loaded, {"x": X}, 1, layer="product").scored.value == "z"
    with pytest.raises(UsageError, match="has no row for each of the 2 samples"):
        resolve_on(loaded, {"x": X}, 0, layer="s")


def test_target_and_layer_cant_both_name_a_value() -> None:
    loaded = model(helper.make_node("Relu", ["z"], ["y"]))
    for target in ("y[:,1]", "detection:0"):
        with pytest.raises(UsageError) as caught:
            resolve_on(loaded, {"x": X}, target, layer="product")
        assert caught.value.code == "layer.twice"
