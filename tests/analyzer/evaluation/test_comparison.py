"""Two models compared input by input: figures in closed form, targets, classes that change, what can't be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy.stats import spearmanr

import analyzer
from analyzer.data.dataset import Sample
from analyzer.errors import InconclusiveError, ParityError, UsageError
from analyzer.evaluation.comparison import compare
from analyzer.evaluation.paired_inputs import InputMatch, batches, samples_of
from tests.common.models import assemble

FLOAT = TensorProto.FLOAT
W = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)


def linear(
    weights: Any = W, name: str = "x", batch: Any = "n", dtype: int = FLOAT, out: str = "scores"
) -> analyzer.Model:
    """Scores x W: the gradient of class c is column c."""
    weights = np.asarray(weights, helper.tensor_dtype_to_np_dtype(dtype))
    rows, columns = weights.shape
    node = helper.make_node("MatMul", [name, "w"], [out], "product")
    proto = assemble([node], {name: (dtype, [batch, rows])}, {out: (dtype, [batch, columns])}, {"w": weights})
    return analyzer.load(proto, "cpu")


def spearman(a: Any, b: Any) -> float:
    return float(spearmanr(a, b).statistic)


OTHER = W + np.random.default_rng(2).normal(size=W.shape).astype(np.float32) * 0.6


def test_every_figure_of_two_linear_models_in_closed_form() -> None:
    found = compare(linear(), linear(OTHER), X, "gradient")
    a, b = X.astype(np.float64) @ W, X.astype(np.float64) @ OTHER
    assert [row.id for row in found.rows] == [f"0 [{at}]" for at in range(12)]
    for at, row in enumerate(found.rows):
        top = int(a[at].argmax())
        assert (row.first_class, row.second_class) == (top, int(b[at].argmax()))
        assert row.difference == pytest.approx(np.abs(a - b)[at].max(), rel=1e-4)
        assert row.relative == pytest.approx(np.abs(a - b)[at].max() / np.abs(a[at]).max(), rel=1e-4)
        assert row.similarity["spearman"] == pytest.approx(spearman(W[:, top], OTHER[:, top]))
        assert "ssim" not in row.similarity  # a row is no picture
    changed = a.argmax(1) != b.argmax(1)
    assert 0 < changed.sum() < 12 and [row.class_changed for row in found.rows] == changed.tolist()
    assert found.same_class is not None and found.same_class.estimate == pytest.approx(1 - changed.mean())
    stays = [row.similarity["spearman"] for row in found.rows if not row.class_changed]
    overall, apart = found.overall.figures["spearman"], found.where_changed.figures["spearman"]
    assert (overall.count, overall.mean) == (len(stays), pytest.approx(np.mean(stays)))
    assert apart.count == changed.sum() == found.overall.class_changed
    assert sum(part.inputs for part in found.per_class) == 12
    assert [part.name for part in found.per_class] == [str(c) for c in sorted({int(c) for c in a.argmax(1)})]


def test_the_class_of_the_first_model_is_explained_in_both() -> None:
    flipped = W[:, ::-1]
    found = compare(linear(), linear(flipped), X[:3], "gradient")
    for row, shown in zip(found.rows, sorted(found.shown, key=lambda s: s.row.id), strict=True):
        top = row.first_class
        assert shown.second.classes == (top,) and row.class_changed == (top != 1)
        np.testing.assert_allclose(shown.second.attribution[0], flipped[:, top], rtol=1e-6)


def test_what_is_named_as_target_is_explained() -> None:
    found = compare(linear(), linear(OTHER), X[:2], "gradient", target=2, k=0.4)
    best = [set(np.argsort(np.abs(w[:, 2]))[-2:]) for w in (W, OTHER)]
    assert {row.similarity["top_k_overlap"] for row in found.rows} == {len(best[0] & best[1]) / 2}


def test_the_same_model_agrees_in_everything() -> None:
    found = compare(linear(), linear(), X, "gradient")
    for name, summary in found.overall.figures.items():
        assert (summary.lowest, summary.highest) == pytest.approx(
            (0, 0) if name in ("difference", "relative") else (1, 1)
        )
    assert not found.changed


def _with_bias(bias: list[float], weights: Any = W) -> analyzer.Model:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["scores"], "product")]
    values = {"w": weights, "b": np.array(bias, np.float32)}
    return analyzer.load(assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"scores": (FLOAT, ["n", 3])}, values), "cpu")


def test_scores_that_arent_finite_hide_no_difference() -> None:
    first = _with_bias([-np.inf, 0, 0])
    found = compare(first, _with_bias([-np.inf, 0, 0], OTHER), X, "gradient", target=1)
    a, b = (X.astype(np.float64) @ w[:, 1:] for w in (W, OTHER))
    for at, row in enumerate(found.rows):
        assert row.difference == pytest.approx(np.abs(a - b)[at].max(), rel=1e-4)
        assert row.relative == pytest.approx(np.abs(a - b)[at].max() / np.abs(a[at]).max(), rel=1e-4)
    for bias in ([-np.inf, 0.0, np.nan], [0.0, 0.0, 0.0], [np.inf, 0.0, 0.0]):
        found = compare(first, _with_bias(bias), X, "gradient", target=1)
        assert all(row.difference == row.relative == np.inf for row in found.rows), bias
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_map_of_zeros_has_no_rank_and_drifts_most() -> None:
    dead = OTHER.copy()
    dead[:, 0] = 0
    found = compare(linear(), linear(dead), X, "gradient", shown=3)
    lost = [row for row in found.rows if row.first_class == 0]
    assert lost and all(np.isnan(row.similarity["spearman"]) for row in lost)
    assert all("constant" in row.reasons["spearman"] and "zero" in row.reasons["cosine"] for row in lost)
    assert found.shown[0].row.first_class == 0
    missing = found.overall.figures["spearman"].missing + found.where_changed.figures["spearman"].missing
    assert missing == len(lost)


def test_the_worst_are_shown_worst_first() -> None:
    found = compare(linear(), linear(OTHER), X, "gradient", shown=4)
    want = sorted((row.drift for row in found.rows), reverse=True)[:4]
    assert [shown.row.drift for shown in found.shown] == want
    for shown in found.shown:
        assert shown.first.inputs["x"].shape == (1, 5)
    assert compare(linear(), linear(OTHER), X, "gradient", shown=0).shown == ()


@pytest.mark.parametrize("sizes", [(1, "n"), ("n", 1), (4, "n"), (2, 3)])
def test_fixed_batches_give_the_same_rows(sizes: tuple[Any, Any]) -> None:
    want = compare(linear(), linear(OTHER), X[:7], "gradient")
    found = compare(
        linear(batch=sizes[0]), linear(OTHER, batch=sizes[1]), ({"x": row[None]} for row in X[:7]), "gradient"
    )
    assert [row.id for row in found.rows] == [str(at) for at in range(7)]
    for one, two in zip(found.rows, want.rows, strict=True):
        assert one.similarity == pytest.approx(two.similarity)
        assert one.difference == pytest.approx(two.difference, rel=1e-5)
    nodes = [
        compare(linear(batch=a), linear(OTHER, batch=b), X[:6], "gradient", nodes=True).nodes for a, b in (sizes, "nn")
    ]
    assert nodes[0] is not None and nodes[1] is not None
    assert nodes[0].inputs == 6
    assert nodes[0].nodes[0].relevance == pytest.approx(nodes[1].nodes[0].relevance, rel=1e-5)


def test_a_model_of_half_precision_gets_its_own_type() -> None:
    found = compare(linear(), linear(W, dtype=TensorProto.FLOAT16), X, "gradient")
    assert found.overall.figures["spearman"].lowest > 0.99
    assert 0 < found.overall.figures["relative"].highest < 5e-3


def test_inputs_of_other_names_are_matched_by_place_and_told() -> None:
    found = compare(linear(), linear(OTHER, "features", out="logits"), X, "gradient")
    assert found.rows == compare(linear(), linear(OTHER), X, "gradient").rows
    assert "'x' with 'features'" in found.notes[0]


@pytest.mark.parametrize("second", [linear(np.ones((4, 3))), linear(W, dtype=TensorProto.INT32)])
def test_models_of_other_inputs_are_refused(second: Any) -> None:
    with pytest.raises(UsageError, match="don't take the same") as caught:
        compare(linear(), second, X, "gradient")
    assert caught.value.code == "compare.inputs"


def test_no_input_is_inconclusive() -> None:
    for nothing in ([], iter(()), X[:0]):
        with pytest.raises(InconclusiveError) as caught:
            compare(linear(), linear(), nothing, "gradient")
        assert (caught.value.code, caught.value.exit_code) == ("compare.no_data", 4)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"k": 1.5}, {"confidence": 1.0}, {"k": True}, {"share": "all"}])
def test_shares_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        compare(linear(), linear(), X, "gradient", **wrong)
    assert caught.value.code == "compare.share"


def test_a_regression_has_no_classes() -> None:
    found = compare(linear(W[:, :1]), linear(OTHER[:, :1]), X, "gradient")
    assert (found.same_class, found.per_class, found.changed) == (None, (), ())
    assert found.overall.figures["spearman"].mean == pytest.approx(spearman(W[:, 0], OTHER[:, 0]))


def test_outputs_of_other_shapes_are_told_of() -> None:
    found = compare(linear(), linear(np.concatenate([OTHER, OTHER], 1)), X, "gradient")
    assert any("outputs aren't compared" in note for note in found.notes)
    assert all(np.isnan(row.difference) for row in found.rows)


def test_samples_with_ids_and_labels() -> None:
    data = [Sample(f"row-{at}", {"x": X[at : at + 1]}, at % 2, None, {}, None) for at in range(4)]
    found = compare(linear(), linear(OTHER), data, "gradient")
    assert [(row.id, row.label) for row in found.rows] == [(s.id, s.label) for s in data]


def test_no_more_than_a_batch_is_read_ahead() -> None:
    read = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal read
        while True:
            read += 1
            yield {"x": X[:1]}

    first, second = linear(), linear(OTHER)
    stream = batches(samples_of(endless(), first), (first, second), InputMatch.of(first, second))
    for count in (1, 2):
        assert len(next(stream).ids) == 16
        assert read == 16 * count + 1


def test_inputs_of_several_sizes_are_explained_apart() -> None:
    nodes = [helper.make_node("Conv", ["x", "k"], ["c"], "conv"), helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
             helper.make_node("Flatten", ["p"], ["scores"], "flat")]  # fmt: skip
    kernel = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    proto = assemble(nodes, {"x": (FLOAT, ["n", 1, "h", "w"])}, {"scores": (FLOAT, ["n", 2])}, {"k": kernel})
    rng = np.random.default_rng(1)
    data = [rng.normal(size=(1, 1, side, side)).astype(np.float32) for side in (8, 8, 9, 8)]
    found = compare(analyzer.load(proto, "cpu"), analyzer.load(proto, "cpu"), data, "gradient-x-input")
    assert len(found.rows) == 4
    assert all(row.similarity["ssim"] == pytest.approx(1) for row in found.rows)  # pictures have it


def test_an_input_that_the_second_model_cant_explain_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    second = linear(OTHER)
    explain = second.explain

    def refusing(feed: Any, *args: Any, **options: Any) -> Any:
        if (feed["x"] == X[3]).all(axis=1).any():
            raise ParityError("parity.mismatch", "the trace disagrees")
        return explain(feed, *args, **options)

    monkeypatch.setattr(second, "explain", refusing)
    found = compare(linear(), second, X, "gradient")
    assert [row.id for row in found.rows if "trace disagrees" in row.reasons.get("spearman", "")] == ["0 [3]"]
    assert found.rows[3].difference > 0
    assert "1 of 12 inputs have no explanation" in found.notes[0]
    with pytest.raises(ParityError):
        compare(linear(), second, X[3:4], "gradient")


def test_a_perturbation_method_needs_no_trace() -> None:
    found = compare(linear(), linear(OTHER), X[:3], "feature-ablation")
    for at, row in enumerate(found.rows):
        top = row.first_class
        assert row.similarity["spearman"] == pytest.approx(spearman(X[at] * W[:, top], X[at] * OTHER[:, top]))


def test_json_holds_no_numbers_that_json_lacks() -> None:
    dead = OTHER.copy()
    dead[:, 0] = 0
    text = json.dumps(compare(linear(), linear(dead), X[:3], "gradient", nodes=True).to_dict(), allow_nan=False)
    held = json.loads(text)
    assert held["inputs"] == 3 and len(held["rows"]) == 3
    assert held["nodes"]["nodes"][0]["node"] == "product"
    assert set(held["models"][0]) == {"name", "sha256"}


def test_public_name(tmp_path: Path) -> None:
    onnx.save(linear().proto, tmp_path / "a.onnx")
    model = analyzer.load(tmp_path / "a.onnx", "cpu")
    found = analyzer.compare(model, linear(OTHER), X, method="gradient")
    assert isinstance(found, analyzer.Comparison)
    assert found.first == "a.onnx"


def test_rows_that_depend_on_each_other_stay_together() -> None:
    """Scores less the mean of all rows: alone, every row would have none."""

    def centred(weights: Any) -> analyzer.Model:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["z"], "product"),
            helper.make_node("ReduceMean", ["z"], ["m"], "mean", axes=[0], keepdims=1),
            helper.make_node("Sub", ["z", "m"], ["scores"], "centred"),
        ]
        return analyzer.load(
            assemble(nodes, {"x": (FLOAT, ["n", 5])}, {"scores": (FLOAT, ["n", 3])}, {"w": weights}), "cpu"
        )

    first, second = centred(W), centred(OTHER)
    found = compare(first, second, X[:4], "feature-ablation")
    assert len(found.rows) in (1, 4)
    scores = [model.predict(X[:4])["scores"] for model in (first, second)]
    assert max(row.difference for row in found.rows) == pytest.approx(np.abs(scores[0] - scores[1]).max(), rel=1e-4)
    assert all(row.difference > 0 for row in found.rows)


def test_relevance_at_an_inner_value_is_compared_too() -> None:
    found = compare(linear(), linear(OTHER), X[:2], "gradient", at="product", target=1)
    assert all(row.similarity["cosine"] == pytest.approx(1) for row in found.rows)  # (0, 1, 0) in both


def test_nodes_of_a_large_batch_are_those_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner values are held for a few samples at a time; the sums don't depend on how many."""
    from analyzer.evaluation import drift_by_node

    want = compare(linear(), linear(OTHER), X, "gradient", nodes=True).nodes
    monkeypatch.setattr(drift_by_node, "_BYTES", 1)
    found = compare(linear(), linear(OTHER), X, "gradient", nodes=True).nodes
    assert want is not None and found is not None
    assert found.nodes[0].relevance == pytest.approx(want.nodes[0].relevance, rel=1e-5)
    top = (X.astype(np.float64) @ W).argmax(axis=1)
    moved = np.abs((X.astype(np.float64) @ (OTHER - W))[np.arange(12), top])
    assert found.nodes[0].relevance == pytest.approx(moved.mean(), rel=1e-4)
