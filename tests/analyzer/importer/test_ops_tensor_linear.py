"""Matrix products, contractions and signals against onnxruntime, and which ATen operators they become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import check, node_model, table

rng = np.random.default_rng(0)
aten = torch.ops.aten


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def operators(model, feed) -> list[object]:
    """The ATen operators of the recorded trace, views left out."""
    graph = build(model, numpy_helper.to_array)
    with torch.no_grad(), Recorder() as recorder:
        tensors = {k: recorder.placeholder(k, as_tensor(v)) for k, v in feed.items() if k in graph.inputs}
        out = run_graph(graph, tensors, Interpreter(recorder))
    plain = {aten.view.default, aten.permute.default, aten.transpose.int, aten.unsqueeze.default, aten.squeeze.dim,
             aten._unsafe_view.default, aten.clone.default, aten.t.default, aten._reshape_alias.default}  # fmt: skip
    nodes = recorder.finish(out).graph.nodes
    return [n.target for n in nodes if n.op == "call_function" and n.target not in plain]


PRODUCTS = [
    ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
    ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((2, 3, 4), (1, 4, 5)),
    ((1, 3, 4), (2, 4, 5)), ((0, 4), (4, 5)), ((2, 0, 4), (4, 5)), ((3, 0), (0, 5)), ((1, 1, 3, 4), (4, 5)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", PRODUCTS)
@pytest.mark.parametrize("baked", [(), ("a",), ("b",)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]], baked: tuple[str, ...], dtype: str) -> None:
    a, b = ((normal(*s) * 3).astype(dtype) for s in shapes)
    check(node_model("MatMul", {"a": a, "b": b}, initializers=baked), {"a": a, "b": b})


@pytest.mark.parametrize("shapes", [s for s in PRODUCTS if len(s[1]) == 2 and s[1][0] and len(s[0]) > 1])
def test_a_product_with_one_constant_matrix_is_one_mm(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    feed = {"a": normal(*shapes[0]), "b": normal(*shapes[1])}
    assert operators(node_model("MatMul", feed, initializers=("b",)), feed) == [aten.mm.default]


def test_a_product_with_a_constant_matrix_on_the_left_is_one_mm() -> None:
    feed = {"a": normal(3, 4), "b": normal(2, 4, 5)}
    assert operators(node_model("MatMul", feed, initializers=("a",)), feed) == [aten.mm.default]


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.0)])
def test_gemm(trans_a: int, trans_b: int, c: tuple[int, ...] | None, alpha: float, beta: float) -> None:
    feed = {"a": normal(4, 3) if trans_a else normal(3, 4), "b": normal(5, 4) if trans_b else normal(4, 5)}
    if c is not None:
        feed["c"] = np.asarray(normal(*c), np.float32)
    model = node_model("Gemm", feed, transA=trans_a, transB=trans_b, alpha=alpha, beta=beta, initializers=("b",))
    check(model, feed)
    if c is not None and beta:
        assert operators(model, feed)[-1] == aten.addmm.default


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,jk->bik", [(2, 3, 4), (4, 5)]),
        ("bij, bjk -> bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("abc,cde->abde", [(2, 3, 4), (4, 5, 2)]),
        ("ij,k->kij", [(2, 3), (4,)]),
        ("i,i->", [(3,), (3,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ijx,jky->ik", [(2, 3, 4), (3, 5, 2)]),
        ("ij->ji", [(2, 3)]),
        ("ij", [(2, 3)]),
        ("ba,ac", [(2, 3), (3, 4)]),
        ("ij->i", [(2, 3)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
        ("a,ab,b->", [(2,), (2, 3), (3,)]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_einsum(equation: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    feed = {f"x{i}": normal(*s, dtype=dtype) for i, s in enumerate(shapes)}
    check(node_model("Einsum", feed, opset=12, equation=equation), feed)


def test_a_contraction_with_a_constant_matrix_is_one_mm() -> None:
    feed = {"x": normal(2, 3, 4), "w": normal(4, 5, 6)}
    model = node_model("Einsum", feed, opset=12, equation="abc,cde->abde", initializers=("w",))
    assert operators(model, feed) == [aten.mm.default]


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (1, 1)])
def test_determinant(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    check(node_model("Det", {"x": x}), {"x": x})


def test_determinant_in_half_precision() -> None:
    x = np.array([[2, 1], [1, 3]], np.float16)
    check(node_model("Det", {"x": x}, opset=22), {"x": x}, rtol=2e-3)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("length", [None, 5, 12])
@pytest.mark.parametrize(("parts", "inverse", "onesided"), [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (2, 1, 0)])
@pytest.mark.parametrize("axis", [1, 2, -2])
def test_dft(opset: int, parts: int, length: int | None, inverse: int, onesided: int, axis: int) -> None:
    """Against numpy, as onnxruntime refuses some of these."""
    x = normal(2, 8, 6, parts)
    feed = {"x": x} | ({} if length is None else {"n": np.array(length)})
    attributes = {"inverse": inverse, "onesided": onesided}
    if opset == 20:
        feed.setdefault("", np.zeros(0, "i8")) if length is None else None
        feed["axis"] = np.array(axis)
    else:
        attributes["axis"] = axis
    signal = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    along = axis % 4
    spectrum = (np.fft.ifft if inverse else np.fft.fft)(signal, length, axis=along)
    if onesided:
        spectrum = np.take(spectrum, range(spectrum.shape[along] // 2 + 1), along)
    expected = np.stack([spectrum.real, spectrum.imag], -1)
    model = node_model(
        "DFT", feed, opset=opset, initializers=tuple(k for k in feed if k in ("n", "axis")), **attributes
    )
    for record in (False, True):
        got = table(model, {k: v for k, v in feed.items() if k}, record)[0]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bins", [5, 6])
@pytest.mark.parametrize("length", [None, 6, 7, 9, 10, 14])
def test_one_sided_spectrum_back_to_a_real_signal(bins: int, length: int | None) -> None:
    x = normal(2, bins, 2)
    feed = {"x": x} | ({} if length is None else {"n": np.array(length)})
    model = node_model("DFT", feed, opset=20, inverse=1, onesided=1, initializers=("n",) if length else ())
    expected = np.fft.irfft(x[..., 0] + 1j * x[..., 1], length, axis=1)[..., None]
    np.testing.assert_allclose(table(model, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("step", [3, 4])
def test_stft(windowed: bool, onesided: int, step: int) -> None:
    feed = {"x": normal(2, 30, 1), "step": np.array(step)}
    feed |= {"w": np.hanning(8).astype("f")} if windowed else {"": np.zeros(0, "f"), "n": np.array(8)}
    model = node_model("STFT", feed, opset=17, onesided=onesided, initializers=("w",) if windowed else ())
    check(model, {k: v for k, v in feed.items() if k}, rtol=1e-3, atol=1e-4)
    if windowed:
        assert operators(model, feed) == [aten.convolution.default]


def test_stft_of_a_complex_signal() -> None:
    x = normal(1, 20, 2)
    feed = {"x": x, "step": np.array(4), "": np.zeros(0, "f"), "n": np.array(8)}
    got = table(node_model("STFT", feed, opset=17, onesided=0, initializers=("step", "n")), {"x": x})[0]
    signal = x[0, :, 0] + 1j * x[0, :, 1]
    expected = np.stack([np.fft.fft(signal[i : i + 8]) for i in range(0, 13, 4)])
    np.testing.assert_allclose(got[0, ..., 0] + 1j * got[0, ..., 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("bands", "size", "rate", "low", "high"), [(8, 16, 8192, 0.0, 4096.0), (20, 256, 16000, 80.0, 7600.0)]
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_mel_weights(bands: int, size: int, rate: int, low: float, high: float, kind: int) -> None:
    feed = {
        "b": np.array(bands),
        "n": np.array(size),
        "r": np.array(rate),
        "l": np.array(low, "f"),
        "h": np.array(high, "f"),
    }
    check(node_model("MelWeightMatrix", feed, opset=17, output_datatype=kind), feed)
