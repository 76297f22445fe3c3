"""LSTM, GRU and RNN against onnxruntime and the standard's reference, over all their attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from analyzer.errors import InputError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer import oracle

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
BOTH = ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]
WITH_PARAMETERS = {
    "Affine": (0.7, 0.1),
    "LeakyRelu": (0.2, None),
    "ThresholdedRelu": (0.3, None),
    "ScaledTanh": (0.9, 0.8),
    "HardSigmoid": (0.3, 0.4),
    "Elu": (0.7, None),
}


def model_of(
    op: str,
    steps: int,
    batch: int,
    width: int,
    hidden: int,
    *,
    direction: str = "forward",
    biased: bool = True,
    lengths: list[int] | None = None,
    initial: bool = False,
    peepholes: bool = False,
    outputs: tuple[bool, ...] = (True, True, True),
    seed: int = 0,
    opset: int = 14,
    layout: int = 0,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one layer with everything but its input baked in."""
    rng = np.random.default_rng(seed)
    directions = 2 if direction == "bidirectional" else 1
    gates = GATES[op]

    def make(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.6).astype(np.float32)

    state = (batch, directions, hidden) if layout else (directions, batch, hidden)
    values = {
        "w": make(directions, gates * hidden, width),
        "r": make(directions, gates * hidden, hidden),
        "b": make(directions, 2 * gates * hidden) if biased else None,
        "lengths": None if lengths is None else np.array(lengths, np.int32),
        "h": make(*state) if initial else None,
    }
    if op == "LSTM":
        values |= {"c": make(*state) if initial else None, "p": make(directions, 3 * hidden) if peepholes else None}
    x = make(batch, steps, width) if layout else make(steps, batch, width)
    names = [f"y{i}" if keep else "" for i, keep in enumerate(outputs[: 1 + STATES[op]])]
    inputs = ["x", *(k if v is not None else "" for k, v in values.items())]
    extra = {"layout": layout} if layout else {}
    node = helper.make_node(op, inputs, names, hidden_size=hidden, direction=direction, **extra, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name=n) for n in names if n],
        [numpy_helper.from_array(v, k) for k, v in values.items() if v is not None],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, {"x": x}


@st.composite
def layers(draw: st.DrawFn, op: str) -> dict[str, Any]:
    """Attributes, inputs and outputs of a layer that onnxruntime takes."""
    steps, batch = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    found: dict[str, Any] = {
        "op": op,
        "steps": steps,
        "batch": batch,
        "width": draw(st.integers(1, 4)),
        "hidden": draw(st.integers(1, 4)),
        "direction": direction,
        "biased": draw(st.booleans()),
        "initial": draw(st.booleans()),
        "peepholes": draw(st.booleans()),
        "opset": draw(st.sampled_from([7, 14, 22])),
        "seed": draw(st.integers(0, 1000)),
        "lengths": draw(st.none() | st.lists(st.integers(1, steps), min_size=batch, max_size=batch)),
    }
    kept = draw(st.lists(st.booleans(), min_size=1 + STATES[op], max_size=1 + STATES[op]).filter(any))
    found["outputs"] = tuple(kept)
    if draw(st.booleans()):
        found["clip"] = draw(st.sampled_from([0.3, 1.0, 5.0]))
    if op == "LSTM" and draw(st.booleans()):
        found["input_forget"] = 1
    if op == "GRU":
        found["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        count = FUNCTIONS[op] * (2 if direction == "bidirectional" else 1)
        names = draw(st.lists(st.sampled_from([*BOTH, *WITH_PARAMETERS]), min_size=count, max_size=count))
        alphas = [WITH_PARAMETERS[n][0] for n in names if n in WITH_PARAMETERS]
        betas = [WITH_PARAMETERS[n][1] for n in names if n in WITH_PARAMETERS and WITH_PARAMETERS[n][1] is not None]
        found |= {"activations": names}
        found |= {"activation_alpha": alphas} if alphas else {}
        found |= {"activation_beta": betas} if betas else {}
    return found


@pytest.mark.parametrize("op", GATES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_attribute(op: str, data: st.DataObject) -> None:
    model, feed = model_of(**data.draw(layers(op)))
    assume(all(np.abs(value).max() < 1e4 for value in oracle.runtime(model, feed)))  # unbounded activations explode
    oracle.check(model, feed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("initial", [False, True])
def test_layout_with_the_batch_first(op: str, direction: str, initial: bool) -> None:
    """onnxruntime has no such layout: the same layer with time first, its values turned, is the reference."""
    settings_ = {"direction": direction, "initial": initial, "lengths": [4, 2]}
    model, feed = model_of(op, 4, 2, 3, 5, layout=1, **settings_)
    turned, _ = model_of(op, 4, 2, 3, 5, **settings_)
    del turned.graph.initializer[:]
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        value = value.swapaxes(0, 1) if tensor.name in ("h", "c") else value
        turned.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    expected = oracle.runtime(turned, {"x": feed["x"].swapaxes(0, 1)})
    got = oracle.table(model, feed)
    np.testing.assert_allclose(got[0], expected[0].transpose(2, 0, 1, 3), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(mine, theirs.swapaxes(0, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", GATES)
def test_layout_against_the_reference_implementation(op: str) -> None:
    model, feed = model_of(op, 4, 2, 3, 5, layout=1)
    for mine, theirs in zip(oracle.table(model, feed), ReferenceEvaluator(model).run(None, feed), strict=True):
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("LSTM", {"sigmoid": 3, "tanh": 2}), ("GRU", {"sigmoid": 2, "tanh": 1}), ("RNN", {"tanh": 1})],
)
def test_gates_are_nodes_of_their_own(op: str, expected: dict[str, int]) -> None:
    """One input projection, one recurrent projection per step, one activation per gate and step, no bmm."""
    steps = 3
    model, feed = model_of(op, steps, 2, 4, 5, linear_before_reset=1) if op == "GRU" else model_of(op, steps, 2, 4, 5)
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", as_tensor(feed["x"]))
        out = run_graph(build(model, numpy_helper.to_array), {"x": x}, Interpreter(recorder))
    module = recorder.finish(out)
    called = [str(node.target) for node in module.graph.nodes if node.op == "call_function"]
    assert called.count("aten.addmm.default") == steps  # the first step's recurrent part is a constant
    assert not {"aten.mm.default", "aten.bmm.default"} & set(called)
    for name, count in expected.items():
        assert called.count(f"aten.{name}.default") == count * steps
    assert recorder.data_dependent is None


def test_unknown_activation_is_named() -> None:
    model, feed = model_of("RNN", 2, 1, 2, 2, activations=["Swoosh"])
    with pytest.raises(InputError, match="Swoosh"):
        oracle.table(model, feed)


def test_wrong_number_of_directions_is_refused() -> None:
    model, feed = model_of("GRU", 2, 1, 2, 2)
    (direction,) = (a for a in model.graph.node[0].attribute if a.name == "direction")
    direction.s = b"bidirectional"
    with pytest.raises(InputError, match="directions"):
        oracle.table(model, feed)
