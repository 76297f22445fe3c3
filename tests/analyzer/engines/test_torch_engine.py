"""White-box methods through the public API: inputs, batches, precision, tokens, layers, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from analyzer import load
from analyzer.errors import AnalyzerError, UsageError
from analyzer.model import Model
from tests.graph_rules.nets import ResNetLike, VGGLike, exported, file_of, pictures, seeded

SHAPE = (2, 3, 12, 12)
WHITE = ["gradient", "saliency", "sensitivity", "gradient-x-input", "guided-backprop", "deconvnet",
    "integrated-gradients",
         "smoothgrad", "lrp", "grad-cam"]  # fmt: skip


def gradient_of(net: nn.Module, x: np.ndarray, targets: list[int]) -> np.ndarray:
    """autograd's gradient of one output per sample, in float64."""
    leaf = torch.from_numpy(x).double().requires_grad_()
    net.double()(leaf)[range(len(targets)), targets].sum().backward()
    assert leaf.grad is not None
    return leaf.grad.numpy()


@pytest.fixture(scope="module")
def vgg() -> Model:
    return exported(seeded(VGGLike), pictures(*SHAPE))


# --- batches and repetition ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in WHITE if m != "smoothgrad"])
def test_a_batch_is_explained_sample_by_sample(vgg: Model, method: str) -> None:
    x = pictures(3, 3, 12, 12, seed=1)
    together = vgg.explain(x, method=method, target=[0, 4, 2], precision="float64")
    for i, target in enumerate([0, 4, 2]):
        single = vgg.explain(x[i : i + 1], method=method, target=target, precision="float64")
        np.testing.assert_allclose(together.attribution[i : i + 1], single.attribution, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(together.score[i], single.score[0], rtol=1e-6)


@pytest.mark.parametrize("method", WHITE)
def test_a_fixed_batch_is_explained_piece_by_piece(vgg: Model, method: str) -> None:
    x = pictures(*SHAPE, seed=1)
    fixed = load(file_of(seeded(VGGLike), x[:1], dynamic=False), device="cpu")
    params: dict[str, Any] = {"samples": 3} if method == "smoothgrad" else {}
    found = fixed.explain(x, method=method, target=[0, 4], **params)
    single = fixed.explain(x[1:], method=method, target=4, **params)
    np.testing.assert_allclose(found.attribution[1:], single.attribution, rtol=1e-5, atol=1e-7)
    if method != "smoothgrad":  # its noise follows the batch
        free = vgg.explain(x, method=method, target=[0, 4]).attribution
        np.testing.assert_allclose(found.attribution, free, rtol=1e-4, atol=1e-5 * np.abs(free).max())


@pytest.mark.parametrize("method", WHITE)
def test_explaining_leaves_nothing_behind(vgg: Model, method: str) -> None:
    """Another explanation in between changes nothing, and neither does the input change."""
    x, other = pictures(*SHAPE, seed=1), pictures(*SHAPE, seed=2)
    given = x.copy()
    first = vgg.explain(x, method=method, target=1).attribution
    vgg.explain(other, method="lrp", composite="epsilon-gamma-box", low=-2.0, high=2.0, target=3)
    vgg.explain(other, method=method, target=3)
    assert np.array_equal(first, vgg.explain(x, method=method, target=1).attribution)
    fresh = exported(seeded(VGGLike), x).explain(x, method=method, target=1).attribution
    assert np.array_equal(first, fresh)
    assert np.array_equal(x, given)
    assert np.isfinite(first).all()


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", WHITE)
def test_double_precision_agrees_with_single_and_is_double(vgg: Model, method: str) -> None:
    x = pictures(*SHAPE, seed=1)
    params: dict[str, Any] = {"samples": 3} if method == "smoothgrad" else {}
    single = vgg.explain(x, method=method, target=1, **params).attribution
    double = vgg.explain(x, method=method, target=1, precision="float64", **params).attribution
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-4 * np.abs(double).max())


def test_double_precision_is_exact(vgg: Model) -> None:
    x = pictures(*SHAPE, seed=1)
    found = vgg.explain(x, method="gradient", target=[1, 2], precision="float64").attribution
    np.testing.assert_allclose(found, gradient_of(seeded(VGGLike), x, [1, 2]), rtol=1e-10, atol=1e-14)


def test_double_precision_of_integrated_gradients() -> None:
    """f(x) = w x^3: the integral is w x^3 exactly with two Gauss points, to double precision."""

    class Cubic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x * x * x)
            return out

    x, net = pictures(2, 5, seed=1), seeded(Cubic)
    w = net.fc.weight.detach().double().numpy()[1]
    found = exported(net, x).explain(x, method="integrated-gradients", target=1, steps=2, precision="float64")
    np.testing.assert_allclose(found.attribution, w * x.astype(np.float64) ** 3, rtol=1e-12)
    assert found.completeness is not None
    np.testing.assert_allclose(found.completeness.total, (w * x.astype(np.float64) ** 3).sum(1), rtol=1e-12)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "gamma", "w2", "flat"])
def test_half_precision_models(composite: str) -> None:
    """A float16 model is explained in float32, as the model of the same weights in float32 is."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="/1"),
        helper.make_node("Relu", ["h"], ["r"], name="/2"),
        helper.make_node("MatMul", ["r", "u"], ["y"], name="/3"),
    ]
    rng = np.random.default_rng(0)
    weights = {k: rng.standard_normal(s).astype(np.float16) for k, s in {"w": (4, 6), "b": (6,), "u": (6, 3)}.items()}
    model = one_input(nodes, weights, ["batch", 4], TensorProto.FLOAT16)
    x = rng.standard_normal((2, 4)).astype(np.float16)
    found = model.explain(x, method="lrp", composite=composite, target=1)
    assert found.attribution.shape == (2, 4)
    assert np.isfinite(found.attribution).all()
    wide = {k: v.astype(np.float32) for k, v in weights.items()}
    expected = one_input(nodes, wide, ["batch", 4]).explain(
        x.astype(np.float32), method="lrp", composite=composite, target=1
    )
    np.testing.assert_allclose(
        found.attribution, expected.attribution, rtol=0, atol=1e-5 * np.abs(expected.attribution).max()
    )


def test_derivatives_that_half_precision_has_no_number_for() -> None:
    """Three weights of 1e-3 make a derivative of 1e-9, which is zero in float16; casts on the way lose nothing."""
    weights = {"a": np.full((2, 2), 1e-3, np.float16), "b": np.full((2, 2), 1e-3, np.float16)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="/1"),
        helper.make_node("Cast", ["h"], ["s"], name="/2", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["s"], ["i"], name="/3", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["i", "b"], ["j"], name="/4"),
        helper.make_node("MatMul", ["j", "a"], ["y"], name="/5"),
    ]
    model = one_input(nodes, weights, ["batch", 2], TensorProto.FLOAT16)
    x = np.array([[3.0, -1.5]], np.float16)
    want = 4 * float(np.float16(1e-3)) ** 3
    for precision in ("float32", "float64"):
        found = model.explain(x, method="gradient", target=0, precision=precision)
        np.testing.assert_allclose(found.attribution, [[want, want]], rtol=1e-6)
    assert found.attribution.dtype == np.float64


def one_input(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[Any], dtype: int = TensorProto.FLOAT
) -> Model:
    """A model of some nodes, x -> y."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype if dtype != TensorProto.INT64 else TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return load(proto, device="cpu")


# --- models whose path depends on the values ---------------------------------------------------------------------


def branching() -> Model:
    """3 x where the inputs' sum is positive, else 5 x: the branch is chosen by the values."""

    def branch(name: str, factor: float) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Mul", ["x", f"f_{name}"], [f"out_{name}"], name=f"/{name}/Mul")], name, [],
            [helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array(factor, np.float32), f"f_{name}")],
        )  # fmt: skip

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], name="/sum", keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["positive"], name="/greater"),
        helper.make_node(
            "If", ["positive"], ["y"], name="/if", then_branch=branch("up", 3.0), else_branch=branch("down", 5.0)
        ),
    ]
    return one_input(nodes, {"zero": np.array(0, np.float32)}, [1, 2])


def test_a_gradient_follows_the_branch_that_the_input_takes() -> None:
    model = branching()
    for x, factor in ((np.array([[1.0, 2.0]], np.float32), 3.0), (np.array([[-1.0, -2.0]], np.float32), 5.0)):
        found = model.explain(x, method="gradient", target=1).attribution
        np.testing.assert_allclose(found, [[0.0, factor]])


def test_a_path_across_branches_is_not_taken_for_one_branch() -> None:
    """From -x to x: half of the points take each branch, so the mean gradient is 4; a refusal is right too."""
    x = np.array([[1.0, 2.0]], np.float32)
    try:
        found = branching().explain(
            x, method="integrated-gradients", target=1, baseline=-x, steps=4, multiply_by_inputs=False
        )
    except AnalyzerError:
        return
    np.testing.assert_allclose(found.attribution, [[0.0, 4.0]], rtol=1e-5)


def test_noise_across_branches_is_not_taken_for_one_branch() -> None:
    """Gradients 3 and 5 both occur: their variance over noisy copies is not zero; a refusal is right too."""
    x = np.array([[-0.5, 0.6]], np.float32)
    try:
        found = branching().explain(x, method="smoothgrad", target=1, noise=1.0, samples=30, reduce="variance")
    except AnalyzerError:
        return
    assert found.attribution[0, 1] > 0.1


# --- layers as rules see them ------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """Convolutions with normalisation, a transposed one, a linear layer with normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.fc = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.Linear(6, 5)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(4), nn.BatchNorm2d(6), nn.BatchNorm1d(5)
        for norm in (self.bn1, self.bn2, self.bn3):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn2(self.up(torch.relu(self.bn1(self.conv(x))))))
        out: Tensor = self.bn3(self.fc(h.mean((2, 3))))
        return out


def merged(net: Normalised) -> nn.Module:
    """The same network without normalisation, merged by torch's own utility."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    net.conv, net.bn1 = fuse_conv_bn_eval(net.conv, net.bn1), nn.Identity()
    grouped = net.up
    k = net.bn2.weight / torch.sqrt(net.bn2.running_var + net.bn2.eps)
    grouped.weight = nn.Parameter(
        grouped.weight * torch.cat([k[:3].expand(2, 3), k[3:].expand(2, 3)])[:, :, None, None]
    )
    grouped.bias = nn.Parameter((grouped.bias - net.bn2.running_mean) * k + net.bn2.bias)
    net.bn2 = nn.Identity()
    net.fc, net.bn3 = fuse_linear_bn_eval(net.fc, net.bn3), nn.Identity()
    return net


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "gamma", "w2"])
def test_relevance_does_not_depend_on_how_normalisation_is_written(composite: str) -> None:
    x = pictures(*SHAPE, seed=1)
    net = seeded(Normalised)
    separate = load(file_of(net, x, training=True), device="cpu")
    operators = [node.op_type for node in separate.proto.graph.node]
    assert operators.count("BatchNormalization") == 3
    together = exported(merged(net), x)
    assert "BatchNormalization" not in [node.op_type for node in together.proto.graph.node]
    found, expected = (
        model.explain(
            x, method="lrp", composite=composite, target=[0, 3], initial="one", precision="float64"
        ).attribution
        for model in (separate, together)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# --- refusals -----------------------------------------------------------------------------------------------------

BAD: dict[str, dict[str, Any]] = {
    "unknown composite": {"composite": "epsilon-minus"},
    "unknown rule": {"rules": {"Conv": "gama"}},
    "rule with text": {"rules": {"Conv": "epsilon:x"}},
    "too many numbers": {"rules": {"Conv": "gamma:1,2"}},
    "alpha and beta": {"composite": "alpha-beta", "alpha": 1.0, "beta": 1.0},
    "negative epsilon": {"composite": "epsilon", "epsilon": -1.0},
    "negative gamma": {"composite": "gamma", "gamma": -0.5},
    "no bounds": {"composite": "epsilon-gamma-box"},
    "one bound": {"composite": "epsilon-gamma-box", "low": 0.0},
    "bounds of two channels": {"composite": "epsilon-gamma-box", "low": [0.0, 0.0], "high": [1.0, 1.0]},
    "one bound in a rule": {"rules": {"first": "z-box:0"}},
    "a weighted rule for a ReLU": {"rules": {"relu": "zplus"}},
    "a rule that does not fit": {"rules": {"Flatten": "pass"}},
    "a node that is not there": {"rules": {"/featurse/*": "gamma"}},
}


@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_of_lrp_are_user_errors(vgg: Model, what: str) -> None:
    with pytest.raises(AnalyzerError) as caught:
        vgg.explain(pictures(*SHAPE), method="lrp", target=1, **BAD[what])
    assert caught.value.code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["MaxPool", "Flatten", "Relu", "Gemm", "/features/*", "/classifier/*", "movement", "maximum", "*"]
)
@pytest.mark.parametrize("rule", ["epsilon:0.1", "norm", "gradient", "block"])
def test_rules_without_weights_can_be_given_to_any_node(vgg: Model, key: str, rule: str) -> None:
    found = vgg.explain(pictures(*SHAPE), method="lrp", target=1, rules={key: rule}).attribution
    assert np.isfinite(found).all()
    assert found.any() == (rule != "block")


def test_smoothgrad_refuses_what_it_cannot_average(vgg: Model) -> None:
    for base in ("smoothgrad", "lrp", "occlusion"):
        with pytest.raises(UsageError):
            vgg.explain(pictures(*SHAPE), method="smoothgrad", base=base)


@pytest.mark.parametrize("params", [{"steps": 0}, {"baseline": np.zeros((1, 2, 12, 12))}])
def test_integrated_gradients_refuse(vgg: Model, params: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        vgg.explain(pictures(*SHAPE), method="integrated-gradients", **params)


# --- what relevance starts from ----------------------------------------------------------------------------------


def test_lrp_starts_from_the_score_or_from_one(vgg: Model) -> None:
    x = pictures(*SHAPE, seed=1)
    one = vgg.explain(x, method="lrp", target=[0, 3], initial="one", precision="float64")
    logit = vgg.explain(x, method="lrp", target=[0, 3], initial="logit", precision="float64")
    np.testing.assert_allclose(logit.attribution, one.attribution * logit.score[:, None, None, None], rtol=1e-5)
    assert one.completeness is not None
    assert logit.completeness is not None
    np.testing.assert_allclose(one.completeness.expected, [1.0, 1.0])
    np.testing.assert_allclose(logit.completeness.expected, logit.score)


@pytest.mark.parametrize("net", [VGGLike, ResNetLike])
def test_zplus_without_biases_keeps_the_sum(net: type[nn.Module]) -> None:
    """A hundred per cent of the score arrives; within 1 % where a skip connection adds values of both signs."""
    x = pictures(*SHAPE, seed=1)
    found = exported(seeded(net), x).explain(
        x, method="lrp", composite="zplus", zero_bias=True, target=[0, 3], initial="one", precision="float64"
    )
    assert found.completeness is not None
    np.testing.assert_allclose(found.completeness.total, 1.0, rtol=1e-3 if net is VGGLike else 1e-2)


def test_a_contrast_is_the_difference_of_two_gradients(vgg: Model) -> None:
    x = pictures(*SHAPE, seed=1)
    first, second, both = (
        vgg.explain(x, method="gradient", target=t, precision="float64").attribution for t in (1, 4, "contrast:1,4")
    )
    np.testing.assert_allclose(both, first - second, rtol=1e-9, atol=1e-12)


def test_a_part_of_the_output_is_explained_by_index() -> None:
    x = pictures(*SHAPE, seed=1)
    model = exported(seeded(VGGLike), x)
    found = model.explain(x, method="gradient", target="y[:,1:3]", precision="float64").attribution
    parts = [model.explain(x, method="gradient", target=t, precision="float64").attribution for t in (1, 2)]
    np.testing.assert_allclose(found, parts[0] + parts[1], rtol=1e-9, atol=1e-12)
