"""Regions of a dense class map: a class over the elements where it is the prediction, or over a mask.

Belongs here: weights on an output (batch, classes, height, width). Not here: reading masks (``references``), other targets
(``language``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.targets.references import mask_of
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.inputs import Labels

Array = NDArray[Any]
_TOP = re.compile(r"top([1-9]\d{0,8})")
_NUMBERED = re.compile(r"(-?\d{1,18})(?::(.*))?", re.DOTALL)
_BACKGROUND = {"background", "bg"}
_LISTED = 4


def is_class_map(shape: tuple[int, ...]) -> bool:
    """Whether an output is (batch, classes, height, width) with more than one class and more than one place."""
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1


def backgrounds(labels: Labels | None, count: int) -> list[int]:
    """The classes that are labelled as background."""
    if labels is None:
        return []
    return [index for index in range(count) if labels.name(index).strip("_ ").casefold() in _BACKGROUND]


def region(text: str, output: Array, labels: Labels | None) -> Resolved:
    """The weights of ``region:CLASS`` or ``region:CLASS:MASK``.

    Parameters
    ----------
    text
        What stands after ``region:``.

    Raises
    ------
    UsageError
        ``target.not_a_class_map``, ``target.out_of_range``, ``target.unknown_label``, ``target.empty``, and as in
        :func:`~analyzer.targets.references.mask_of`.
    """
    if not is_class_map(output.shape):
        raise UsageError(
            "target.not_a_class_map",
            f"a region needs a class map (batch, classes, height, width), the output has shape {list(output.shape)}",
            "index the output as OUTPUT[:,3], or give weights",
        )
    chosen, mask = _parsed(text, labels)
    top = _TOP.fullmatch(chosen)
    if top is not None:
        return most_predicted(int(top[1]), output, labels, mask)
    index = _class(chosen, output.shape[1], labels)
    return _of([index] * len(output), output, labels, mask)


def most_predicted(rank: int, output: Array, labels: Labels | None, mask: str = "") -> Resolved:
    """The region of the class that most, second most, … elements are predicted as, background aside, with what else there is."""
    predicted = _predicted(output)
    found, notes = [], []
    for each in predicted:
        counts = np.bincount(each.reshape(-1), minlength=output.shape[1])
        ranked = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
        behind = backgrounds(labels, output.shape[1])
        ranked = [c for c in ranked if c not in behind] or ranked
        if rank > len(ranked):
            raise UsageError(
                "target.out_of_range",
                f"top{rank} doesn't exist: {len(ranked)} classes are predicted somewhere in the map",
                "give region:CLASS:MASK, or index the output as OUTPUT[:,3,5,7]",
            )
        chosen = ranked[rank - 1]
        found.append(chosen)
        others = [
            f"{named(c, labels)}: {counts[c]}" for c in np.argsort(-counts, kind="stable") if counts[c] and c != chosen
        ]
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        others = others[:_LISTED]
        notes.append(
            f"the output is a class map: {named(chosen, labels)} is explained over the {counts[chosen]} elements where it is "
            f"the prediction; elsewhere {', '.join(others) + more if others else 'nothing else'} "
            "(region:CLASS takes another, OUTPUT[:,CLASS,Y,X] an element)"
        )
    resolved = _of(found, output, labels, mask)
    return Resolved(resolved.weights, resolved.names, resolved.classes, tuple(dict.fromkeys(notes)))


def _of(classes: list[int], output: Array, labels: Labels | None, mask: str) -> Resolved:
    weights = np.zeros(output.shape)
    where = mask_of(mask, output.shape[2:]) if mask else None
    predicted = _predicted(output)
    for sample, index in enumerate(classes):
        weights[sample, index] = predicted[sample] == index if where is None else where
        if not weights[sample, index].any():
            raise UsageError(
                "target.empty",
                f"{named(index, labels)} is predicted nowhere in a sample",
                f"give a mask: region:{index}:MASK.png, or sum over the map: {index}",
            )
    over = f" over {mask}" if mask else ""
    return Resolved(weights, tuple(f"region of {named(c, labels)}{over}" for c in classes), tuple(classes))


def _predicted(output: Array) -> Array:
    return np.asarray(np.nan_to_num(output.astype(np.float64), nan=-np.inf).argmax(1))


def _parsed(text: str, labels: Labels | None) -> tuple[str, str]:
    """The class and the mask; a label may hold colons, and so may the path of a mask."""
    numbered = _NUMBERED.fullmatch(text)
    if numbered:
        chosen, mask = numbered[1], numbered[2]
    elif labels is not None and text in labels.names:
        chosen, mask = text, None
    else:
        colons = [place for place, letter in enumerate(text) if letter == ":"]
        known = [place for place in colons if labels is not None and text[:place] in labels.names]
        cut = next(iter(known or colons), len(text))
        chosen, mask = text[:cut], text[cut + 1 :] if cut < len(text) else None
    if not chosen or mask == "":
        raise UsageError(
            "target.syntax",
            f"target {'region:' + text[:80]!r} can't be read",
            "write region:CLASS or region:CLASS:MASK.png",
        )
    return chosen, mask or ""


def _class(text: str, count: int, labels: Labels | None) -> int:
    if re.fullmatch(r"-?\d{1,18}", text):
        index = int(text)
    elif labels is not None:
        index = labels.index(text)
    else:
        raise UsageError(
            "target.unknown_label",
            f"no labels are known, so {text[:80]!r} can't be found",
            "give --labels, or an index",
        )
    if not 0 <= index < count:
        raise UsageError(
            "target.out_of_range", f"class {index} doesn't exist: the map has {count} classes", f"give 0 to {count - 1}"
        )
    return index


def named(index: int, labels: Labels | None) -> str:
    """A class as it is called, with its number."""
    name = labels.name(index) if labels is not None else None
    return f"{name} ({index})" if name and name != str(index) else f"class {index}"
