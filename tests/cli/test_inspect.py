"""``onnxplain inspect``: facts, verdicts on methods, nothing that stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.jobs.inspection import inspect, operators, weights
from analyzer.jobs.trials import trial_input
from tests.cli.conftest import Call, save


def test_facts_of_a_model(call: Call, pictures_model: Path) -> None:
    facts = call("inspect", pictures_model, "--json").json
    assert facts["file"]["path"] == str(pictures_model)
    assert facts["file"]["bytes"] == pictures_model.stat().st_size
    assert facts["file"]["opsets"] == {"ai.onnx": 17}
    assert facts["file"]["producer"] == "tests"
    assert facts["inputs"] == {"x": {"dtype": "float32", "shape": ["n", 3, 8, 8]}}
    assert facts["outputs"] == {"scores": {"dtype": "float32", "shape": ["n", 3]}}
    assert facts["nodes"] == 5
    assert facts["operators"] == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert facts["parameters"] == 4 * 3 * 9 + 4 + 12 + 3
    assert facts["weight_bytes"] == 4 * facts["parameters"]
    assert facts["labels"] == 3
    assert facts["explained"]["output"] == "scores"
    assert facts["parity"] is None
    assert facts["cam_layer"] == "relu"
    assert list(facts["methods"]) == list(analyzer.methods())
    assert {name for name, verdict in facts["methods"].items() if not verdict["works"]} == set()
    assert "node_list" not in facts


def test_methods_are_run_where_that_is_asked_for(call: Call, pictures_model: Path) -> None:
    facts = call("inspect", pictures_model, "--try-methods", "--json").json
    assert facts["parity"]["error"] <= facts["parity"]["tolerance"]
    assert facts["cam_layer"] == "relu"
    assert all(verdict["works"] for verdict in facts["methods"].values())


def test_a_model_that_onnxruntime_refuses_is_an_input_error(call: Call, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = save(tmp_path / "m.onnx", nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, {"w": np.ones((4, 3), np.int64)})
    ran = call("inspect", model)
    assert ran.code == 3
    assert ran.error.endswith("[runtime.load_failed]")


def test_the_same_facts_for_people(call: Call, pictures_model: Path) -> None:
    ran = call("inspect", pictures_model)
    assert ran.code == 0
    assert ran.err == ""
    for text in ("producer tests, IR 8, opsets ai.onnx 17", "float32 [n, 3, 8, 8]", "127 parameters, 508 B of weights",
                 "5 nodes: Conv 1", "class activation maps are read at 'relu'", "works: "):  # fmt: skip
        assert text in ran.out


def test_without_methods_nothing_is_traced(call: Call, pictures_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyzer.Model, "verify", lambda *_: pytest.fail("traced"))
    ran = call("inspect", pictures_model, "--no-methods", "--json")
    assert "methods" not in ran.json


def test_verbose_lists_the_nodes(call: Call, table_model: Path) -> None:
    assert call("inspect", table_model, "-v", "--no-methods", "--json").json["node_list"] == [
        {"graph": "", "name": "linear", "operator": "MatMul", "inputs": ["x", "w"], "outputs": ["z"]},
        {"graph": "", "name": "softmax", "operator": "Softmax", "inputs": ["z"], "outputs": ["p"]},
    ]
    assert "linear  (x, w) -> z" in call("inspect", table_model, "-v", "--no-methods").out


def test_a_final_softmax_is_said_to_be_taken_off(call: Call, table_model: Path) -> None:
    assert "explained by default: p, its final Softmax taken off (logit)" in call("inspect", table_model).out


def test_methods_that_cannot_work_say_why(call: Call, table_model: Path) -> None:
    facts = call("inspect", table_model, "--json").json
    for name in ("cam", "grad-cam"):
        assert facts["methods"][name]["works"] is False
        assert facts["methods"][name]["reason"].endswith("[layer.none]")
    for name in ("gradient", "saliency", "lrp", "lime", "occlusion"):
        assert facts["methods"][name] == {"works": True, "reason": ""}
    output = call("inspect", table_model).out
    assert output.count("[layer.none]") == 1
    refused = next(text for text in output.splitlines() if text.startswith("doesn't work:"))
    assert {"cam", "grad-cam"} <= set(refused.removeprefix("doesn't work:").strip(" .:").replace(",", " ").split())


def test_an_untraceable_model_names_the_nodes_and_keeps_the_runtime_methods(
    call: Call, table_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("op.unsupported", "the trace has no function for Odd node 'strange'", "use occlusion")

    monkeypatch.setattr("analyzer.engines.tracer.Tracer.require", refuse)
    facts = call("inspect", table_model, "--try-methods", "--json").json
    for name, info in analyzer.methods().items():
        verdict = facts["methods"][name]
        assert verdict["works"] is (info.needs == "runtime")
        assert verdict["works"] or "Odd node 'strange'" in verdict["reason"]
    assert facts["parity"] is None


def test_a_fault_of_a_method_does_not_hide_the_rest(
    call: Call, table_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = analyzer.Model.explain

    def fail(self: analyzer.Model, x: Any, method: str, **more: Any) -> analyzer.Explanation:
        if method in ("lrp", "occlusion"):
            raise KeyError("node")
        return explain(self, x, method=method, **more)

    monkeypatch.setattr(analyzer.Model, "explain", fail)
    ran = call("inspect", table_model, "--try-methods", "--json")
    assert ran.code == 0
    for name in ("lrp", "occlusion"):
        assert ran.json["methods"][name] == {"works": False, "reason": "KeyError: 'node' [internal]"}
    assert ran.json["methods"]["gradient"]["works"] is True


def test_a_model_that_no_trial_input_fits_leaves_methods_open(call: Call, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"])]  # n by m times n by m: runs only where n = m = 1
    nodes.append(helper.make_node("Reshape", ["y", "s"], ["z"]))
    model = save(tmp_path / "m.onnx", nodes, {"x": ["n", "m"]}, {"z": [7]}, {"s": np.array([7], np.int64)})
    ran = call("inspect", model, "--try-methods", "--json")
    assert ran.code == 0
    assert {verdict["works"] for verdict in ran.json["methods"].values()} == {None}
    assert "no trial input fits" in ran.json["methods"]["lime"]["reason"]


def branching(condition_shape: list[int]) -> onnx.ModelProto:
    """An If whose branches hold weights and nodes, and a function with one node, called twice."""

    def branch(name: str, factor: float) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Mul", ["x", f"k_{name}"], [f"m_{name}"], name="times"),
             helper.make_node("Twice", [f"m_{name}"], [f"y_{name}"], domain="own")],
            name, [], [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, ["n", 4])],
            [numpy_helper.from_array(np.full((1, 4), factor, np.float32), f"k_{name}")],
        )  # fmt: skip

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])], opsets[:1])
    constant = numpy_helper.from_array(np.array([True]), "c")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["yes"], value=constant),
         helper.make_node("If", ["yes"], ["y"], name="fork", then_branch=branch("then", 2.0),
                          else_branch=branch("else", 3.0))],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[twice])


def test_nodes_and_weights_of_branches_and_functions_count() -> None:
    facts = inspect(analyzer.load(branching([1])), "none", list_nodes=True)
    assert facts["operators"] == {"Mul": 2, "own::Twice": 2, "Constant": 1, "If": 1, "Add": 1}
    assert facts["nodes"] == 7
    assert facts["parameters"] == 8
    assert facts["weight_bytes"] == 8 * 4 + 1
    where = {node["graph"] for node in facts["node_list"]}
    assert where == {"", "Twice", "fork.then_branch", "fork.else_branch"}


@pytest.mark.parametrize(
    ("kind", "elements", "count", "size"),
    [
        (TensorProto.FLOAT16, 6, 6, 12),
        (TensorProto.BFLOAT16, 6, 6, 12),
        (TensorProto.INT8, 6, 6, 6),
        (TensorProto.INT4, 6, 6, 3),
        (TensorProto.INT64, 6, 0, 48),
        (TensorProto.DOUBLE, 6, 6, 48),
    ],
)
def test_weights_by_type(kind: int, elements: int, count: int, size: int) -> None:
    tensor = TensorProto(name="w", dims=[elements], data_type=kind, raw_data=bytes(size))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "g", [],
        [helper.make_tensor_value_info("y", kind, [elements])], [tensor],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    held = 2 * size if kind == TensorProto.BFLOAT16 else size  # which is run as float32
    assert weights(analyzer.load(proto)) == (count, held)


def test_trees_keep_their_weights_in_attributes() -> None:
    node = helper.make_node(
        "LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[1.0, 2.0, 3.0], intercepts=[0.5]
    )
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = analyzer.load(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert weights(model) == (4, 16)
    assert operators(model) == {"ai.onnx.ml::LinearRegressor": 1}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["n", 3, "h", "w"], (1, 3, 224, 224)),
        ([None, "length"], (1, 5)),
        ([2, None, 128], (2, 1, 128)),
        ([1, 3, None, None], (1, 3, 224, 224)),
        ([], ()),
    ],
)
def test_trial_inputs_fit(tmp_path: Path, shape: list[Any], expected: tuple[int, ...]) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape}, {})
    assert trial_input(analyzer.load(path), length=5)["x"].shape == expected


def test_hostile_names_stay_inert(call: Call, tmp_path: Path) -> None:
    name = "\x1b[31m[/foo]<script>\u202e../../tmp"
    path = save(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"], name=name)], {"x": ["n", 2]}, {"y": ["n", 2]}, {},
        description=name,
    )  # fmt: skip
    ran = call("inspect", path, "-v")
    assert ran.code == 0
    assert "[/foo]<script>" in ran.out
    assert not any(character in ran.out for character in "\x1b\u202e")


@pytest.mark.slow
def test_every_real_model_is_inspected(call: Call, shared: Path) -> None:
    invalid = {"super_resolution.onnx": 3, "pcb_aoi_customvision.onnx": 3}
    for path in sorted((shared / "data" / "models").glob("*.onnx")):
        ran = call("inspect", path, "--json")
        assert ran.code == invalid.get(path.name, 0), (path.name, ran.err)
        assert ran.err.count("\n") == (1 if path.name in invalid else 0), ran.err
