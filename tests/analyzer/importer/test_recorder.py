"""The recorder: what is written down, what isn't, and what makes a recording valid for one input only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from analyzer.importer.recorder import Recorder, concrete, integers, recorded, without_recording

aten = torch.ops.aten


def record(function: Callable[..., Any], *values: Tensor) -> tuple[fx.GraphModule, Recorder]:
    """A function's recording on values; its outputs are a tensor or a tuple of them."""
    recorder = Recorder()
    with torch.no_grad(), recorder:
        inputs = [recorder.placeholder(f"x{i}", value) for i, value in enumerate(values)]
        out = function(*inputs)
    outs = out if isinstance(out, tuple) else (out,)
    return recorder.finish({f"y{i}": value for i, value in enumerate(outs)}), recorder


def calls(module: fx.GraphModule) -> list[str]:
    """Names of the operators in a recording."""
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


X, OTHER = torch.arange(6.0).reshape(2, 3), torch.tensor([[3.0, -1.0, 2.5], [0.0, 9.0, -4.0]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.relu(x) * 2 + 1,
        lambda x: x @ torch.arange(12.0).reshape(3, 4),
        lambda x: torch.split(x, [1, 2], dim=1),
        lambda x: torch.topk(x, 2, dim=1),
        lambda x: torch.where(x > 0, x, -x),
        lambda x: x.reshape(3, 2).transpose(0, 1),
        lambda x: torch.cat([x, torch.ones(2, 1), x], dim=1),
        lambda x: (x.expand(4, 2, 3).sum(0), x.mean()),
        lambda x: torch.nn.functional.layer_norm(x, (3,)),
        lambda x: torch.softmax(x, dim=1),
        lambda x: x[:, torch.tensor([2, 0])],
        lambda x: torch.nn.functional.conv1d(x[None], torch.ones(2, 2, 2)),
    ],
)
def test_a_recording_replayed_on_other_values_equals_the_function(function: Callable[[Tensor], Any]) -> None:
    module, recorder = record(function, X)
    assert recorder.data_dependent is None
    for value in (X, OTHER):
        expected = function(value)
        expected = (
            expected if isinstance(expected, tuple) else tuple(expected) if isinstance(expected, list) else (expected,)
        )
        for mine, theirs in zip(module(value), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_only_what_depends_on_an_input_is_written_down() -> None:
    def function(x: Tensor) -> Tensor:
        weight = torch.arange(9.0).reshape(3, 3).mT @ torch.eye(3)
        size = torch.tensor([x.shape[1], -1]).flip(0)
        return (x @ weight.sqrt()).reshape(integers(size))

    module, recorder = record(function, X)
    assert calls(module) == ["aten.mm.default", "aten.view.default"]
    assert recorder.data_dependent is None
    torch.testing.assert_close(module(OTHER)[0], function(OTHER))


def test_unused_operations_are_left_out_and_unused_inputs_stay() -> None:
    module, _ = record(lambda x, y: (torch.exp(y), x * 2)[1], X, X)
    assert calls(module) == ["aten.mul.Tensor"]
    assert len(module.graph.find_nodes(op="placeholder")) == 2
    torch.testing.assert_close(module(OTHER, X)[0], OTHER * 2)


def test_a_constant_read_twice_is_one_node() -> None:
    weight = torch.arange(9.0).reshape(3, 3)
    module, _ = record(lambda x: x @ weight + x @ weight, X)
    assert len(module.graph.find_nodes(op="get_attr")) == 1
    assert module.constant_0.data_ptr() == weight.data_ptr(), "the constant is shared, not copied"


def test_other_readings_of_a_storage_are_other_constants() -> None:
    weight = torch.arange(9.0).reshape(3, 3)
    module, _ = record(lambda x: x @ weight + x @ weight.mT + x @ (weight + 1), X)
    assert len(module.graph.find_nodes(op="get_attr")) == 3
    torch.testing.assert_close(module(OTHER)[0], OTHER @ weight + OTHER @ weight.mT + OTHER @ (weight + 1))


def test_constants_of_freed_temporaries_are_not_confused() -> None:
    def function(x: Tensor) -> Tensor:
        for value in range(20):
            x = x + torch.full((2, 3), float(value))
        return x

    module, _ = record(function, X)
    torch.testing.assert_close(module(OTHER)[0], OTHER + 190)


def test_constants_carry_their_name_in_the_model() -> None:
    weight = torch.ones(3, 3)
    recorder = Recorder()
    recorder.names[weight.data_ptr()] = "layer.weight"
    with torch.no_grad(), recorder:
        out = recorder.placeholder("x", X) @ weight
    module = recorder.finish({"y": out})
    assert [node.meta["constant"] for node in module.graph.find_nodes(op="get_attr")] == ["layer.weight"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.add_(1),
        lambda x: x.relu_(),
        lambda x: x[0].mul_(2),
        lambda x: x.index_fill_(0, torch.tensor([0]), 0.0),
        lambda x: torch.zeros(2, 3).copy_(x),
        lambda x: torch.add(x, 1, out=torch.empty(2, 3)),
    ],
)
def test_changing_in_place_is_refused_before_it_happens(change: Callable[[Tensor], Tensor]) -> None:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", X)
        with pytest.raises(RuntimeError, match="in place"):
            change(x)
    torch.testing.assert_close(x, X)


def test_the_given_tensor_is_not_the_recorded_one() -> None:
    given = X.clone()
    recorder = Recorder()
    with recorder:
        inside = recorder.placeholder("x", given)
    assert inside.data_ptr() != given.data_ptr()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * float(x.sum()),
        lambda x: x[: int(x[0, 1])],
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * concrete(x).max(),
        lambda x: x.reshape(integers((x[0, 1:] * 0 + torch.tensor([3.0, 2.0])).long())),
        lambda x: x[x > 1],
        lambda x: torch.nonzero(x),
        lambda x: torch.masked_select(x, x > 1),
        lambda x: torch.unique(x),
        lambda x: x + (1 if torch.equal(x, X) else 2),
        lambda x: x + (1 if torch.allclose(x, X) else 2),
        lambda x: x * x.max().item(),
        lambda x: torch.repeat_interleave(x[0], (x[0] > 0).long()),
    ],
)
def test_reading_numbers_makes_a_recording_data_dependent(function: Callable[[Tensor], Tensor]) -> None:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", X)
        recorder.provenance = {"onnx": "culprit", "op": "Strange"}
        function(x)
        recorder.provenance = {"onnx": "later", "op": "Strange"}
        function(x)
    assert recorder.data_dependent == "culprit"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(x.shape[1], -1),
        lambda x: x * float(torch.tensor(3.0)),
        lambda x: x[:, torch.tensor([True, False, True]).nonzero()[:, 0]],
        lambda x: x + concrete(torch.ones(3)).sum(),
        lambda x: x[torch.tensor([1, 0])],
        lambda x: x.numel() * x,
    ],
)
def test_shapes_and_constants_do_not(function: Callable[[Tensor], Tensor]) -> None:
    module, recorder = record(function, X)
    assert recorder.data_dependent is None
    torch.testing.assert_close(module(OTHER)[0], function(OTHER))


def test_every_node_carries_provenance_shape_and_dtype() -> None:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", X)
        recorder.provenance = {"onnx": "one", "op": "TopK"}
        values, places = torch.topk(torch.relu(x), 2)
        recorder.provenance = {"onnx": "two", "op": "Add"}
        out = values + places
    module = recorder.finish({"y": out})
    for node in module.graph.nodes:
        if node.op == "call_function":
            assert node.meta["onnx"] in ("one", "two")
            assert node.meta["op"] in ("TopK", "Add")
        if node.op == "placeholder":
            assert node.meta["value"] == "x"
            assert node.meta["shape"] == (2, 3)
    last = module.graph.output_node().args[0][0]
    assert (last.meta["onnx"], last.meta["shape"], last.meta["dtype"]) == ("two", (2, 2), torch.float32)
    assert next(str(n.target) for n in module.graph.nodes if n.meta.get("onnx") == "one") == "aten.relu.default"


def test_what_is_recorded_is_known_only_while_recording() -> None:
    recorder = Recorder()
    assert not recorded(X)
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", X)
        assert recorded(x)
        assert recorded(x + 1)
        assert recorded(x.detach())
        assert not recorded(X)
        assert not recorded(3)
        assert recorder.node_of(x.detach()) is recorder.node_of(x)
        with without_recording():
            aside = x + 1
        assert not recorded(aside)
    assert not recorded(x)


def test_nothing_is_left_switched_on_after_a_fault() -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError), recorder:
        raise ZeroDivisionError
    assert not recorded(X)
    count = len(recorder.graph.nodes)
    torch.relu(X)
    assert len(recorder.graph.nodes) == count


def test_concrete_numbers_of_types_numpy_lacks() -> None:
    values = concrete(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1.5, -2.0])
    assert integers(torch.tensor([[1, 2], [3, 4]])) == [1, 2, 3, 4]


def test_an_output_may_be_an_input_or_a_constant() -> None:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        x = recorder.placeholder("x", X)
        module = recorder.finish({"same": x, "fixed": torch.ones(2)})
    same, fixed = module(OTHER)
    torch.testing.assert_close(same, OTHER)
    torch.testing.assert_close(fixed, torch.ones(2))
