"""Integrated gradients."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from analyzer.methods.baselines import BASELINE_HELP, references
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.parameters import COUNT, Bounds
from analyzer.methods.registry import method
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP

Rule = Literal["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"]


@method(
    "integrated-gradients", "gradient", compilable=True, quick={"steps": 8}, headline=("steps",), complete=True,
    remedy="raise steps", derivative=lambda params: not params["multiply_by_inputs"],
    source="Sundararajan, Taly, Yan 2017, Axiomatic attribution for deep networks, eq. 1 and 3",
)  # fmt: skip
def integrated_gradients(
    context: Context,
    *,
    steps: Annotated[int, "number of points on the path, at least 1", Bounds(1, 5_000)] = 50,
    rule: Annotated[Rule, "quadrature rule of the path integral"] = "gausslegendre",
    baseline: Annotated[Any, f"start of the path: {BASELINE_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    multiply_by_inputs: Annotated[bool, "multiply by input minus baseline; off gives the mean gradient"] = True,
) -> Result:
    """Gradient integrated along the straight path from a baseline to the input, times the difference."""
    ends = context.engine.values()
    starts = references(context, baseline, ends, background)
    path = _Path(context, ends, *quadrature(rule, steps), scored=multiply_by_inputs)
    shares: dict[str, list[Array]] = {name: [] for name in ends}
    scores = []
    for at, start in enumerate(starts.each):
        slopes, score = path.integral(start, at * steps, len(starts.each) * steps)
        scores.append(score)
        for name, mean in slopes.items():
            shares[name].append(mean * (path.wide[name] - start[name]) if multiply_by_inputs else mean)
    total = {name: starts.mean(each) for name, each in shares.items()}
    values = {k: context.xp.astype(v, ends[k].dtype) for k, v in total.items()}
    if not multiply_by_inputs:
        return per_input(context, values, notes=starts.notes, record=starts.record)
    complete = context.complete(total, context.score - context.numbers(starts.mean(scores)))
    return per_input(context, values, completeness=complete, notes=starts.notes, record=starts.record)


@dataclass(frozen=True)
class _Path:
    """Points between a reference and the explained values, and the weights of the gradients there.

    Attributes
    ----------
    scored
        Whether the score at the reference is wanted too: it comes from the same run as the path's end.
    """

    context: Context
    ends: dict[str, Array]
    points: Array
    weights: Array
    scored: bool

    @functools.cached_property
    def wide(self) -> dict[str, Array]:
        """The explained values in double precision, in which points and sums are computed."""
        xp = self.context.xp
        return {k: xp.astype(v, xp.float64) for k, v in self.ends.items()}

    def integral(self, start: dict[str, Array], done: int, of: int) -> tuple[dict[str, Array], Array]:
        """The mean gradient on the way from a reference, in double precision, and the score there where it is wanted.

        Parameters
        ----------
        done, of
            Steps that lie behind, and all steps, for the progress.
        """
        xp, engine, steps = self.context.xp, self.context.engine, len(self.points)
        points = np.append(self.points, 0.0) if self.scored else self.points
        change = {k: v - start[k] for k, v in self.wide.items()}
        total = {k: xp.zeros(v.shape, dtype=xp.float64) for k, v in change.items()}
        chunk = min(engine.chunk(), len(points))
        for first in range(0, len(points), chunk):
            part = points[first : first + chunk]
            swept = engine.gradient(
                {
                    k: xp.concat([xp.astype(start[k] + float(a) * v, self.ends[k].dtype) for a in part])
                    for k, v in change.items()
                }
            )
            shares = self.weights[first : first + chunk]
            for name, grads in swept.relevance.items() if len(shares) else ():
                stacked = xp.astype(grads.reshape((len(part), *total[name].shape))[: len(shares)], xp.float64)
                total[name] = total[name] + xp.tensordot(self.context.constant(shares), stacked, axes=1)
            self.context.advance(done + min(first + chunk, steps), of)
        return total, swept.score.reshape((len(part), -1))[-1]


@functools.cache
def _gauss_legendre(steps: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(steps)


def quadrature(rule: str, steps: int) -> tuple[Array, Array]:
    """Points in [0, 1] and their weights.

    The weights sum to 1, but for ``riemann_trapezoid``: as usual in attribution libraries its step is 1/n on n points
    and the ends count half, so that its weights sum to 1 - 1/n.
    """
    if rule == "gausslegendre":
        x, w = _gauss_legendre(steps)
        return (x + 1) / 2, w / 2
    if rule == "riemann_trapezoid":
        points = np.linspace(0, 1, steps)
        weights = np.full(steps, 1 / max(steps, 1))
        weights[[0, -1]] /= 2 if steps > 1 else 1
        return points, weights
    offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    return (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)
