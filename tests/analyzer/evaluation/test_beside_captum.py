"""Infidelity beside captum's on the same draws, to 1e-5: of contributions, of derivatives, scaled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analyzer.evaluation.metrics.infidelity import error
from analyzer.evaluation.sets import random_sets
from tests.analyzer.evaluation.maps import PICTURE, context_of
from tests.analyzer.evaluation.peers import CLASS, RELEVANCE, X, as_module, subject
from tests.graph_rules.peers import peer

DRAWS, FILL = 12, 0.25
SETS = [random_sets(np.random.default_rng(sample), 64, 9, DRAWS) for sample in range(len(X))]


def perturbed() -> Callable[..., Any]:
    """The copies with each sample's sets replaced, in captum's order: all draws of a sample one after the other."""
    import torch

    gone = torch.from_numpy(np.concatenate(SETS).reshape(-1, *PICTURE))
    return lambda inputs, baselines=None: torch.where(gone, torch.full_like(inputs, FILL), inputs)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("contribution", [True, False])
def test_infidelity(contribution: bool, normalize: bool) -> None:
    peer("captum.metrics")
    import torch
    from captum.metrics import infidelity, infidelity_perturb_func_decorator

    model, e = subject()
    context = context_of(model, e)
    replacements = context.replacements(FILL)
    relevance = np.abs(RELEVANCE) * np.sign((X - FILL) * _slopes())  # so that the best factor isn't negative
    decorated = infidelity_perturb_func_decorator(multiply_by_inputs=contribution)(perturbed())
    inputs, maps = torch.from_numpy(X), torch.from_numpy(relevance.astype(np.float32))
    if not contribution:
        maps = maps * torch.sign(inputs - FILL)
    theirs = infidelity(
        as_module(), decorated, inputs, maps, baselines=torch.full_like(inputs, FILL), target=CLASS,
        n_perturb_samples=DRAWS, max_examples_per_batch=DRAWS * len(X), normalize=normalize,
    )  # fmt: skip
    for sample, sets in enumerate(SETS):
        units = context.units(sample)
        drops = context.drops(sample, units, ~sets, replacements)
        each = maps[sample].numpy().reshape(-1).astype(np.float64)
        predicted = sets @ (each if contribution else each * (X[sample].reshape(-1) - FILL))
        assert error(predicted, drops, normalize) == pytest.approx(float(theirs[sample]), rel=1e-5)


def _slopes() -> Any:
    """The derivatives of the score."""
    import torch

    inputs = torch.from_numpy(X).requires_grad_()
    as_module()(inputs)[:, CLASS].sum().backward()
    assert inputs.grad is not None
    return inputs.grad.numpy()
