"""Two recordings at different batch sizes as one program: what may differ, and what fixes the batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx

from analyzer.compiler import unify
from analyzer.compiler.ir import Batch, Program
from analyzer.compiler.recorder import SweepRecorder


def recording(function: Callable[[Tensor], Tensor], batch: int) -> fx.GraphModule:
    recorder = SweepRecorder()
    with recorder:
        result = function(recorder.placeholder("x", torch.arange(batch * 4.0).reshape(batch, 4)))
    return recorder.finish({"y": result})


def free(function: Callable[[Tensor], Tensor]) -> Program:
    return unify.free(recording(function, 2), recording(function, 3), ["y"], (2, 3))


def test_sizes_in_proportion_to_the_batch_follow_it() -> None:
    program = free(lambda x: x.reshape(-1, 2) * 3)
    assert program.batch is None
    ((name, result),) = program.inputs.values()
    assert (name, result.shape) == ("x", (Batch(1), 4))
    assert [step.results[None].shape for step in program.steps] == [(Batch(2), 2)] * 2


def test_a_constant_that_is_the_same_for_all_samples_is_stored_once() -> None:
    (constant,) = free(lambda x: x + torch.ones(len(x), 1) * torch.arange(4.0)).constants.values()
    assert constant.value.shape == (1, 4)
    assert constant.expanded == (Batch(1), 4)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x / (len(x) + 1), "3 becomes 4"),
        (lambda x: x + torch.arange(float(len(x)))[:, None], "a constant follows the batch"),
        (lambda x: torch.stack([row * 2 for row in x.unbind()]), "the number of operators follows the batch"),
    ],
)  # fmt: skip
def test_everything_else_fixes_the_batch(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(unify.FixedBatchError, match=reason):
        free(function)
    program = unify.fixed(recording(function, 2), ["y"], 2, reason)
    assert (program.batch, program.reason) == (2, reason)
