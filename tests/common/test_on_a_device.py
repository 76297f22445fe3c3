"""What is done on a device: full float32, one padded batch size, inputs that cross once, sweeps compiled on first use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.compiler import sweep_cache, sweep_model
from analyzer.compiler.subject import Subject
from analyzer.engines.protocol import GRADIENT, SweepSpec
from analyzer.importer.parity import TOLERANCE, TOLERANCE_TF32
from tests.common.models import cases, cnn
from tests.common.stand_in import DEVICE, StandIn, stand_in

X = np.random.default_rng(8).standard_normal((2, 3, 8, 8)).astype(np.float32)
PERTURBING: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 3, "stride": 2}, "rise": {"masks": 70, "grid": 3}, "lime": {"samples": 70, "segments": "grid:4"},
    "kernel-shap": {"samples": 70, "segments": "grid:4"}, "bubbles": {"samples": 70},
    "feature-ablation": {"segments": "grid:4"},
}  # fmt: skip
SWEEPING: dict[str, dict[str, Any]] = {
    "gradient": {}, "lrp": {}, "integrated-gradients": {"steps": 7}, "smoothgrad": {"samples": 5}, "grad-cam": {},
    "deeplift": {}, "gradient-shap": {"samples": 5},
}  # fmt: skip


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A device."""
    return stand_in(monkeypatch)


def on_device(**options: Any) -> analyzer.Model:
    model = analyzer.load(cnn(), DEVICE, threads=1, **options)
    assert model.device == DEVICE
    return model


def on_host(method: str, **params: Any) -> analyzer.Explanation:
    return analyzer.load(cnn(), "cpu", threads=1).explain(X, method, target=1, backend="torch", **params)


def on_host_runtime(method: str, **params: Any) -> analyzer.Explanation:
    return analyzer.load(cnn(), "cpu", threads=1).explain(X, method, target=1, **params)


@pytest.mark.parametrize("method", PERTURBING)
def test_perturbed_copies_score_as_on_the_host(device: StandIn, method: str) -> None:
    there = on_device().explain(X, method, target=1, **PERTURBING[method])
    here = on_host_runtime(method, **PERTURBING[method])
    np.testing.assert_allclose(there.attribution, here.attribution, atol=1e-5 * np.abs(here.attribution).max())
    assert there.record["masks"] == "graph"


@pytest.mark.parametrize("method", PERTURBING)
def test_a_session_has_one_batch_size_and_is_kept(device: StandIn, method: str) -> None:
    model = on_device()
    model.explain(X, method, target=1, **PERTURBING[method])
    opened = len(device.opened)
    model.explain(X + 1, method, target=2, **PERTURBING[method])
    assert len(device.opened) == opened
    pool = [entry for entry in model.session_pool._entries.values() if entry is not None]
    assert pool
    for runs, _ in pool:
        assert set(device.batches[id(runs.session)]) == {runs.tuner.size}


@pytest.mark.parametrize("method", SWEEPING)
def test_sweeps_are_compiled_on_first_use_and_give_the_hosts_maps(device: StandIn, method: str) -> None:
    """Torch never sees the device: it isn't there."""
    model = on_device()
    there = model.explain(X, method, target=1, **SWEEPING[method])
    here = on_host(method, **SWEEPING[method])
    np.testing.assert_allclose(there.raw, here.raw, atol=2e-5 * np.abs(here.raw).max())
    assert there.record["backend"] == "onnxruntime"
    opened = len(device.opened)
    model.explain(X + 1, method, target=1, **SWEEPING[method])
    assert len(device.opened) == opened


def test_the_chosen_backend_works_for_a_model_on_a_device(device: StandIn) -> None:
    there = on_device().explain(X, "lrp", target=1, backend="onnxruntime")
    np.testing.assert_allclose(there.attribution, on_host("lrp").attribution, rtol=1e-4, atol=1e-6)


def test_an_input_crosses_once_for_all_runs_of_a_call(device: StandIn) -> None:
    model = on_device()
    model.explain(X, "gradient", target=1)
    device.put.clear()
    changed = X + 1
    model.explain(changed, "gradient", target=1)
    assert device.put == {X.shape: 1}
    assert not model.held._held
    changed[:] = X  # nothing of it is remembered
    np.testing.assert_array_equal(
        model.explain(changed, "gradient", target=1).attribution, model.explain(X, "gradient", target=1).attribution
    )


def test_what_is_held_is_let_go_when_a_call_fails(device: StandIn) -> None:
    model = on_device()
    with pytest.raises(analyzer.AnalyzerError):
        model.explain(X, "gradient", target=99)
    assert not model.held._held


def test_a_large_batch_is_compiled_from_few_samples(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    compiled = sweep_model.compile_sweep

    def watched(model: Any, make: Any, subject: Subject, spec: SweepSpec) -> Any:
        sizes.append(subject.batch)
        return compiled(model, make, subject, spec)

    monkeypatch.setattr(sweep_model, "compile_sweep", watched)
    many = np.concatenate([X] * 4)
    there = on_device().explain(many, "gradient", target=1)
    np.testing.assert_allclose(there.attribution, np.concatenate([on_host("gradient").attribution] * 4), atol=1e-6)
    assert sizes == [sweep_cache._SAMPLES]


def test_what_can_not_be_compiled_is_tried_once(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*_: Any) -> Any:
        tried.append(1)
        raise RuntimeError("no")

    monkeypatch.setattr(sweep_model, "compile_sweep", refuse)
    sweeps = on_device().backends.sweeps
    subject = Subject({"x": X}, "scores", np.ones((2, 3)))
    assert sweeps.make_unasked(subject, SweepSpec(GRADIENT)) is None
    assert sweeps.make_unasked(subject, SweepSpec(GRADIENT)) is None
    assert len(tried) == 1
    assert "RuntimeError" in sweeps.diagnostics[-1]


def test_sweeps_are_not_compiled_unasked_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_model, "compile_sweep", lambda *_: pytest.fail("compiled"))
    assert analyzer.load(cnn(), "cpu").explain(X, "gradient", target=1).record["backend"] == "torch"


@pytest.mark.parametrize("tf32", [False, True])
def test_products_are_rounded_only_where_that_is_wanted(device: StandIn, tf32: bool) -> None:
    model = on_device(tf32=tf32)
    done = [model.explain(X, method, target=1) for method in ("gradient", "occlusion")]
    assert set(device.opened) == {tf32}
    assert all(each.record["tf32"] is tf32 for each in done)
    assert done[0].record["parity"]["tolerance"] == (TOLERANCE_TF32 if tf32 else TOLERANCE["float32"])


def test_the_cpu_never_rounds_products() -> None:
    model = analyzer.load(cnn(), "cpu", tf32=True)
    done = model.explain(X, "gradient", target=1)
    assert done.record["tf32"] is False
    assert done.record["parity"]["tolerance"] == TOLERANCE["float32"]


def test_tokens_are_explained_on_a_device(device: StandIn) -> None:
    case = next(case for case in cases() if case.modality == "tokens")
    there = analyzer.load(case.proto, DEVICE).explain(case.feed, "gradient", target=1)
    here = analyzer.load(case.proto, "cpu").explain(case.feed, "gradient", target=1)
    np.testing.assert_allclose(there.raw, here.raw, rtol=1e-4, atol=1e-6)
    assert there.record["backend"] == "onnxruntime"
