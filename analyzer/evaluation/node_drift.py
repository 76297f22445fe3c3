"""What makes explanations of a changed model move: errors by where they come in, nodes by what theirs do, tensors by their noise.

Belongs here: the values that users get, and signal to noise. Not here: finding them (``drift_by_node``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.evaluation.measure import Array
from analyzer.explanation import jsonable

#: Signal over noise, in dB, above which an error is the rounding of float32.
_ROUNDING = 100.0


@dataclass(frozen=True)
class Site:
    """Where an error comes in.

    Attributes
    ----------
    node, op
        The first model's node whose result it is in; for an input that is stored anew its name, and ``input``.
    part
        ``computation`` (weights, arithmetic), or ``storage`` (the scale by which the result is kept).
    scale
        The scale's name in the second model, for ``storage`` of a quantised value.
    relevance, score
        Mean over the inputs of sum |g ε| and of |sum g ε|.
    sqnr
        Signal over the error brought in here, in dB; infinite where there is none.
    keep
        The nodes that must all stay as they were for this error to go.
    """

    node: str
    op: str
    part: str
    scale: str
    relevance: float
    score: float
    sqnr: float
    keep: tuple[str, ...]

    @property
    def negligible(self) -> bool:
        """Whether the error is no more than another order of the same sums makes."""
        return self.relevance == 0 or self.sqnr > _ROUNDING


@dataclass(frozen=True)
class NodeDrift:
    """What one node of the first model does to explanations once it is replaced.

    Attributes
    ----------
    share
        Of all relevance that moves, [0, 1].
    relevance, score
        Sums over its sites.
    sqnr
        Signal over noise of its result, in dB, everything before it included: what tensor error says of it. NaN where its
        result has no counterpart.
    sites
        Where its errors come in, the worst first.
    """

    node: str
    op: str
    share: float
    relevance: float
    score: float
    sqnr: float
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class DriftByNode:
    """The nodes, ranked by how much relevance they move.

    Attributes
    ----------
    nodes
        The worst first.
    nodes_to_exclude
        What to keep as it was, by the first model's names, as ``nodes_to_exclude`` of ``onnxruntime.quantization`` takes them.
    sqnr
        Value of the first model -> signal over noise in dB, everything before it included.
    inputs
        How many inputs it is of.
    matched
        Share of the first model's nodes that the score depends on whose result has a counterpart.
    """

    nodes: tuple[NodeDrift, ...]
    nodes_to_exclude: tuple[str, ...]
    sqnr: Mapping[str, float]
    inputs: int
    matched: float
    notes: tuple[str, ...] = ()

    @property
    def named_by_sqnr(self) -> str:
        """The node of the lowest signal to noise; empty where nothing is known."""
        known = [each for each in self.nodes if np.isfinite(each.sqnr)]
        return min(known, key=lambda each: each.sqnr).node if known else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        nodes = [{**vars(each), "sites": [vars(site) for site in each.sites]} for each in self.nodes]
        return dict(jsonable({**vars(self), "nodes": nodes, "named_by_sqnr": self.named_by_sqnr}))


def tensor_sqnr(signal: Array, other: Array) -> float:
    """Signal over noise, 10 log10(sum v² / sum (v - w)²) in dB; infinite where they are equal, NaN for a signal of 0."""
    v, w = np.asarray(signal, np.float64), np.asarray(other, np.float64)
    return decibel(float((v * v).sum()), float(((v - w) ** 2).sum()))


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two sums of squares; infinite without noise, NaN without a signal."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("nan")
