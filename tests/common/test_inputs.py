"""Several inputs: every chosen one gets a map from every method, the others are held fixed and named."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError, UsageError
from analyzer.methods import registry
from tests.common.models import assemble

Array = NDArray[Any]
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(5)
TABLE = RNG.standard_normal((7, 3)).astype(np.float32)
X = {
    "picture": RNG.standard_normal((2, 1, 4, 4)).astype(np.float32),
    "words": np.array([[1, 4, 2], [6, 3, 5]]),
    "row": RNG.standard_normal((2, 2)).astype(np.float32),
    "attention_mask": np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], np.float32),
}
PERTURBING = [name for name, info in registry.methods().items() if info.needs == "runtime"]
WORDLESS = ("bubbles", "lime-noise")
SWEEPING = ["gradient", "gradient-x-input", "integrated-gradients", "smoothgrad", "gradient-shap", "lrp", "deeplift"]
QUICK: dict[str, dict[str, Any]] = {"integrated-gradients": {"steps": 8}, "smoothgrad": {"samples": 3}}


def network(linear: bool = False) -> analyzer.Model:
    """A picture, words under a mask and a row of numbers; two scores."""
    bend = "Identity" if linear else "Tanh"
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["c"], ["pixels"]),
        helper.make_node("Gather", ["table", "words"], ["w"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["m"]),
        helper.make_node("Mul", ["w", "m"], ["masked"]),
        helper.make_node("Flatten", ["masked"], ["text"]),
        helper.make_node("Concat", ["pixels", "text", "row"], ["all"], axis=1),
        helper.make_node("Gemm", ["all", "first", "bias"], ["h"]),
        helper.make_node(bend, ["h"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["scores"]),
    ]
    rng = np.random.default_rng(1)

    def weights(*shape: int) -> Array:
        return (rng.standard_normal(shape) / math.sqrt(shape[0])).astype(np.float32)

    constants = {
        "kernel": weights(1, 1, 3, 3), "table": TABLE, "last": np.array([2]), "first": weights(27, 6), "bias": weights(6),
        "second": weights(6, 2),
    }  # fmt: skip
    inputs = {
        "picture": (FLOAT, ["n", 1, 4, 4]), "words": (INT, ["n", 3]), "row": (FLOAT, ["n", 2]),
        "attention_mask": (FLOAT, ["n", 3]),
    }  # fmt: skip
    return analyzer.load(assemble(nodes, inputs, {"scores": (FLOAT, ["n", 2])}, constants), "cpu", threads=1)


def suited(method: str) -> tuple[str, ...]:
    """What is explained where nothing is named: everything but the mask; words can't be blended, nor made noisy."""
    return ("picture", "row") if method in WORDLESS else ("picture", "words", "row")


def quick(method: str) -> dict[str, Any]:
    return {**registry.get(method).quick, **QUICK.get(method, {})}


@pytest.mark.parametrize("method", [*SWEEPING, "meaningful-perturbation", *PERTURBING])
def test_every_input_gets_a_map_and_the_rest_is_named(method: str) -> None:
    e = network().explain(X, method, target=1, **quick(method))
    assert tuple(e.attributions) == suited(method)
    for name, value in e.attributions.items():
        assert value.ndim == X[name].ndim
        assert np.broadcast_shapes(value.shape, X[name].shape) == X[name].shape
        assert np.abs(value).max() > 0, name
    fixed = [name for name in X if name not in suited(method)]
    assert f"held fixed: {', '.join(fixed)}" in e.record["notes"]


@pytest.mark.parametrize("name", ["words", "row", "attention_mask"])
@pytest.mark.parametrize("method", [*SWEEPING, "meaningful-perturbation", *PERTURBING])
def test_a_named_input_is_the_only_one_explained(method: str, name: str) -> None:
    if method in WORDLESS and name == "words":
        with pytest.raises(UsageError) as caught:
            network().explain(X, method, target=1, inputs=name, **quick(method))
        assert caught.value.code == "method.unsuitable"
        return
    e = network().explain(X, method, target=1, inputs=[name], **quick(method))
    assert list(e.attributions) == [name]
    assert np.abs(e.attribution).max() > 0
    assert f"held fixed: {', '.join(other for other in X if other != name)}" in e.record["notes"]


def test_the_order_is_the_users() -> None:
    for method in ("gradient", "occlusion", "lime"):
        e = network().explain(X, method, target=1, inputs=["row", "picture"], **quick(method))
        assert list(e.attributions) == ["row", "picture"], method
        assert e.attribution.shape == (2, 2)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "auto"])
def test_a_gradient_doesn_t_depend_on_what_else_is_explained(backend: str) -> None:
    model = network()
    whole = model.explain(X, "gradient", target=1, backend=backend)
    for name in ("row", "words"):
        alone = model.explain(X, "gradient", target=1, inputs=name, backend=backend)
        np.testing.assert_allclose(alone.attributions[name], whole.attributions[name], atol=1e-6)


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift"])
def test_what_is_held_fixed_takes_no_part_in_the_sum(method: str) -> None:
    model = network()
    params: dict[str, Any] = {"steps": 60} if method == "integrated-gradients" else {}
    e = model.explain(X, method, target=1, inputs="row", **params)
    at_zero = model.predict({**X, "row": np.zeros_like(X["row"])})["scores"][:, 1]
    assert e.completeness is not None
    np.testing.assert_allclose(e.completeness.expected, model.predict(X)["scores"][:, 1] - at_zero, atol=1e-5)
    np.testing.assert_allclose(e.attribution.sum(1), e.completeness.expected, atol=1e-4)


def hidden(model: analyzer.Model, pieces: dict[str, list[tuple[Any, ...]]], sample: int) -> Callable[[Any], float]:
    """The score of a sample where only some pieces (input, which) are left; the rest is 0."""
    every = [(name, piece) for name, found in pieces.items() for piece in found]

    def score(present: Any) -> float:
        feed = {name: value[sample : sample + 1].copy() for name, value in X.items()}
        for name, piece in every:
            if (name, piece) not in present:
                feed[name][(0, *piece)] = 0
        return float(model.predict(feed)["scores"][0, 1])

    return score


BLOCKS = [(0, slice(i, i + 2), slice(j, j + 2)) for i in (0, 2) for j in (0, 2)]
PIECES: dict[str, list[tuple[Any, ...]]] = {"picture": BLOCKS, "words": [(0,), (1,), (2,)], "row": [(0,), (1,)]}


def test_ablation_is_the_drop_of_every_piece_of_every_input() -> None:
    model = network()
    e = model.explain(X, "feature-ablation", target=1, segments="grid:2")
    assert e.record["segments"] == [9, 9]
    for sample in range(2):
        score = hidden(model, PIECES, sample)
        every = {(name, str(piece)): (name, piece) for name, found in PIECES.items() for piece in found}
        for name, piece in every.values():
            drop = score(every.values()) - score([each for each in every.values() if each != (name, piece)])
            got = np.broadcast_to(e.attributions[name][sample], X[name].shape[1:])[piece]
            np.testing.assert_allclose(got, drop, atol=1e-5)


def test_shapley_values_are_those_of_one_game_of_all_inputs() -> None:
    model = network()
    e = model.explain(X, "kernel-shap", target=1, segments="grid:2", samples=512)
    assert e.record["exact"] == [True, True]
    players = [(name, piece) for name, found in PIECES.items() for piece in found]
    for sample in range(2):
        score = hidden(model, PIECES, sample)
        worth = {mask: score([players[i] for i in range(9) if mask >> i & 1]) for mask in range(1 << len(players))}
        for at, (name, piece) in enumerate(players):
            want = 0.0
            rest = [i for i in range(9) if i != at]
            for size in range(9):
                share = math.factorial(size) * math.factorial(8 - size) / math.factorial(9)
                for chosen in itertools.combinations(rest, size):
                    mask = sum(1 << i for i in chosen)
                    want += share * (worth[mask | 1 << at] - worth[mask])
            got = np.broadcast_to(e.attributions[name][sample], X[name].shape[1:])[piece]
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_occlusion_moves_its_windows_over_every_input() -> None:
    model = network()
    e = model.explain(X, "occlusion", target=1, window=1, stride=1)
    assert e.record["windows"] == {"picture": 16, "words": 3, "row": 2}
    pixels: dict[str, list[tuple[Any, ...]]] = {
        "picture": [(0, i, j) for i in range(4) for j in range(4)],
        "words": [(0,), (1,), (2,)],
        "row": [(0,), (1,)],
    }
    for sample in range(2):
        score = hidden(model, pixels, sample)
        every = [(name, piece) for name, found in pixels.items() for piece in found]
        whole = score(every)
        for name, piece in every:
            got = e.attributions[name][sample][piece]
            np.testing.assert_allclose(got, whole - score([each for each in every if each != (name, piece)]), atol=1e-5)


def test_a_budget_is_shared_by_all_inputs() -> None:
    e = network().explain(X, "occlusion", target=1, window=1, stride=1, budget=12)
    assert e.record["evaluations"] <= 2 * 12
    assert set(e.attributions) == {"picture", "words", "row"}
    with pytest.raises(UsageError) as caught:
        network().explain(X, "occlusion", target=1, budget=2)
    assert caught.value.code == "params.invalid"


def test_weights_of_a_linear_model_are_found_in_all_inputs() -> None:
    model = network(linear=True)
    ablation = model.explain(X, "feature-ablation", target=1, segments="grid:2").attributions
    fit = model.explain(X, "lime", target=1, segments="grid:2", samples=400, alpha=0.0, fill=0.0)
    assert min(fit.record["r2"]) > 1 - 1e-6
    for name, value in fit.attributions.items():
        np.testing.assert_allclose(value, ablation[name], atol=1e-4)


def test_random_masks_of_all_inputs_estimate_what_each_shows() -> None:
    """On a linear model the centred map of RISE is (1 - keep) times each element's part of the score."""
    model = network(linear=True)
    e = model.explain(X, "rise", target=1, masks=6000, keep=0.5, centre=True)
    parts = model.explain(X, "feature-ablation", target=1).attributions
    for name in ("words", "row"):
        np.testing.assert_allclose(
            e.attributions[name], 0.5 * parts[name], atol=0.05 * max(1.0, np.abs(parts[name]).max())
        )


def test_a_number_of_segments_is_shared() -> None:
    e = network().explain(X, "feature-ablation", target=1, segments=6)
    assert all(4 <= count <= 8 for count in e.record["segments"])


@pytest.mark.parametrize(
    ("inputs", "code"),
    [("rwo", "inputs.unknown"), (["row", "row"], "inputs.none"), ([], "inputs.none")],
)
@pytest.mark.parametrize("method", ["gradient", "lime"])
def test_what_isn_t_an_input_is_refused(method: str, inputs: Any, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        network().explain(X, method, target=1, inputs=inputs)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_an_input_without_a_path_is_refused_by_name() -> None:
    nodes = [helper.make_node("Cast", ["k"], ["c"], to=FLOAT), helper.make_node("Add", ["x", "c"], ["y"])]
    model = analyzer.load(
        assemble(nodes, {"x": (FLOAT, ["n", 2]), "k": (INT, ["n", 2])}, {"y": (FLOAT, None)}, {}), "cpu"
    )
    x: dict[str, Array] = {"x": np.ones((1, 2), np.float32), "k": np.ones((1, 2), np.int64)}
    with pytest.raises(AnalyzerError) as caught:
        model.explain(x, "gradient", target=0, inputs=["x", "k"])
    assert "'k'" in str(caught.value)
    assert list(model.explain(x, "occlusion", target=0, inputs=["x", "k"]).attributions) == ["x", "k"]


def test_a_mask_of_segments_fits_one_input() -> None:
    with pytest.raises(UsageError) as caught:
        network().explain(X, "lime", target=1, segments=np.array([0, 1, 1]))
    assert caught.value.code == "params.invalid"
    e = network().explain(X, "feature-ablation", target=1, segments=np.array([0, 1, 1]), inputs="words")
    assert e.record["segments"] == [2, 2]


def test_a_compiled_explanation_has_the_named_inputs_alone() -> None:
    import onnxruntime

    model = network()
    done = analyzer.compile(model, "gradient-x-input", target=1, inputs=["row"], example=X)
    assert dict(done.relevances) == {"row": "relevance"}
    session = onnxruntime.InferenceSession(done.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(["relevance"], X)[0]
    np.testing.assert_allclose(got, model.explain(X, "gradient-x-input", target=1).attributions["row"], atol=1e-6)


def test_noise_of_several_inputs_doesn_t_depend_on_how_much_is_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    want = model.explain(X, "smoothgrad", target=1, samples=6, backend="torch")
    monkeypatch.setattr(type(model), "variations_at_once", lambda self, feed: 2)
    got = model.explain(X, "smoothgrad", target=1, samples=6, backend="torch")
    for name, value in want.attributions.items():
        np.testing.assert_allclose(got.attributions[name], value, rtol=1e-4, atol=1e-7)
    analyzer.compile(model, "smoothgrad", target=1, samples=6, example=X)  # held against torch


def test_the_drawn_map_says_that_there_are_others(tmp_path: Any) -> None:
    from analyzer.report.explained import panel

    notes = panel(network().explain(X, "gradient", target=1), 0).notes
    assert "the map of picture is drawn; the files hold those of words, row too" in notes
