"""Contrasts and opposites of detections.

Belongs here: their scores, and the class scores that white-box methods explain instead. Not here: one detection (``target``),
other kinds of targets, with which detections aren't combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.detection.finding import Found, find
from analyzer.targets.detection.target import DetectionTarget
from analyzer.targets.grammar import Leaf, Tree, all_leaves
from analyzer.targets.language import resolve_trees
from analyzer.targets.target import Resolved

Array = NDArray[Any]


@dataclass(frozen=True)
class CombinedDetections:
    """A sum of detections' similarities with signs; a :class:`~analyzer.targets.target.Target`.

    Attributes
    ----------
    terms
        The sign and the detections, one for each sample, of each.
    """

    terms: tuple[tuple[float, DetectionTarget], ...]
    names: tuple[str, ...]
    classes: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether the outputs hold one picture at a time."""
        return self.terms[0][1].single

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that scores are computed from."""
        return self.terms[0][1].reads

    def score(self, output: Array) -> Array:
        """The explained score of the unchanged samples, (batch,) float64."""
        return np.asarray(sum(sign * each.score(output) for sign, each in self.terms))

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """The scores of n changed pictures, (n,) float64."""
        return np.asarray(sum(sign * each.score_copies(sample, got) for sign, each in self.terms))


def combined(
    model: OnnxModel, feed: Mapping[str, Array], tree: Tree, gradients: bool
) -> tuple[Found, CombinedDetections | Resolved, str]:
    """A target that is made of detections: one of them, the target, and the output that it is on.

    Raises
    ------
    UsageError
        ``target.detection`` where other kinds of targets are mixed in, or where white-box methods can't follow.
    """
    leaves = all_leaves([tree])
    if not all(leaf.detection for leaf in leaves):
        raise UsageError(
            "target.detection",
            "a detection can only be contrasted with another detection",
            "index the class scores instead: contrast:OUTPUT[:,ROW,COLUMN],…",
        )
    found = {leaf: find(model, feed, leaf.target) for leaf in leaves}
    first = found[leaves[0]]
    outputs: set[str] = set()
    count = len(first.resolved.names)

    def resolve_leaf(leaf: Leaf, _: slice) -> Resolved:
        """The class score for white-box methods, else a column for each leaf."""
        if gradients:
            name, resolved = found[leaf].class_scores()
            outputs.add(name)
            return resolved
        each = found[leaf].resolved
        column = np.zeros((count, len(leaves)))
        column[:, leaves.index(leaf)] = 1.0
        return Resolved(column, each.names, each.classes, each.notes)

    resolved = resolve_trees(tree, count, resolve_leaf)
    resolved = replace(resolved, notes=tuple(dict.fromkeys(resolved.notes)))
    if not gradients:
        signs = map(float, resolved.weights[0])
        terms = tuple((sign, found[leaf].resolved) for sign, leaf in zip(signs, leaves, strict=True))
        return first, CombinedDetections(terms, resolved.names, resolved.classes, resolved.notes), first.scored.output
    if len(outputs) > 1:
        raise UsageError(
            "target.detection", "the detections' class scores lie in different outputs", "use a perturbation method"
        )
    return first, resolved, outputs.pop()
