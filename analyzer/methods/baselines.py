"""Baselines: where methods of differences start, one reference or several to be averaged over.

Belongs here: reading a method's ``baseline`` against the explained values. Not here: fills and files of samples as such
(``analyzer.perturbation.fill_parameter``), what a method does with its baselines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.engines.protocol import NotCompilableError
from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context
from analyzer.perturbation.fill_parameter import replacement_for
from analyzer.perturbation.replacement import BackgroundRows

#: What a baseline may be.
BASELINE_HELP = (
    "a number, mean, blur, an array broadcastable to the input, image:FILE, or samples:FILE, whose rows are averaged over; "
    "for tokens also id:N or ids"
)
#: Baselines that follow from the sample itself.
_COMPUTED = ("mean", "blur", "noise")
_FILES = ("image", "samples")


@dataclass(frozen=True)
class References:
    """One or several references.

    Attributes
    ----------
    each
        Input name -> an array of the explained value's shape and type, for each reference.
    notes, record
        For the result.
    """

    each: Sequence[dict[str, Array]]
    notes: list[str] = field(default_factory=list)

    @property
    def record(self) -> dict[str, Any]:
        """How many references there were, if several."""
        return {"references": len(self.each)} if len(self.each) > 1 else {}

    def mean(self, values: Sequence[Array]) -> Array:
        """The mean of what was found from each reference."""
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total / len(values)


def references(context: Context, baseline: Any, ends: dict[str, Array], background: int) -> References:
    """The references that a ``baseline`` means.

    Parameters
    ----------
    baseline
        See :data:`BASELINE_HELP`.
    ends
        The explained values.
    background
        The most rows of a file of samples; from more, so many are drawn with the seed.

    Raises
    ------
    UsageError
        ``params.*``, ``fill.*``.
    InputError
        ``data.*`` where a file can't be read or doesn't fit.
    """
    notes: list[str] = []
    pools = {name: pool(context, baseline, name, end, background, notes) for name, end in ends.items()}
    counts = {len(rows) for rows in pools.values()}
    if len(counts) != 1:
        raise UsageError(
            "params.invalid", "the inputs have different numbers of references", "give one for each input, in order"
        )
    shapes = {name: tuple(end.shape) for name, end in ends.items()}
    each = [
        {name: _spread(context, rows[at], shapes[name]) for name, rows in pools.items()} for at in range(counts.pop())
    ]
    return References(each, list(dict.fromkeys(notes)))


def pool(context: Context, baseline: Any, name: str, end: Array, background: int, notes: list[str]) -> Sequence[Array]:
    """The references of one input, each broadcastable to the explained value; adds to ``notes``."""
    if not _named(baseline):
        return [baseline_of(context, baseline, name, end)]
    if any(entry.tokens for entry in context.engine.explained if entry.name == name):
        raise _no_baseline(baseline, name, tokens=True)
    if context.xp is not np and baseline.strip().lower().partition(":")[0] in _COMPUTED:
        raise NotCompilableError(f"the baseline {baseline!r} follows from each sample")
    if context.batch_axis(name) != 0:
        raise UsageError(
            "params.invalid", f"{baseline!r} needs samples on the first axis of {name!r}", "give a number or an array"
        )
    found = replacement_for(context, name, baseline, background=background, without=("inpaint",))
    dtype = context.numbers(end[:1]).dtype
    if isinstance(found, BackgroundRows):
        notes += [found.note] if found.note else []
        return list(found.rows.astype(dtype))
    assert isinstance(found, np.ndarray)
    return [found.astype(dtype)]


def _spread(context: Context, row: Any, shape: tuple[int, ...]) -> Array:
    return context.constant(np.broadcast_to(row, shape)) if isinstance(row, np.ndarray) else row


def _named(baseline: Any) -> bool:
    """Whether a baseline is a fill by its name or a file."""
    return isinstance(baseline, str) and baseline.strip().lower().partition(":")[0] in (*_COMPUTED, *_FILES)


def baseline_of(context: Context, baseline: Any, name: str, end: Array) -> Array:
    """A baseline as an array of the explained value's shape and type.

    Parameters
    ----------
    baseline
        A number or an array broadcastable to the value. For tokens also ``id:N`` or an array of ids (of any integer type,
        broadcastable to the tokens): looked up in the model's own embedding.

    Raises
    ------
    UsageError
        ``params.invalid`` where it can't be broadcast, or where ids are given for an input that isn't made of tokens.
    """
    ids = token_ids(context, baseline, name)
    if ids is not None:
        return context.embedding(name, ids)
    given = typed(baseline, context.numbers(end[:1] if end.ndim else end).dtype)
    try:
        start = np.broadcast_to(given, tuple(end.shape))
    except ValueError:
        raise _unfit(baseline, name, end.shape) from None
    if start.ndim <= 2:
        context.replaced[name] = start
    return context.constant(start)


def typed(baseline: Any, dtype: Any) -> Array:
    """A number or an array in the type of an explained value.

    Raises
    ------
    UsageError
        ``params.nonfinite`` where it is too large for that type, ``params.invalid`` where it holds no numbers.
    """
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(baseline, dtype)
    except (TypeError, ValueError):
        what = f"a baseline of type {type(baseline).__name__} holds no numbers"
        raise UsageError("params.invalid", what, f"give {BASELINE_HELP}") from None
    if not np.isfinite(given).all():
        raise UsageError(
            "params.nonfinite", f"the baseline holds a number beyond {given.dtype}", "give numbers of the input's size"
        )
    return given


def token_ids(context: Context, baseline: Any, name: str) -> Array | None:
    """The ids that a baseline of tokens stands for, of the input's shape; None where it is one of values."""
    tokens = name in {entry.name for entry in context.engine.explained if entry.tokens}
    if isinstance(baseline, str):
        with contextlib.suppress(ValueError):
            float(baseline)
            return None
        kind, _, number = baseline.strip().lower().partition(":")
        if kind != "id" or not number.strip().isdecimal() or not tokens:
            raise _no_baseline(baseline, name, tokens)
        baseline = np.array(int(number))
    elif not (tokens and isinstance(baseline, np.ndarray | list | tuple) and np.asarray(baseline).dtype.kind in "iu"):
        return None
    value, given = context.inputs[name], np.asarray(baseline)
    while given.ndim > value.ndim and given.shape[-1] == 1:
        given = given[..., 0]
    try:
        return np.broadcast_to(given, value.shape).astype(value.dtype)
    except ValueError:
        raise _unfit(baseline, name, value.shape) from None


def _unfit(baseline: Any, name: str, shape: Any) -> UsageError:
    return UsageError(
        "params.invalid",
        f"a baseline of shape {list(np.shape(baseline))} doesn't fit input {name!r} of shape {list(shape)}",
        "give a number or an array broadcastable to the input",
    )


def _no_baseline(baseline: Any, name: str, tokens: bool) -> UsageError:
    what = "tokens take id:N too" if tokens else "it isn't made of tokens"
    return UsageError(
        "params.invalid",
        f"{baseline!r} is no baseline of input {name!r}",
        f"give {BASELINE_HELP.rpartition(';')[0]}; {what}",
    )
