"""Support vector machines of the classical machine-learning domain.

Belongs here: SVMRegressor, SVMClassifier and their kernels. Not here: pairwise coupling of probabilities
(``coupling``).
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.coupling import pairwise_coupling
from analyzer.importer.graph import Node
from analyzer.importer.ops.ml_features import ML, class_labels, floats
from analyzer.importer.ops.ml_linear import both_classes, probit, rows, transform_of, transformed
from analyzer.importer.table import operator


def _kernel(node: Node, x: Tensor, vectors: Tensor) -> Tensor:
    """Kernel values (samples, vectors)."""
    gamma, coef0, degree = (float(v) for v in (node.attr("kernel_params") or (0.0, 0.0, 3.0)))
    match str(node.attr("kernel_type", "LINEAR")):
        case "LINEAR":
            return torch.mm(x, vectors.t())
        case "POLY":
            return torch.pow(torch.mm(x, vectors.t()) * gamma + coef0, degree)
        case "RBF":
            return torch.exp((x.unsqueeze(1) - vectors).square().sum(-1) * -gamma)
        case "SIGMOID":
            return torch.tanh(torch.mm(x, vectors.t()) * gamma + coef0)
        case other:
            raise InputError("op.bad_attribute", f"{node}: unknown kernel {other!r}", "re-export the model")


def _needed(node: Node, name: str) -> Tensor:
    values = floats(node, name)
    if values is None:
        raise InputError("op.bad_attribute", f"{node}: {name} is missing", "re-export the model")
    return values


@operator("SVMRegressor", domain=ML)
def svm_regressor(node: Node, x: Tensor) -> Tensor:
    """Sum of kernels; with ``one_class`` its sign."""
    coefficients, rho = _needed(node, "coefficients"), _needed(node, "rho")
    count = int(node.attr("n_supports", 0))
    x = rows(x)
    values = _kernel(node, x, _needed(node, "support_vectors").reshape(count, -1)) if count else x
    y = torch.addmm(rho[:1], values, coefficients.reshape(-1, 1))
    if node.attr("one_class", 0):
        return torch.where(y > 0, 1.0, -1.0)
    return probit(y) if transform_of(node) == "PROBIT" else y


@operator("SVMClassifier", domain=ML)
def svm_classifier(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (samples) and scores: of the classes, or of the pairs of classes where there are no probabilities."""
    labels, count = class_labels(node)
    coefficients, rho, name = _needed(node, "coefficients"), _needed(node, "rho"), transform_of(node)
    sizes = [int(n) for n in node.attr("vectors_per_class") or ()]
    x = rows(x)
    if not sum(sizes):
        scores = torch.addmm(rho[:1], x, coefficients.reshape(count, -1).t())
        return _label_of_scores(scores, labels, bool((coefficients >= 0).all())), transformed(scores, name)
    vectors = _needed(node, "support_vectors").reshape(sum(sizes), -1)
    pairs = list(combinations(range(count), 2))
    scores = torch.addmm(rho, _kernel(node, x, vectors), _by_pairs(coefficients, sizes, pairs))
    first, second = (
        torch.nn.functional.one_hot(torch.tensor([p[side] for p in pairs]), count).to(torch.float32) for side in (0, 1)
    )
    votes = torch.where((scores > 0).unsqueeze(-1), first, second).sum(1)
    index = (votes * count - torch.arange(count)).argmax(-1)  # the first of equals
    probabilities = floats(node, "prob_a")
    if probabilities is not None:
        p = _coupled(scores, probabilities, _needed(node, "prob_b"), pairs, count)
        return labels[index], transformed(p, name)
    if count > 2:
        return labels[index], transformed(scores, name)
    return labels[index], probit(scores) if name == "PROBIT" else both_classes(scores, name, mixed=name == "NONE")


def _by_pairs(coefficients: Tensor, sizes: list[int], pairs: list[tuple[int, int]]) -> Tensor:
    """Coefficients (vectors, pairs): the vectors of both classes of a pair, zero for the others."""
    table = coefficients[: (len(sizes) - 1) * sum(sizes)].reshape(len(sizes) - 1, sum(sizes))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    out = table.new_zeros(sum(sizes), len(pairs))
    for column, (i, j) in enumerate(pairs):
        of_i, of_j = (slice(starts[k], starts[k] + sizes[k]) for k in (i, j))
        out[of_i, column], out[of_j, column] = table[j - 1, of_i], table[i, of_j]
    return out


def _coupled(scores: Tensor, a: Tensor, b: Tensor, pairs: list[tuple[int, int]], count: int) -> Tensor:
    """Class probabilities from Platt's probabilities of the pairs."""
    ahead = torch.clamp(torch.sigmoid(-(scores * a + b)), 1e-7, 1.0 - 1e-7)
    both = torch.cat([ahead, 1.0 - ahead, torch.zeros_like(ahead[:, :1])], 1)
    order = [2 * len(pairs)] * (count * count)
    for column, (i, j) in enumerate(pairs):
        order[i * count + j], order[j * count + i] = column, len(pairs) + column
    r = torch.index_select(both, 1, torch.tensor(order)).reshape(-1, count, count)
    coupled: Tensor = pairwise_coupling(r)
    return coupled


def _label_of_scores(scores: Tensor, labels: Tensor, positive: bool) -> Tensor:
    """The largest score's label; of two classes the second's where that score passes its threshold."""
    index = scores.argmax(-1)
    if len(labels) == 2:
        top = scores.amax(-1)
        sure = top >= 0.5 if positive else top > 0
        index = torch.where(sure, torch.ones_like(index), index)
    return labels[index]
