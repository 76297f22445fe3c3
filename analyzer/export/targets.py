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
from analyzer.targets.grammar import Contrast, Leaf, Opposite, Tree, all_leaves, parse
from analyzer.targets.language import TargetLike, resolve
from analyzer.targets.regions import backgrounds, is_class_map
from analyzer.targets.values import scored_value

if TYPE_CHECKING:
    from analyzer.inputs import Labels
    from analyzer.onnx_model import OnnxModel
    from analyzer.targets.resolve import Explained
    from analyzer.targets.scores import Scored

_TOP = re.compile(r"top([1-9]\d{0,8})")


def scored_by(model: OnnxModel, target: TargetLike, score: str) -> Scored:
    """The one value that a target is about.

    Raises
    ------
    UsageError
        ``target.not_compilable`` for a target that is linear in no one value, or whose weights follow the input.
    """
    leaves = all_leaves([parse(target)])
    for leaf in leaves:
        if leaf.functional:
            raise _refused(target, "is no linear functional of one output")
        if isinstance(leaf.target, str) and leaf.target.startswith("region:") and leaf.target.count(":") == 1:
            raise _refused(target, "follows the prediction", "give a mask: region:CLASS:MASK.png, or top1")
    names = {
        None if leaf.target == "input" else leaf.output for leaf in leaves if not isinstance(leaf.target, np.ndarray)
    }
    scored = {scored_value(model, name, score) for name in names or {None}}
    if len(scored) > 1:
        raise _refused(target, "reads more than one output")
    return scored.pop()


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
    if isinstance(target, str) and target == "input":
        assert chosen is not None
        return _one_hot(scores, chosen.reshape(-1, 1))
    return _of(parse(target), scores, explained, labels)


def _of(tree: Tree, scores: Tensor, explained: Explained, labels: Labels | None) -> Tensor:
    if isinstance(tree, Contrast):
        return _of(tree.first, scores, explained, labels) - _of(tree.second, scores, explained, labels)
    if isinstance(tree, Opposite):
        return -_of(tree.of, scores, explained, labels)
    rank = _TOP.fullmatch(tree.target) if isinstance(tree.target, str) else None
    if rank is None:
        return torch.from_numpy(_constant(tree, explained, labels)).to(scores.dtype)
    if explained.scored.permutation is None and is_class_map(tuple(scores.shape)):
        return _region(int(rank[1]), scores, labels)
    return _ranked(int(rank[1]), scores)


def _ranked(rank: int, scores: Tensor) -> Tensor:
    flat = scores.reshape(len(scores), -1) if scores.ndim else scores.reshape(1, 1)
    if rank > flat.shape[1]:
        raise UsageError("target.out_of_range", f"top{rank} of {flat.shape[1]} classes doesn't exist")
    if flat.shape[1] == 1:
        return torch.ones_like(scores)
    if rank == 1:
        return _one_hot(scores, flat.argmax(1, keepdim=True))
    return _one_hot(scores, flat.topk(rank, 1).indices[:, rank - 1 : rank])


def _region(rank: int, scores: Tensor, labels: Labels | None) -> Tensor:
    """The class that most, second most, … elements are predicted as, over these; background aside."""
    count = scores.shape[1]
    if rank > count:
        raise UsageError("target.out_of_range", f"top{rank} of {count} classes doesn't exist")
    numbers = torch.arange(count).reshape(1, count, 1, 1)
    predicted = (scores.argmax(1, keepdim=True) == numbers).to(scores.dtype)
    elements = predicted.flatten(2).sum(2)
    behind = torch.zeros(count, dtype=scores.dtype)
    behind[backgrounds(labels, count)] = 1.0
    # Background comes after every class that is predicted, and before those that are not.
    ranks = elements - behind * elements + behind * (elements > 0).to(scores.dtype) * 0.5
    chosen = ranks.argmax(1, keepdim=True) if rank == 1 else ranks.topk(rank, 1).indices[:, rank - 1 : rank]
    return predicted * (numbers == chosen.reshape(-1, 1, 1, 1)).to(scores.dtype)


def _one_hot(scores: Tensor, index: Tensor) -> Tensor:
    flat = scores.reshape(len(scores), -1)
    return (torch.arange(flat.shape[1]) == index).to(scores.dtype).reshape(scores.shape)


def _constant(leaf: Leaf, explained: Explained, labels: Labels | None) -> Any:
    scored, scores = explained.scored, explained.output
    permuted = scores if scored.permutation is None else scores.transpose(scored.permutation)
    resolved = resolve(leaf, permuted, labels)
    found = np.asarray(scored.pulled_back(resolved.weights, scores))
    if len(found) > 1 and not (found == found[:1]).all():
        raise UsageError(
            "target.not_compilable",
            f"target {str(leaf.target)[:80]!r} differs from sample to sample",
            'compile with target="input" and give the classes when running',
        )
    return np.array(np.broadcast_to(found[:1], found.shape))


def described(target: TargetLike) -> str:
    """A target as text for a record."""
    return f"weights {list(target.shape)}" if isinstance(target, np.ndarray) else str(target)


def _refused(target: Any, why: str, hint: str = "explain it with Model.explain") -> UsageError:
    return UsageError("target.not_compilable", f"target {described(target)[:80]!r} {why}: it can't be compiled", hint)
