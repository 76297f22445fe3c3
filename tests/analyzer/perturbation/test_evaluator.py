"""Perturbation methods end to end: masks in the graph or on the host, any batch, any threads, and memory: one result."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import analyzer
from analyzer.executor import masked_model, session_pool
from analyzer.executor.batch_size import BatchSizeTuner
from analyzer.executor.masked_model import CannotMaskError
from analyzer.executor.runtime_errors import OutOfMemoryError
from analyzer.executor.session import Session
from tests.analyzer.methods.linear import linear, weights_of
from tests.common.models import Case, cases, cnn, mlp, two_inputs

Array = NDArray[Any]
CASES = {case.name: case for case in cases()}
METHODS: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 2, "stride": 1, "fill": 0.3},
    "rise": {"masks": 60, "grid": 4, "fill": 0.3},
    "bubbles": {"samples": 60, "count": 2},
    "lime": {"samples": 60, "segments": "grid:4"},
    "kernel-shap": {"samples": 60, "segments": "grid:4", "baseline": 0.2},
    "feature-ablation": {"segments": "grid:4"},
}


def explained(proto: onnx.ModelProto, feed: Any, method: str, threads: int = 1, **more: Any) -> analyzer.Explanation:
    return analyzer.load(proto, "cpu", threads=threads).explain(
        feed, method=method, target=1, **METHODS[method], **more
    )


def assert_same(one: analyzer.Explanation, other: analyzer.Explanation, tolerance: float = 1e-6) -> None:
    """Equal to 1e-6 of the score's scale: what a map holds is a score, a drop or a part of one."""
    scale = max(float(np.abs(one.attribution).max()), float(np.abs(one.score).max()))
    assert one.attribution.shape == other.attribution.shape
    np.testing.assert_allclose(one.attribution, other.attribution, rtol=0, atol=tolerance * max(scale, 1))
    assert one.record["evaluations"] == other.record["evaluations"]


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every masked model impossible while it is set."""

    def refuse(proto: onnx.ModelProto, spec: masked_model.MaskedModelSpec) -> masked_model.MaskedModel:
        raise CannotMaskError("not now")

    return lambda: monkeypatch.setattr(session_pool, "build_masked_model", refuse)


def suited(method: str, case: Case) -> bool:
    """Tokens and tables have no bubbles, and no cells of a grid of segments."""
    return case.modality in ("image", "series") or method in ("occlusion", "rise", "feature-ablation", "lime")


def fitting(method: str, case: Case) -> dict[str, Any]:
    params = dict(METHODS[method])
    if case.modality not in ("image",):
        params.pop("segments", None)
    if case.modality == "tokens":
        params = {name: value for name, value in params.items() if name not in ("fill", "baseline")}
    return params


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("method", METHODS)
def test_masks_in_the_graph_and_on_the_host_are_the_same(method: str, case: Case, on_host: Any) -> None:
    if not suited(method, case):
        pytest.skip("the method doesn't suit this kind of input")
    params = fitting(method, case)
    params |= {"method": method, "target": 1, "inputs": next(iter(case.feed))}  # several are masked on the host
    inside = analyzer.load(case.proto, "cpu", threads=1).explain(case.feed, **params)
    on_host()
    outside = analyzer.load(case.proto, "cpu", threads=1).explain(case.feed, **params)
    assert (inside.record["masks"], outside.record["masks"]) == ("graph", "host")
    half = next(iter(case.feed.values())).dtype == np.float16
    assert_same(inside, outside, 2e-3 if half else 1e-6)  # half precision's own step is 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("nhwc", [False, True])
def test_neither_batch_nor_threads_change_the_result(method: str, nhwc: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).standard_normal((2, 8, 8, 3) if nhwc else (2, 3, 8, 8)).astype(np.float32)
    first = explained(cnn(nhwc=nhwc), x, method)
    assert_same(first, explained(cnn(nhwc=nhwc), x, method, threads=3))
    for size in (1, 7, 64):
        with monkeypatch.context() as patch:
            patch.setattr(
                BatchSizeTuner, "size", property(lambda self, size=size: self._best if self._largest == 2 else size)
            )
            assert_same(first, explained(cnn(nhwc=nhwc), x, method, threads=2))
    assert_same(first, explained(cnn(2, nhwc=nhwc), x, method, threads=2))  # the batch is fixed


@pytest.mark.parametrize("method", METHODS)
def test_halving_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(4).standard_normal((1, 3, 8, 8)).astype(np.float32)
    first = explained(cnn(), x, method)
    original, refused = Session.run, 0

    def run(self: Session, feed: Any, outputs: Any = None) -> dict[str, Any]:
        nonlocal refused
        if max(len(value) for name, value in feed.items() if name.endswith(("bounds", "present", "mask", "cells"))) > 3:
            refused += 1
            raise OutOfMemoryError("limit.memory", "no memory")
        return original(self, feed, outputs)

    here = analyzer.load(cnn(), "cpu", threads=2)
    monkeypatch.setattr(BatchSizeTuner, "learn", lambda self, size, seconds: None)
    monkeypatch.setattr(BatchSizeTuner, "size", property(lambda self: min(16, self._largest)))
    here.predict(x)
    monkeypatch.setattr(Session, "run", lambda self, feed, outputs=None: (
        run(self, feed, outputs) if any(name.startswith("masking_") for name in feed) else original(self, feed, outputs)
    ))  # fmt: skip
    assert_same(first, here.explain(x, method=method, target=1, **METHODS[method]))
    assert refused


def test_other_inputs_go_along_in_the_graph(on_host: Any) -> None:
    feed = CASES["two"].feed
    inside = explained(two_inputs(), feed, "rise", inputs="picture")
    on_host()
    assert_same(inside, explained(two_inputs(), feed, "rise", inputs="picture"))


def test_one_session_serves_every_number_of_segments() -> None:
    case = CASES["cnn"]
    model = analyzer.load(case.proto, "cpu", threads=1)
    for segments in ("grid:2", "grid:4"):
        found = model.explain(case.feed, method="feature-ablation", segments=segments)
        assert found.record["masks"] == "graph"
    assert len(model.session_pool._entries) == 1


def test_what_stays_on_the_host_says_so() -> None:
    model = linear(weights_of(3, 4, 4), dtype=onnx.TensorProto.INT8)
    x = np.ones((1, 3, 4, 4), np.int8)
    done = model.explain(x, method="occlusion", window=2, stride=2)
    assert done.record["masks"] == "host"
    drops = weights_of(3, 4, 4).reshape(3, 2, 2, 2, 2).sum(axis=(0, 2, 4))
    np.testing.assert_allclose(done.attribution[0, 0, ::2, ::2], drops, rtol=1e-5, atol=1e-5)
    white = analyzer.load(mlp(), "cpu", threads=1).explain(CASES["mlp"].x, method="gradient")
    assert "masks" not in white.record


def test_a_score_that_is_the_input_itself() -> None:
    """A softmax of the input: its logits are what is perturbed."""
    proto = linear(weights_of(3)).proto
    del proto.graph.node[:]
    proto.graph.node.append(onnx.helper.make_node("Softmax", ["x"], ["y"]))
    del proto.graph.initializer[:]
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    x = np.array([[1.0, 2.0, 4.0]], np.float32)
    for threads in (1, 2):
        done = analyzer.load(proto, "cpu", threads=threads).explain(x, method="occlusion", target=2)
        np.testing.assert_allclose(done.attribution, [[0, 0, 4]])


@pytest.mark.parametrize("method", ["rise", "bubbles", "lime", "occlusion"])
def test_memory_does_not_grow_with_the_number_of_masks(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        BatchSizeTuner, "size", 16
    )  # the batch that is found depends on the machine, and memory on the batch
    model = linear(weights_of(1, 96, 96))
    x = np.random.default_rng(5).standard_normal((1, 1, 96, 96)).astype(np.float32)

    def peak(count: int) -> int:
        side = round(96 / np.sqrt(count))
        params = {
            "rise": {"masks": count}, "bubbles": {"samples": count}, "lime": {"samples": count, "segments": "grid:24"},
            "occlusion": {"window": 8, "stride": side},
        }[method]  # fmt: skip
        model.explain(x, method=method, **params)  # opens its session first
        tracemalloc.start()
        model.explain(x, method=method, **params)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few = peak(300)
    assert peak(2400) < 1.5 * few + 2**20  # 2,100 more masks of 36 KiB would be 74 MiB


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_device_gives_what_the_host_gives(method: str) -> None:
    from analyzer.executor import devices

    if devices.cuda_devices() == 0:
        pytest.skip("no CUDA device")
    x = np.random.default_rng(6).standard_normal((2, 3, 8, 8)).astype(np.float32)
    here = explained(cnn(), x, method)
    there = analyzer.load(cnn(), "cuda").explain(x, method=method, target=1, **METHODS[method])
    assert there.record["masks"] == "graph"
    np.testing.assert_allclose(there.attribution, here.attribution, atol=1e-4 * np.abs(here.attribution).max())
