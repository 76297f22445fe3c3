"""Tables and texts on the command line: columns found by name, text explained, and everything readable afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Call, files_in
from tests.common.text_models import CITY_SCORES, categories, columns, word_score, words


def saved(proto: onnx.ModelProto, path: Path, **metadata: str) -> Path:
    helper.set_model_props(proto, metadata)
    onnx.save(proto, path)
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two rows for :func:`columns`, in another order than the model's."""
    path = tmp_path / "people.csv"
    path.write_text('city,age,member,children\n"Rome",30,true,2\nParis,50.5,False,0\n')
    return path


def test_one_table_with_a_column_for_each_input(call: Call, tmp_path: Path, people: Path) -> None:
    model, out = saved(columns(), tmp_path / "columns.onnx"), tmp_path / "out"
    ran = call("explain", model, people, "-m", "feature-ablation", "-m", "kernel-shap", "-t", 0, "-o", out)
    assert ran.code == 0, ran.err
    assert "columns put into the model's order" in ran.err and "'city' become ''" in ran.err
    expected = {"age": [15, 25.25], "children": [4, 0], "member": [4, 0], "city": [CITY_SCORES[1], CITY_SCORES[0]]}
    for method in ("feature-ablation", "kernel-shap"):
        with np.load(out / f"people.{method}.npz", allow_pickle=False) as arrays:
            assert arrays["attribution"].ravel() == pytest.approx(expected["age"], abs=1e-4)
            for name in ("children", "member", "city"):
                assert arrays[f"attribution/{name}"].ravel() == pytest.approx(expected[name], abs=1e-4)
            assert arrays["input/city"].ravel().tolist() == ["Rome", "Paris"]
        record = json.loads((out / f"people.{method}.json").read_text())
        told = {each["column"]: each["value"] for each in record["features"][0]}
        assert told == {"age": 30.0, "children": 2, "member": True, "city": "Rome"}
        values = {each["column"]: each["attribution"] for each in record["features"][1]}
        assert values == pytest.approx({name: each[1] for name, each in expected.items()}, abs=1e-4)
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("age", "children", "member", "city", "= Rome", "= Paris"))


def test_words_of_texts(call: Call, tmp_path: Path) -> None:
    model, out = saved(words(("n", 1)), tmp_path / "words.onnx"), tmp_path / "out"
    table = tmp_path / "reviews.csv"
    table.write_text('text\n"not good, but fine"\nbad\n')
    ran = call("explain", model, table, "-m", "occlusion", "-t", 0, "-o", out)
    assert ran.code == 0, ran.err
    with np.load(out / "reviews.occlusion.npz", allow_pickle=False) as arrays:
        assert arrays["input"].tolist() == [["not good, but fine"], ["bad"]]
        assert arrays["raw"][1, 0].tolist() == [word_score("bad"), 0, 0, 0]
        assert arrays["attribution"][:, 0] == pytest.approx(arrays["raw"][:, 0].sum(axis=1))
    record = json.loads((out / "reviews.occlusion.json").read_text())
    assert [each["value"] for each in record["features"][0]] == ["not", "good,", "but", "fine"]
    page = (out / "report.html").read_text()
    assert "good," in page and "words of &#39;text&#39; are taken out" in page


def test_a_text_file(call: Call, tmp_path: Path) -> None:
    model, text = saved(words(), tmp_path / "words.onnx"), tmp_path / "review.txt"
    text.write_text("fine,\nnot bad\n")
    ran = call("explain", model, text, "-m", "lime", "-t", 0, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert [each["value"] for each in ran.json["explanations"][0]["features"][0]] == ["fine,", "not", "bad"]


def test_features_of_the_metadata_put_columns_in_order(call: Call, tmp_path: Path) -> None:
    model = saved(categories(), tmp_path / "m.onnx", feature_names='["city", "job"]')
    table = tmp_path / "t.csv"
    table.write_text("job,city\ncook,Rome\n")
    ran = call("explain", model, table, "-m", "feature-ablation", "-t", 0, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    told = [(each["column"], each["attribution"]) for each in ran.json["explanations"][0]["features"][0]]
    assert told == [("city", -1.0), ("job", 2.0)]


def test_hostile_texts_are_inert(call: Call, tmp_path: Path) -> None:
    model, table = saved(words(("n", 1)), tmp_path / "words.onnx"), tmp_path / "t.csv"
    table.write_text('text\n"<script>alert(1)</script> good \x1b[31mred"\n', encoding="utf-8")
    ran = call("explain", model, table, "-m", "occlusion", "-t", 0, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "<script>alert(1)" not in (tmp_path / "out/report.html").read_text() and "\x1b[31m" not in ran.err + ran.out


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("town,age,member,children\nRome,30,true,2\n", "data.missing_column", "'city'"),
        ("city,age,member,children,label\nRome,30,true,2,1\n", "data.unknown_column", "'label'"),
        ('city,age,member,children\nRome,"1,030",true,2\n', "data.not_a_number", "between thousands"),
        ("city,age,member,children\nRome,,true,2\n", "data.missing_value", "line 2, column 2 ('age')"),
        ("city,age,member,children\nRome,30,perhaps,2\n", "data.not_a_number", "column 3 ('member')"),
        ("city,age,member,children\nRome,30,true,2.5\n", "data.bad_dtype", "column 4 ('children')"),
        ("Rome,30\n", "data.bad_shape", "2 columns"),
    ],
)
def test_faults_in_a_table_are_one_line_and_write_nothing(
    call: Call, tmp_path: Path, text: str, code: str, said: str
) -> None:
    model, table = saved(columns(), tmp_path / "columns.onnx"), tmp_path / "t.csv"
    table.write_text(text)
    before = files_in(tmp_path)
    ran = call("explain", model, table, "-m", "feature-ablation", "-o", tmp_path / "out")
    assert ran.code == 3 and f"[{code}]" in ran.error and said in ran.error
    assert files_in(tmp_path) == before


def test_inspect_tells_which_methods_take_text(call: Call, tmp_path: Path) -> None:
    ran = call("inspect", saved(categories(), tmp_path / "m.onnx"), "--json")
    works = {name for name, verdict in ran.json["methods"].items() if verdict["works"]}
    assert works == {"feature-ablation", "kernel-shap", "lime", "occlusion"}
    assert "can't be blended" in ran.json["methods"]["rise"]["reason"]
    assert "encode_cities" in ran.json["methods"]["gradient"]["reason"]
