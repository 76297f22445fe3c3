"""Class probabilities from those of pairs of classes: the torch operator ``onnxplain::pairwise_coupling``.

Belongs here: the operator, its derivative and its definition in plain ATen operators. Not here: support vector
machines (``ops/ml_svm``).

The probabilities are those of Wu, Lin & Weng, "Probability estimates for multi-class classification by pairwise
coupling" (2004), second method: p minimises p' Q p over the simplex, with Q from the pairwise probabilities r.
Runtimes stop the iteration early, and so does this operator, sample by sample; its derivative is that of the
exact minimum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ITERATIONS = 100


def quadratic(r: Tensor) -> Tensor:
    """Q of shape (samples, classes, classes): Q_ii = sum of r_ji squared, Q_ij = -r_ji r_ij."""
    off = 1.0 - torch.eye(r.shape[-1], dtype=r.dtype, device=r.device)
    diagonal = (r * r * off).sum(-2)
    return torch.diag_embed(diagonal) - r * r.transpose(-1, -2) * off


def pairwise_coupling_definition(r: Tensor, iterations: int = ITERATIONS, *, leave_early: bool = False) -> Tensor:
    """The operator in plain ATen operators.

    ``leave_early`` ends the loop once every sample is done, which changes no result but can't be exported.
    """
    q = quadratic(r)
    classes = r.shape[-1]
    p = torch.full(r.shape[:-1], 1.0 / classes, dtype=r.dtype, device=r.device)
    done = torch.zeros(r.shape[0], 1, dtype=torch.bool, device=r.device)
    for _ in range(iterations):
        qp = (q * p.unsqueeze(-2)).sum(-1)
        pqp = (p * qp).sum(-1, keepdim=True)
        done = done | ((qp - pqp).abs().amax(-1, keepdim=True) < 0.005 / classes)
        if leave_early and bool(done.all()):
            break
        new = p
        for i in range(classes):
            own = q[:, i, i].unsqueeze(-1)
            step = (pqp - qp[:, i : i + 1]) / own
            raised = new + step * torch.nn.functional.one_hot(torch.tensor(i), classes).to(r)
            pqp = (pqp + step * (step * own + 2 * qp[:, i : i + 1])) / (1 + step) / (1 + step)
            qp = (qp + step * q[:, i]) / (1 + step)
            new = raised / (1 + step)
        p = torch.where(done, p, new)
    return p


@torch.library.custom_op("onnxplain::pairwise_coupling", mutates_args=(), schema="(Tensor r) -> Tensor")
def pairwise_coupling(r: Tensor) -> Tensor:
    """Class probabilities (samples, classes) from ``r`` (samples, classes, classes): r_ij is P(i | i or j)."""
    return pairwise_coupling_definition(r, leave_early=True)


@pairwise_coupling.register_fake
def _shape(r: Tensor) -> Tensor:
    return r.new_empty(r.shape[:-1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _derivative(ctx: Any, grad: Tensor) -> Tensor:
    """Implicit derivative: (Q 1; 1' 0)(p; b) = (0; 1), so dp follows from dQ by the same system."""
    r, p = ctx.saved_tensors
    samples, classes = p.shape
    ones = torch.ones(samples, classes, 1, dtype=r.dtype, device=r.device)
    top = torch.cat([quadratic(r), ones], -1)
    bottom = torch.cat([ones.transpose(-1, -2), torch.zeros_like(ones[:, :1])], -1)
    right = torch.cat([grad, torch.zeros_like(grad[:, :1])], -1)
    adjoint = torch.linalg.solve(torch.cat([top, bottom], -2), right)[:, :classes]
    g = -adjoint.unsqueeze(-1) * p.unsqueeze(-2)
    own = torch.diagonal(g, dim1=-2, dim2=-1).unsqueeze(-2)
    off = 1.0 - torch.eye(classes, dtype=r.dtype, device=r.device)
    derivative: Tensor = (2.0 * r * own - (g + g.transpose(-1, -2)) * r.transpose(-1, -2)) * off
    return derivative


pairwise_coupling.register_autograd(_derivative, setup_context=_remember)
