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
    "apart": ((2, 3, 6, 8), ([2, 2], [2, 2], [0, 0], [1, 1], False), "DepthToSpace"),
    "remainder": ((2, 3, 7, 9), ([2, 2], [2, 2], [0, 0], [1, 1], False), "DepthToSpace"),
    "padded": ((2, 3, 7, 8), ([2, 2], [2, 2], [1, 1], [1, 1], False), "DepthToSpace"),
    "threes": ((2, 3, 10, 9), ([3, 3], [3, 3], [1, 0], [1, 1], False), "DepthToSpace"),
    "ceil": ((1, 2, 7, 7), ([2, 2], [2, 2], [0, 0], [1, 1], True), "DepthToSpace"),
    "rows": ((2, 3, 1, 8), ([1, 2], [1, 2], [0, 0], [1, 1], False), "Where"),
    "oblong": ((2, 3, 8, 9), ([4, 3], [4, 3], [2, 0], [1, 1], True), "Where"),
    "volume": ((2, 2, 4, 6, 5), ([2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False), "Where"),
    "one place": ((1, 2, 4, 4), ([1, 1], [1, 1], [0, 0], [1, 1], False), "DepthToSpace"),
    "one of each": ((1, 2, 5, 5), ([1, 1], [2, 2], [0, 0], [1, 1], False), "ScatterElements"),
    "gaps": ((1, 2, 9, 9), ([2, 2], [3, 3], [0, 0], [1, 1], False), "ScatterElements"),
    "large": ((2, 2, 10, 10), ([5, 5], [5, 5], [0, 0], [1, 1], False), "ScatterElements"),
    "overlapping": ((2, 3, 9, 8), ([3, 3], [2, 2], [1, 1], [1, 1], False), "ScatterElements"),
    "dilated": ((1, 2, 9, 9), ([2, 2], [2, 2], [0, 0], [2, 2], False), "ScatterElements"),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_max_pool_backward(case: str, ties: bool, dtype: torch.dtype) -> None:
    shape, how, kind = POOLS[case]
    torch.manual_seed(0)
    x = (torch.randint(0, 3, shape) if ties else torch.randn(shape)).to(dtype)
    pool = torch.nn.functional.max_pool2d if len(shape) == 4 else torch.nn.functional.max_pool3d
    out = pool(x, how[0], how[1], how[2], how[3], how[4])
    grad = torch.randn_like(out)
    proto = written(lambda a, b: pooled(a, b, *how), x, grad)
    assert kind in kinds(proto)
    assert kind == "ScatterElements" or all(len(node.output) == 1 for node in proto.graph.node)
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


TAKEN = {
    "last axes": ((1, 2), [[2, 0, 2], [3, 3, 3]]),
    "separated": ((0, 2), [[1, 2, 1], [0, 3, 0]]),
    "broadcast": ((1, 2), [[[2], [0]], [[1, 3, 0]]]),
    "leading": ((0, 1), [[4, 0], [1, 2]]),
}


@pytest.mark.parametrize("case", TAKEN)
def test_index(case: str) -> None:
    axes, chosen = TAKEN[case]
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 2)
    indices: list[Tensor | None] = [None] * 4
    for axis, places in zip(axes, chosen, strict=True):
        indices[axis] = torch.tensor(places)
    proto = written(lambda a: aten.index.Tensor(a, indices), x)
    np.testing.assert_array_equal(run(proto, x), aten.index.Tensor(x, indices).numpy())


def differentiated(function: Callable[..., Tensor], *values: Tensor) -> Callable[..., Tensor]:
    """The gradients of a function by all its arguments, weighed and joined to a vector."""
    torch.manual_seed(1)
    weights = torch.randn_like(function(*values))

    def run_(*given: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in given]
            out = function(*leaves)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(out, leaves, weights, allow_unused=False)])

    return run_


def _grid(mode: str, padding: str, corners: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, g: torch.nn.functional.grid_sample(x, g, mode, padding, corners)


X, PLACES_2D = (
    torch.linspace(-1.3, 1.7, 60).reshape(1, 3, 4, 5).sin() * 2,
    torch.linspace(-1.6, 1.5, 36).reshape(1, 3, 6, 2),
)
CUBE, PLACES_3D = (
    torch.linspace(-1, 2, 120).reshape(1, 2, 3, 4, 5).cos(),
    torch.linspace(-1.4, 1.3, 24).reshape(1, 2, 2, 2, 3),
)
KERNEL, GROUPED, UP = (torch.linspace(-1, 1, n).cos() for n in (4 * 3 * 3 * 2, 6 * 1 * 2 * 2, 3 * 4 * 3 * 2))
SPOTS = torch.tensor([[0, 2, 2], [1, 0, 3]])
F = torch.nn.functional
DERIVATIVES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "clamp": (lambda x: torch.clamp(x, -0.5, 0.7), (X,)),
    "clamp between": (lambda x, a, b: torch.clamp(x, a, b), (X, X.flip(3) - 0.5, X.flip(2) + 0.5)),
    "maximum": (torch.maximum, (X, X.flip(3).clone())), "minimum": (torch.minimum, (X, X.flip(2).clone())),
    "norm": (lambda x: torch.linalg.vector_norm(x, 2, [2, 3]), (X,)),
    "norm of order 1": (lambda x: torch.linalg.vector_norm(x, 1, 1), (X,)),
    "norm of order 3": (lambda x: torch.linalg.vector_norm(x, 3, 1, True), (X,)),
    "largest norm": (lambda x: torch.linalg.vector_norm(x, torch.inf, 1), (X,)),
    "variance": (lambda x: torch.var(x, [2, 3], correction=0), (X,)), "deviation": (lambda x: torch.std(x, 1), (X,)),
    "product": (lambda x: torch.prod(x, 3), (X,)), "product of all": (lambda x: torch.prod(x[0, 0]), (X,)),
    "product with a zero": (lambda x: torch.prod(x * (x > -1), 3), (X,)),
    "running product": (lambda x: torch.cumprod(x, 3), (X,)), "running sum": (lambda x: torch.cumsum(x, 2), (X,)),
    "running product with a zero": (lambda x: torch.cumprod(x * (x > -1), 3), (X,)),
    "sort": (lambda x: torch.sort(x, 3, descending=True)[0] * torch.arange(5), (X,)),
    "stable sort": (lambda x: torch.sort(x, dim=2, stable=True)[0] * torch.arange(4)[:, None], (X,)),
    "topk": (lambda x: torch.topk(x, 2, 3)[0], (X,)), "fmod": (torch.fmod, (X, X.flip(3) + 0.31)),
    "remainder": (torch.remainder, (X, X.flip(3) + 0.31)), "prelu": (F.prelu, (X, torch.tensor([0.1, 0.3, -0.2]))),
    "hardshrink": (lambda x: F.hardshrink(x, 0.4), (X,)), "softshrink": (lambda x: F.softshrink(x, 0.4), (X,)),
    "atanh": (torch.atanh, (X / 3,)), "asinh": (torch.asinh, (X,)), "acosh": (torch.acosh, (X + 4,)),
    "diagonal": (lambda x: torch.diagonal(x, 1, 2, 3), (X,)), "lower": (lambda x: torch.diagonal(x, -2, 3, 1), (X,)),
    "layer norm": (lambda x, w, b: F.layer_norm(x, [4, 5], w, b), (X, X[0, 0] + 1, X[0, 1])),
    "group norm": (lambda x, w, b: F.group_norm(x, 3, w, b), (X, torch.ones(3), torch.zeros(3))),
    "instance norm": (lambda x: F.instance_norm(x), (X,)),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, [2, 1], [1, 1]), (X, KERNEL.reshape(4, 3, 3, 2), torch.ones(4))),
    "dilated": (lambda x, w: F.conv2d(x, w, None, 2, 1, [1, 2]), (X.repeat(2, 1, 1, 1), KERNEL.reshape(4, 3, 3, 2))),
    "grouped": (lambda x, w: F.conv2d(x, w, groups=3), (X.repeat(2, 1, 1, 1), GROUPED.reshape(6, 1, 2, 2))),
    "transposed": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, [1, 0]), (X, UP.reshape(3, 4, 3, 2), torch.ones(4))),
    "scatter sum": (lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "sum"), (X[0, 0, :2], X[0, 1, :2, :3])),
    "scatter product": (lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "prod"), (X[0, 0, :2], X[0, 1, :2, :3])),
    "scatter mean": (lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "mean"), (X[0, 0, :2], X[0, 1, :2, :3])),
    "scatter mean of others": (
        lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "mean", include_self=False), (X[0, 0, :2], X[0, 1, :2, :3])),
    "scatter largest": (lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "amax"), (X[0, 0, :2], X[0, 1, :2, :3])),
    "scatter least of others": (
        lambda x, s: torch.scatter_reduce(x, 1, SPOTS, s, "amin", include_self=False), (X[0, 0, :2], X[0, 1, :2, :3])),
    "col2im": (lambda x: F.fold(x.reshape(1, 12, 5), [3, 6], [2, 2], stride=[2, 1]), (X,)),
    **{
        f"grid {mode} {padding} {corners}": (_grid(mode, padding, corners), (X, PLACES_2D))
        for mode in ("bilinear", "bicubic") for padding in ("zeros", "border", "reflection") for corners in (True, False)
    },
    "inverse": (torch.linalg.inv, (torch.tensor([[[0.0, 2, 1], [3, 0.1, 1], [-1, 4, 0]], [[1, 2, 3], [0, 4, 1], [5, 6, 0]]]),)),
    "grid nearest": (lambda x: _grid("nearest", "border", False)(x, PLACES_2D), (X,)),
    "volume": (_grid("bilinear", "border", False), (CUBE, PLACES_3D)),
    "volume of zeros": (_grid("bilinear", "zeros", True), (CUBE, PLACES_3D)),
}  # fmt: skip


@pytest.mark.parametrize("case", DERIVATIVES)
def test_values_and_derivatives(case: str) -> None:
    function, values = DERIVATIVES[case]
    for each in (function, differentiated(function, *values)):
        want = each(*values)
        got = run(written(each, *values), *values)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def test_constants_that_are_changed_later_keep_their_values() -> None:
    def change(x: Tensor) -> Tensor:
        ones = torch.ones(4)
        first = x * ones
        ones.sub_(x.detach())
        second = x * ones
        ones = torch.ones(4)
        third = x + ones
        ones.fill_(7)
        return first + second + third * ones

    x = torch.randn(4)
    np.testing.assert_allclose(run(written(change, x), x), change(x.clone()).numpy(), rtol=1e-6)


@pytest.mark.parametrize("write", [lambda x: x[:2].add_(1), lambda x: torch.linalg.det(x.reshape(2, 2))])
def test_what_has_no_form_is_refused_by_name(write: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedError, match=r"aten\.(add_|_linalg_det)") as caught:
        written(write, torch.randn(4))
    assert caught.value.code == "compile.operator"


@pytest.mark.parametrize("mode", ["floor", "trunc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_rounded_quotients(mode: str, dtype: torch.dtype) -> None:
    x, y = torch.tensor([7, -7, 8, -8, 0, 5]).to(dtype), torch.tensor([2, 2, -3, -3, 4, -5]).to(dtype)
    proto = written(lambda a, b: torch.div(a, b, rounding_mode=mode), x, y)
    np.testing.assert_array_equal(run(proto, x, y), torch.div(x, y, rounding_mode=mode).numpy())


def test_truth_values_are_chosen() -> None:
    x, y = torch.tensor([1.0, -1, 2, 0]), torch.tensor([[0.0], [1], [-1]])
    for choose in (
        lambda a, b: torch.where(a > 0, b > 0, a < b),
        lambda a, b: ((a > 0) & (b < 1)).masked_fill(b > 0, True),
    ):
        proto = written(lambda a, b, choose=choose: choose(a, b).float(), x, y)
        np.testing.assert_array_equal(run(proto, x, y), choose(x, y).float().numpy())


def test_bits() -> None:
    x, y = torch.tensor([5, 12, -3]), torch.tensor([3, 10, 7])
    proto = written(lambda a, b: (a & b) + (a | ~b) * (a ^ b), x, y)
    np.testing.assert_array_equal(run(proto, x, y), ((x & y) + (x | ~y) * (x ^ y)).numpy())


def test_large_inverses_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"linalg_inv_ex.*65 rows"):
        written(torch.linalg.inv, torch.eye(65))


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
