"""From explanations to what the report draws: nothing is lost, invented or mixed up between samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analyzer
from analyzer.jobs import report
from analyzer.report.explained import panel as panel_of
from analyzer.report.explained import sample as sample_of
from tests.common.checks import explain, load
from tests.common.models import cases, cnn, mlp, tokens

CASES = {case.name: case for case in cases()}


def explained(name: str, method: str = "gradient", **options: Any) -> analyzer.Explanation:
    """A case's explanation."""
    return explain(load(CASES[name].proto), CASES[name].feed, method, **options)


def test_facts_are_the_files() -> None:
    proto = cnn(end="Softmax")
    proto.producer_name, proto.producer_version, proto.doc_string = "maker", "1.2", "What it does."
    proto.metadata_props.add(key="k", value="v")
    model = load(proto)
    facts = report.facts(model)
    assert facts.sha256 == model.sha256
    assert facts.size_bytes == model.size
    assert facts.producer == "maker 1.2"
    assert facts.opsets == {"": 17}
    assert facts.inputs == (("x", "float32 [n, 3, 8, 8]"),)
    assert facts.outputs == (("scores", "float32 [n, 3]"),)
    assert facts.operators == {"Conv": 2, "Relu": 2, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "Softmax": 1}
    assert facts.description == "What it does."
    assert facts.metadata == {"k": "v"}


def test_parameters_are_counted_without_shapes_and_indices() -> None:
    expected = sum(int(np.prod(t.dims)) for t in tokens().graph.initializer)
    assert report.facts(load(tokens())).parameters == expected == 11 * 4 + 4 * 6 + 6 * 3 + 3


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients", "grad-cam", "lime", "occlusion"])
def test_a_panel_is_its_samples(method: str) -> None:
    done = explained("cnn", method, target=[0, 1, 2])
    for index in range(3):
        panel = panel_of(done, index)
        np.testing.assert_array_equal(panel.attribution, done.attribution[index])
        assert panel.method == method
        assert panel.target == done.target[index]
        assert panel.score == done.score[index]
        assert panel.score_kind == "logit"
        assert panel.signed == done.signed or (done.attribution < 0).any()
        assert (panel.completeness is not None) == (done.completeness is not None)
    notes = panel_of(done, 2).notes
    if method == "lime":
        assert any(f"{done.record['r2'][2]:.2f}" in note for note in notes)
    if method == "grad-cam":
        assert any(done.record["layer"] in note for note in notes)
    if method == "integrated-gradients":
        assert f"{done.completeness.total[2]:.4g}" in str(panel_of(done, 2).completeness)


def test_every_sample_of_a_fixed_batch_has_its_panel() -> None:
    """What methods note per sample is there for samples of every piece."""
    done = explain(load(mlp(1)), CASES["mlp"].x, "lime")
    assert [panel_of(done, i).notes[-1] for i in range(3)] == [
        f"R² of the linear fit: {r2:.2f}" for r2 in done.record["r2"]
    ]


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [("cnn", "image", "CHW"), ("nhwc", "image", "HWC"), ("mlp", "table", None), ("tokens", "tokens", None)],
)
def test_a_sample_is_drawn_as_what_it_is(name: str, kind: str, layout: str | None) -> None:
    done = explained(name)
    sample = sample_of(done, 1, "named")
    assert sample.name == "named"
    assert sample.kind == kind
    if layout is not None:
        assert sample.layout == layout
        assert sample.image is not None
    np.testing.assert_array_equal(sample.values, CASES[name].x[1])
    best = done.record["prediction"]["top"][1]
    assert sample.top == tuple((entry[1], entry[2]) for entry in best)


def test_the_kind_of_prediction_is_kept() -> None:
    done = explain(load(mlp(end="Softmax")), CASES["mlp"].x, "gradient")
    assert sample_of(done, 0, "x").top_kind == "probability"
    assert sum(value for _, value in sample_of(done, 0, "x").top) == pytest.approx(1, abs=1e-5)
    assert sample_of(explained("mlp"), 0, "x").top_kind == "logit"


@pytest.mark.parametrize("name", ["cnn", "nhwc", "mlp", "series", "tokens", "two", "half"])
def test_every_kind_is_saved_as_picture_and_page(name: str, tmp_path: Path) -> None:
    done = explained(name, "occlusion")
    done.save(tmp_path / "e.png")
    done.save(tmp_path / "e.html")
    with Image.open(tmp_path / "e.png") as picture:
        assert min(picture.size) > 50
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "occlusion" in page
    assert page.count("e [") >= 3, "three samples"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.html", "e.png"]


def test_names_from_a_model_are_text_on_a_page(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    model = analyzer.load(mlp(), "cpu", labels=[hostile, "b", "c"])
    done = model.explain(CASES["mlp"].x, method="gradient", target=0)
    done.save(tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert hostile not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_comparison_shows_every_method_and_sample(tmp_path: Path) -> None:
    model = load(CASES["cnn"].proto)
    explanations = [explain(model, CASES["cnn"].x, m) for m in ("gradient", "grad-cam", "occlusion")]
    report.write_comparison(tmp_path / "r.html", model, [("cat", None, explanations)], "onnxplain explain …")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for text in ("gradient", "grad-cam", "occlusion", "cat [0]", "cat [2]", model.sha256[:8], "onnxplain explain"):
        assert text in page
