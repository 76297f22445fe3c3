"""Which inputs are explained where none are named: read from names, types and the first nodes that read them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.common.models import assemble

FLOAT, INT, LEVELS = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)


def model(nodes: list, inputs: dict[str, tuple[int, list]], constants: dict[str, np.ndarray]) -> analyzer.Model:
    return analyzer.load(assemble(nodes, inputs, {"y": (FLOAT, None)}, constants), "cpu")


def looked_up(*before: tuple[str, list[str], dict]) -> analyzer.Model:
    """``ids`` through some nodes, then rows of a table."""
    nodes, value = [], "ids"
    for at, (kind, more, attributes) in enumerate(before):
        nodes.append(helper.make_node(kind, [value, *more], [f"v{at}"], **attributes))
        value = f"v{at}"
    nodes.append(helper.make_node("Gather", ["table", value], ["y"]))
    constants = {
        "table": TABLE,
        "one": np.array(1),
        "axis": np.array([1]),
        "begin": np.array([0]),
        "end": np.array([1]),
    }
    return model(nodes, {"x": (FLOAT, ["n", 2]), "ids": (INT, ["n", 3])}, constants)


@pytest.mark.parametrize(
    "before",
    [
        [],
        [("Cast", [], {"to": TensorProto.INT32})],
        [("Sub", ["one"], {})],
        [("Gather", ["one"], {"axis": 1})],
        [("Slice", ["begin", "end", "axis"], {}), ("Squeeze", ["axis"], {})],
        [("Unsqueeze", ["axis"], {}), ("Transpose", [], {"perm": [0, 2, 1]})],
    ],
    ids=["whole", "cast", "shifted", "a column", "sliced", "moved"],
)
def test_whole_numbers_that_select_rows_of_a_table_are_explained(before: list) -> None:
    assert looked_up(*before).explained_inputs == ("x", "ids")


def test_whole_numbers_that_are_numbers_are_held_fixed() -> None:
    nodes = [
        helper.make_node("Cast", ["count"], ["c"], to=FLOAT),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    inputs = {"x": (FLOAT, ["n", 2]), "count": (INT, ["n", 2])}
    assert model(nodes, inputs, {}).explained_inputs == ("x",)
    alone = [nodes[0], helper.make_node("Identity", ["c"], ["y"])]
    assert model(alone, {"count": (INT, ["n", 2])}, {}).explained_inputs == ("count",)


def test_addresses_in_another_input_are_held_fixed() -> None:
    nodes = [helper.make_node("Gather", ["x", "edges"], ["y"])]
    assert model(nodes, {"edges": (INT, [2, "e"]), "x": (FLOAT, ["n", 2])}, {}).explained_inputs == ("x",)


def test_grey_levels_are_values() -> None:
    nodes = [
        helper.make_node("Cast", ["picture"], ["p"], to=FLOAT),
        helper.make_node("Add", ["p", "size"], ["y"]),
    ]
    inputs = {"size": (FLOAT, [1]), "picture": (LEVELS, ["n", 3, 4, 4])}
    assert model(nodes, inputs, {}).explained_inputs == ("size", "picture")


@pytest.mark.parametrize(
    "name",
    [
        "attention_mask",
        "input_mask",
        "token_type_ids",
        "segment_ids",
        "position_ids",
        "past_key_values.0.key",
        "past.0.value",
    ],
)
def test_what_says_where_tokens_stand_is_held_fixed(name: str) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["table", name], ["types"]),
        helper.make_node("Add", ["words", "types"], ["y"]),
    ]
    inputs = {name: (INT, ["n", 3]), "input_ids": (INT, ["n", 3])}
    assert model(nodes, inputs, {"table": TABLE}).explained_inputs == ("input_ids",)


@pytest.mark.parametrize("name", ["past_values", "segment_length", "position", "composition"])
def test_names_that_only_look_alike_are_explained(name: str) -> None:
    nodes = [helper.make_node("Add", ["x", name], ["y"])]
    assert model(nodes, {"x": (FLOAT, ["n", 3]), name: (FLOAT, ["n", 3])}, {}).explained_inputs == ("x", name)
