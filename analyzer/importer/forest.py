"""Tree ensembles as arrays, evaluated for all samples and trees at once.

Belongs here: building the arrays and finding each tree's leaf. Not here: ONNX's operators and what they make of
the leaves (``ops/ml_trees``).

All trees walk down one level per step, a leaf leading to itself. A walk is made of gathers and comparisons
alone: it holds for any values of the same shape, and no gradient passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import InputError

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
LEAF = len(MODES)
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Forest:
    """Nodes of all trees in one table.

    Attributes
    ----------
    roots
        First node of every tree.
    feature, threshold, mode, if_true, if_false
        Per node; a leaf's successors are itself.
    missing_true
        Whether a missing value (not a number) takes the true branch.
    members
        For nodes of mode ``BRANCH_MEMBER`` the values of the set, filled up with NaN; None where there is no
        such node.
    weights, given
        Per node (in fact per leaf) and target: the weight, and whether the model gives one.
    depth
        Steps from the roots to the lowest leaf.
    """

    roots: Tensor
    feature: Tensor
    threshold: Tensor
    mode: Tensor
    if_true: Tensor
    if_false: Tensor
    missing_true: Tensor | None
    members: Tensor | None
    row: Tensor
    weights: Tensor
    given: Tensor
    depth: int
    modes: tuple[int, ...]

    def leaves(self, x: Tensor) -> Tensor:
        """Rows of :attr:`weights`, (samples, trees), that a batch (samples, features) reaches."""
        at = self.roots.expand(x.shape[0], -1)
        threshold = self.threshold.to(x.dtype)
        for _ in range(self.depth):
            value = torch.gather(x, 1, self.feature[at])
            taken = self._decide(value, threshold[at], at)
            if self.missing_true is not None:
                taken = taken | (torch.isnan(value) & self.missing_true[at])
            at = torch.where(taken, self.if_true[at], self.if_false[at])
        return self.row[at]

    def _decide(self, value: Tensor, threshold: Tensor, at: Tensor) -> Tensor:
        decided: Tensor | None = None
        for mode in self.modes:
            holds = self._holds(mode, value, threshold, at)
            decided = holds if decided is None else torch.where(self.mode[at] == mode, holds, decided)
        assert decided is not None
        return decided

    def _holds(self, mode: int, value: Tensor, threshold: Tensor, at: Tensor) -> Tensor:
        match MODES[mode]:
            case "BRANCH_LEQ":
                return value <= threshold
            case "BRANCH_LT":
                return value < threshold
            case "BRANCH_GTE":
                return value >= threshold
            case "BRANCH_GT":
                return value > threshold
            case "BRANCH_EQ":
                return value == threshold
            case "BRANCH_NEQ":
                return value != threshold
        assert self.members is not None
        return (value.unsqueeze(-1) == self.members[at]).any(-1)


def build(
    *,
    roots: Ints,
    feature: Ints,
    threshold: NDArray[np.floating],
    mode: Ints,
    if_true: Ints,
    if_false: Ints,
    missing_true: NDArray[np.bool_],
    leaf_of_weight: Ints,
    target_of_weight: Ints,
    weight: NDArray[np.floating],
    targets: int,
    members: NDArray[np.floating] | None = None,
) -> Forest:
    """A forest from plain arrays; successors of leaves may be anything."""
    count = len(mode)
    is_leaf = mode == LEAF
    own = np.arange(count)
    if_true, if_false = np.where(is_leaf, own, if_true), np.where(is_leaf, own, if_false)
    if count and (min(if_true.min(), if_false.min()) < 0 or max(if_true.max(), if_false.max()) >= count):
        raise InputError("op.bad_attribute", "a tree branches to a node that doesn't exist", "re-export the model")
    row = np.zeros(count, np.int64)
    row[is_leaf] = np.arange(int(is_leaf.sum()))
    weights = np.zeros((max(int(is_leaf.sum()), 1), targets), weight.dtype)
    given = np.zeros(weights.shape, bool)
    np.add.at(weights, (row[leaf_of_weight], target_of_weight), weight)
    given[row[leaf_of_weight], target_of_weight] = True
    used = tuple(sorted({int(m) for m in mode[~is_leaf]}))
    return Forest(
        torch.tensor(roots),
        torch.tensor(np.where(is_leaf, 0, feature)),
        torch.tensor(threshold),
        torch.tensor(mode),
        torch.tensor(if_true),
        torch.tensor(if_false),
        torch.tensor(missing_true) if missing_true.any() else None,
        None if members is None else torch.tensor(members),
        torch.tensor(row),
        torch.tensor(weights),
        torch.tensor(given),
        _depth(roots, is_leaf, if_true, if_false),
        used,
    )


def _depth(roots: Ints, is_leaf: NDArray[np.bool_], if_true: Ints, if_false: Ints) -> int:
    level, depth = np.unique(roots), 0
    while (inner := level[~is_leaf[level]]).size:
        level, depth = np.unique(np.concatenate([if_true[inner], if_false[inner]])), depth + 1
        if depth > len(is_leaf):
            raise InputError("op.bad_attribute", "a tree leads back to itself", "re-export the model")
    return depth
