"""Which device a session runs on: finding out quietly whether CUDA really works.

Belongs here: device names and onnxruntime providers. Not here: sessions.
"""

from __future__ import annotations

import ctypes
import functools
import re

from analyzer.errors import UsageError


@functools.cache
def cuda_devices() -> int:
    """How many CUDA devices the driver sees; 0 without a driver. Asks the driver itself, prints nothing."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def resolve(device: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` -> ``cpu`` or ``cuda:N``.

    Raises
    ------
    UsageError
        ``device.unknown`` for another name, ``device.unavailable`` where CUDA was asked for and can't be had.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if not match or (match[2] and match[1] != "cuda"):
        raise UsageError("device.unknown", f"unknown device {device!r}", "use auto, cpu, cuda or cuda:N")
    if match[1] == "cpu":
        return "cpu"
    usable = cuda_devices() > 0 and "CUDAExecutionProvider" in _available()
    if match[1] == "auto":
        return "cuda:0" if usable else "cpu"
    index = int(match[2] or 0)
    if not usable or index >= cuda_devices():
        why = "no CUDA driver or device is visible" if not cuda_devices() else "this onnxruntime has no CUDA provider"
        if usable:
            why = f"only {cuda_devices()} CUDA device(s) are visible"
        raise UsageError("device.unavailable", f"device {device!r} can't be used: {why}", "use --device cpu")
    return f"cuda:{index}"


def providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """onnxruntime's provider list for a resolved device."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.partition(":")[2]}), "CPUExecutionProvider"]


def _available() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())
