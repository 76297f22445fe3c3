"""Baselines are read as they were written, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import AnalyzerError, InconclusiveError, InputError
from analyzer.gate.baselines import Baseline, Statistic, changes, measured, only_in, read_baseline, write_baseline

RECORD = {"data": {"sha256": "d"}, "method": {"sha256": "m"}, "seed": 0, "model": {"sha256": "x"}}


def _baseline(value: float = 0.1 + 0.2) -> Baseline:
    return Baseline(record=RECORD, statistics={"mass": {"the median": Statistic(value=value, low=0, n=5)}})


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.json"
    write_baseline(path, _baseline())
    assert read_baseline(path) == _baseline()
    assert json.loads(path.read_text())["schema"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_baseline_that_cant_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    write_baseline(path, _baseline(1.0))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(AnalyzerError, match="No space left"):
        write_baseline(path, _baseline(2.0))
    monkeypatch.undo()
    assert read_baseline(path) == _baseline(1.0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2, "record": {}, "statistics": {}}', "[" * 100_000,
             '{"schema": 1, "record": {}, "statistics": {"a": {"b": {"value": NaN, "n": 1}}}}']
)  # fmt: skip
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_baseline(path)
    assert caught.value.code == "gate.baseline"
    assert "\n" not in str(caught.value)


def test_a_missing_baseline_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InconclusiveError, match="onnxplain gate update") as caught:
        read_baseline(tmp_path / "model.json")
    assert caught.value.code == "gate.no_baseline"


def test_only_runs_on_the_same_data_and_method_can_be_compared() -> None:
    found = _baseline()
    assert found.mismatch({**RECORD, "model": {"sha256": "other"}}) == ""
    assert found.mismatch({**RECORD, "data": {"sha256": "other"}}) == "other data"
    assert found.mismatch({**RECORD, "method": {"sha256": "other"}, "seed": 1}) == "another method and another seed"


def test_changes_come_worst_first() -> None:
    def of(**values: float) -> dict[str, dict[str, Statistic]]:
        return {"c": {name: Statistic(value=value, n=1) for name, value in values.items()}}

    found = changes(of(a=1, b=0, c=2, d=5), of(a=1.5, b=0.1, c=2, e=7))
    assert [(each.name, each.relative) for each in found] == [("b", float("inf")), ("a", 0.5), ("c", 0.0)]
    assert only_in(of(a=1, d=5), of(a=1)) == ["c: d"]


def test_figures_of_values_leave_out_what_isnt_finite() -> None:
    found = measured("the score", [1.0, 2.0, 3.0, float("nan"), float("inf")])
    assert found["mean of the score"].value == 2
    assert found["50 % quantile of the score"].value == 2
    assert {each.n for each in found.values()} == {3}
    assert measured("the score", [float("nan")]) == {}
