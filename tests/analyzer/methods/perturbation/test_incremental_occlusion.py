"""Occlusion by incremental inference: the same map as full runs, chosen where it pays, given up where it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.analyzer.methods.linear import weights_of
from tests.analyzer.methods.perturbation.test_occlusion import inputs
from tests.common.models import assemble


def convolutional(seed: int = 0, dtype: Any = np.float32, batch: int | str = "n", head: bool = True) -> analyzer.Model:
    """Two convolutions and a pooling of 48 × 40 pictures, large enough to be worth it."""
    draw = np.random.default_rng(seed)
    weights = {
        "w1": draw.standard_normal((32, 3, 3, 3)) * 0.3, "w2": draw.standard_normal((48, 32, 3, 3)) * 0.08,
        "w3": draw.standard_normal((48, 5)) * 0.3,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["z1"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["z1"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["z2"], pads=[1, 1, 1, 1], name="second"),
        helper.make_node("Relu", ["z2"], ["a2"]),
        helper.make_node("GlobalAveragePool", ["a2"], ["pooled"], name="mean"),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w3"], ["scores"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    proto = assemble(
        nodes, {"x": (kind, [batch, 3, "h", "w"])}, {"scores": (kind, [batch, 5])},
        {name: value.astype(dtype) for name, value in weights.items()},
    )  # fmt: skip
    return analyzer.load(proto, "cpu", threads=1)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (6, 4), ((5, 48), (3, 7)), (64, 8)])
def test_incremental_and_full_runs_give_the_same_map(window: Any, stride: Any) -> None:
    x, given = inputs(2, 3, 48, 40), {"window": window, "stride": stride, "fill": "mean", "target": [1, 3]}
    part = convolutional().explain(x, "occlusion", incremental="on", **given)
    full = convolutional().explain(x, "occlusion", incremental="off", **given)
    assert set(part.record["incremental"]) == {"predicted", "share", "stages", "verified"}
    assert full.record["incremental"] == "switched off"
    assert part.record["evaluations"] == full.record["evaluations"]
    scale = np.abs(full.score).max()
    np.testing.assert_allclose(part.attribution, full.attribution, rtol=0, atol=1e-5 * scale)
    assert np.abs(full.attribution).max() > 1e-3 * scale


def test_it_is_chosen_where_it_pays_and_prepared_once() -> None:
    model, x = convolutional(), inputs(40, 3, 48, 40)
    first = model.explain(x, "occlusion", window=4, stride=4)
    assert first.record["incremental"]["stages"] == 2
    assert first.record["incremental"]["predicted"] >= 1.3
    again = model.explain(x[:1], "occlusion", window=4, stride=4)
    assert again.record["incremental"]["predicted"] == first.record["incremental"]["predicted"]
    full = model.explain(x[:1], "occlusion", window=4, stride=4, incremental="off")
    np.testing.assert_allclose(again.attribution, full.attribution, rtol=0, atol=1e-5 * np.abs(full.score).max())


def test_little_work_is_not_worth_it() -> None:
    done = convolutional().explain(inputs(1, 3, 8, 8), "occlusion", window=4)
    assert done.record["incremental"].startswith("a gain of ")


def test_the_record_says_what_is_in_the_way() -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["flat"], name="all"), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    shapes = {"x": (TensorProto.FLOAT, ["n", 3, 8, 8])}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, {"w": weights_of(192, 1)})
    model = analyzer.load(proto, "cpu", threads=1)
    done = model.explain(inputs(1, 3, 8, 8), "occlusion", incremental="on")
    assert done.record["incremental"] == "all: Flatten mixes positions"


def test_full_runs_count_for_the_effects_that_they_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the arithmetic of regions is found, said and made good."""
    from analyzer.executor.incremental.reach import Reach, Span

    model, x = convolutional(), inputs(1, 3, 48, 40)
    full = model.explain(x, "occlusion", window=8, stride=8, incremental="off")
    honest = Reach.forward

    def narrow(self: Reach, change: Span, size: int) -> Span:
        right = honest(self, change, size)
        return Span(right.low, np.maximum(right.high - 2, right.low + 1))

    monkeypatch.setattr(Reach, "forward", narrow)
    done = model.explain(x, "occlusion", window=8, stride=8, incremental="on")
    assert "differs from its whole run" in done.record["incremental"]
    assert any("every window was run whole" in note for note in done.record["notes"])
    np.testing.assert_array_equal(done.attribution, full.attribution)
    monkeypatch.undo()
    mended = model.explain(x, "occlusion", window=8, stride=8, incremental="on")
    assert mended.record["incremental"]["verified"] <= 1e-5


def test_a_fault_of_the_runtime_ends_in_full_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.errors import InputError
    from analyzer.executor.incremental import Runner

    def fail(*_: Any) -> Any:
        raise InputError("runtime.op_failed", "the runtime gave up")

    monkeypatch.setattr(Runner, "run", fail)
    done = convolutional().explain(inputs(2, 3, 48, 40), "occlusion", window=8, incremental="on")
    assert done.record["incremental"] == "the runtime gave up"


def test_half_precision_is_verified_by_its_own_tolerance() -> None:
    x = inputs(1, 3, 48, 40).astype(np.float16)
    done = convolutional(dtype=np.float16).explain(x, "occlusion", window=8, stride=8, incremental="on")
    full = convolutional(dtype=np.float16).explain(x, "occlusion", window=8, stride=8, incremental="off")
    assert done.record["incremental"]["verified"] <= 4e-3
    scale = float(np.abs(full.score).max())
    np.testing.assert_allclose(done.attribution, full.attribution, rtol=0, atol=8e-3 * scale)


def test_a_fixed_batch_is_incremental_too() -> None:
    x = inputs(2, 3, 48, 40)
    done = convolutional(batch=1).explain(x, "occlusion", window=8, stride=8, incremental="on")
    free = convolutional().explain(x, "occlusion", window=8, stride=8, incremental="off")
    assert done.record["incremental"]["stages"] == 2
    np.testing.assert_allclose(done.attribution, free.attribution, rtol=0, atol=1e-5 * np.abs(free.score).max())


def test_progress_of_incremental_inference_goes_up_one_by_one() -> None:
    steps: list[tuple[int, int]] = []
    done = convolutional().explain(
        inputs(2, 3, 48, 40), "occlusion", window=8, incremental="on", progress=lambda at, of: steps.append((at, of))
    )
    total = done.record["evaluations"]
    assert steps == [(i, total) for i in range(1, total + 1)]


def test_on_a_device_and_with_other_fills_windows_are_run_in_full() -> None:
    from types import SimpleNamespace

    from analyzer.perturbation.incremental import prepared

    context: Any = SimpleNamespace(model=SimpleNamespace(device="cuda:0", fixed_batch=None), batch_size=lambda: 8)
    assert "cuda:0" in str(prepared(context, (2, 3), [], [], "on", np.zeros(1)).record())
    context.model.device = "cpu"
    assert "more than one way" in str(prepared(context, (2, 3), [], [], "on", object()).record())
