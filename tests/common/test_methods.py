"""What every registered method must do on every kind of model that it is meant for."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.errors import AnalyzerError
from tests.common.checks import LINEAR, QUICK, each_method, explain, load, registered, same, suits
from tests.common.models import LABELS, Case, cases, cnn, mlp

CASES = {case.name: case for case in cases()}
SUITED = [(method, name) for name, case in CASES.items() for method in registered() if suits(method, case)]
UNSUITED = [(method, name) for name, case in CASES.items() for method in registered() if not suits(method, case)]
on_suited = pytest.mark.parametrize(("method", "name"), SUITED)


@functools.cache
def model_of(name: str) -> analyzer.Model:
    """The case's model; its traces are shared by the tests as by a program's calls."""
    return load(CASES[name].proto)


def run(method: str, name: str, feed: dict[str, Any] | None = None, **options: Any) -> analyzer.Explanation:
    """An explanation, by default of class 1."""
    chosen = {"target": 1, **options}
    return explain(model_of(name), CASES[name].feed if feed is None else feed, method, **chosen)


@on_suited
def test_the_attribution_fits_the_input_and_is_finite(method: str, name: str) -> None:
    found = run(method, name)
    assert list(found.attributions) == [k for k in CASES[name].feed if k in found.attributions]
    assert found.attributions.keys() == found.raws.keys()
    for key, attribution in found.attributions.items():
        value = CASES[name].feed[key]
        assert attribution.ndim == value.ndim
        assert np.broadcast_shapes(attribution.shape, value.shape) == value.shape
        assert len(attribution) == len(value)
        assert attribution.dtype.kind == "f"
        assert np.isfinite(attribution).all()
        assert np.isfinite(found.raws[key]).all()
    assert np.abs(found.attribution).max() > 0 or not registered()[method].signed
    if not registered()[method].signed:
        assert found.attribution.min() >= 0
    assert found.method == method
    assert found.params.keys() == registered()[method].parameters.keys()
    assert found.score.shape == (3,)


@on_suited
def test_the_score_is_the_models_output_for_the_target(method: str, name: str) -> None:
    found = run(method, name)
    expected = model_of(name).predict(CASES[name].feed)["scores"][:, 1]
    np.testing.assert_allclose(found.score, expected.astype(np.float64), rtol=1e-6)
    assert found.classes == (1, 1, 1)
    assert found.target == ("bee (1)",) * 3


@on_suited
def test_the_same_seed_gives_the_same_numbers(method: str, name: str) -> None:
    """To the last bit in the trace; in the runtime to the rounding of batches, whose size is found by measuring."""
    relative = 0.0 if analyzer.methods()[method].needs == "trace" else 1e-6
    first, again = run(method, name, seed=3), run(method, name, seed=3)
    afresh = explain(load(CASES[name].proto), CASES[name].feed, method, target=1, seed=3)
    for key, attribution in first.attributions.items():
        for other in (again, afresh):
            limit = relative * np.abs(attribution).max(initial=0)
            np.testing.assert_allclose(other.attributions[key], attribution, rtol=0, atol=limit)


@on_suited
def test_a_sample_alone_equals_the_sample_in_a_batch(method: str, name: str) -> None:
    together = run(method, name)
    for index in range(3):
        alone = run(method, name, {k: v[index : index + 1] for k, v in CASES[name].feed.items()})
        for key, attribution in together.attributions.items():
            same(alone.attributions[key], attribution[index : index + 1], 1e-2 if name == "half" else 1e-4)


@each_method
def test_target_forms_agree(method: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    reference = run(method, name, target=2)
    for form in ("2", [2, 2, 2], np.array([2, 2, 2]), ("2", 2, "cat"), "cat", "CAT", "scores[:,2]", "scores[..., 2:]"):
        found = run(method, name, target=form)
        np.testing.assert_allclose(found.attribution, reference.attribution, rtol=1e-6, atol=1e-12, err_msg=str(form))
        np.testing.assert_array_equal(found.score, reference.score)


@each_method
def test_ranked_targets_are_the_classes_of_that_rank(method: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    ranked = np.argsort(-model_of(name).predict(CASES[name].feed)["scores"].astype(np.float64), axis=1)
    for rank in (1, 3):
        classes = [int(c) for c in ranked[:, rank - 1]]
        found, expected = run(method, name, target=f"top{rank}"), run(method, name, target=classes)
        assert found.classes == tuple(classes)
        np.testing.assert_allclose(found.attribution, expected.attribution, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize("name", ["cnn", "mlp", "tokens", "two"])
def test_a_contrast_is_the_difference(method: str, name: str) -> None:
    found = run(method, name, target="contrast:ant,2")
    a, b = run(method, name, target=0), run(method, name, target=2)
    for key, attribution in found.attributions.items():
        same(attribution, a.attributions[key] - b.attributions[key])
    np.testing.assert_allclose(found.score, a.score - b.score, rtol=1e-6)
    assert found.target == ("ant (0) minus cat (2)",) * 3


@each_method
@pytest.mark.parametrize(
    ("target", "code"),
    [
        (3, "target.out_of_range"),
        (-1, "target.out_of_range"),
        ("top4", "target.out_of_range"),
        ("zebra", "target.unknown_label"),
        ([0, 1], "target.count"),
        ("contrast:0", "target.syntax"),
        ("scores[:,3]", "target.out_of_range"),
        ("other[:,0]", "target.unknown_output"),
        ("scores[__import__('os')]", "target.syntax"),
        (1.0, "target.syntax"),
        (None, "target.syntax"),
    ],
)
def test_a_wrong_target_is_said_to_be_one(method: str, target: Any, code: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    with pytest.raises(analyzer.UsageError) as caught:
        run(method, name, target=target)
    assert caught.value.code == code


@each_method
def test_an_unknown_parameter_is_named_with_a_near_one(method: str) -> None:
    with pytest.raises(analyzer.UsageError, match="has no parameter 'nonsense'") as caught:
        run(method, "cnn", nonsense=1)
    assert caught.value.code == "params.unknown"
    for known in registered()[method].parameters:
        with pytest.raises(analyzer.UsageError, match=rf"did you mean {known}\?"):
            wrong: dict[str, Any] = {f"{known}s": 1}
            run(method, "cnn", **wrong)


@each_method
def test_a_parameter_of_a_wrong_type_is_refused(method: str) -> None:
    typed = [p for p in registered()[method].parameters.values() if p.annotation is not Any]
    for parameter in typed:
        with pytest.raises(analyzer.UsageError, match=f"{parameter.name}=") as caught:
            wrong: dict[str, Any] = {parameter.name: object()}
            run(method, "cnn", **wrong)
        assert caught.value.code == "params.invalid"


@pytest.mark.parametrize(("method", "name"), UNSUITED)
def test_an_input_the_method_is_not_for_gives_a_result_or_one_clear_line(method: str, name: str) -> None:
    try:
        found = run(method, name)
    except AnalyzerError as problem:
        assert problem.code in ("layer.none", "method.unsuitable")
        assert problem.hint
    else:
        assert np.isfinite(found.attribution).all()


@on_suited
def test_model_and_input_are_left_as_they_were(method: str, name: str) -> None:
    case = CASES[name]
    given = {k: v.copy() for k, v in case.feed.items()}
    for value in given.values():
        value.flags.writeable = False
    proto = type(case.proto)()
    proto.CopyFrom(case.proto)
    before = proto.SerializeToString(deterministic=True)
    model = load(proto)
    held = model.proto.SerializeToString(deterministic=True)
    outputs = {backend: model.predict(given, backend=backend)["scores"] for backend in ("onnxruntime", "torch")}
    explain(model, given, method, target=1)
    assert proto.SerializeToString(deterministic=True) == before
    assert model.proto.SerializeToString(deterministic=True) == held
    for backend, expected in outputs.items():
        np.testing.assert_array_equal(model.predict(given, backend=backend)["scores"], expected)
    for key, value in given.items():
        np.testing.assert_array_equal(value, case.feed[key])


@each_method
def test_double_precision_is_near_single(method: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    single, double = run(method, name), run(method, name, precision="float64")
    same(double.attribution.astype(np.float64), single.attribution.astype(np.float64), 1e-3)


@each_method
def test_an_nhwc_model_gets_the_same_map_as_its_nchw_twin(method: str) -> None:
    if (method, "nhwc") not in SUITED:
        pytest.skip(f"{method} is not for pictures")
    first, last = run(method, "cnn"), run(method, "nhwc")
    if method == "smoothgrad":  # its noise is drawn in the input's own layout
        options = {**QUICK[method], "noise": 0.0}
        first, last = run(method, "cnn", **options), run(method, "nhwc", **options)
    same(np.moveaxis(last.attribution, -1, 1), first.attribution)


@each_method
def test_a_half_precision_model_gets_nearly_the_same_map(method: str) -> None:
    if (method, "half") not in SUITED:
        pytest.skip(f"{method} is not for pictures")
    if method == "smoothgrad":
        single, half = (run(method, name, noise=0.0) for name in ("cnn", "half"))
    else:
        single, half = run(method, "cnn"), run(method, "half")
    same(half.attribution.astype(np.float64), single.attribution.astype(np.float64), 3e-2)


@each_method
def test_a_fixed_batch_is_explained_piece_by_piece(method: str) -> None:
    name = "cnn" if (method, "cnn") in SUITED else "mlp"
    fixed = load(cnn(1) if name == "cnn" else mlp(1))
    x = CASES[name].x
    done = []
    together = explain(fixed, x, method, target=[0, 1, 2], progress=lambda at, of: done.append((at, of)))
    free = run(method, name, target=[0, 1, 2])
    assert together.classes == (0, 1, 2)
    assert together.score.shape == (3,)
    assert len(together.record["prediction"]["top"]) == 3
    for index in range(3):
        alone = explain(fixed, x[index : index + 1], method, target=index)
        np.testing.assert_array_equal(alone.attribution, together.attribution[index : index + 1])
        np.testing.assert_array_equal(alone.raw, together.raw[index : index + 1])
        assert alone.score[0] == together.score[index]
    same(together.attribution, free.attribution)
    with pytest.raises(analyzer.UsageError) as caught:
        explain(fixed, x, method, target=[0, 1])
    assert caught.value.code == "target.count"


@each_method
@pytest.mark.parametrize("end", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_what_ends_the_scores_is_taken_off_for_logits_and_kept_for_probabilities(method: str, end: str) -> None:
    make = cnn if (method, "cnn") in SUITED else mlp
    x = CASES["cnn" if make is cnn else "mlp"].x
    ended, headless = load(make(end=end)), load(make())
    logit, bare = explain(ended, x, method, target=1), explain(headless, x, method, target=1)
    assert logit.score_kind == "logit"
    same(logit.attribution, bare.attribution)
    np.testing.assert_allclose(logit.score, bare.score, rtol=1e-5)
    try:
        kept = explain(ended, x, method, target=1, score="probability")
    except AnalyzerError as problem:  # a rule table without a rule for it, or a map that only suits a linear end
        assert problem.code in ("rule.missing", "method.unsuitable")
        return
    assert kept.score_kind == ("log-probability" if end == "LogSoftmax" else "probability")
    np.testing.assert_allclose(kept.score, ended.predict(x)["scores"][:, 1], rtol=1e-6)
    if make is cnn:
        disguised = explain(load(cnn(end=end, disguise=True)), x, method, target=1)
        same(kept.attribution, disguised.attribution)


COMPLETE = [name for name, info in registered().items() if info.complete]


@pytest.mark.parametrize("method", COMPLETE)
@pytest.mark.parametrize("kind", ["cnn", "mlp", "two"])
def test_a_promised_sum_is_kept_on_networks_without_biases(method: str, kind: str) -> None:
    proto = {"cnn": cnn(bias=False), "mlp": mlp(bias=False), "two": CASES["two"].proto}[kind]
    found = explain(load(proto), CASES[kind].feed, method, target=[0, 1, 2])
    assert found.completeness is not None
    total = sum(a.astype(np.float64).reshape(3, -1).sum(axis=1) for a in found.attributions.values())
    np.testing.assert_allclose(found.completeness.total, total, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.completeness.expected, found.score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total, found.score, rtol=1e-3, atol=1e-4 * np.abs(found.score).max())


@each_method
def test_only_methods_that_promise_a_sum_report_one(method: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    assert (run(method, name).completeness is not None) == registered()[method].complete


@each_method
def test_the_record_reproduces_the_explanation(method: str, tmp_path: Any) -> None:
    name = next(name for m, name in SUITED if m == method)
    found = run(method, name, seed=5)
    record = found.to_dict()
    assert record["method"] == method
    assert record["seed"] == 5
    assert record["model"]["sha256"] == model_of(name).sha256
    assert record["device"] == "cpu"
    assert {"onnxruntime", "torch", "numpy", "python"} <= {k.removesuffix("-gpu") for k in record["versions"]}
    assert ("parity" in record) == (registered()[method].needs == "trace")
    again = run(record["method"], name, seed=record["seed"], target=list(found.classes), **record["params"])
    np.testing.assert_array_equal(again.attribution, found.attribution)
    for suffix in ("npz", "json"):
        found.save(tmp_path / f"e.{suffix}")
        assert (tmp_path / f"e.{suffix}").stat().st_size > 0


@each_method
def test_progress_goes_up_to_its_total(method: str) -> None:
    name = next(name for m, name in SUITED if m == method)
    steps: list[tuple[int, int]] = []
    run(method, name, progress=lambda done, total: steps.append((done, total)))
    assert all(0 < done <= total for done, total in steps)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert not steps or steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("method", [m for m in ("lime", "smoothgrad", "rise", "kernel-shap") if m in registered()])
def test_another_seed_gives_other_numbers(method: str) -> None:
    assert not np.array_equal(run(method, "mlp", seed=0).attribution, run(method, "mlp", seed=1).attribution)


def test_labels_are_what_the_models_say() -> None:
    """The other tests rely on these names."""
    labels = model_of("cnn").labels
    assert labels is not None
    assert [labels.name(i) for i in range(3)] == list(LABELS)
    assert isinstance(CASES["cnn"], Case)
