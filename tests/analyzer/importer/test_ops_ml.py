"""The classical machine-learning domain against onnxruntime: features, linear models, support vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import UnsupportedError
from analyzer.importer.coupling import pairwise_coupling, pairwise_coupling_definition, quadratic
from tests.analyzer.importer import oracle

RNG = np.random.default_rng(0)
ML = "ai.onnx.ml"
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def model_of(
    op: str, inputs: dict[str, np.ndarray], outputs: int = 1, since: int = 3, opset: int = 17, **attributes: Any
) -> onnx.ModelProto:
    model = oracle.node_model(op, inputs, outputs, opset, ML, (), {ML: since}, **attributes)
    model.ir_version = 8
    return model


def check(op: str, inputs: dict[str, np.ndarray], outputs: int = 1, **settings: Any) -> None:
    tolerance = {"rtol": settings.pop("rtol", 1e-5), "atol": settings.pop("atol", 1e-6)}
    oracle.check(model_of(op, inputs, outputs, **settings), inputs, **tolerance)


# --- features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_scaler(dtype: type) -> None:
    x = (f32(5, 3) * 10).astype(dtype)
    check("Scaler", {"x": x}, offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 0.1])
    check("Scaler", {"x": x}, offset=[1.0], scale=[0.5])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm: str) -> None:
    x = np.concatenate([f32(4, 3), np.zeros((1, 3), np.float32), -np.abs(f32(1, 3))])
    check("Normalizer", {"x": x}, norm=norm)
    check("Normalizer", {"x": (x * 10).astype(np.int64)}, norm=norm)


def test_binarizer() -> None:
    check("Binarizer", {"x": f32(4, 3)}, threshold=0.2)


def test_imputer() -> None:
    x = f32(4, 3)
    x[1, 2] = x[3, 0] = np.nan
    check("Imputer", {"x": x}, imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))
    check("Imputer", {"x": x}, imputed_value_floats=[9.0], replaced_value_float=float("nan"))
    whole = RNG.integers(0, 3, (4, 3))
    check("Imputer", {"x": whole}, imputed_value_int64s=[7], replaced_value_int64=1)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float64])
def test_one_hot_encoder(dtype: type) -> None:
    x = RNG.integers(0, 5, (4, 2)).astype(dtype)
    check("OneHotEncoder", {"x": x}, cats_int64s=[0, 2, 3], zeros=1)
    check("OneHotEncoder", {"x": x[:, 0]}, cats_int64s=[4, 2, 3], zeros=1)


def test_one_hot_encoder_of_text_is_refused_by_name() -> None:
    model = model_of("OneHotEncoder", {"x": RNG.integers(0, 5, (4, 2))}, cats_strings=["a", "b"])
    with pytest.raises(UnsupportedError, match="OneHotEncoder"):
        oracle.table(model, {"x": RNG.integers(0, 5, (4, 2))})


@pytest.mark.parametrize("widths", [[2, 3], [2, 2], [3, 5]])
def test_feature_vectorizer(widths: list[int]) -> None:
    check("FeatureVectorizer", {"a": f32(4, 2), "b": f32(4, 3)}, inputdimensions=widths)


def test_feature_vectorizer_of_integers() -> None:
    a, b = RNG.integers(0, 9, (4, 2)), RNG.integers(0, 9, (4, 1))
    check("FeatureVectorizer", {"a": a, "b": b}, inputdimensions=[2, 1])


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_array_feature_extractor(shape: tuple[int, ...]) -> None:
    check("ArrayFeatureExtractor", {"x": f32(*shape), "i": np.array([[3, 0]], np.int64)})
    check("ArrayFeatureExtractor", {"x": RNG.integers(0, 9, shape), "i": np.array([2], np.int64)})


def test_array_feature_extractor_of_class_names_gives_positions() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ArgMax", ["x"], ["top"], axis=1),
            helper.make_node("ArrayFeatureExtractor", ["names", "top"], ["y"], domain=ML),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [onnx.ValueInfoProto(name="y")],
        [helper.make_tensor("names", TensorProto.STRING, [4], [b"a", b"b", b"c", b"d"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    x = f32(3, 4)
    (got,) = oracle.table(helper.make_model(graph, opset_imports=opsets, ir_version=8), {"x": x})
    np.testing.assert_array_equal(got, x.argmax(1)[None])


def test_label_encoder_of_numbers() -> None:
    x = RNG.integers(0, 6, (3, 4))
    check("LabelEncoder", {"x": x}, keys_int64s=[1, 3, 5], values_floats=[0.5, 1.5, 2.5], default_float=-7.0)
    check("LabelEncoder", {"x": x}, keys_int64s=[1, 3, 5], values_int64s=[10, 30, 50], default_int64=99)
    floats = np.array([1.0, np.nan, 2.5, 4.0], np.float32)
    check("LabelEncoder", {"x": floats}, keys_floats=[1.0, 2.5], values_int64s=[4, 5], default_int64=-1)
    check("LabelEncoder", {"x": floats}, keys_floats=[1.0, 2.5], values_floats=[4.0, 5.0], default_float=3.0)


def test_label_encoder_of_tensors() -> None:
    keys, values = np.array([1.0, 2.0, np.nan]), np.array([7, 8, 9], np.int64)
    attributes = {
        "keys_tensor": numpy_helper.from_array(keys),
        "values_tensor": numpy_helper.from_array(values.astype(np.float64)),
        "default_tensor": numpy_helper.from_array(np.array([5.0])),
    }
    check("LabelEncoder", {"x": np.array([2.0, 3.0, np.nan, 1.0])}, since=4, **attributes)


def test_label_encoder_to_text_gives_positions() -> None:
    x = np.array([5, 1, 2], np.int64)
    model = model_of("LabelEncoder", {"x": x}, keys_int64s=[1, 5], values_strings=["cat", "dog"])
    np.testing.assert_array_equal(oracle.table(model, {"x": x})[0], [1, 0, -1])
    with pytest.raises(UnsupportedError):
        oracle.table(model_of("LabelEncoder", {"x": x}, keys_strings=["a"], values_int64s=[1]), {"x": x})


def test_zip_map_is_the_probabilities() -> None:
    x = f32(4, 3)
    model = model_of("ZipMap", {"x": x}, classlabels_int64s=[5, 1, 3])
    (dictionaries,) = oracle.runtime(model, {"x": x})
    (got,) = oracle.table(model, {"x": x})
    np.testing.assert_array_equal(got, [[row[label] for label in (5, 1, 3)] for row in dictionaries])


# --- linear models ------------------------------------------------------------------------------------------


#: The approximation subtracts nearly equal numbers around one half, so float32 leaves few digits there.
PROBIT_ROUNDING = 2e-4


def numbers(*shape: int) -> list[float]:
    return f32(*shape).reshape(-1).tolist()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("targets", [1, 2, 3])
def test_linear_regressor(transform: str, targets: int) -> None:
    scale = 0.02 if transform == "PROBIT" else 1.0
    coefficients = [c * scale for c in numbers(targets, 4)]
    intercepts = [0.5] * targets
    check(
        "LinearRegressor",
        {"x": f32(5, 4)},
        coefficients=coefficients,
        intercepts=intercepts,
        targets=targets,
        post_transform=transform,
        atol=PROBIT_ROUNDING if transform == "PROBIT" else 1e-6,
    )


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_linear_classifier(transform: str, rows: int, dtype: type) -> None:
    """One row of coefficients for two classes, one per class otherwise."""
    if rows == 1 and transform == "PROBIT":
        pytest.skip("onnxruntime leaves the second column unset")
    scale = 0.02 if transform == "PROBIT" else 1.0
    labels = [7, 3, 5][: max(rows, 2)]
    check(
        "LinearClassifier",
        {"x": (f32(6, 4) * 3).astype(dtype)},
        2,
        coefficients=[c * scale for c in numbers(rows, 4)],
        intercepts=[0.5] * rows,
        classlabels_ints=labels,
        post_transform=transform,
        atol=PROBIT_ROUNDING if transform == "PROBIT" else 1e-6,
    )


def test_labels_of_text_are_positions() -> None:
    x = f32(6, 4)
    model = model_of(
        "LinearClassifier",
        {"x": x},
        2,
        coefficients=numbers(3, 4),
        intercepts=numbers(3),
        classlabels_strings=["cat", "dog", "emu"],
    )
    names, scores = oracle.runtime(model, {"x": x})
    label, mine = oracle.table(model, {"x": x})
    np.testing.assert_array_equal(np.array(["cat", "dog", "emu"])[label], names)
    np.testing.assert_allclose(mine, scores, rtol=1e-5)


# --- support vectors ----------------------------------------------------------------------------------------

KERNELS = {"LINEAR": [0.0, 0.0, 3.0], "POLY": [0.3, 0.5, 3.0], "RBF": [0.2, 0.0, 3.0], "SIGMOID": [0.1, 0.2, 3.0]}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, one_class: int) -> None:
    check(
        "SVMRegressor",
        {"x": f32(5, 4)},
        coefficients=numbers(6),
        support_vectors=numbers(6, 4),
        n_supports=6,
        rho=[0.3],
        kernel_type=kernel,
        kernel_params=KERNELS[kernel],
        one_class=one_class,
        rtol=1e-4,
        atol=1e-5,
    )


def test_svm_regressor_without_vectors() -> None:
    check(
        "SVMRegressor",
        {"x": f32(5, 4)},
        coefficients=numbers(4),
        n_supports=0,
        rho=[0.3],
        kernel_type="LINEAR",
        kernel_params=[0.0, 0.0, 0.0],
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("probabilities", [False, True])
def test_svm_classifier(kernel: str, classes: int, probabilities: bool) -> None:
    sizes = [3, 2, 4, 2][:classes]
    pairs = classes * (classes - 1) // 2
    extra = {"prob_a": (-np.abs(f32(pairs))).tolist(), "prob_b": numbers(pairs)} if probabilities else {}
    check(
        "SVMClassifier",
        {"x": f32(8, 4)},
        2,
        coefficients=numbers(classes - 1, sum(sizes)),
        support_vectors=numbers(sum(sizes), 4),
        vectors_per_class=sizes,
        rho=numbers(pairs),
        kernel_type=kernel,
        kernel_params=KERNELS[kernel],
        classlabels_ints=[4, 2, 9, 1][:classes],
        rtol=1e-3,
        atol=1e-4,
        **extra,
    )


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [2, 3])
def test_svm_classifier_transforms(transform: str, classes: int) -> None:
    sizes = [3, 2, 4][:classes]
    check(
        "SVMClassifier",
        {"x": f32(8, 4)},
        2,
        coefficients=numbers(classes - 1, sum(sizes)),
        support_vectors=numbers(sum(sizes), 4),
        vectors_per_class=sizes,
        rho=numbers(classes * (classes - 1) // 2),
        kernel_type="RBF",
        kernel_params=KERNELS["RBF"],
        classlabels_ints=list(range(classes)),
        post_transform=transform,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("positive", [False, True])
def test_linear_support_vectors(classes: int, positive: bool) -> None:
    coefficients = np.abs(f32(classes, 4)) if positive else f32(classes, 4)
    check(
        "SVMClassifier",
        {"x": f32(8, 4)},
        2,
        coefficients=coefficients.reshape(-1).tolist(),
        rho=[0.1],
        kernel_type="LINEAR",
        kernel_params=KERNELS["LINEAR"],
        classlabels_ints=list(range(3, 3 + classes)),
    )


def pairwise(samples: int, classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    r = torch.rand(samples, classes, classes, generator=generator, dtype=torch.float64) * 0.6 + 0.2
    upper = torch.triu(r, 1)
    return upper + torch.tril(1.0 - upper.transpose(1, 2), -1)


def test_coupling_comes_near_the_minimum() -> None:
    r = pairwise(5, 4)
    p, q = pairwise_coupling(r), quadratic(r)
    ones = torch.ones(5, 4, 1, dtype=r.dtype)
    system = torch.cat([torch.cat([q, ones], 2), torch.cat([ones.transpose(1, 2), torch.zeros(5, 1, 1)], 2)], 1)
    right = torch.tensor([0.0, 0, 0, 0, 1], dtype=r.dtype).expand(5, -1)
    exact = torch.linalg.solve(system, right)[:, :4]
    torch.testing.assert_close(p.sum(1), torch.ones(5, dtype=r.dtype))
    assert (p - exact).abs().max() < 0.01


def test_coupling_has_the_derivative_of_the_minimum() -> None:
    """Against autograd through the linear system that defines the minimum."""
    r = pairwise(3, 4).requires_grad_()
    weights = torch.arange(1.0, 5.0, dtype=r.dtype)
    q = quadratic(r)
    ones = torch.ones(3, 4, 1, dtype=r.dtype)
    system = torch.cat([torch.cat([q, ones], 2), torch.cat([ones.transpose(1, 2), torch.zeros(3, 1, 1)], 2)], 1)
    exact = torch.linalg.solve(system, torch.tensor([0.0, 0, 0, 0, 1], dtype=r.dtype).expand(3, -1))[:, :4]
    (expected,) = torch.autograd.grad((exact * weights).sum(), r)
    (got,) = torch.autograd.grad((pairwise_coupling(r) * weights).sum(), r)
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.02)  # taken at a point that stopped early
    torch.library.opcheck(torch.ops.onnxplain.pairwise_coupling.default, (r.detach(),))
    assert torch.equal(pairwise_coupling(r.detach()), pairwise_coupling_definition(r.detach()))
