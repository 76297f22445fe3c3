"""Device names, and that a machine without CUDA is found out without a word on stderr."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.executor import devices
from tests.common.models import cases, mlp

CASES = {case.name: case for case in cases()}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretends that the machine has so many CUDA devices and these providers."""

    def pretend(count: int, providers: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider")) -> None:
        monkeypatch.setattr(devices, "cuda_devices", lambda: count)
        monkeypatch.setattr(devices, "_available", lambda: list(providers))

    return pretend


@pytest.mark.parametrize(
    "name", ["gpu", "CPU", "", "cuda:", "cuda:x", "cpu:0", "auto:1", "cuda:-1", "cuda :0", "cpu\n", "mps"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        devices.resolve(name)
    assert caught.value.code == "device.unknown"
    assert "cuda:N" in caught.value.hint


def test_the_cpu_is_always_there() -> None:
    assert devices.resolve("cpu") == "cpu"
    assert devices.providers("cpu") == ["CPUExecutionProvider"]


def test_auto_prefers_a_cuda_that_works(machine) -> None:
    machine(2)
    assert devices.resolve("auto") == "cuda:0"
    assert devices.resolve("cuda") == "cuda:0"
    assert devices.resolve("cuda:1") == "cuda:1"
    first, second = devices.providers("cuda:1")
    assert first[0] == "CUDAExecutionProvider"
    assert first[1]["device_id"] == "1"
    assert second == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("count", "providers", "asked", "why"),
    [
        (0, ("CUDAExecutionProvider", "CPUExecutionProvider"), "cuda", "no CUDA driver or device"),
        (1, ("CPUExecutionProvider",), "cuda:0", "no CUDA provider"),
        (1, ("CUDAExecutionProvider",), "cuda:1", "only 1 CUDA device"),
        (1, ("CUDAExecutionProvider",), "cuda:99999999999999999999", "only 1 CUDA device"),
    ],
)
def test_a_cuda_that_cannot_be_had_says_why(machine, count, providers, asked, why) -> None:
    machine(count, providers)
    with pytest.raises(UsageError, match=why) as caught:
        devices.resolve(asked)
    assert caught.value.code == "device.unavailable"
    assert caught.value.exit_code == 2


def test_auto_without_cuda_is_the_cpu_whatever_onnxruntime_lists(machine) -> None:
    machine(0)
    assert devices.resolve("auto") == "cpu"
    machine(1, ("CPUExecutionProvider",))
    assert devices.resolve("auto") == "cpu"


def test_looking_for_devices_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    devices.cuda_devices.cache_clear()
    found = devices.resolve("auto")
    model = analyzer.load(mlp(), "auto")
    assert model.device == found
    model.predict(CASES["mlp"].x)
    if found == "cpu":
        with pytest.raises(UsageError) as caught:
            analyzer.load(mlp(), "cuda")
        assert caught.value.code == "device.unavailable"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("tf32", "said"), [(False, "0"), (True, "1")])
def test_cuda_rounds_products_only_where_it_is_told_to(tf32: bool, said: str) -> None:
    provider = devices.providers("cuda:0", tf32)[0]
    assert isinstance(provider, tuple)
    assert provider[1]["use_tf32"] == said
    assert devices.providers("cpu", tf32) == ["CPUExecutionProvider"]


def test_onnxruntime_says_nothing_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its default logger, that of new sessions, warns on stderr; looking for CUDA's libraries prints to stdout."""
    import onnxruntime

    levels: list[int] = []
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", levels.append)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcufft.so"))
    devices.prepare.cache_clear()
    try:
        devices.prepare("cpu")
        devices.prepare("cuda:0")
    finally:
        devices.prepare.cache_clear()
    assert levels == [4, 4]
    assert capfd.readouterr() == ("", "")


def test_memory_of_a_device_that_is_not_there_is_unknown() -> None:
    if devices.cuda_devices() == 0:
        assert devices.memory_of("cuda:0") == 0


@pytest.mark.skipif(devices.cuda_devices() == 0, reason="needs a CUDA device")
@pytest.mark.gpu
def test_a_session_on_cuda_gives_the_cpus_numbers() -> None:
    import numpy as np

    case = CASES["cnn"]
    on_cpu, on_gpu = (analyzer.load(case.proto, name).predict(case.x)["scores"] for name in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)
