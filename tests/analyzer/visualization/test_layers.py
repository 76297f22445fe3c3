"""Layers are found by whatever they are called, and what can't be given out is said."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.visualization.layers import chosen, layers, unreachable
from tests.analyzer.visualization.models import nested, pictures

CONV, RELU = "/body/body.0/Conv_output_0", "/body/body.1/Relu_output_0"


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (CONV, [CONV]),
        ("/body/body.0/Conv", [CONV]),
        ("Conv", [CONV]),
        ("body.1", [RELU]),
        ("body", [RELU]),
        ("body.*", [CONV, RELU]),
        ("*Relu*", [RELU]),
        ("flat*", ["flattened"]),
        (["head", "Conv", "flattened"], [CONV, "flattened", "y"]),
        (["Relu", RELU], [RELU]),
    ],
)
def test_a_layer_is_found_by_value_node_module_operator_or_pattern(names: str | list[str], values: list[str]) -> None:
    assert [layer.value for layer in chosen(analyzer.load(pictures()), names)] == values


@pytest.mark.parametrize(("name", "near"), [("flattend", "flattened"), ("Covn", "Conv"), ("MatMull", "MatMul")])
def test_an_unknown_layer_is_refused_with_the_near_name(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"did you mean {near}\?") as caught:
        chosen(analyzer.load(pictures()), name)
    assert caught.value.code == "layer.unknown"


@pytest.mark.parametrize("name", ["inner_relu", "e", "Neg"])
def test_a_layer_in_a_body_is_said_to_be_out_of_reach(name: str) -> None:
    with pytest.raises(UsageError, match="inside If node 'choice'") as caught:
        chosen(analyzer.load(nested()), name)
    assert caught.value.code == "layer.in_body"


def test_all_layers_are_those_that_depend_on_an_input() -> None:
    assert [layer.node for layer in layers(analyzer.load(pictures()))] == [
        "/body/body.0/Conv", "/body/body.1/Relu", "/pool/GlobalAveragePool", "flat", "positive", "size", "head",
    ]  # fmt: skip
    assert [layer.value for layer in layers(analyzer.load(nested()))] == [
        "pieces",
        "again",
        "total",
        "positive",
        "picked",
        "y",
    ]
    assert unreachable(analyzer.load(nested())) == 2
