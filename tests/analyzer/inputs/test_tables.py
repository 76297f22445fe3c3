"""Tables: the CSV format, which row names the columns, and what cells mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.inputs import read_csv
from analyzer.inputs.tables import CellType, Table


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AnalyzerError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return caught.value.code


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,2\n3,4.5\n", None),
        ("a,b\n1,2\n3,4.5", ("a", "b")),
        ("\ufeffa;b\r\n1;2\r\n\r\n3;4.5\r\n", ("a", "b")),
        ('"a, first"\tb\n1\t2\n3\t4.5\n', ("a, first", "b")),
        ('a,b\n"1", 2\n 3 ,4.5\n', ("a", "b")),
        ("a,\n1,2\n3,4.5\n", ("a", "column 2")),
        (",a,b\n0,1,2\n1,3,4.5\n", ("a", "b")),
    ],
)
def test_tables(tmp_path: Path, text: str, names: tuple[str, ...] | None):
    got = read_csv(table(tmp_path, text))
    assert got.values.tolist() == [[1, 2], [3, 4.5]] and got.feature_names == names


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_tables_keep_every_digit(tmp_path: Path, values, delimiter):
    text = "\n".join(delimiter.join(repr(float(v)) for v in row) for row in values)
    assert np.array_equal(read_csv(table(tmp_path, text)).values, values)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a,b\n1,2\n3,\n", "data.missing_value", ["line 3", "column 2", "'b'"]),
        ("a,b\n1,NaN\n", "data.missing_value", ["line 2", "column 2"]),
        ("1,2\n3,x7\n", "data.not_a_number", ["line 2", "column 2", "'x7'"]),
        ("1.0,abc\n3,4\n", "data.not_a_number", ["line 1", "column 2", "'abc'"]),
        ("1;2,5\n", "data.not_a_number", ["point"]),
        ("1,1_000\n", "data.not_a_number", ["1_000"]),
        ("1,2\n3,inf\n", "data.nonfinite", ["line 2", "column 2"]),
        ("1,2\n3,1e999\n", "data.nonfinite", ["line 2"]),
        ("1,2\n3\n", "data.ragged_table", ["line 2", "1 cells"]),
        ("", "data.empty", []),
        ("\n\n", "data.empty", []),
        ("a,b\n", "data.empty", ["header"]),
        (b"1,2\n\xff,3\n", "data.table_unreadable", ["line 2"]),
        (b"1,2\0\n", "data.table_unreadable", ["NUL"]),
        ("1," + "2" * 200_000 + "\n", "data.table_unreadable", []),
    ],
)
def test_faults_in_tables_name_the_cell(tmp_path: Path, text: str | bytes, code: str, words: list[str]):
    with pytest.raises(InputError) as caught:
        read_csv(table(tmp_path, text))
    assert caught.value.code == code and all(word in str(caught.value) for word in ["table.csv", *words])
    assert len(str(caught.value)) < 700


def test_columns_by_name_and_number(tmp_path: Path):
    path = table(tmp_path, "age,name,fare\n1,Ann,3\n2,Bob,6\n")
    got = read_csv(path, columns=["fare", 0])
    assert got.values.tolist() == [[3, 1], [6, 2]] and got.feature_names == ("fare", "age")
    assert code_of(read_csv, path, columns=["nope"]) == "data.unknown_column"
    assert code_of(read_csv, path, columns=[3]) == "data.unknown_column"
    years = table(tmp_path, "city,2020,2021\n1,2,3\n")
    assert code_of(read_csv, years) == "data.not_a_number"
    assert read_csv(years, header=True).feature_names == ("city", "2020", "2021")


def test_missing_file_is_a_usage_error(tmp_path: Path):
    with pytest.raises(UsageError):
        read_csv(tmp_path / "absent")


# --- cells of other kinds


def column(tmp_path: Path, cells: list[str], dtype: Any, missing: bool = False) -> np.ndarray:
    """Cells below a header, read as one column."""
    path = table(tmp_path, "\n".join(['"c", d', *(f'"{cell}", 1' for cell in cells)]))
    return Table(path).columns([0], [CellType(np.dtype(dtype), missing)], header=True)[0]


def test_cells_are_read_as_their_column_is(tmp_path: Path):
    text = column(tmp_path, ["New York", "", "NA", "1.50", " x, y "], str)
    assert text.dtype == object and text.tolist() == ["New York", "", "NA", "1.50", " x, y "]
    truth = column(tmp_path, ["true", "False", "YES", "no", "1", "0", "1.0"], bool)
    assert truth.dtype == bool and truth.tolist() == [True, False, True, False, True, False, True]
    whole = column(tmp_path, ["9007199254740993", "-3", "2.0", " 7 ", "true"], np.int64)  # 2**53 + 1 is no float
    assert whole.dtype == np.int64 and whole.tolist() == [9007199254740993, -3, 2, 7, 1]
    assert column(tmp_path, ["18446744073709551615"], np.uint64).tolist() == [2**64 - 1]
    real = column(tmp_path, ["1.5", "", "NaN", "n/a", "True"], np.float32, missing=True)
    assert real[[0, 4]].tolist() == [1.5, 1.0] and all(math.isnan(each) for each in real[1:4])


@pytest.mark.parametrize(
    ("cell", "dtype", "code", "words"),
    [
        ("", np.float32, "data.missing_value", "missing"),
        ("", np.int64, "data.missing_value", "missing"),
        ("nan", bool, "data.missing_value", "missing"),
        ("1,234", np.float32, "data.not_a_number", "between thousands"),
        ("1,234.5", np.float32, "data.not_a_number", "between thousands"),
        ("1 234 567", np.int64, "data.not_a_number", "between thousands"),
        ("1'234", np.float64, "data.not_a_number", "between thousands"),
        ("1.234.567", np.float64, "data.not_a_number", "between thousands"),
        ("1,5", np.float64, "data.not_a_number", "with a point"),
        ("Rome", np.float64, "data.not_a_number", "'Rome'"),
        ("maybe", bool, "data.not_a_number", "true or false"),
        ("2", bool, "data.not_a_number", "true or false"),
        ("1.5", np.int32, "data.bad_dtype", "fraction"),
        ("300", np.uint8, "data.bad_dtype", "0..255"),
        ("-1", np.uint8, "data.bad_dtype", "0..255"),
        ("inf", np.int32, "data.nonfinite", "not finite"),
        ("9" * 60, np.int64, "data.bad_dtype", "outside int64"),
    ],
)
def test_cells_that_mean_nothing_are_named(tmp_path: Path, cell: str, dtype: Any, code: str, words: str):
    with pytest.raises(InputError) as caught:
        column(tmp_path, [cell], dtype)
    assert caught.value.code == code and words in str(caught.value)
    assert "line 2, column 1 ('c')" in str(caught.value) and "\n" not in str(caught.value)


def test_infinity_is_no_missing_value(tmp_path: Path):
    with pytest.raises(InputError) as caught:
        column(tmp_path, ["-inf"], np.float32, missing=True)
    assert caught.value.code == "data.nonfinite"


@pytest.mark.parametrize(
    ("rows", "known", "text", "header"),
    [
        ("a,b\n1,2\n", (), False, True),
        ("1,b\n1,2\n", (), False, False),
        ("true,false\ntrue,true\n", (), False, False),
        ("city,2020\nRome,1\n", ("city",), True, True),
        ("Rome,1\nParis,2\n", ("city", "age"), True, False),
        ("city,job\nRome,cook\n", (), True, True),
        ("Rome,cook\n", (), True, False),
        ("text\n", ("text",), True, True),
        ("3,1,2\n5,6,7\n", ("1", "2", "3"), False, True),
        ("3,1,2\n", ("1", "2", "3"), False, False),
        ("3,1,4\n5,6,7\n", ("1", "2", "3"), False, False),
    ],
)
def test_which_first_row_names_the_columns(tmp_path: Path, rows: str, known: tuple[str, ...], text: bool, header: bool):
    assert Table(table(tmp_path, rows)).has_header(known, text) == header
