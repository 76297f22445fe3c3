"""torch's switches for TF32 on CUDA: off within our runs, or on, and the user's own again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from analyzer.engines.precision import float32_products

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def older() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def newer() -> tuple[str, str, str]:
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision, backends.cudnn.rnn.fp32_precision


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """Whatever a test sets is undone."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"


def old_on() -> None:
    torch.set_float32_matmul_precision("high")


def old_medium() -> None:
    torch.set_float32_matmul_precision("medium")


def old_off() -> None:
    torch.backends.cudnn.allow_tf32 = False


def new_ones() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"


@pytest.mark.parametrize("user", [lambda: None, old_on, old_medium, old_off, new_ones])
@pytest.mark.parametrize("tf32", [False, True])
def test_the_users_switches_come_back(user: Callable[[], None], tf32: bool) -> None:
    user()
    before = newer()
    with pytest.raises(ZeroDivisionError), float32_products(CUDA, tf32):
        assert newer() == (("tf32",) * 3 if tf32 else ("ieee",) * 3)
        assert older() == (("high", True) if tf32 else ("highest", False))
        raise ZeroDivisionError
    assert newer() == before


def test_the_older_switches_come_back_too() -> None:
    for setting in ("high", "medium", "highest"):
        torch.set_float32_matmul_precision(setting)
        with float32_products(CUDA, False):
            pass
        assert older() == (setting, True)


def test_nothing_is_switched_for_the_cpu() -> None:
    torch.set_float32_matmul_precision("high")
    with float32_products(CPU, False):
        assert older() == ("high", True)


def test_runs_within_each_other_in_any_order() -> None:
    torch.set_float32_matmul_precision("high")
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with float32_products(CUDA, False):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with float32_products(CUDA, True):
        thread.start()
        inside.wait(30)
        assert newer()[1] == "ieee"  # where both run, full float32 wins
    assert newer()[1] == "ieee"  # the other run still goes on
    leave.set()
    thread.join()
    assert older() == ("high", True)
