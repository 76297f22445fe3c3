"""Targets as tensor code: which score a compiled explanation is about.

Belongs here: the weights on the scores, computed inside the graph. Not here: the target language
(``analyzer.targets.language``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import UsageError
from analyzer.targets.language import TargetLike, resolve

if TYPE_CHECKING:
    from analyzer.inputs import Labels
    from analyzer.targets.resolve import Explained

_TOP = re.compile(r"top([1-9]\d{0,8})")


def weights(
    target: TargetLike, scores: Tensor, explained: Explained, labels: Labels | None, chosen: Tensor | None
) -> Tensor:
    """Weights on the scores, of their shape.

    Parameters
    ----------
    target
        ``top1`` and ``top3`` are ranked in the graph, ``input`` is read from ``chosen``; everything else is a constant.
    explained
        The value with the scores, on the example.
    chosen
        The class of every sample, int64, for ``input``.

    Raises
    ------
    UsageError
        ``target.*``; ``target.not_compilable`` for a target that differs from sample to sample.
    """
    if isinstance(target, str) and target.startswith("contrast:"):
        first, comma, second = target.removeprefix("contrast:").partition(",")
        if comma and second:
            return weights(first.strip(), scores, explained, labels, None) - weights(
                second.strip(), scores, explained, labels, None
            )
    if target == "input":
        assert chosen is not None
        return _one_hot(scores, chosen.reshape(-1, 1))
    rank = _TOP.fullmatch(target) if isinstance(target, str) else None
    if rank is not None:
        flat = scores.reshape(len(scores), -1) if scores.ndim else scores.reshape(1, 1)
        if int(rank[1]) > flat.shape[1]:
            raise UsageError("target.out_of_range", f"{target} of {flat.shape[1]} classes doesn't exist")
        if flat.shape[1] == 1:
            return torch.ones_like(scores)
        if rank[1] == "1":
            return _one_hot(scores, flat.argmax(1, keepdim=True))
        k = int(rank[1])
        return _one_hot(scores, flat.topk(k, 1).indices[:, k - 1 : k])
    return torch.from_numpy(_constant(target, explained, labels)).to(scores.dtype)


def _one_hot(scores: Tensor, index: Tensor) -> Tensor:
    flat = scores.reshape(len(scores), -1)
    return (torch.arange(flat.shape[1]) == index).to(scores.dtype).reshape(scores.shape)


def _constant(target: TargetLike, explained: Explained, labels: Labels | None) -> Any:
    scored, scores = explained.scored, explained.output
    permuted = scores if scored.permutation is None else scores.transpose(scored.permutation)
    resolved = resolve(target, permuted, labels)
    found = np.asarray(scored.pulled_back(resolved.weights, scores))
    if len(found) > 1 and not (found == found[:1]).all():
        raise UsageError(
            "target.not_compilable",
            f"target {target!r} differs from sample to sample",
            'compile with target="input" and give the classes when running',
        )
    return np.array(np.broadcast_to(found[:1], found.shape))
