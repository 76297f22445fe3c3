"""Which device a session runs on: finding out quietly whether CUDA really works.

Belongs here: device names and onnxruntime providers. Not here: sessions.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import re

from analyzer.errors import UsageError

#: Bytes of inputs beyond which no device gets quicker.
_MOST_BYTES = 80 * 2**20


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


def providers(device: str, tf32: bool = False) -> list[str | tuple[str, dict[str, str]]]:
    """onnxruntime's provider list for a resolved device.

    Parameters
    ----------
    tf32
        Whether CUDA may round what products read to TF32; float32 in full otherwise, which isn't onnxruntime's default.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    cuda = {
        "device_id": device.partition(":")[2],
        "use_tf32": str(int(tf32)),
        "arena_extend_strategy": "kSameAsRequested",  # each session has an arena of its own: none may double what it needs
    }
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def first_provider(device: str) -> str:
    """The provider that a session on a device must have first."""
    return "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"


def memory_of(device: str) -> int:
    """Bytes of a CUDA device's memory; 0 where the driver doesn't say."""
    size, handle = ctypes.c_size_t(0), ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        index = int(device.partition(":")[2] or 0)
        failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), index)
        failed = failed or driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    except (OSError, AttributeError):
        return 0
    return 0 if failed else size.value


@functools.cache
def batch_bytes(device: str) -> int:
    """Bytes of inputs that fill a device without filling its memory; a network's values take a few hundred times as much."""
    return min(_MOST_BYTES, memory_of(device) // 1024 or _MOST_BYTES)


@functools.cache
def prepare(device: str) -> None:
    """What must be done once before onnxruntime's first session: its own words kept off stderr and stdout, CUDA's libraries
    found."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what goes wrong is raised
    if device != "cpu":
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def _available() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())
