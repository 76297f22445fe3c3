"""Every rule again, as literally as its formula is written, on explicit dense matrices in float64 numpy.

Belongs here: an operator as a matrix, found by probing it with unit vectors, and the formulas. Not here: any import of
``graph_rules``, any shortcut.

Notation: ``W`` (outputs, inputs), ``b`` (outputs,), ``a`` (inputs,), ``R`` (outputs,), all flat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vector = NDArray[np.float64]


def affine(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Vector, Vector]:
    """W and b of an affine function of one tensor."""
    count = int(np.prod(shape))
    zero = torch.zeros(shape, dtype=torch.float64)
    b = function(zero).numpy().reshape(-1)
    columns = []
    for index in range(count):
        unit = torch.zeros(count, dtype=torch.float64)
        unit[index] = 1.0
        columns.append(function(unit.reshape(shape)).numpy().reshape(-1) - b)
    return np.stack(columns, axis=1), b


def positive(values: Vector) -> Vector:
    return np.where(values > 0, values, 0.0)


def negative(values: Vector) -> Vector:
    return np.where(values < 0, values, 0.0)


def stabilized(z: Vector, epsilon: float) -> Vector:
    """z + epsilon sign(z), sign(0) = +1; an output of exactly zero without a stabiliser has nothing to share."""
    with_sign = np.array([value + epsilon if value >= 0 else value - epsilon for value in z])
    return np.where(with_sign == 0, np.inf, with_sign)


def epsilon_rule(W: Vector, b: Vector, a: Vector, R: Vector, epsilon: float) -> Vector:
    """R_i = sum_j a_i w_ji R_j / S(z_j)."""
    z = W @ a + b
    return (W * a / stabilized(z, epsilon)[:, None]).T @ R


def alpha_beta(W: Vector, b: Vector, a: Vector, R: Vector, alpha: float, beta: float, epsilon: float) -> Vector:
    """Positive and negative contributions z_ij = a_i w_ji apart."""
    contributions = W * a  # (outputs, inputs)
    up, down = positive(contributions), negative(contributions)
    plus = up / stabilized(up.sum(1) + positive(b), epsilon)[:, None]
    minus = down / stabilized(down.sum(1) + negative(b), epsilon)[:, None]
    return (alpha * plus - beta * minus).T @ R


def zplus(W: Vector, b: Vector, a: Vector, R: Vector, epsilon: float) -> Vector:
    """Positive contributions only."""
    up = positive(W * a)
    return (up / stabilized(up.sum(1) + positive(b), epsilon)[:, None]).T @ R


def gamma_rule(W: Vector, b: Vector, a: Vector, R: Vector, gamma: float, epsilon: float, sign_of: Vector) -> Vector:
    """Generalised: an output's contributions of its own sign are favoured by 1 + gamma; ``sign_of`` is z itself."""
    contributions = W * a
    result = np.zeros(len(a))
    for j, z in enumerate(sign_of):
        if z > 0:
            shares, bias = contributions[j] + gamma * positive(contributions[j]), b[j] + gamma * max(b[j], 0)
        elif z < 0:
            shares, bias = contributions[j] + gamma * negative(contributions[j]), b[j] + gamma * min(b[j], 0)
        else:
            continue
        total = shares.sum() + bias
        result += shares / (total + (epsilon if total >= 0 else -epsilon)) * R[j]
    return result


def w_square(W: Vector, b: Vector, R: Vector, epsilon: float) -> Vector:
    """Shares of w^2 over sum w^2 + b^2."""
    return (W**2 / stabilized((W**2).sum(1) + b**2, epsilon)[:, None]).T @ R


def flat(taps: Vector, R: Vector, epsilon: float) -> Vector:
    """Equal shares among the inputs that an output is connected to (``taps``: 1 or 0)."""
    return (taps / stabilized(taps.sum(1), epsilon)[:, None]).T @ R


def z_box(W: Vector, a: Vector, R: Vector, low: Vector, high: Vector, epsilon: float) -> Vector:
    """Shares of a w - low w+ - high w-."""
    shares = W * a - positive(W) * low - negative(W) * high
    return (shares / stabilized(shares.sum(1), epsilon)[:, None]).T @ R
