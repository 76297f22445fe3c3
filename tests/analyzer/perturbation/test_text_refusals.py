"""What makes no sense of text is refused in a line: fills, cuts, masks that blend, and everything that needs a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import analyzer
from tests.analyzer.perturbation.test_text_features import ROW, TABLE, explain
from tests.common.text_models import categories, columns, words


def test_an_encoder_that_refuses_what_it_does_not_know_is_told_in_a_line() -> None:
    proto = categories(zeros=0)
    with pytest.raises(analyzer.InputError, match=r"replaces the text of 'x'.*OneHotEncoder") as caught:
        explain(proto, TABLE, "feature-ablation")
    assert caught.value.code == "fill.not_known" and "samples:FILE" in caught.value.hint
    rows = np.array([["London", "cook"]], object)
    found = explain(proto, TABLE, "feature-ablation", fill=rows)
    np.testing.assert_allclose(found.attribution, [[2.5, -6], [-1.5, 0]], atol=1e-5)


@pytest.mark.parametrize(
    ("proto", "x", "method", "params", "code", "said"),
    [
        (categories, TABLE, "feature-ablation", {"fill": "mean"}, "fill.unsuitable", "computed of numbers"),
        (categories, TABLE, "kernel-shap", {"baseline": "inpaint"}, "fill.unsuitable", "computed of numbers"),
        (categories, TABLE, "feature-ablation", {"fill": 5}, "fill.unsuitable", "is a number"),
        (columns, ROW, "feature-ablation", {"fill": 0.5}, "params.invalid", "'children'"),
        (categories, TABLE, "kernel-shap", {"baseline": [["a", "b", "c"]]}, "fill.bad_shape", "x[0], x[1]"),
        (categories, TABLE, "kernel-shap", {"baseline": [["a", 1]]}, "fill.bad_type", "takes text"),
        (columns, ROW, "kernel-shap", {"baseline": [1, 2, True, 3]}, "fill.bad_type", "'city'"),
        (columns, ROW, "kernel-shap", {"baseline": [1, 2.5, True, "Rome"]}, "params.invalid", "'children'"),
        (columns, ROW, "kernel-shap", {"baseline": [np.nan, 2, True, "Rome"]}, "params.nonfinite", "NaN"),
        (words, np.array(["a b"]), "kernel-shap", {"baseline": [["a", "b"]]}, "fill.unsuitable", "segments=columns"),
        (words, np.array(["a b"]), "kernel-shap", {"baseline": "samples:x.csv"}, "data.missing", "x.csv"),
        (words, np.array(["a b"]), "occlusion", {"window": 2}, "params.invalid", "one column or word"),
        (words, np.array([" "]), "lime", {}, "segments.bad_count", "no words"),
        (categories, TABLE, "lime", {"segments": "words"}, "segments.unknown", "one text for each sample"),
        (words, np.array(["a b"]), "lime", {"segments": "wrods"}, "segments.unknown", "wrods"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    proto: Callable[[], onnx.ModelProto], x: Any, method: str, params: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(analyzer.AnalyzerError) as caught:
        explain(proto(), x, method, **params)
    assert caught.value.code == code
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["rise", "bubbles"])
@pytest.mark.parametrize(("proto", "x"), [(categories, TABLE), (columns, ROW), (words, np.array(["good"]))])
def test_masks_that_blend_are_refused(method: str, proto: Callable[[], onnx.ModelProto], x: Any) -> None:
    with pytest.raises(analyzer.UnsupportedError, match="can't be blended") as caught:
        explain(proto(), x, method)
    assert "kernel-shap" in caught.value.hint


@pytest.mark.parametrize(
    "method", ["gradient", "lrp", "integrated-gradients", "deeplift", "grad-cam", "meaningful-perturbation"]
)
@pytest.mark.parametrize(
    ("proto", "x", "culprits"),
    [(categories, TABLE, ["encode_cities", "encode_jobs"]), (columns, ROW, ["encode_encoded"]),
     (words, np.array(["good"]), ["split", "count"])],
)  # fmt: skip
def test_white_box_methods_name_the_nodes_in_the_way(
    method: str, proto: Callable[[], onnx.ModelProto], x: Any, culprits: list[str]
) -> None:
    with pytest.raises(analyzer.UnsupportedError) as caught:
        explain(proto(), x, method)
    assert caught.value.code == "op.unsupported" and "perturbation" in caught.value.hint
    assert all(f"node '{name}'" in caught.value.message for name in culprits)


def test_what_else_needs_a_trace_names_them_too() -> None:
    model = analyzer.load(categories(), "cpu")
    for call in (
        lambda: model.predict(TABLE, backend="torch"),
        lambda: model.verify(TABLE),
        lambda: analyzer.compile(model, method="gradient"),
    ):
        with pytest.raises(analyzer.UnsupportedError, match="encode_cities"):
            call()
