"""Where ascents begin: noise, the mean or the best of data, an input, codes of a generator.

Belongs here: making the first inputs, so that the score changes with them. Not here: passes over data (``survey``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.onnx_model import OnnxModel
from analyzer.visualization.domain import Domain
from analyzer.visualization.maximized import Wish
from analyzer.visualization.objectives import Objective
from analyzer.visualization.survey import survey

Array = NDArray[Any]
#: Noise at the start has this standard deviation, in halves of the valid range.
_NOISE = 0.1
#: So often other noise is tried where the score doesn't change with the input.
_TRIES = 16
#: So many normal codes are tried to find one to start from.
_CODES = 32


def started(
    wish: Wish,
    domain: Domain,
    objective: Objective,
    model: OnnxModel,
    given: Mapping[str, Array] | None,
    notes: list[str],
) -> Array:
    """(restarts · results, channels, *places): where the ascents begin; but for the first, with noise."""
    rows = wish.results * wish.restarts
    draw = np.random.default_rng(wish.seed)
    noise = draw.standard_normal((rows, *domain.canonical)) * _NOISE * domain.half
    if isinstance(wish.start, str) and wish.start == "noise":
        begun: Array = domain.middle + noise
    elif isinstance(wish.start, str) and wish.dataset is not None:
        data = survey(model, wish.dataset, domain, objective, wish.results)
        notes.append(f"started from {wish.start} of {data.count} samples" +
                     (f": {', '.join(data.names[:3])}" if wish.start == "best" else ""))  # fmt: skip
        chosen = data.mean[None] if wish.start == "mean" else data.best
        begun = _repeated(domain.from_model(chosen), noise, wish.results)
    elif isinstance(wish.start, str):
        begun = _repeated(np.broadcast_to(domain.middle, (1, *domain.canonical)), noise, wish.results)
    else:
        assert given is not None
        begun = _repeated(domain.from_model(given[domain.name]), noise, wish.results)
    return np.clip(begun, domain.low, domain.high)


def sensitive(start: Tensor, domain: Domain, score: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """Noise at which the score changes with the input: where a network is silent, as with all its units below zero, other
    noise is tried, brighter or darker and stronger.
    """
    draw = np.random.default_rng([seed, 1])
    for attempt in range(_TRIES):
        leaf = start.clone().requires_grad_()
        (slope,) = torch.autograd.grad(score(leaf).sum(), leaf)
        silent = (slope.reshape(len(slope), -1) == 0).all(1).cpu().numpy()
        if not silent.any():
            break
        level = draw.uniform(-1, 1, (int(silent.sum()), *(1,) * len(domain.canonical)))
        strength = _NOISE * 2.0 ** (attempt % 4)
        noise = draw.standard_normal((len(level), *domain.canonical)) * strength
        other = np.clip(domain.middle + (level + noise) * domain.half, domain.low, domain.high)
        start = start.clone()
        start[torch.from_numpy(silent)] = torch.from_numpy(other).to(start)
    return start


def _repeated(chosen: Array, noise: Array, results: int) -> Array:
    """Starts for all rows: the first of each as it is, later ones with noise."""
    rows = np.arange(len(noise))
    later = (rows >= results) | (rows % results >= len(chosen))
    found: Array = chosen[rows % results % len(chosen)] + noise * later.reshape(-1, *(1,) * (noise.ndim - 1))
    return found


def best_codes(codes: Domain, wish: Wish, device: torch.device, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Codes to start from: the best of several normal ones for each row, for ascents among codes end in near optima."""
    draw, rows = np.random.default_rng(wish.seed), wish.results * wish.restarts
    best, found = torch.full((rows,), -torch.inf, device=device), torch.zeros((rows, *codes.canonical), device=device)
    for _ in range(_CODES):
        drawn = np.clip(draw.standard_normal((rows, *codes.canonical)), codes.low, codes.high)
        z = torch.from_numpy(drawn.astype(np.float32)).to(device)
        with torch.no_grad():
            scores = score(z)
        better = scores > best
        best, found = torch.where(better, scores, best), torch.where(better.reshape(-1, *(1,) * (z.ndim - 1)), z, found)
    return found
