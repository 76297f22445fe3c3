"""Parts of a batch that are normalised alike become one normalisation, others stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from analyzer.importer import rejoining
from analyzer.importer.folding import BATCH_NORMS
from analyzer.importer.passes import run_passes
from tests.analyzer.importer.test_activations import operators
from tests.analyzer.importer.test_fusion import record

MEAN, VAR, WEIGHT = (torch.rand(3, dtype=torch.float64) + 0.5 for _ in range(3))
KERNEL = torch.rand(4, 3, dtype=torch.float64)


def norm(x: Tensor, scale: float = 1.0) -> Tensor:
    return functional.batch_norm(x, MEAN, VAR, scale * WEIGHT, MEAN)


WHOLE = {
    "split": lambda z: torch.cat([norm(p) for p in torch.split(z, [2, 2, 1], 0)], 0),
    "slices": lambda z: torch.cat([norm(z[:2]), norm(z[2:4]), norm(z[4:])], 0),
    "one": lambda z: norm(z),
}


@pytest.mark.parametrize("name", WHOLE)
def test_ghost_batches_are_folded_into_the_layer(name: str) -> None:
    def function(x: Tensor) -> Tensor:
        return WHOLE[name](x @ KERNEL).relu()  # type: ignore[no-untyped-call, no-any-return]

    x = torch.randn(5, 4, dtype=torch.float64)
    graph = record(function, x)
    run_passes(graph.module)
    assert operators(graph.module) == [torch.ops.aten.addmm.default, torch.ops.aten.relu.default]
    torch.testing.assert_close(graph.module(x)[0], function(x))


PARTS = {
    "other parameters": lambda z: torch.cat([norm(z[:2]), norm(z[2:], 2.0)], 0),
    "other order": lambda z: torch.cat([norm(z[2:]), norm(z[:2])], 0),
    "a gap": lambda z: torch.cat([norm(z[:2]), norm(z[3:])], 0),
    "overlapping": lambda z: torch.cat([norm(z[:2]), norm(z[1:])], 0),
    "not to the end": lambda z: torch.cat([norm(z[:2]), norm(z[2:4])], 0),
    "strided": lambda z: torch.cat([norm(z[:4:2]), norm(z[2:])], 0),
    "two values": lambda z: torch.cat([norm(z[:2]), norm((2 * z)[2:])], 0),
    "channels": lambda z: torch.cat([norm(z), norm(z)], 1),
}


@pytest.mark.parametrize("name", PARTS)
def test_other_parts_stay(name: str) -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    graph = record(PARTS[name], x)
    results = run_passes(graph.module)[1]
    assert sum(each in BATCH_NORMS for each in operators(graph.module)) == 2
    torch.testing.assert_close(graph.module(x)[0], PARTS[name](x))  # type: ignore[no-untyped-call]
    refused = [r.reason for each in results if each.name == "rejoin normalised parts" for r in each.refused]
    reason = rejoining.OTHER_PARAMETERS if name == "other parameters" else rejoining.NOT_THE_WHOLE
    assert refused == ([] if name == "channels" else [reason.reason])
