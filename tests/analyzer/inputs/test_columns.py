"""Columns of a table found by name: for one input with named features, and for an input each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import InputError
from analyzer.inputs import ColumnInput, feature_names, read_columns, read_input

AGE = ColumnInput("age", np.dtype(np.float32), ("n", 1))
CHILDREN = ColumnInput("children", np.dtype(np.int64), ("n",))
CITY = ColumnInput("city", np.dtype(str), ("n", 1))
PAIR = ColumnInput("pair", np.dtype(np.float32), ("n", 2))


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def refused(path: Path, inputs: list[ColumnInput], **how: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read_columns(path, inputs, **how)
    assert "table.csv" in str(caught.value) and "\n" not in str(caught.value)
    return caught.value


def test_a_column_for_each_input_wherever_it_stands(tmp_path: Path) -> None:
    path = table(tmp_path, 'city,age,children\n"New York",30.5,2\n"Rome",40,0\n')
    age, children, city = read_columns(path, [AGE, CHILDREN, CITY])
    assert age.array.dtype == np.float32 and age.array.tolist() == [[30.5], [40]]
    assert children.array.dtype == np.int64 and children.array.tolist() == [2, 0]
    assert city.array.tolist() == [["New York"], ["Rome"]]
    assert age.feature_names == ("age",) and age.record["input"] == "age" and city.record["dtype"] == "str"
    assert age.notes == ("columns put into the model's order, by their names",) and city.notes == ()
    ordered = read_columns(table(tmp_path, "age,children,city\n30,2,Rome\n"), [AGE, CHILDREN, CITY])
    assert ordered[0].notes == ()


def test_without_a_header_columns_are_taken_in_their_order(tmp_path: Path) -> None:
    path = table(tmp_path, "30,2,Rome\n40,1,Paris\n")
    age, children, city = read_columns(path, [AGE, CHILDREN, CITY])
    assert [age.array[1, 0], children.array[1], city.array[1, 0]] == [40, 1, "Paris"]
    assert age.notes == ("columns taken in their order, age: 1, children: 2, city: 3",)
    assert refused(table(tmp_path, "30,2\n"), [AGE, CHILDREN, CITY]).code == "data.bad_shape"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("age,children\n1,2\n", "data.missing_column", "'city'"),
        ("age,children,town\n1,2,Rome\n", "data.missing_column", "'city'"),
        ("age,children,citty\n1,2,Rome\n", "data.missing_column", "did you mean citty?"),
        ("age,children,city,label\n1,2,Rome,1\n", "data.unknown_column", "'label'"),
        ("age,children,city,age\n1,2,Rome,1\n", "data.unknown_column", "two columns 'age'"),
        ("city,age,children\nRome,x,2\n", "data.not_a_number", "line 2, column 2 ('age')"),
        ("city,age,children\nRome,,2\n", "data.missing_value", "line 2, column 2 ('age')"),
        ("city,age,children\nRome,1\n", "data.ragged_table", "line 2"),
    ],
)
def test_faults_name_the_column(tmp_path: Path, text: str, code: str, said: str) -> None:
    fault = refused(table(tmp_path, text), [AGE, CHILDREN, CITY])
    assert fault.code == code and said in str(fault)


def test_background_rows_may_have_columns_that_nothing_takes(tmp_path: Path) -> None:
    path = table(tmp_path, "label,city,age\nyes,Rome,3\n")
    age, city = read_columns(path, [AGE, CITY], others=True)
    assert age.array.tolist() == [[3]] and city.array.tolist() == [["Rome"]]


def test_an_input_of_several_columns_takes_what_no_other_is_called(tmp_path: Path) -> None:
    path = table(tmp_path, "width,age,height\n1,30,2\n")
    age, pair = read_columns(path, [AGE, PAIR])
    assert age.array.tolist() == [[30]] and pair.array.tolist() == [[1, 2]]
    assert pair.feature_names == ("width", "height") and "pair: width, height" in age.notes[0]
    assert refused(table(tmp_path, "width,age\n1,30\n"), [AGE, PAIR]).code == "data.bad_shape"


def test_features_that_the_model_names(tmp_path: Path) -> None:
    named = ColumnInput("x", np.dtype(np.float32), ("n", 3), ("a", "b", "c"))
    (loaded,) = read_columns(table(tmp_path, "c,a,b\n3,1,2\n"), [named])
    assert loaded.array.tolist() == [[1, 2, 3]] and loaded.feature_names == ("a", "b", "c")
    assert refused(table(tmp_path, "a,b,d\n1,2,3\n"), [named]).code == "data.missing_column"
    assert refused(table(tmp_path, "a,b,c,d\n1,2,3,4\n"), [named]).code == "data.unknown_column"
    (bare,) = read_columns(table(tmp_path, "1,2,3\n"), [named])
    assert bare.array.tolist() == [[1, 2, 3]] and bare.feature_names == ("a", "b", "c")
    indexed = read_columns(table(tmp_path, ",c,a,b\n0,3,1,2\n"), [named])[0]
    assert indexed.array.tolist() == [[1, 2, 3]]
    path = table(tmp_path, "c,a,b\n3,1,2\n")
    assert read_input(path, "x", "float32", ("n", 3), features=("a", "b", "c")).array.tolist() == [[1, 2, 3]]


def test_names_of_another_number_of_columns_are_none(tmp_path: Path) -> None:
    wrong = ColumnInput("x", np.dtype(np.float32), ("n", 2), ("a", "b", "c"))
    assert read_columns(table(tmp_path, "p,q\n1,2\n"), [wrong])[0].array.tolist() == [[1, 2]]


def test_text_without_names_says_what_was_assumed(tmp_path: Path) -> None:
    pair = ColumnInput("x", np.dtype(str), ("n", 2))
    (loaded,) = read_columns(table(tmp_path, "city,job\nRome,cook\n"), [pair])
    assert loaded.array.tolist() == [["Rome", "cook"]]
    assert any("file's order" in note for note in loaded.notes) and any("first row" in note for note in loaded.notes)
    (single,) = read_columns(table(tmp_path, '"I like it, really"\n'), [ColumnInput("text", np.dtype(str), ("n",))])
    assert single.array.tolist() == ["I like it, really"]
    (headed,) = read_columns(table(tmp_path, "text\ngood\nbad\n"), [ColumnInput("text", np.dtype(str), ("n",))])
    assert headed.array.tolist() == ["good", "bad"] and headed.notes == ()


def test_a_text_file_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "review.txt"
    path.write_text("a good,\nfine movie\n")
    for shape in [("n",), ("n", 1)]:
        loaded = read_input(path, "text", "string", shape)
        assert loaded.array.ravel().tolist() == ["a good,\nfine movie"] and loaded.array.ndim == len(shape)
    assert read_input(path, "text", "string", ("n", 1)).record["dtype"] == "str"


@pytest.mark.parametrize(
    ("metadata", "widths", "found"),
    [
        ({}, {"x": 2}, {}),
        ({"feature_names": '["a", "b"]'}, {"x": 2}, {"x": ("a", "b")}),
        ({"feature_names": "['a', 'b']"}, {"x": None}, {"x": ("a", "b")}),
        ({"columns": "a, b"}, {"x": 2}, {"x": ("a", "b")}),
        ({"features": '["a", "b", "c"]'}, {"x": 1, "y": 2}, {"x": ("a",), "y": ("b", "c")}),
        ({"features": '["a", "b"]'}, {"x": 1, "y": 2}, {}),
        ({"feature_names": '{"y": ["a", "b"]}'}, {"x": 1, "y": 2}, {"y": ("a", "b")}),
        ({"feature_names": "[1, 2]"}, {"x": 2}, {}),
        ({"feature_names": "[["}, {"x": 2}, {}),
        ({"feature_names": '{"x": 3}'}, {"x": 2}, {}),
    ],
)
def test_feature_names_of_metadata(
    metadata: dict[str, str], widths: dict[str, int | None], found: dict[str, Any]
) -> None:
    assert feature_names(metadata, widths) == found
