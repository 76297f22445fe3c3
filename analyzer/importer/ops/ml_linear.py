"""Linear models of the classical machine-learning domain, and how its classifiers turn scores into outputs.

Belongs here: LinearRegressor, LinearClassifier and the post-transforms that all models of the domain share. Not
here: trees (``ml_trees``) and support vectors (``ml_svm``).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.ml_features import ML, class_labels, floats
from analyzer.importer.precision import single
from analyzer.importer.table import operator

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def transform_of(node: Node) -> str:
    """The node's post-transform by name (newer operators number them)."""
    given = node.attr("post_transform", "NONE")
    name = TRANSFORMS[given] if isinstance(given, int) and 0 <= given < len(TRANSFORMS) else str(given)
    if name not in TRANSFORMS:
        raise InputError("op.bad_attribute", f"{node}: unknown post_transform {name!r}", "re-export the model")
    return name


def transformed(scores: Tensor, name: str) -> Tensor:
    """Scores (samples, two or more) after a post-transform."""
    match name:
        case "SOFTMAX":
            return torch.softmax(scores, -1)
        case "LOGISTIC":
            return torch.sigmoid(scores)
        case "SOFTMAX_ZERO":
            return _softmax_zero(scores)
        case "PROBIT":
            return probit(scores)
    return scores


def probit(p: Tensor) -> Tensor:
    """Quantiles of the normal distribution, by Winitzki's approximation of the inverse error function (2008)."""
    x = 2.0 * p - 1.0
    log = torch.log((1.0 - x) * (1.0 + x))
    half = 2.0 / (3.14159 * 0.147) + 0.5 * log
    return torch.sign(x) * torch.sqrt(torch.sqrt(half * half - log * (1.0 / 0.147)) - half) * 1.41421356


def _softmax_zero(scores: Tensor) -> Tensor:
    """Softmax over the scores that aren't zero; the others stay (nearly) zero."""
    top = scores.amax(-1, keepdim=True)
    counts = scores.abs() > 1e-7
    parts = torch.where(counts, torch.exp(scores - top), scores * torch.exp(-top))
    total = torch.where(counts, parts, torch.zeros_like(parts)).sum(-1, keepdim=True)
    return parts / total


def both_classes(score: Tensor, name: str, mixed: bool) -> Tensor:
    """Scores of both classes from the one of the positive class (samples, 1).

    ``mixed`` distinguishes scores that may be negative, whose opposite is their negation, from probabilities.
    """
    if not mixed:
        score = torch.sigmoid(score) if name == "LOGISTIC" else score
        return torch.cat([1.0 - score, score], -1)
    if name == "LOGISTIC":
        return torch.cat([torch.sigmoid(-score), torch.sigmoid(score)], -1)
    return torch.cat([-score, score], -1)


def rows(x: Tensor) -> Tensor:
    """Samples by features, in single precision; one sample may come without its first dimension."""
    x = x.to(single())
    return x.reshape(1, -1) if x.ndim == 1 else x


def _affine(node: Node, x: Tensor, targets: int) -> Tensor:
    coefficients = floats(node, "coefficients")
    if coefficients is None or coefficients.numel() % targets:
        raise InputError("op.bad_attribute", f"{node}: coefficients don't fit {targets} targets", "re-export the model")
    weights = coefficients.reshape(targets, -1).t()
    intercepts = floats(node, "intercepts")
    return torch.mm(rows(x), weights) if intercepts is None else torch.addmm(intercepts, rows(x), weights)


@operator("LinearRegressor", domain=ML)
def linear_regressor(node: Node, x: Tensor) -> Tensor:
    targets = int(node.attr("targets", 1))
    y, name = _affine(node, x, targets), transform_of(node)
    if targets == 1:
        return probit(y) if name == "PROBIT" else y
    return transformed(y, name)


@operator("LinearClassifier", domain=ML)
def linear_classifier(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (samples) and scores (samples, classes)."""
    labels, count = class_labels(node)
    size = len(np.atleast_1d(node.attr("intercepts") or [0.0] * count))
    scores, name = _affine(node, x, size), transform_of(node)
    if size > 1:
        return labels[scores.argmax(-1)], transformed(scores, name)
    if count != 2:
        label = (scores[:, 0] > 0).to(torch.int64)
        return label, probit(scores) if name == "PROBIT" else scores
    label = torch.where(scores[:, 0] > 0, labels[1], labels[0])
    return label, both_classes(scores, name, mixed=False)
