"""Tree ensembles of the domain ``ai.onnx.ml``.

Belongs here: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble: reading their attributes, summing leaves, and
how onnxruntime handles two classes. Not here: descending the trees (``analyzer.importer.forest``).
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.forest import LEAF, MODES, Forest, build
from analyzer.importer.graph import Node
from analyzer.importer.ops.ml_features import ML, as_float, class_labels
from analyzer.importer.ops.ml_linear import both_classes, probit, transform_of, transformed
from analyzer.importer.table import operator

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_forests: WeakKeyDictionary[Node, Forest] = WeakKeyDictionary()


def _array(node: Node, name: str, dtype: Any = np.int64) -> NDArray[Any]:
    """An attribute of numbers, from its tensor variant where the node has that."""
    tensor = node.attr(f"{name}_as_tensor")
    if tensor is not None and np.asarray(tensor).size:
        return np.asarray(tensor).reshape(-1)
    return np.asarray(node.attr(name) if node.attr(name) is not None else [], dtype).reshape(-1)


def _forest(node: Node, prefix: str, targets: int) -> Forest:
    """The forest of an ensemble whose nodes are named by tree and number."""
    if node in _forests:
        return _forests[node]
    trees, numbers = _array(node, "nodes_treeids"), _array(node, "nodes_nodeids")
    position = {key: i for i, key in enumerate(zip(trees.tolist(), numbers.tolist(), strict=True))}
    mode = np.array([LEAF if m == "LEAF" else _mode(node, m) for m in node.required("nodes_modes")], np.int64)
    inner = np.flatnonzero(mode != LEAF)

    def successor(name: str) -> NDArray[np.int64]:
        out = np.arange(len(trees))
        to = _array(node, name)
        out[inner] = [_find(node, position, int(trees[i]), int(to[i])) for i in inner]
        return out

    if_true, if_false = successor("nodes_truenodeids"), successor("nodes_falsenodeids")
    missing = _array(node, "nodes_missing_value_tracks_true").astype(bool)
    pairs = zip(_array(node, f"{prefix}_treeids").tolist(), _array(node, f"{prefix}_nodeids").tolist(), strict=True)
    forest = build(
        roots=_roots(node, trees, np.concatenate([if_true[inner], if_false[inner]])),
        feature=_array(node, "nodes_featureids"),
        threshold=_array(node, "nodes_values", np.float32),
        mode=mode,
        if_true=if_true,
        if_false=if_false,
        missing_true=missing if missing.size else np.zeros(len(trees), bool),
        leaf_of_weight=np.array([_find(node, position, *pair) for pair in pairs], np.int64),
        target_of_weight=_array(node, f"{prefix}_ids"),
        weight=_array(node, f"{prefix}_weights", np.float32),
        targets=targets,
    )
    _forests[node] = forest
    return forest


def _roots(node: Node, trees: NDArray[Any], children: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nodes that are no node's child, one for each tree; ``trees`` holds the tree of every node.

    Raises
    ------
    InputError
        ``op.bad_attribute`` for a tree whose nodes form a cycle.
    """
    is_child = np.zeros(len(trees), bool)
    is_child[children] = True
    roots = np.flatnonzero(~is_child)
    rootless = sorted({*trees.tolist()} - {*trees[roots].tolist()})
    if rootless:
        raise InputError(
            "op.bad_attribute",
            f"{node}: tree {rootless[0]} has no root, it leads back to itself",
            "re-export the model",
        )
    return roots


def _find(node: Node, position: dict[tuple[int, int], int], tree: int, number: int) -> int:
    if (tree, number) not in position:
        raise InputError(
            "op.bad_attribute", f"{node}: tree {tree} has no node {number}, but refers to it", "re-export the model"
        )
    return position[tree, number]


def _mode(node: Node, name: str) -> int:
    if name not in MODES:
        raise InputError("op.bad_attribute", f"{node}: unknown mode {name!r}", f"one of {', '.join(MODES)}, LEAF")
    return MODES.index(name)


def _gathered(forest: Forest, x: Tensor, aggregate: str) -> tuple[Tensor, Tensor]:
    """Scores (samples, targets) before base values, and which of them have a contribution from any tree."""
    leaves = forest.leaves(x)
    weights = forest.weights.to(x.dtype)[leaves]
    if bool(forest.given.all()):
        given, has = None, torch.ones(x.shape[0], forest.given.shape[1], dtype=torch.bool)
    else:
        given = forest.given[leaves]
        has = given.any(1)
    if aggregate in ("SUM", "AVERAGE"):
        total = weights.sum(1)
        return total / forest.roots.numel() if aggregate == "AVERAGE" else total, has
    low = aggregate == "MIN"
    if given is not None:
        weights = torch.where(given, weights, torch.full((), np.inf if low else -np.inf, dtype=x.dtype))
    best = weights.amin(1) if low else weights.amax(1)
    return torch.where(has, best, torch.zeros_like(best)), has


@operator("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(node: Node, x: Tensor) -> Tensor:
    """Sum, average, least or greatest of the leaves' weights, plus base values."""
    targets = int(node.attr("n_targets", 1))
    forest = _forest(node, "target", targets)
    scores, _ = _gathered(forest, as_float(x), str(node.attr("aggregate_function", "SUM")))
    base = _array(node, "base_values", np.float32)
    if len(base) == targets:
        scores = scores + torch.tensor(base).to(scores.dtype)
    return _finished(scores, transform_of(node))


@operator("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(node: Node, x: Tensor) -> Tensor:
    """Ensembles that store their leaves in a separate table."""
    targets = int(node.attr("n_targets", 1))
    if node not in _forests:
        _forests[node] = _forest_with_leaves(node, targets)
    aggregate = AGGREGATES[int(node.attr("aggregate_function", 1))]
    scores, _ = _gathered(_forests[node], x if x.dtype == torch.float64 else x.to(torch.float32), aggregate)
    # onnxruntime reads number 1 as the logistic function and 2 as the softmax, the standard the other way round
    name = {"SOFTMAX": "LOGISTIC", "LOGISTIC": "SOFTMAX"}.get(transform_of(node), transform_of(node))
    return _finished(scores, name).to(x.dtype)


def _forest_with_leaves(node: Node, targets: int) -> Forest:
    """Inner nodes first, then the leaves."""
    modes = _array(node, "nodes_modes").astype(np.int64)
    inner = len(modes)
    weights = _array(node, "leaf_weights", np.float32)
    leaves = len(weights)

    def successor(which: str) -> NDArray[np.int64]:
        is_leaf = _array(node, f"nodes_{which}leafs").astype(bool)
        to = _array(node, f"nodes_{which}nodeids")
        return np.concatenate([np.where(is_leaf, to + inner, to), inner + np.arange(leaves)])

    splits = _array(node, "nodes_splits", np.float32)
    missing = _array(node, "nodes_missing_value_tracks_true").astype(bool)
    zeros = np.zeros(leaves, np.int64)
    if_true, if_false = successor("true"), successor("false")
    # a tree that is a single leaf is written as a node both of whose branches lead to it
    return build(
        roots=_array(node, "tree_roots"),
        feature=np.concatenate([_array(node, "nodes_featureids"), zeros]),
        threshold=np.concatenate([splits, zeros.astype(splits.dtype)]),
        mode=np.concatenate([modes, np.full(leaves, LEAF)]),
        if_true=if_true,
        if_false=if_false,
        missing_true=np.concatenate([missing if missing.size else np.zeros(inner, bool), zeros.astype(bool)]),
        leaf_of_weight=inner + np.arange(leaves),
        target_of_weight=_array(node, "leaf_targetids"),
        weight=weights,
        targets=targets,
        members=_members(node, modes, leaves),
    )


def _members(node: Node, modes: NDArray[np.int64], leaves: int) -> NDArray[np.floating] | None:
    """The sets of the membership nodes, in order, each ended by NaN in the attribute."""
    values = _array(node, "membership_values", np.float32)
    nodes = np.flatnonzero(modes == MODES.index("BRANCH_MEMBER"))
    if not nodes.size:
        return None
    sets = np.split(values, np.flatnonzero(np.isnan(values)))
    sets = [part[~np.isnan(part)] for part in sets]
    table = np.full((len(modes) + leaves, max(len(part) for part in sets)), np.nan, values.dtype)
    for row, part in zip(nodes, sets, strict=False):
        table[row, : len(part)] = part
    return table


def _finished(scores: Tensor, name: str) -> Tensor:
    """Post-transform of a regression; for a single target only PROBIT has an effect."""
    name = name if scores.shape[1] > 1 or name == "PROBIT" else "NONE"
    return transformed(scores, name).to(torch.float32)


@operator("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (samples) and scores (samples, classes)."""
    labels, count = class_labels(node)
    forest = _forest(node, "class", count)
    scores, has = _gathered(forest, as_float(x), "SUM")
    base = torch.tensor(_array(node, "base_values", np.float32)).to(scores.dtype)
    name = transform_of(node)
    if count == 2:
        label, out = _two_classes(node, scores, has, base, labels, name)
        return label, out.to(torch.float32)
    if base.numel():
        scores, has = scores + base, torch.ones_like(has)
    ranked = torch.where(has, scores, torch.full((), -np.inf, dtype=scores.dtype))
    return labels[ranked.argmax(-1)], transformed(scores, name).to(torch.float32)


def _two_classes(
    node: Node, scores: Tensor, has: Tensor, base: Tensor, labels: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    """Two classes as onnxruntime computes them: from weights of only one class it derives the other's score as complement."""
    one_sided = len(set(_array(node, "class_ids").tolist())) == 1
    positive = bool((_array(node, "class_weights", np.float32) >= 0).all())
    first, second, both = scores[:, :1], scores[:, 1:], has[:, 1:]
    if base.numel() == 2:
        lifted = base[1] + first
        one_sided_scores = torch.cat([first + base[0], torch.zeros_like(first)], 1)
        pair = torch.where(both, torch.cat([-lifted, lifted], 1), one_sided_scores)
        decision = torch.where(both, lifted, first + base[0])
        single = None
    else:
        single = first + base[0] if base.numel() == 1 else first
        pair = torch.cat([single, second], 1)
        decision = torch.where(both, second, single)
    if one_sided:
        sure = decision[:, 0] > (0.5 if positive else 0.0)
        label = torch.where(sure, labels[1], labels[0])
    else:
        label = (decision[:, 0] > 0).to(torch.int64)
    pair = torch.where(has[:, :1], pair, torch.cat([torch.zeros_like(first), pair[:, 1:]], 1))
    out = transformed(pair, name)
    if single is not None:
        one_sided_scores = (
            probit(pair) if name == "PROBIT" else both_classes(single, name, mixed=not (one_sided and positive))
        )
        out = torch.where(both, out, one_sided_scores)
    return label, out
