"""Single operators written as ONNX, against torch running the same code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from analyzer.compiler import unify
from analyzer.compiler.recorder import SweepRecorder
from analyzer.compiler.writer import Writer
from analyzer.errors import UnsupportedError

aten = torch.ops.aten


def written(function: Callable[..., Tensor], *values: Tensor) -> onnx.ModelProto:
    """A function of tensors as an ONNX model with inputs x0, x1, … and output y."""
    recorder = SweepRecorder()
    with recorder:
        result = function(*[recorder.placeholder(f"x{i}", value) for i, value in enumerate(values)])
    module = recorder.finish({"y": result})
    proto = Writer(unify.fixed(module, ["y"], 1)).write("test", {})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto: onnx.ModelProto, *values: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {f"x{i}": value.numpy() for i, value in enumerate(values)})[0]
    return result


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def pooled(x: Tensor, grad: Tensor, *how: Any) -> Tensor:
    """The gradient of max pooling as autograd asks for it."""
    name = f"max_pool{x.ndim - 2}d_with_indices"
    values, at = getattr(aten, name).default(x, *how)
    backward = getattr(aten, f"{name}_backward").default
    result: Tensor = backward(grad + 0 * values, x, *how, at)
    return result


POOLS = {
    "apart": ((2, 3, 6, 8), ([2, 2], [2, 2], [0, 0], [1, 1], False), "MaxUnpool"),
    "remainder": ((2, 3, 7, 9), ([2, 2], [2, 2], [0, 0], [1, 1], False), "MaxUnpool"),
    "gaps": ((1, 2, 9, 9), ([2, 2], [3, 3], [0, 0], [1, 1], False), "MaxUnpool"),
    "overlapping": ((2, 3, 9, 8), ([3, 3], [2, 2], [1, 1], [1, 1], False), "ScatterElements"),
    "ceil": ((1, 2, 7, 7), ([2, 2], [2, 2], [0, 0], [1, 1], True), "ScatterElements"),
    "dilated": ((1, 2, 9, 9), ([2, 2], [2, 2], [0, 0], [2, 2], False), "ScatterElements"),
    "volume": ((2, 2, 4, 6, 5), ([2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False), "MaxUnpool"),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_backward(case: str, ties: bool) -> None:
    shape, how, kind = POOLS[case]
    torch.manual_seed(0)
    x = torch.randint(0, 3, shape).float() if ties else torch.randn(shape)
    pool = torch.nn.functional.max_pool2d if len(shape) == 4 else torch.nn.functional.max_pool3d
    out = pool(x, how[0], how[1], how[2], how[3], how[4])
    grad = torch.randn_like(out)
    proto = written(lambda a, b: pooled(a, b, *how), x, grad)
    assert kind in kinds(proto)
    leaf = x.clone().requires_grad_()
    pool(leaf, how[0], how[1], how[2], how[3], how[4]).backward(grad)
    assert leaf.grad is not None
    np.testing.assert_allclose(run(proto, x, grad), leaf.grad.numpy(), rtol=1e-6, atol=1e-6)


def test_max_pool_backward_with_places_from_elsewhere() -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 2, 3)
    how = ([2, 2], [2, 2], [0, 0], [1, 1], False)
    at = aten.max_pool2d_with_indices.default(x, *how)[1]
    backward = aten.max_pool2d_with_indices_backward.default
    proto = written(lambda a, g, i: backward(g, a, *how, i), x, grad, at)
    np.testing.assert_array_equal(run(proto, x, grad, at), backward(grad, x, *how, at).numpy())


PLACES = {
    "first axis": ((0,), [[4, 0, 4]]),
    "last axis": ((2,), [[1, 1, 3]]),
    "middle axis": ((1,), [[2, 0, 2]]),
    "two leading axes": ((0, 1), [[4, 0, 4], [1, 2, 1]]),
    "two last axes": ((1, 2), [[2, 0, 2], [3, 3, 3]]),
    "separated axes": ((0, 2), [[1, 2, 1], [0, 3, 0]]),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("accumulate", [True, False])
def test_index_put(case: str, accumulate: bool) -> None:
    axes, chosen = PLACES[case]
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4)
    indices: list[Tensor | None] = [None] * 3
    for axis, positions in zip(axes, chosen, strict=True):
        indices[axis] = torch.tensor(positions)
    if not accumulate:  # of an element that is indexed twice, any value may remain
        indices = [None if i is None else i[:2] for i in indices]
    source = torch.randn_like(aten.index.Tensor(x, indices))
    proto = written(lambda a, b: aten.index_put.default(a, indices, b, accumulate), x, source)
    want = aten.index_put.default(x, indices, source, accumulate)
    np.testing.assert_allclose(run(proto, x, source), want.numpy(), rtol=1e-6)


def test_what_is_broadcast_is_not_written_out() -> None:
    x, y = torch.randn(4, 3, 5), torch.randn(3, 1)
    proto = written(lambda a, b: torch.where(a > 0, a * b.expand(4, 3, 5), b.expand(4, 3, 5)), x, y)
    assert "Expand" not in kinds(proto)
    np.testing.assert_array_equal(run(proto, x, y), torch.where(x > 0, x * y, y.expand(4, 3, 5)).numpy())


def test_broadcasting_on_both_sides_keeps_the_sizes() -> None:
    x, y = torch.randn(3, 1), torch.randn(1, 5)
    proto = written(lambda a, b: a.expand(4, 3, 5) + b.expand(4, 3, 5), x, y)
    np.testing.assert_array_equal(run(proto, x, y), (x + y).expand(4, 3, 5).numpy())


def test_the_same_call_twice_is_written_once() -> None:
    proto = written(lambda a: torch.exp(a) * torch.exp(a) + torch.exp(2 * a), torch.randn(4))
    assert kinds(proto).count("Exp") == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match="half precision") as caught:
        written(lambda a: a.to(dtype).exp().float(), torch.randn(4))
    assert caught.value.code == "compile.precision"


def test_half_precision_outside_the_computation_is_kept() -> None:
    x = torch.randn(4, dtype=torch.float16)
    np.testing.assert_allclose(run(written(lambda a: a.float().exp().half(), x), x), x.float().exp().half().numpy())
