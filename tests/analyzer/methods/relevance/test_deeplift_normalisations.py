"""DeepLIFT from a baseline where a normalisation degenerates: a closed form, however it is written, or a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError
from tests.common.checks import load
from tests.common.models import assemble

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5)).astype(np.float32)
V = RNG.standard_normal((5, 2)).astype(np.float32)
node = helper.make_node


def model(nodes: list[NodeProto], eps: float = 1e-12, opset: int = 17) -> analyzer.Model:
    """From x to ``u``, and a linear layer on that."""
    weights: dict[str, Any] = {"V": V, "eps": np.array(eps, np.float32), "axes": np.array([1], np.int64)}
    weights |= {name: np.array(value, np.float32) for name, value in (("one", 1), ("two", 2), ("half", -0.5))}
    weights |= {"gain": np.ones(5, np.float32), "ones": np.ones((1, 5), np.float32), "none": np.zeros(5, np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 5])}
    last = node("MatMul", ["u", "V"], ["scores"])
    return load(assemble([*nodes, last], shapes, {"scores": (TensorProto.FLOAT, ["n", 2])}, weights, opset))


SQUARES = [
    node("Pow", ["x", "two"], ["squares"]),
    node("ReduceMean", ["squares"], ["mean"], axes=[1], keepdims=1),
    node("Add", ["mean", "eps"], ["more"]),
]
ROOT = [*SQUARES, node("Sqrt", ["more"], ["root"])]
LENGTH = [node("ReduceL2", ["x"], ["length"], axes=[1], keepdims=1)]
CLIPPED = [*LENGTH, node("Clip", ["length", "eps"], ["clipped"])]
#: x over the root of the mean of its squares, as it is written by one or the other exporter.
RMS: dict[str, list[NodeProto]] = {
    "divided": [*ROOT, node("Div", ["x", "root"], ["u"])],
    "reciprocal": [*ROOT, node("Reciprocal", ["root"], ["i"]), node("Mul", ["x", "i"], ["u"])],
    "one-over": [*ROOT, node("Div", ["one", "root"], ["i"]), node("Mul", ["i", "x"], ["u"])],
    "power": [*SQUARES, node("Pow", ["more", "half"], ["i"]), node("Mul", ["x", "i"], ["u"])],
    "scaled": [
        *ROOT, node("Reciprocal", ["root"], ["i"]), node("Mul", ["i", "ones"], ["j"]), node("Mul", ["x", "j"], ["u"])
    ],
}  # fmt: skip
#: x over its length.
UNIT: dict[str, list[NodeProto]] = {
    "clipped": [*CLIPPED, node("Div", ["x", "clipped"], ["u"])],
    "maximum": [*LENGTH, node("Max", ["length", "eps"], ["clipped"]), node("Div", ["x", "clipped"], ["u"])],
    "reciprocal": [*CLIPPED, node("Reciprocal", ["clipped"], ["i"]), node("Mul", ["x", "i"], ["u"])],
    "sum-of-squares": [
        node("Mul", ["x", "x"], ["s"]), node("ReduceSum", ["s", "axes"], ["t"]), node("Sqrt", ["t"], ["length"]),
        node("Add", ["length", "eps"], ["clipped"]), node("Div", ["x", "clipped"], ["u"]),
    ],
}  # fmt: skip


def closed_form(scale: float) -> np.ndarray:
    """From zero y = x / s has 2 m y for x and takes off what s has: sum m y, shared by the squares that s is made of."""
    x, m = X.astype(np.float64), V[:, 0].astype(np.float64)
    y = x / np.linalg.norm(x, axis=1, keepdims=True) * scale
    return np.asarray(2 * m * y - (m * y).sum(1, keepdims=True) * x**2 / (x**2).sum(1, keepdims=True))


@pytest.mark.parametrize("variant", ["rescale", "reveal-cancel"])
@pytest.mark.parametrize(("spelled", "scale"), [(RMS, 5**0.5), (UNIT, 1.0)], ids=["rms", "unit"])
def test_normalisations_from_zero_in_closed_form(spelled: dict[str, Any], scale: float, variant: str) -> None:
    expected = closed_form(scale)
    for name, nodes in spelled.items():
        found = model(nodes).explain(X, "deeplift", target=0, variant=variant)
        np.testing.assert_allclose(found.attribution, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        assert found.record["notes"] == []


def test_two_spellings_are_one_answer_from_any_baseline() -> None:
    """Differences of a quotient, whatever the epsilon and wherever they start."""
    for eps in (1e-2, 1e-5):
        maps = [model(nodes, eps).explain(X, "deeplift", target=0, baseline=0.3, precision="float64").attribution
                for nodes in RMS.values()]  # fmt: skip
        for other in maps[1:]:
            np.testing.assert_allclose(other, maps[0], rtol=1e-9, atol=1e-12)


DEVIATION = [
    node("ReduceMean", ["x"], ["middle"], axes=[1], keepdims=1),
    node("Sub", ["x", "middle"], ["centred"]),
    node("Mul", ["centred", "centred"], ["squares"]),
    node("ReduceMean", ["squares"], ["mean"], axes=[1], keepdims=1),
    node("Add", ["mean", "eps"], ["more"]),
    node("Sqrt", ["more"], ["root"]),
]
DEGENERATE: dict[str, list[NodeProto]] = {
    "layer-norm": [node("LayerNormalization", ["x", "gain", "none"], ["u"], epsilon=1e-12)],
    "layer-norm-written-out": [
        *DEVIATION, node("Reciprocal", ["root"], ["i"]), node("Mul", ["centred", "i"], ["u"])
    ],
    "unit-length": [node("LpNormalization", ["x"], ["u"], axis=1, p=2)],
    "cosine": [
        *CLIPPED, node("Abs", ["x"], ["other"]), node("ReduceL2", ["other"], ["l"], axes=[1], keepdims=1),
        node("Clip", ["l", "eps"], ["c"]), node("Mul", ["clipped", "c"], ["both"]),
        node("Mul", ["x", "other"], ["p"]), node("Div", ["p", "both"], ["u"]),
    ],
    "twice": [
        *RMS["reciprocal"][:-1], node("Mul", ["x", "i"], ["y"]), node("ReduceL2", ["y"], ["l"], axes=[1], keepdims=1),
        node("Clip", ["l", "eps"], ["c"]), node("Reciprocal", ["c"], ["k"]), node("Mul", ["y", "k"], ["u"]),
    ],
    "logarithm": [
        node("Abs", ["x"], ["a"]), node("Add", ["a", "eps"], ["m"]), node("Log", ["m"], ["u"])
    ],
}  # fmt: skip


@pytest.mark.parametrize("eps", [1e-5, 1e-12, 1e-18])
@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_baseline_gives_the_sum_that_is_promised(name: str, eps: float) -> None:
    found = model(DEGENERATE[name], eps).explain(X, "deeplift", target=0)
    assert found.completeness is not None
    size = np.abs(found.attribution).sum(axis=1)
    expected = found.completeness.expected
    assert (np.abs(found.completeness.delta) <= 1e-3 * np.abs(expected) + 1e-6 * size).all()
    assert size.max() <= 100 * np.abs(found.score).max() + 100 * np.abs(expected).max()  # no shares that cancel


@pytest.mark.parametrize(
    "nodes",
    [[node("Log", ["x"], ["u"])], [node("Reciprocal", ["x"], ["u"])], [*LENGTH, node("Div", ["x", "length"], ["u"])]],
    ids=["log", "reciprocal", "length"],
)
def test_a_baseline_without_a_value_is_refused_in_a_line(nodes: list[NodeProto]) -> None:
    with pytest.raises(AnalyzerError) as caught:
        model(nodes).explain(np.abs(X), "deeplift", target=0)
    assert caught.value.code == "result.nonfinite"
    assert "baseline" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_normalisation_has_nothing_to_degenerate() -> None:
    nodes = [node("BatchNormalization", ["x", "gain", "none", "none", "gain"], ["u"], epsilon=1e-12)]
    found = model(nodes).explain(X, "deeplift", target=0)
    np.testing.assert_allclose(found.attribution, X * V[:, 0], rtol=1e-5, atol=1e-6)


def test_pooling_is_named_only_where_the_explained_value_depends_on_it() -> None:
    """A maximum beside the explained output is none of its business; the sum is missed by what can't be attributed."""
    from analyzer.methods.relevance.deeplift import _pools

    pool = node("MaxPool", ["p"], ["q"], kernel_shape=[2], strides=[1])
    nodes = [
        node("Unsqueeze", ["x", "axes"], ["p"]),
        pool,
        node("Flatten", ["q"], ["pooled"]),
        node("MatMul", ["x", "V"], ["plain"]),
    ]
    outputs = {"plain": (TensorProto.FLOAT, ["n", 2]), "pooled": (TensorProto.FLOAT, ["n", 4])}
    weights = {"V": V, "axes": np.array([1], np.int64)}
    found = load(assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 5])}, outputs, weights))

    class Asked:
        model = found

        def __init__(self, value: str) -> None:
            self.target = type("T", (), {"value": value})

    assert not _pools(Asked("plain"))  # type: ignore[arg-type]
    assert _pools(Asked("pooled"))  # type: ignore[arg-type]
