"""One of our runs with torch: in which precision CUDA computes float32 products meanwhile, and memory that runs out.

Belongs here: torch's switches for TF32, set within our runs and restored after them, and its error. Not here: onnxruntime's
(``analyzer.executor``), float64 (``traced_score``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

from analyzer.executor.runtime_errors import OutOfMemoryError

_lock = threading.Lock()
#: Whether each of the runs under way wants TF32, and the user's switches, restored after the last of them.
_running: list[bool] = []
_users: list[Any] = []


@contextlib.contextmanager
def float32_products(device: torch.device, tf32: bool) -> Iterator[None]:
    """Products and convolutions of float32 in full, or in TF32, whatever the user's switches say; they come back afterwards.

    The switches are the process's. Where runs in several threads want different precisions at once, full float32 wins. On
    the CPU nothing is switched.

    Raises
    ------
    OutOfMemoryError
        ``limit.memory`` where torch ran out of it.
    """
    if device.type == "cuda":
        with _lock:
            if not _running:
                _users[:] = _switches()
            _running.append(tf32)
            _set(all(_running))
    try:
        yield
    except torch.OutOfMemoryError:
        hint = "give a smaller batch, or use the cpu"
        raise OutOfMemoryError("limit.memory", f"torch ran out of memory on {device}", hint) from None
    finally:
        if device.type == "cuda":
            _leave(tf32)


def _leave(tf32: bool) -> None:
    with _lock:
        _running.remove(tf32)
        if _running:
            _set(all(_running))
        else:
            _restore(*_users)


#: Where torch's newer switches are, that of the CPU's products among them, which the older one sets too.
_NEWER = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul")


def _set(tf32: bool) -> None:
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    for name in _NEWER:
        _newer(name).fp32_precision = "tf32" if tf32 and name != "mkldnn.matmul" else "ieee"


def _switches() -> tuple[str | None, bool | None, dict[str, str]]:
    """torch's older switches, None for one that can't be read as a newer one contradicts it, and its newer ones."""
    matmul = cudnn = None
    with contextlib.suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with contextlib.suppress(RuntimeError):
        cudnn = torch.backends.cudnn.allow_tf32
    return matmul, cudnn, {name: _newer(name).fp32_precision for name in _NEWER}


def _restore(matmul: str | None, cudnn: bool | None, newer: dict[str, str]) -> None:
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if cudnn is not None:
        torch.backends.cudnn.allow_tf32 = cudnn
    for name, value in newer.items():
        if _newer(name).fp32_precision != value:
            _newer(name).fp32_precision = value


def _newer(name: str) -> Any:
    backend, _, operation = name.partition(".")
    return getattr(getattr(torch.backends, backend), operation)
