"""The evaluator: scoring perturbed copies in batches, whatever the model's batch and other inputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer.errors import UsageError
from tests.common.checks import load
from tests.common.engines import context, evaluator
from tests.common.models import assemble, cases, mlp

CASES = {case.name: case for case in cases()}


def test_copies_are_scored_in_order_over_several_batches() -> None:
    case = CASES["mlp"]
    here = evaluator(load(case.proto), case.feed, target=[0, 1, 2])
    copies = np.random.default_rng(0).standard_normal((150, 6)).astype(np.float32)
    expected = load(case.proto).predict(copies)["scores"]
    for sample in range(3):
        np.testing.assert_allclose(list(here.evaluate(sample, copies)), expected[:, sample], rtol=1e-5)
    assert list(here.evaluate(0, [])) == []


def test_copies_are_taken_a_batch_at_a_time() -> None:
    """Memory is the batches under way: no further copy is drawn before the scores of earlier ones are taken."""
    case = CASES["mlp"]
    here = evaluator(load(case.proto), case.feed)
    drawn = 0

    def copies() -> Any:
        nonlocal drawn
        for _ in range(1000):
            drawn += 1
            yield case.x[0]

    scores, workers = here.evaluate(0, copies()), here.model.session_pool.workers
    for done in range(1, 1001):
        next(scores)
        assert done <= drawn < done + (workers + 2) * here.batch_size()
    assert drawn == 1000


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_fixed_batch_is_filled_up(batch: int) -> None:
    model = load(mlp(batch))
    x = CASES["mlp"].x[:1].repeat(batch, axis=0)
    here = evaluator(model, {"x": x})
    copies = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    expected = load(CASES["mlp"].proto).predict(copies)["scores"][:, 1]
    np.testing.assert_allclose(list(here.evaluate(0, copies)), expected, rtol=1e-5)
    assert here.batch_size() == batch


def test_other_inputs_go_along_sample_by_sample() -> None:
    case = CASES["two"]
    here = evaluator(load(case.proto), case.feed)
    assert here.perturbed == "picture"
    copies = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    for sample in range(3):
        feed = {"picture": copies, "row": case.feed["row"][[sample] * 4]}
        expected = load(case.proto).predict(feed)["scores"][:, 1]
        np.testing.assert_allclose(list(here.evaluate(sample, copies)), expected, rtol=1e-5)


def test_inputs_without_a_batch_axis_go_along_unchanged() -> None:
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    shapes = {"scale": (TensorProto.FLOAT, []), "x": (TensorProto.FLOAT, ["n", 3])}
    model = load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 3])}, {}))
    feed = {"scale": np.array(2.0, np.float32), "x": np.ones((2, 3), np.float32)}
    here = evaluator(model, feed)
    assert here.perturbed == "x"
    assert list(here.evaluate(1, np.full((3, 3), 5.0, np.float32))) == [10.0, 10.0, 10.0]
    done = model.explain(feed, method="occlusion", target=0)
    np.testing.assert_allclose(done.attributions["x"], [[2, 0, 0], [2, 0, 0]])


def test_a_model_whose_output_has_no_batch_axis_is_refused_by_perturbation() -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    model = load(assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, {"y": (TensorProto.FLOAT, [])}, {}))
    with pytest.raises(UsageError) as caught:
        model.explain(np.ones((1, 3), np.float32), method="occlusion")
    assert caught.value.code == "target.no_batch"


def test_nothing_to_perturb_is_said_so() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    model = load(assemble(nodes, {"x": (TensorProto.BOOL, ["n", 3])}, {"y": (TensorProto.FLOAT, ["n", 3])}, {}))
    with pytest.raises(UsageError) as caught:
        model.explain(np.ones((1, 3), bool), method="occlusion", target=0)
    assert caught.value.code == "input.no_batch"


def test_completeness_sums_all_inputs_in_double_precision() -> None:
    case = CASES["two"]
    here = context(load(case.proto), case.feed)
    maps = {"picture": np.full((3, 1, 2, 2), 2**24, np.float32), "row": np.ones((3, 1), np.float32)}
    found = here.complete(maps, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found.total, [4 * 2**24 + 1] * 3)
    np.testing.assert_array_equal(found.delta, found.total - [1, 2, 3])


def test_the_score_is_the_targets() -> None:
    case = CASES["mlp"]
    here = evaluator(load(case.proto), case.feed, target="contrast:0,2")
    scores = load(case.proto).predict(case.feed)["scores"].astype(np.float64)
    np.testing.assert_allclose(here.score, scores[:, 0] - scores[:, 2])
    assert here.score.dtype == np.float64
    assert here.batch == 3
