"""Class activation maps against autograd, naive loops through onnxruntime, closed forms and reference results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from tests.common.models import assemble, cnn

Array = NDArray[Any]
#: Weights of :func:`deep`; ``a2`` is (batch, 5, 4, 6).
SHAPES = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (5, 4, 3, 3), "b2": (5,), "w3": (30, 7), "b3": (7,), "w4": (7, 3)}
RNG = np.random.default_rng(5)
WEIGHTS = {name: (RNG.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in SHAPES.items()}
X = np.random.default_rng(6).standard_normal((3, 2, 8, 12)).astype(np.float32)
TARGET = [0, 1, 2]
FORMULAS = ("grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "eigen-cam", "score-cam", "ablation-cam")


def deep(shortcut: bool = False) -> onnx.ModelProto:
    """Two convolutions, max pooling, two linear layers; ``shortcut`` leads the first feature map past the second."""
    end = ["h2"]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["z1"], name="conv1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["z1"], ["a1"], name="relu1"),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["z2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z2"], ["a2"], name="relu2"),
        helper.make_node("MaxPool", ["a2"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["h1"], name="hidden"),
        helper.make_node("Relu", ["h1"], ["h2"], name="relu3"),
    ]
    if shortcut:
        nodes += [
            helper.make_node("GlobalMaxPool", ["a1"], ["g"], name="past"),
            helper.make_node("Flatten", ["g"], ["gf"], name="flatten2"),
            helper.make_node("Concat", ["h2", "gf"], ["joined"], name="join", axis=1),
        ]
        end = ["joined"]
    w4 = np.concatenate([WEIGHTS["w4"], WEIGHTS["w4"][:4] * 2]) if shortcut else WEIGHTS["w4"]
    nodes.append(helper.make_node("MatMul", [*end, "w4"], ["scores"], name="head"))
    kind = TensorProto.FLOAT
    return assemble(nodes, {"x": (kind, ["n", 2, 8, 12])}, {"scores": (kind, ["n", 3])}, WEIGHTS | {"w4": w4})


def head(features: Tensor, layer: str = "relu2") -> Tensor:
    """What follows a layer of :func:`deep`, in torch."""
    w = {k: torch.from_numpy(v).to(features.dtype) for k, v in WEIGHTS.items()}
    if layer == "conv2":
        features = features.relu()
    pooled = torch.nn.functional.max_pool2d(features, 2).flatten(1)
    return (pooled @ w["w3"] + w["b3"]).relu() @ w["w4"]


def runtime(proto: onnx.ModelProto, feed: dict[str, Array], output: str) -> Array:
    """One output by onnxruntime alone."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feed)[0])


def cut(proto: onnx.ModelProto, inputs: list[str], output: str) -> onnx.ModelProto:
    """The part of a model between values."""
    found = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(proto)).extract_model(inputs, [output])
    assert isinstance(found, onnx.ModelProto)
    return found


def features(layer: str = "relu2") -> tuple[Tensor, Tensor]:
    """Activations by onnxruntime and gradients by autograd, float64."""
    value = {"relu2": "a2", "conv2": "z2"}[layer]
    a = torch.from_numpy(runtime(cut(deep(), ["x"], value), {"x": X}, value)).double().requires_grad_(True)
    scores = head(a, layer)[range(3), TARGET]
    return a.detach(), torch.autograd.grad(scores.sum(), a)[0]


def explain(method: str, proto: onnx.ModelProto | None = None, **options: Any) -> analyzer.Explanation:
    """A map with both signs unless asked otherwise."""
    loaded = analyzer.load(proto or deep(), "cpu", threads=1)
    return loaded.explain(X, method=method, **{"target": TARGET, "relu": False, **options})


def close(got: Array, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal up to a share of the largest value, which isn't zero."""
    expected = np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# --- formulas on gradients --------------------------------------------------------------------------------------


def _hires(a: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("bchw,bchw->bhw", a, g)[:, None]


def _layer(a: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("bchw,bchw->bhw", a, g * (g > 0))[:, None]


def _xgrad(a: Tensor, g: Tensor) -> Tensor:
    share = a / a.flatten(2).sum(2)[..., None, None]
    return torch.einsum("bc,bchw->bhw", (share * g).flatten(2).sum(2), a)[:, None]


@pytest.mark.parametrize("layer", ["relu2", "conv2"])
@pytest.mark.parametrize(("method", "formula"), [("hires-cam", _hires), ("layer-cam", _layer), ("xgrad-cam", _xgrad)])
def test_gradient_weightings_equal_their_formulas_on_autograd(
    method: str, formula: Callable[[Tensor, Tensor], Tensor], layer: str
) -> None:
    options: dict[str, Any] = {"epsilon": 0.0} if method == "xgrad-cam" else {}
    found = explain(method, layer=layer, **options)
    assert found.record["layer"] == layer
    close(found.raw, formula(*features(layer)))


def test_grad_cam_plus_plus_equals_its_definition_with_derivatives_of_an_exponential_score() -> None:
    """The shares are made of true second and third derivatives of exp(score), element by element."""
    a, _ = features()
    expected = []
    for sample in range(3):
        x = a[sample : sample + 1].clone().requires_grad_(True)
        y = head(x)[0, TARGET[sample]].exp()
        first = torch.autograd.grad(y, x, create_graph=True)[0]
        second, third = torch.zeros(x.numel()).double(), torch.zeros(x.numel()).double()
        for index in range(x.numel()):
            if first.flatten()[index] != 0:
                row = torch.autograd.grad(first.flatten()[index], x, create_graph=True)[0].flatten()[index]
                second[index] = row.detach()
                third[index] = torch.autograd.grad(row, x, retain_graph=True)[0].flatten()[index]
        second, third = second.reshape(x.shape), third.reshape(x.shape)
        below = 2 * second + x.detach().sum((2, 3), keepdim=True) * third
        share = torch.where(second != 0, second / below, 0.0)
        weights = (share * first.detach().relu()).sum((2, 3), keepdim=True)
        expected.append((weights * x.detach()).sum(1, keepdim=True) / y.detach())
    close(explain("grad-cam++", epsilon=0.0, precision="float64").raw, torch.cat(expected))


def test_grad_cam_plus_plus_with_its_stabiliser() -> None:
    a, g = features()
    share = g**2 / (2 * g**2 + g**3 * a.sum((2, 3), keepdim=True) + 0.01)
    expected = ((share * g.relu()).sum((2, 3), keepdim=True) * a).sum(1, keepdim=True)
    close(explain("grad-cam++", epsilon=0.01).raw, expected)
    assert np.abs(explain("grad-cam++").raw - expected.numpy()).max() > 0.01 * expected.max()


@pytest.mark.parametrize("method", ["grad-cam++", "xgrad-cam"])
@pytest.mark.parametrize("epsilon", [-1e-9, float("nan")])
def test_a_negative_stabiliser_is_refused(method: str, epsilon: float) -> None:
    with pytest.raises(UsageError, match="epsilon") as caught:
        explain(method, epsilon=epsilon)
    assert caught.value.code == ("params.invalid" if epsilon < 0 else "params.nonfinite")


def test_behind_pooling_and_a_linear_layer_the_family_falls_together() -> None:
    """There gradients are even: HiResCAM is Grad-CAM is XGrad-CAM is CAM over the number of places."""
    model = analyzer.load(cnn(), "cpu", threads=1)
    x = np.random.default_rng(8).standard_normal((2, 3, 8, 8)).astype(np.float32)
    maps = {
        name: model.explain(x, method=name, target=1, relu=False).raw
        for name in ("cam", "grad-cam", "hires-cam", "xgrad-cam")
    }
    for name in ("grad-cam", "hires-cam", "xgrad-cam"):
        close(maps[name] * 64, maps["cam"])


def test_eigen_cam_is_the_first_principal_component() -> None:
    from sklearn.decomposition import PCA

    a, _ = features()
    found = explain("eigen-cam").raw
    for sample, map_ in zip(a.numpy(), found[:, 0], strict=True):
        places = sample.reshape(5, -1).T
        expected = PCA(1).fit_transform(places)[:, 0]
        expected *= np.sign(expected @ map_.ravel())
        close(map_.ravel(), expected)
        assert np.corrcoef(map_.ravel(), places.mean(axis=1))[0, 1] > 0
    np.testing.assert_array_equal(found, explain("eigen-cam", target=1).raw)


# --- maps that run the model again ------------------------------------------------------------------------------


def _stretched(map_: Array, size: tuple[int, int]) -> Array:
    """Bilinear with aligned corners, one axis after the other."""
    for axis, side in enumerate(size):
        at, grid = np.linspace(0, map_.shape[axis] - 1, side), np.arange(map_.shape[axis])
        lines = np.moveaxis(map_, axis, -1).reshape(-1, len(grid))
        stretched = np.stack([np.interp(at, grid, line) for line in lines])
        map_ = np.moveaxis(stretched.reshape(*np.delete(map_.shape, axis), side), -1, axis)
    return map_


def test_score_cam_equals_a_naive_loop() -> None:
    a = features()[0].numpy()
    expected = []
    for sample in range(3):
        scores = []
        for channel in a[sample]:
            mask = _stretched(channel, (8, 12))
            mask = (mask - mask.min()) / (np.ptp(mask) or 1)
            masked = (X[sample : sample + 1] * mask).astype(np.float32)
            scores.append(float(runtime(deep(), {"x": masked}, "scores")[0, TARGET[sample]]))
        weights = np.exp(scores) / np.exp(scores).sum()
        expected.append(np.tensordot(weights, a[sample], axes=1)[None])
    found = explain("score-cam")
    close(found.raw, np.stack(expected))
    assert found.record["evaluations"] == 15


def test_score_cam_gives_an_even_channel_a_mask_of_zeros() -> None:
    proto = deep()
    for tensor in proto.graph.initializer:
        if tensor.name in ("w2", "b2"):
            value = onnx.numpy_helper.to_array(tensor).copy()
            value[0] = 0 if tensor.name == "w2" else 0.5
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    a = runtime(cut(proto, ["x"], "a2"), {"x": X}, "a2")
    assert np.ptp(a[:, 0]) == 0
    feeds = [np.zeros_like(X)]
    for channel in range(1, 5):
        masks = [_stretched(a[sample, channel], (8, 12)) for sample in range(3)]
        feeds.append(np.stack([x * ((m - m.min()) / (np.ptp(m) or 1)) for x, m in zip(X, masks, strict=True)]))
    scores = np.stack([runtime(proto, {"x": f.astype(np.float32)}, "scores")[range(3), TARGET] for f in feeds], 1)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    close(explain("score-cam", proto).raw, np.einsum("bc,bchw->bhw", weights, a)[:, None])


@pytest.mark.parametrize("shortcut", [False, True])
def test_ablation_cam_equals_zeroing_channels_in_a_cut_graph(shortcut: bool) -> None:
    """With a shortcut the rest of the model also reads what lies before the layer."""
    proto = deep(shortcut)
    feed = {"a1": runtime(cut(proto, ["x"], "a1"), {"x": X}, "a1")} if shortcut else {}
    a = runtime(cut(proto, ["x"], "a2"), {"x": X}, "a2")
    rest = cut(proto, ["a2", *feed], "scores")
    whole = runtime(rest, {"a2": a, **feed}, "scores")[range(3), TARGET].astype(np.float64)
    assert (whole < 0).any()
    weights = np.empty((3, 5))
    for channel in range(5):
        without = a.copy()
        without[:, channel] = 0
        score = runtime(rest, {"a2": without, **feed}, "scores")[range(3), TARGET]
        weights[:, channel] = (whole - score) / np.abs(whole)
    found = explain("ablation-cam", proto, layer="relu2")
    close(found.raw, np.einsum("bc,bchw->bhw", weights, a)[:, None], 2e-5)
    assert found.record["evaluations"] == 15


def test_ablation_cam_doesnt_depend_on_how_many_channels_are_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:

    from analyzer.engines.torch_engine import TorchEngine

    reference = explain("ablation-cam").raw
    for size in (1, 2, 4):
        monkeypatch.setattr(TorchEngine, "chunk", lambda _, size=size: size)
        close(explain("ablation-cam").raw, reference)


def test_ablation_cam_of_a_score_of_zero_is_finite() -> None:
    proto = deep()
    blank = next(t for t in proto.graph.initializer if t.name == "w4")
    blank.CopyFrom(onnx.numpy_helper.from_array(np.zeros((7, 3), np.float32), "w4"))
    assert not explain("ablation-cam", proto).raw.any()


# --- guided Grad-CAM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [True, False])
def test_guided_grad_cam_is_the_product(relu: bool) -> None:
    guided = _plain("guided-backprop")
    close(explain("guided-grad-cam", relu=relu).attribution, guided * explain("grad-cam", relu=relu).attribution)
    nearest = explain("grad-cam", relu=relu).raw.repeat(2, axis=2).repeat(2, axis=3)
    close(explain("guided-grad-cam", relu=relu, interpolate="nearest").attribution, guided * nearest)


def _plain(method: str) -> Array:
    return analyzer.load(deep(), "cpu", threads=1).explain(X, method=method, target=TARGET).attribution


# --- what the family shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FORMULAS)
def test_relu_cuts_the_map_before_it_is_resampled(method: str) -> None:
    both, positive = explain(method), explain(method, relu=True)
    assert positive.raw.shape == (3, 1, 4, 6)
    np.testing.assert_array_equal(positive.raw, np.maximum(both.raw, 0))
    resized = torch.nn.functional.interpolate(torch.from_numpy(positive.raw), (8, 12), mode="bilinear")
    np.testing.assert_allclose(positive.attribution, resized.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(explain(method, layer="relu2").raw, both.raw)  # which auto finds
    assert both.record["layer"] == "relu2"


@pytest.mark.parametrize("method", [*FORMULAS, "guided-grad-cam"])
def test_layers_that_cant_be_used_are_named(method: str) -> None:
    with pytest.raises(UsageError, match="no node or value 'relu9'") as caught:
        explain(method, layer="relu9")
    assert caught.value.code == "layer.unknown"
    with pytest.raises(UsageError, match="'hidden' has shape") as caught:
        explain(method, layer="hidden")
    assert caught.value.code == "layer.not_spatial"


def words() -> onnx.ModelProto:
    """Embedding, 1-D convolution over the words, global maximum, linear layer; input (batch, 7) int64."""
    draw = np.random.default_rng(3).standard_normal
    weights = {"table": draw((11, 4)), "w1": draw((6, 4, 3)), "w2": draw((6, 3))}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], name="embed"),
        helper.make_node("Transpose", ["embedded"], ["rows"], name="turn", perm=[0, 2, 1]),
        helper.make_node("Conv", ["rows", "w1"], ["z"], name="conv"),
        helper.make_node("Relu", ["z"], ["a"], name="relu"),
        helper.make_node("ReduceMax", ["a"], ["m"], name="max", axes=[2], keepdims=0),
        helper.make_node("MatMul", ["m", "w2"], ["scores"], name="head"),
    ]
    inputs = {"ids": (TensorProto.INT64, ["n", 7])}
    shrunk = {name: value.astype(np.float32) for name, value in weights.items()}
    return assemble(nodes, inputs, {"scores": (TensorProto.FLOAT, ["n", 3])}, shrunk)


def test_convolutions_over_tokens() -> None:
    model = analyzer.load(words(), "cpu", threads=1)
    ids = np.array([[1, 2, 3, 4, 5, 6, 7], [3, 3, 9, 0, 10, 2, 1]])
    for method in ("hires-cam", "ablation-cam"):
        found = model.explain(ids, method=method, target=1)
        assert found.raw.shape == (2, 1, 5)
        assert found.attribution.shape == (2, 7)
    guided = model.explain(ids, method="guided-backprop", target=1)
    map_ = model.explain(ids, method="grad-cam", target=1)
    both = model.explain(ids, method="guided-grad-cam", target=1)
    close(both.raw, guided.raw * map_.attribution[:, :, None])
    close(both.attribution, guided.attribution * map_.attribution)
    with pytest.raises(UnsupportedError, match="score-cam can't mask input 'ids'") as caught:
        model.explain(ids, method="score-cam", target=1)
    assert caught.value.code == "method.unsuitable"
