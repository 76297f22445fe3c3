"""Graphs inside graphs: all of them, once each, however deep."""

from __future__ import annotations

import onnx
from onnx import helper

from analyzer.importer.subgraphs import named_subgraphs, subgraphs, with_subgraphs


def graph(name: str, *inner: onnx.GraphProto) -> onnx.GraphProto:
    """A graph with one node that holds others as attributes."""
    node = helper.make_node("If", ["c"], ["y"])
    node.attribute.extend(helper.make_attribute(f"branch_{i}", each) for i, each in enumerate(inner))
    return helper.make_graph([helper.make_node("Not", ["b"], ["c"]), node], name, [], [])


def test_all_graphs_of_a_graph() -> None:
    outer = graph("outer", graph("a", graph("aa")), graph("b"))
    assert {each.name for each in with_subgraphs(outer)} == {"outer", "a", "aa", "b"}
    assert next(iter(with_subgraphs(outer))) == outer


def test_lists_of_graphs_count_too() -> None:
    node = helper.make_node("Custom", [], ["y"], bodies=[graph("a"), graph("b")])
    assert [each.name for each in subgraphs(node)] == ["a", "b"]
    assert [(name, each.name) for name, each in named_subgraphs(node)] == [("bodies", "a"), ("bodies", "b")]


def test_depth_is_no_matter() -> None:
    nested = graph("0")
    for level in range(1, 25):
        nested = graph(str(level), nested)
    assert len(list(with_subgraphs(nested))) == 25


def test_a_function_is_walked_like_a_graph() -> None:
    function = helper.make_function("local", "f", ["b"], ["y"], list(graph("", graph("a")).node), [])
    assert [type(each).__name__ for each in with_subgraphs(function)] == ["FunctionProto", "GraphProto"]
