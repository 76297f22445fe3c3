"""Activations are what ONNX's reference runtime gives, however the input is cut; figures are numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import analyzer
from analyzer.errors import UsageError
from analyzer.jobs.value_archive import ValueArchive
from analyzer.visualization import activations as room
from analyzer.visualization.activations import NO_TENSOR, Stream
from analyzer.visualization.channels import channel_axis
from analyzer.visualization.layers import chosen, layers
from analyzer.visualization.statistics import Figures
from tests.analyzer.visualization.models import model, nested, pictures

#: Time first, so that samples lie on the second axis; heads are folded into the first one.
SEQUENCES = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 5, 4] x) => (float[n, 4] y) {
    [turned] turned = Transpose <perm = [1, 0, 2]> (x)
    [folded] folded = Reshape (x, to)
    [halved] half = Cast <to = 10> (folded)
    [first] y = ReduceMean <axes = [0], keepdims = 0> (turned)
}"""


def reference(proto: onnx.ModelProto, feed: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    """Inner values by ONNX's own evaluator."""
    wider = onnx.ModelProto()
    wider.CopyFrom(proto)
    del wider.graph.output[:]
    wider.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return list(ReferenceEvaluator(wider).run(None, feed))


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "cut"])
def test_values_are_those_of_the_reference_runtime(cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cut:
        monkeypatch.setattr(room, "RUN_BYTES", 4000)
    x = np.random.default_rng(1).standard_normal((7, 2, 6, 6)).astype(np.float32)
    found = analyzer.load(pictures()).activations(x)
    assert found.skipped == {}
    names = [name for name in found if name != "size"]
    for name, value in zip(names, reference(pictures(), {"x": x}, names), strict=True):
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_samples_are_joined_along_the_axis_that_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RUN_BYTES", 700)
    x = np.random.default_rng(1).standard_normal((7, 5, 4)).astype(np.float32)
    loaded = analyzer.load(model(SEQUENCES, to=np.array([-1, 4])))
    stream = Stream(loaded, loaded.feed(x), layers(loaded))
    counts = [count for count, _ in stream.parts()]
    assert len(counts) > 1
    assert sum(counts) == 7
    found = loaded.activations(x)
    np.testing.assert_array_equal(found["turned"], x.transpose(1, 0, 2))
    np.testing.assert_array_equal(found["half"], x.reshape(-1, 4).astype(np.float16))
    np.testing.assert_allclose(found["y"], x.mean(axis=1), rtol=1e-5, atol=1e-6)


def test_a_model_of_a_fixed_batch_is_run_part_by_part() -> None:
    proto = pictures()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    x = np.random.default_rng(1).standard_normal((6, 2, 6, 6)).astype(np.float32)
    free, fixed = analyzer.load(pictures()).activations(x, "flat"), analyzer.load(proto).activations(x, "flat")
    np.testing.assert_allclose(fixed["flattened"], free["flattened"], rtol=1e-5, atol=1e-6)


def test_sequences_are_left_out_and_named() -> None:
    found = analyzer.load(nested()).activations(np.ones((2, 4), np.float32))
    assert list(found) == ["again", "total", "positive", "picked", "y"]
    assert found.skipped == {"pieces": NO_TENSOR}
    assert found["positive"].dtype == bool


@pytest.mark.parametrize(("kind", "said"), [(22, "int4"), (21, "uint4"), (17, "float8e4m3fn")])
def test_numbers_that_numpy_has_no_type_for_are_left_out_and_named(kind: int, said: str) -> None:
    body = f"q = QuantizeLinear <output_dtype = {kind}> (x, s) d = DequantizeLinear (q, s) y = Tanh (d)"
    text = f'<ir_version: 10, opset_import: ["": 21]> net (float[n, 4] x) => (float[n, 4] y) {{ {body} }}'
    found = analyzer.load(model(text, s=np.float32(0.25))).activations(np.ones((2, 4), np.float32))
    assert found.skipped == {"q": f"of type {said}, which numpy has none for"}
    np.testing.assert_array_equal(found["d"], np.ones((2, 4)))


def test_more_than_the_budget_is_refused_where_no_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BUDGET", 2**20)
    loaded, x = analyzer.load(pictures()), np.zeros((3000, 2, 6, 6), np.float32)
    with pytest.raises(UsageError, match="7 inner values of 3000 samples take 4 MiB, more than 1 MiB") as caught:
        loaded.activations(x)
    assert caught.value.code == "activations.too_large"
    assert len(loaded.activations(x, "Conv")["/body/body.0/Conv_output_0"]) == 3000


@pytest.mark.parametrize("run_bytes", [10**9, 3000])
def test_figures_are_those_of_numpy(run_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RUN_BYTES", run_bytes)
    x = np.random.default_rng(1).standard_normal((9, 2, 6, 6)).astype(np.float32)
    loaded = analyzer.load(pictures())
    figures = Figures(loaded)
    stream = Stream(loaded, loaded.feed(x), layers(loaded))
    list(figures.through(stream))
    whole = loaded.activations(x)
    for layer in stream.layers:
        found, value = figures.of(layer), whole[layer.value]
        assert found is not None
        assert found.shape == value.shape
        assert found.dtype == str(value.dtype)
        if layer.value != "size":
            numbers = value.astype(np.float64)
            assert (found.mean, found.std, found.low, found.high) == pytest.approx(
                (numbers.mean(), numbers.std(), numbers.min(), numbers.max())
            )
            assert found.zeros == pytest.approx((numbers == 0).mean())
    relu = figures.of(chosen(loaded, "Relu")[0])
    assert relu is not None
    assert (relu.channels, relu.dead) == (4, 1)  # channel 1 has a bias that no input overcomes


def test_numbers_that_are_not_finite_are_counted_and_left_out() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 3] x) => (float[n, 3] y) { y = Log (x) }'
    loaded = analyzer.load(model(text))
    figures = Figures(loaded)
    stream = Stream(loaded, loaded.feed(np.array([[1, 0, -1]], np.float32)), layers(loaded))
    list(figures.through(stream))
    found = figures.of(stream.layers[0])
    assert found is not None
    assert (found.nonfinite, found.mean, found.low, found.high) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("body", "axis"),
    [
        ("v = Conv (x, k)", 1),
        ("c = Conv (x, k) r = Relu (c) v = Transpose <perm = [0, 2, 3, 1]> (r)", 3),
        ("t = Transpose <perm = [0, 2, 3, 1]> (x) v = MatMul (t, m)", 3),
        ("v = Sin (x)", 1),
    ],
)
def test_the_axis_of_channels_is_told_by_the_layer(body: str, axis: int) -> None:
    text = f'<ir_version: 8, opset_import: ["": 17]> net (float[n, 2, 6, 6] x) => (float[n, a, b, c] y) {{ {body} y = Tanh (v) }}'
    weights = {"k": np.ones((5, 2, 3, 3), np.float32), "m": np.ones((2, 5), np.float32)}
    loaded = analyzer.load(model(text, **{name: value for name, value in weights.items() if f"{name})" in body}))
    assert channel_axis(loaded, "v", 4) == axis
    assert channel_axis(loaded, "y", 4) == axis


def test_an_archive_grows_without_holding_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {
        "a/b": rng.standard_normal((6, 3)),
        "turned": rng.integers(0, 9, (2, 12), np.int8),
        "shared": np.arange(3),
    }
    axes: dict[str, int | None] = {"a/b": 0, "turned": 1, "shared": None}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    archive = ValueArchive(scratch, 6)
    for begin, count in ((0, 4), (4, 2)):
        part = {
            "a/b": values["a/b"][begin : begin + count],
            "turned": values["turned"][:, 2 * begin : 2 * (begin + count)],
            "shared": values["shared"],
        }
        assert archive.add(count, part, axes) == []
    archive.write(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert set(found.files) == set(values)
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
