"""Targets that aren't linear, and those on several outputs: values, derivatives and completeness against numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from tests.analyzer.targets.nets import Array, X, twin, values

RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((2, 5))
INNER = RNG.standard_normal(8)


def cosine(value: Array, reference: Array) -> Array:
    return np.asarray(value @ reference / np.linalg.norm(value, axis=1) / np.linalg.norm(reference))


SCORES: dict[str, Callable[[dict[str, Array], Array], Array]] = {
    "cosine:a.npy": lambda v, x: cosine(v["y"], A),
    "distance:a.npy": lambda v, x: -np.linalg.norm(v["y"] - A, axis=1),
    "not:distance:a.npy": lambda v, x: np.linalg.norm(v["y"] - A, axis=1),
    "reconstruction": lambda v, x: ((v["r"] - x) ** 2).sum(1),
    "contrast:cosine:a.npy,cosine:b.npy": lambda v, x: cosine(v["y"], A) - cosine(v["y"], B),
    "contrast:y[:,1],r[:,2]": lambda v, x: v["y"][:, 1] - v["q"][:, 2],
    "contrast:contrast:y[:,1:3],s,not:cosine:a.npy": lambda v, x: (
        v["y"][:, 1] + v["y"][:, 2] - v["s"][:, 0] + cosine(v["y"], A)
    ),
    "contrast:weights:a.npy,reconstruction": lambda v, x: v["y"] @ A - ((v["r"] - x) ** 2).sum(1),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("a", A),
        ("b", B),
        ("inner", INNER),
        ("zero", np.zeros(5)),
        ("nan", A * np.nan),
        ("six", np.ones(6)),
    ):
        np.save(f"{name}.npy", value)


@pytest.fixture
def model() -> analyzer.Model:
    return analyzer.load(twin(), "cpu")


def score(target: str, x: Array) -> Array:
    return SCORES[target](values(x), x.astype(np.float64))


def derivative(target: str, x: Array) -> Array:
    """Central differences."""
    steps = np.eye(x.shape[1]) * 1e-5
    wide = x.astype(np.float64)
    return np.stack([(score(target, wide + d) - score(target, wide - d)) / 2e-5 for d in steps], axis=1)


@pytest.mark.parametrize("target", SCORES)
def test_scores_and_gradients_are_those_of_the_functional(model: analyzer.Model, target: str) -> None:
    e = model.explain(X, "gradient", target)
    np.testing.assert_allclose(e.score, score(target, X), rtol=1e-5, atol=1e-6)
    want = derivative(target, X)
    np.testing.assert_allclose(e.attribution, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("target", SCORES)
@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift"])
def test_what_promises_completeness_is_complete(model: analyzer.Model, target: str, method: str) -> None:
    baseline = np.full_like(X[0], 0.5)  # at 0 the output is zero and a cosine jumps
    options: dict[str, Any] = {"steps": 200} if method == "integrated-gradients" else {}
    e = model.explain(X, method, target, baseline=baseline, **options)
    want = score(target, X) - score(target, np.broadcast_to(baseline, X.shape))
    np.testing.assert_allclose(e.attribution.sum(1), want, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(e.completeness.expected, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", SCORES)
def test_perturbing_follows_the_functional(model: analyzer.Model, target: str) -> None:
    want = np.stack([score(target, X) - score(target, np.where(np.arange(6) == i, 0, X)) for i in range(6)], axis=1)
    for method, options in (("feature-ablation", {}), ("occlusion", {"window": 1, "stride": 1})):
        e = model.explain(X, method, target, fill=0, **options)
        np.testing.assert_allclose(e.attribution, want, atol=1e-5 * max(1, np.abs(want).max()))


@pytest.mark.parametrize(
    "method", ["lrp", "smoothgrad", "gradient-shap", "lime", "kernel-shap", "rise", "guided-backprop"]
)
def test_every_family_takes_them(model: analyzer.Model, method: str) -> None:
    for target in ("cosine:a.npy", "reconstruction"):
        e = model.explain(X, method, target)
        assert np.isfinite(e.attribution).all()
        assert np.abs(e.attribution).max() > 0


def test_relevance_of_a_cosine_is_conserved(model: analyzer.Model) -> None:
    e = model.explain(X, "lrp", "cosine:a.npy", composite="epsilon")
    np.testing.assert_allclose(e.attribution.sum(1), score("cosine:a.npy", X), rtol=1e-4)


def test_compiled_sweeps_follow_them(model: analyzer.Model) -> None:
    torch = model.explain(X, "gradient", "cosine:a.npy", backend="torch")
    compiled = model.explain(X, "gradient", "cosine:a.npy", backend="onnxruntime")
    assert compiled.record["backend"] == "onnxruntime"
    np.testing.assert_allclose(compiled.attribution, torch.attribution, atol=1e-6)


def test_an_inner_value_is_held_against_a_reference(model: analyzer.Model) -> None:
    e = model.explain(X, "gradient", "cosine:inner.npy", layer="body")
    np.testing.assert_allclose(e.score, cosine(values(X)["t"], INNER), rtol=1e-5)


def test_the_output_that_a_reference_fits_is_taken(model: analyzer.Model) -> None:
    e = model.explain(X, "gradient", "distance:six.npy")
    np.testing.assert_allclose(e.score, -np.linalg.norm(values(X)["r"] - 1, axis=1), rtol=1e-5)
    assert "'r'" in e.record["notes"][0]


def test_one_per_sample_and_several_at_once(model: analyzer.Model) -> None:
    targets = ["cosine:a.npy", "reconstruction"]
    mixed = model.explain(X, "gradient", targets)
    both = model.explain_targets(X, [*targets, "top1"], "gradient")
    for sample, alone in enumerate(both[:2]):
        np.testing.assert_allclose(mixed.attribution[sample], alone.attribution[sample], atol=1e-6)
        assert mixed.target[sample] == targets[sample]
    assert both[2].target[0].startswith("class")


@pytest.mark.parametrize("target", [*SCORES, "weights:a.npy", "contrast:y[0,1],y[1,2]", "not:top2"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_is_its_samples(model: analyzer.Model, target: str, batch: int) -> None:
    x = np.concatenate([X, X[::-1]])
    fixed = analyzer.load(twin(batch), "cpu")
    for method in ("gradient", "feature-ablation"):
        want, got = model.explain(x, method, target), fixed.explain(x, method, target)
        np.testing.assert_allclose(got.attribution, want.attribution, atol=1e-5)
        assert got.target == want.target


def test_weights_for_each_sample_of_a_fixed_batch(model: analyzer.Model) -> None:
    weights = RNG.standard_normal((2, 5))
    want = model.explain(X, "gradient", weights)
    np.testing.assert_allclose(want.score, (values(X)["y"] * weights).sum(1), rtol=1e-5)
    got = analyzer.load(twin(1), "cpu").explain(X, "gradient", weights)
    np.testing.assert_allclose(got.attribution, want.attribution, atol=1e-6)


def test_other_element_types_and_old_opsets() -> None:
    for proto in (twin(opset=9), twin(kind=TensorProto.DOUBLE)):
        e = analyzer.load(proto, "cpu").explain(
            X.astype("d" if proto.graph.input[0].type.tensor_type.elem_type == 11 else "f"), "gradient", "cosine:a.npy"
        )
        np.testing.assert_allclose(e.attribution, derivative("cosine:a.npy", X), atol=1e-5)


def test_at_the_reference_itself_nothing_changes_the_distance(model: analyzer.Model) -> None:
    np.save("own.npy", model.predict(X[:1])["y"][0])
    e = model.explain(X[:1], "gradient", "distance:own.npy")
    assert abs(e.score[0]) < 1e-5
    assert np.isfinite(e.attribution).all()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("cosine:none.npy", "target.file"), ("cosine:", "target.file"), ("cosine:zero.npy", "target.zero_vector"),
        ("distance:nan.npy", "target.nonfinite"), ("cosine:inner.npy", "target.bad_shape"),
        ("weights:inner.npy", "target.bad_shape"), ("weights:zero.npy", "target.empty"),
        ("weights:nan.npy", "target.nonfinite"), ("weights:text.npy", "target.file"), ("y", "target.syntax"),
        ("contrast:y[:,1,2", "target.syntax"), ("contrast:y]:,1[,2", "target.syntax"), ("y[:,1", "target.syntax"),
        ("not:", "target.syntax"), ("not:9", "target.out_of_range"), ("region:0", "target.not_a_class_map"),
        ("not:" * 100 + "0", "target.syntax"), ("contrast:detection:0,1", "target.detection"),
        ("not:detection:0", "target.detection"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(model: analyzer.Model, target: str, code: str) -> None:
    Path("text.npy").write_text("no array")
    for method in ("gradient", "occlusion"):
        with pytest.raises(UsageError) as caught:
            model.explain(X, method, target)
        assert caught.value.code == code
        assert caught.value.hint
        assert "\n" not in str(caught.value)


def test_a_zero_output_has_no_direction(model: analyzer.Model) -> None:
    with pytest.raises(UsageError) as caught:
        model.explain(np.zeros((1, 6), np.float32), "gradient", "cosine:a.npy")
    assert caught.value.code == "target.zero_vector"


def test_reconstruction_needs_an_output_like_an_input() -> None:
    proto = twin()
    del proto.graph.output[1]
    with pytest.raises(UsageError) as caught:
        analyzer.load(proto, "cpu").explain(X, "gradient", "reconstruction")
    assert caught.value.code == "target.bad_shape"


def test_models_with_nodes_behind_them_are_let_go(model: analyzer.Model) -> None:
    for seed in range(6):
        np.save("c.npy", np.random.default_rng(seed).standard_normal(5))
        model.explain(X, "gradient", "cosine:c.npy")
    assert len(model.extensions) == 4
    model.clear()
    assert not model.extensions


def test_what_is_linear_in_one_output_compiles(model: analyzer.Model) -> None:
    for target in ("not:top1", "contrast:y[:,1],2", "weights:a.npy", A, "s", "not:contrast:top2,0"):
        done = analyzer.compile(model, "lrp", target, batch=2)
        assert done.difference is not None
        assert done.difference < 1e-4
    for target in ("cosine:a.npy", "reconstruction", "contrast:y[:,1],r[:,1]"):
        with pytest.raises((UsageError, UnsupportedError)) as caught:
            analyzer.compile(model, "gradient", target)
        assert caught.value.code == "target.not_compilable"


def test_at_a_shell(tmp_path: Path) -> None:
    """Several targets of every kind in one call, each with files of its own."""
    import json

    import onnx
    from click.testing import CliRunner

    from cli.explain import command

    onnx.save(twin(), "m.onnx")
    np.save("x.npy", X[:1])
    targets = ["cosine:a.npy", "not:top1", "contrast:weights:a.npy,y[:,2]", "reconstruction", "s"]
    flags = [word for target in targets for word in ("-t", target)]
    done = CliRunner().invoke(
        command, ["m.onnx", "x.npy", "-m", "gradient", *flags, "-o", "out", "--json", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["explanations"]
    assert [each["target"][0] for each in found][-1] == "s"
    assert len({file for each in found for file in each["files"]}) == 3 * len(targets)
