"""Simple Taylor decomposition at a root point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.methods.baselines import baseline_of
from analyzer.methods.context import Array, Context, Evaluator, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.parameters import COUNT, POSITIVE
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext

Root = Literal["search", "nearest"] | float | list[Any] | np.ndarray[Any, Any]


def _require_rows(evaluator: Evaluator, names: Iterable[str]) -> None:
    """Refuse inputs whose first axis doesn't count the samples: each sample has a root point of its own.

    Raises
    ------
    UnsupportedError
        ``method.unsuitable``.
    """
    for name in names:
        if evaluator.batch_axis(name) != 0:
            raise UnsupportedError(
                "method.unsuitable",
                f"taylor needs samples along the first axis of input {name!r} of shape {list(evaluator.inputs[name].shape)}",
                "use integrated-gradients",
            )


def _has_rows(static: StaticContext) -> None:
    assert static.traced is not None
    _require_rows(static.evaluator, static.traced.nodes)


@method(
    "taylor", "relevance", fits=_has_rows,
    source="Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition, eq. 2; "
    "Montavon, Samek, Müller 2018, section 4.2",
)  # fmt: skip
def taylor(
    context: Context,
    *,
    root: Annotated[
        Root, "search: along the gradient, then towards 0; nearest: the nearest root found; or the root point itself"
    ] = "search",
    tolerance: Annotated[
        float, "how near to 0 the score at the root must be, relative to the input's score", POSITIVE
    ] = 1e-3,
    steps: Annotated[int, "how many steps of each search, at least 1", COUNT] = 50,
) -> Result:
    """First-order expansion of the score at a nearby point where it is zero: gradient there times the difference."""
    ends = context.engine.values()
    _require_rows(context, ends)
    if isinstance(root, str):
        roots = find_roots(context, ends, root == "nearest", tolerance, steps)
    else:
        roots = {name: baseline_of(context, root, name, end) for name, end in ends.items()}
    swept = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in roots.items()})
    shares = {
        k: g.astype(np.float64) * (ends[k].astype(np.float64) - roots[k]) for k, g in swept.relevance.items()
    }  # fmt: skip
    record = {"score_at_root": swept.score.tolist(), "distance": distance(ends, roots).tolist()}
    reached = context.complete(shares, context.score)  # approximately: no promise, so a record
    record |= {"sum": reached.total.tolist(), "expected_sum": reached.expected.tolist()}
    notes = []
    far = np.abs(swept.score) > tolerance * np.abs(context.score)
    if far.any():
        notes.append(
            f"the score at the given point isn't zero (sample {int(np.flatnonzero(far)[0])}: "
            f"{swept.score[far][0]:.4g}): it isn't a root"
        )
    values = {k: v.astype(ends[k].dtype) for k, v in shares.items()}
    return per_input(context, values, notes=notes, record=record)


def distance(ends: dict[str, Array], roots: dict[str, Array]) -> Array:
    """Euclidean distance of every sample's root, shape (batch,)."""
    parts = [((v.astype(np.float64) - roots[k]) ** 2).reshape(len(v), -1).sum(axis=1) for k, v in ends.items()]
    return np.asarray(np.sqrt(np.sum(parts, axis=0)))


def find_roots(
    context: Context, ends: dict[str, Array], nearest: bool, tolerance: float, steps: int
) -> dict[str, Array]:
    """A point of score (nearly) zero for every sample.

    ``search`` takes what Newton steps along the gradient give, and where they fail the line to zero; ``nearest`` takes
    the nearer one of both, each made nearer by bisection on its line to the input.

    Raises
    ------
    UsageError
        ``taylor.no_root`` naming the samples.
    """
    limit = tolerance * np.abs(context.score)
    best: dict[str, Array] = {k: v.astype(np.float64) for k, v in ends.items()}
    length = np.where(np.abs(context.score) <= limit, 0.0, np.inf)
    for search in (along_gradient, towards_zero):
        if not nearest and np.isfinite(length).all():
            break
        found = search(context, ends, limit, steps)
        score = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in found.items()}).score
        far = distance(ends, found)
        better = (np.abs(score) <= limit) & (far < length if nearest else ~np.isfinite(length))
        for name, value in found.items():
            best[name][better] = value[better]
        length = np.where(better, far, length)
    if not np.isfinite(length).all():
        lost = np.flatnonzero(~np.isfinite(length)).tolist()
        raise UsageError(
            "taylor.no_root",
            f"no root point was found in {steps} steps for sample {', '.join(map(str, lost))}",
            "give a root point, a larger tolerance or more steps, or use deep-taylor",
        )
    return best


def along_gradient(context: Context, ends: dict[str, Array], limit: Array, steps: int) -> dict[str, Array]:
    """Newton steps against the gradient, each x - f g / |g|^2, then bisection between the sides of the root."""
    here = {k: v.astype(np.float64) for k, v in ends.items()}
    inside = {k: v.copy() for k, v in here.items()}
    sign, crossed = np.sign(context.score), np.zeros(context.batch, bool)
    for _ in range(steps):
        swept = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in here.items()})
        grads = {k: g.astype(np.float64) for k, g in swept.relevance.items()}
        crossed |= swept.score * sign < 0
        moving = (np.abs(swept.score) > limit) & ~crossed
        if not moving.any():
            break
        norm = np.sum([(g**2).reshape(len(g), -1).sum(axis=1) for g in grads.values()], axis=0)
        step = np.where(moving & (norm > 0), 1.0 * swept.score / np.where(norm > 0, norm, 1.0), 0.0)
        for name, value in here.items():
            kept = rows(moving, value)
            inside[name] = np.where(kept, value, inside[name])
            here[name] = value - rows(step, value) * grads[name]
    return bisect(context, ends, inside, here, limit, steps)


def towards_zero(context: Context, ends: dict[str, Array], limit: Array, steps: int) -> dict[str, Array]:
    """The root nearest to the input on the line to zero, between the first two of evenly spaced points that differ."""
    sign = np.sign(context.score)
    inside = {k: v.astype(np.float64) for k, v in ends.items()}
    outside = {k: v.copy() for k, v in inside.items()}
    done = np.zeros(context.batch, bool)
    for step in range(1, steps + 1):
        here = {k: v.astype(np.float64) * (1 - step / steps) for k, v in ends.items()}
        score = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in here.items()}).score
        reached = ~done & ((score * sign <= 0) | (np.abs(score) <= limit))
        for name, value in here.items():
            outside[name] = np.where(rows(reached, value), value, outside[name])
            inside[name] = np.where(rows(done | reached, value), inside[name], value)
        done |= reached
        if done.all():
            break
    return bisect(context, ends, inside, outside, limit, steps)


def bisect(
    context: Context,
    ends: dict[str, Array],
    inside: dict[str, Array],
    outside: dict[str, Array],
    limit: Array,
    steps: int,
) -> dict[str, Array]:
    """Halve the piece between a point of the input's sign and one of the other until the score is near zero."""
    sign = np.sign(context.score)
    score = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in outside.items()}).score
    fixed = np.abs(score) <= limit
    low, high, found = dict(inside), dict(outside), dict(outside)
    for _ in range(max(steps, 40)):
        if fixed.all():
            break
        middle = {k: (low[k] + high[k]) / 2 for k in low}
        score = context.engine.gradient({k: v.astype(ends[k].dtype) for k, v in middle.items()}).score
        same = score * sign > 0
        for name, value in middle.items():
            found[name] = np.where(rows(fixed, value), found[name], value)
            low[name] = np.where(rows(same, value), value, low[name])
            high[name] = np.where(rows(same, value), high[name], value)
        fixed |= np.abs(score) <= limit
    return found


def rows(values: Array, like: Array) -> Array:
    """One value per sample, broadcastable to an array."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
