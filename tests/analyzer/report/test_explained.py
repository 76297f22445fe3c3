"""Explanations of columns that are inputs of their own, and of text, as they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer import Explanation
from analyzer.report.explained import panel, sample


def explanation(attributions: dict[str, Any], inputs: dict[str, Any], **record: Any) -> Explanation:
    maps = {name: np.array(value, np.float32) for name, value in attributions.items()}
    count = len(next(iter(inputs.values())))
    return Explanation(
        "occlusion", {}, maps, maps, {name: np.array(value) for name, value in inputs.items()}, ("y",) * count, (-1,) * count,
        np.zeros(count), "value", True, record=record,
    )  # fmt: skip


def test_columns_that_are_inputs_are_drawn_as_one_table() -> None:
    made = explanation({"age": [[1], [2]], "fare": [3, -4]}, {"age": [[30.0], [40.0]], "fare": [5, 6]})
    shown, its = sample(made, 1, "row"), panel(made, 1)
    assert shown.kind == "table" and shown.feature_names == ("age", "fare")
    assert shown.values.tolist() == [40.0, 6] and its.attribution.tolist() == [2, -4]


def test_other_inputs_are_drawn_as_before() -> None:
    made = explanation({"a": [[1, 2]], "b": [[3]]}, {"a": [[5.0, 6.0]], "b": [[7.0]]})
    assert sample(made, 0, "row").values.tolist() == [5, 6] and panel(made, 0).attribution.tolist() == [1, 2]
    partly = explanation({"a": [[1]]}, {"a": [[5.0]], "b": [[7.0]]})
    assert sample(partly, 0, "row").values.tolist() == [5]


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_words_are_drawn_as_words_and_beside_columns_as_bars(tmp_path: Path, suffix: str) -> None:
    word = {"input": "text", "word": 0, "value": "good", "attribution": 2.0}
    column = {"input": "x", "column": "city", "value": "Rome", "attribution": -1.0}
    for features, kind, names in (
        ([word, word], "tokens", ("good", "good")),
        ([word, column], "table", ("text", "city")),
    ):
        made = explanation({"text": [2.0]}, {"text": np.array(["good"], object)}, features=[features])
        shown = sample(made, 0, "row")
        assert shown.kind == kind and shown.feature_names == names
        assert shown.values.tolist() == [each["value"] for each in features]
        assert panel(made, 0).attribution.tolist() == [each["attribution"] for each in features]
        made.save(tmp_path / f"e.{suffix}")
        assert (tmp_path / f"e.{suffix}").stat().st_size > 1000
