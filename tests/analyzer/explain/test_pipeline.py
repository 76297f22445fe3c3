"""What every explanation goes through: options, input checks, pieces, the record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.methods import registry
from analyzer.methods.registry import get
from tests.common.checks import load
from tests.common.models import Array, assemble, cases, mlp, two_inputs

CASES = {case.name: case for case in cases()}
X = CASES["mlp"].x


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"method": "gradeint"}, "method.unknown"),
        ({"precision": "half"}, "precision.unknown"),
        ({"backend": "tensorrt"}, "backend.unknown"),
        ({"score": "margin"}, "score.unknown"),
        ({"steps": 5}, "params.unknown"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(options: dict[str, Any], code: str) -> None:
    model = load(mlp())
    with pytest.raises(UsageError) as caught:
        model.explain(X, **options)
    assert caught.value.code == code
    assert not model.backends.tracer._traces


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_inputs_that_are_not_finite_are_refused(method: str, value: float) -> None:
    x = X.copy()
    x[1, 2] = value
    with pytest.raises(InputError, match="'x'") as caught:
        load(mlp()).explain(x, method=method)
    assert caught.value.code == "data.nonfinite"


@pytest.mark.parametrize("batch", ["n", 1, 2])
@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_an_empty_batch_is_one_clear_line(batch: int | str, method: str) -> None:
    model = load(mlp(batch))
    nothing = np.zeros((0, 6), np.float32)
    calls = [lambda: model.explain(nothing, method=method)]
    if batch == "n":
        assert model.predict(nothing)["scores"].shape[0] == 0
    else:
        calls.append(lambda: model.predict(nothing))
    for call in calls:
        with pytest.raises(AnalyzerError) as caught:
            call()
        assert caught.value.code == "data.bad_shape"


def test_the_record_has_what_reproduces_it() -> None:
    record = load(mlp(end="Softmax")).explain(X, seed=4).record
    assert record["seed"] == 4
    assert record["precision"] == "float32"
    assert record["device"] == "cpu"
    assert len(record["model"]["sha256"]) == 64
    assert 0 < record["seconds"]["method"] <= record["seconds"]["total"]
    assert record["parity"]["ok"] is True
    assert record["notes"] == []
    json.dumps(record)


def test_the_prediction_is_the_models_own_output() -> None:
    model = load(mlp(end="Softmax"))
    found = model.explain(X, target=0).record["prediction"]
    output = model.predict(X)["scores"]
    assert found["kind"] == "probability"
    for row, values in zip(found["top"], output, strict=True):
        assert [entry[0] for entry in row] == list(np.argsort(-values, kind="stable"))
        assert [entry[1] for entry in row] == [("ant", "bee", "cat")[entry[0]] for entry in row]
        np.testing.assert_allclose([entry[2] for entry in row], np.sort(values)[::-1])
    assert load(mlp()).explain(X).record["prediction"]["kind"] == "logit"


def test_maps_have_no_prediction() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = load(assemble(nodes, {"x": (1, ["n", 2, 4, 4])}, {"y": (1, ["n", 2, 4, 4])}, {}))
    done = model.explain(np.ones((2, 2, 4, 4), np.float32))
    assert done.record["prediction"] is None
    assert "class map" in done.record["notes"][0]


# --- pieces ---------------------------------------------------------------------------------------------------------


def fixed_two() -> tuple[analyzer.Model, dict[str, Array]]:
    """A model with two inputs and a batch fixed at 2, and four samples."""
    return load(two_inputs(2)), {k: np.concatenate([v, v[:1]]) for k, v in CASES["two"].feed.items()}


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients", "occlusion"])
def test_pieces_of_a_fixed_batch_are_put_together_for_every_input(method: str) -> None:
    model, feed = fixed_two()
    done = model.explain(feed, method=method, target=[0, 1, 2, 0])
    free = load(two_inputs()).explain(feed, method=method, target=[0, 1, 2, 0])
    assert done.attributions.keys() == free.attributions.keys()
    for name, expected in free.attributions.items():
        np.testing.assert_allclose(done.attributions[name], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(done.score, free.score, rtol=1e-5)
    assert done.classes == (0, 1, 2, 0)
    assert done.target == free.target
    for name, value in feed.items():
        np.testing.assert_array_equal(done.inputs[name], value)
    if free.completeness is not None:
        assert done.completeness is not None
        np.testing.assert_allclose(done.completeness.total, free.completeness.total, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(done.completeness.expected, free.completeness.expected, rtol=1e-3, atol=1e-4)


def test_per_sample_records_are_put_together_too() -> None:
    done = load(mlp(1)).explain(X, method="lime", samples=30)
    free = load(mlp()).explain(X, method="lime", samples=30)
    assert done.record["r2"] == pytest.approx(free.record["r2"], rel=1e-4)
    assert done.record["segments"] == free.record["segments"]
    assert len(done.record["r2"]) == 3
    assert done.record["evaluations"] == free.record["evaluations"]


def test_what_is_noted_in_any_piece_is_noted_once() -> None:
    model, noted = load(mlp(1)), iter(["one", "two", "one"])
    function = get("occlusion").function

    def with_note(context: Any, **params: Any) -> Any:
        result = function(context, **params)
        result.notes.append(next(noted))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._METHODS, "occlusion", replace(get("occlusion"), function=with_note))
        done = model.explain(X, method="occlusion")
    assert done.record["notes"] == ["one", "two"]


def test_progress_over_pieces_goes_up_to_the_end_once() -> None:
    steps: list[tuple[int, int]] = []
    load(mlp(1)).explain(X, method="occlusion", progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


def test_a_batch_that_cannot_be_cut_evenly_is_refused() -> None:
    with pytest.raises(InputError, match="fixed at 2") as caught:
        load(mlp(2)).explain(X)
    assert caught.value.code == "data.bad_shape"


def test_an_index_of_the_batch_means_the_whole_batch_where_it_is_cut() -> None:
    """The first index of a target is the batch that was given, not the piece that is run."""
    free = load(mlp()).explain(X, target="scores[1,2]")
    cut = load(mlp(1)).explain(X, target="scores[1,2]")
    np.testing.assert_allclose(cut.attribution, free.attribution, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cut.score, free.score, rtol=1e-5)
    with pytest.raises(UsageError) as caught:
        load(mlp(1)).explain(X, target="scores[3,2]")
    assert caught.value.code == "target.out_of_range"


def test_a_batch_of_other_inputs_is_the_targets_batch() -> None:
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    shapes = {"scale": (TensorProto.FLOAT, []), "x": (TensorProto.FLOAT, ["n", 3])}
    model = load(assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 3])}, {}))
    feed = {"scale": np.array(2.0, np.float32), "x": np.ones((2, 3), np.float32)}
    done = model.explain(feed, method="gradient", target=[0, 2])
    np.testing.assert_allclose(done.attributions["x"], [[2, 0, 0], [0, 0, 2]])
    np.testing.assert_allclose(done.attributions["scale"], 2.0)
