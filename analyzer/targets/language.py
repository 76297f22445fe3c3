"""The target language: which number of a model's output is explained.

Belongs here: reading a target and resolving it on a concrete output to weights. Not here: which output holds scores
(``scores``), the resolved target (``target``).

Most targets are linear functionals of one output: they resolve to weights of the output's shape, and the explained score of a
sample is the weighted sum of its output. Forms:

==========================  ==============================================================================
``"top1"``, ``"top3"``       the class ranked first, third, …; on a class map the region of the class that most elements are
                            predicted as; in another rank above 2 the sample's largest element
``281``, ``"281"``           a class index
``"tabby"``                  a class by its label
``[281, 282]``               one per sample
``"contrast:A,B"``           A minus B, any two targets
``"not:TARGET"``             minus a target
``"OUTPUT[:,3]"``            numpy-style indexing of a named output, batch axis first, summed; a scalar output by its name
``"region:CLASS"``           a class of a class map over the elements where it is the prediction
``"region:CLASS:MASK.png"``  the same over a mask
a float array               weights on the output, with or without the batch axis
``"weights:FILE.npy"``       the same from a file
``"cosine:FILE.npy"``        likeness to a reference vector: no linear functional, see :mod:`analyzer.targets.functional`
``"distance:FILE.npy"``      minus the Euclidean distance from it
``"reconstruction"``         the squared error of an output that has an input's shape
``"detection:0"``            a detector's detection, see :mod:`analyzer.targets.detection.target`
==========================  ==============================================================================
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.targets.grammar import Contrast, Leaf, Tree, parse, trees, unbalanced
from analyzer.targets.indexing import parse_index
from analyzer.targets.references import array_of, numbers
from analyzer.targets.regions import is_class_map, most_predicted, named, region
from analyzer.targets.target import Array, Resolved

if TYPE_CHECKING:
    from analyzer.inputs import Labels

TargetLike = int | str | Sequence[int | str | Tree] | Array | Tree
_TOP = re.compile(r"top(\d{1,18})")
_INTEGER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class Place:
    """Where rows lie in the batch that a target is about.

    Attributes
    ----------
    start
        The first of them.
    total
        The samples of the whole batch; None where these are all.
    """

    start: int = 0
    total: int | None = None

    def of(self, weights: Array, count: int) -> Array:
        """The rows' part of weights on the whole batch."""
        return weights[self.start : self.start + count]


def output_of(target: TargetLike) -> str | None:
    """The name of the output that a target indexes, None for the default one."""
    tree = parse(target)
    return tree.output if isinstance(tree, Leaf) else None


def is_detection(target: object) -> bool:
    """Whether a target, or one of a list of targets, is a detection."""
    each = target if isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) else [target]
    return any(isinstance(one, str) and one.startswith("detection:") for one in each)


def resolve(
    target: TargetLike, output: Array, labels: Labels | None = None, place: Place | None = None, dense: bool = True
) -> Resolved:
    """A linear target's weights on an output.

    Parameters
    ----------
    output
        The scores, batch first.
    place
        Where its rows lie in a larger batch.
    dense
        Whether an output (batch, classes, height, width) is a class map.

    Raises
    ------
    UsageError
        ``target.*``.
    """
    place = place or Place()
    output = np.asarray(output)
    batch = output if output.ndim else output.reshape(1)

    def linear_of(leaf: Leaf, rows: slice) -> Resolved:
        whole = output if not output.ndim else batch[rows]
        at = Place(place.start + rows.start, place.total or len(batch))
        return linear(leaf, whole, labels, at, dense)

    found = resolve_trees(target, len(batch), linear_of)
    return replace(found, weights=found.weights.reshape(output.shape or (1,)))


def resolve_trees(target: TargetLike, count: int, resolve_leaf: Callable[[Leaf, slice], Resolved]) -> Resolved:
    """A target of ``count`` samples by what its leaves resolve to on a range of them.

    Raises
    ------
    UsageError
        ``target.count``.
    """
    several, per_sample = trees(target)
    if not per_sample:
        return _combined(several[0], lambda leaf: resolve_leaf(leaf, slice(0, count)))
    if len(several) != count:
        raise UsageError(
            "target.count",
            f"{len(several)} targets were given for a batch of {count}",
            "give one target, or one per sample",
        )
    parts = [
        _combined(tree, functools.partial(lambda rows, leaf: resolve_leaf(leaf, rows), slice(i, i + 1)))
        for i, tree in enumerate(several)
    ]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Resolved(
        np.concatenate([part.weights for part in parts]),
        tuple(name for part in parts for name in part.names), tuple(c for part in parts for c in part.classes), notes,
    )  # fmt: skip


def _combined(tree: Tree, resolve_leaf: Callable[[Leaf], Resolved]) -> Resolved:
    if isinstance(tree, Leaf):
        return resolve_leaf(tree)
    nobody = (-1,)
    if isinstance(tree, Contrast):
        a, b = _combined(tree.first, resolve_leaf), _combined(tree.second, resolve_leaf)
        names = tuple(f"{x} minus {y}" for x, y in zip(a.names, b.names, strict=True))
        return Resolved(a.weights - b.weights, names, nobody * len(names), (*a.notes, *b.notes))
    inner = _combined(tree.of, resolve_leaf)
    return Resolved(-inner.weights, tuple(f"not {n}" for n in inner.names), nobody * len(inner.names), inner.notes)


def linear(leaf: Leaf, output: Array, labels: Labels | None, place: Place, dense: bool = True) -> Resolved:
    """The weights of a target that isn't made of others, on rows of an output; errors as in :func:`resolve`."""
    target, batch = leaf.target, output if output.ndim else output.reshape(1)
    if leaf.detection:
        raise UsageError(
            "target.detection",
            f"{str(target)[:80]!r} is the target of an explanation with a decode spec, not of this",
            "index the detection's class score: OUTPUT[:,ROW,COLUMN]",
        )
    if leaf.scalar:
        if math.prod(output.shape[1:]) != 1:
            raise UsageError(
                "target.syntax",
                f"output {leaf.scalar!r} of shape {list(output.shape)} is no scalar",
                f"index it, as in {leaf.scalar}[:,3]",
            )
        return Resolved(np.ones(batch.shape), (leaf.scalar,) * len(batch), (-1,) * len(batch))
    if leaf.indexed:
        return _indexed(leaf, output, place)
    if isinstance(target, np.ndarray) and target.dtype.kind == "f" and target.ndim:
        return _weighted(target, "the array of weights", batch, place)
    if isinstance(target, str):
        if target.startswith("weights:"):
            path = target.removeprefix("weights:")
            return _weighted(array_of(path), path, batch, place)
        if target.startswith("region:"):
            return region(target.removeprefix("region:"), output, labels)
        if target.count("[") != target.count("]") and (labels is None or target not in labels.names):
            raise unbalanced(target)
    top = _TOP.fullmatch(target) if isinstance(target, str) else None
    if dense and top and is_class_map(output.shape):
        if not int(top[1]):
            raise UsageError("target.out_of_range", "top0 doesn't exist", "top1 is the first")
        return most_predicted(int(top[1]), output, labels)
    parts = [_single(target, batch[i : i + 1], labels) for i in range(len(batch))]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Resolved(
        np.concatenate([part.weights for part in parts]),
        tuple(name for p in parts for name in p.names), tuple(c for p in parts for c in p.classes), notes,
    )  # fmt: skip


def _single(target: Any, sample: Array, labels: Labels | None) -> Resolved:
    """One sample's weights; ``sample`` has a batch axis of size 1."""
    classes = _class_axis(sample.shape)
    if classes is None:
        return _element(target, sample)
    count = sample.shape[1] if classes else 1
    index = _class_index(target, sample.reshape(count), labels)
    weights = np.zeros(count)
    weights[index] = 1.0
    name = named(index, labels) if count > 1 else "value"
    return Resolved(weights.reshape(sample.shape), (name,), (index if count > 1 else -1,))


def _weighted(values: Array, where: str, batch: Array, place: Place) -> Resolved:
    """Weights that are given, for all samples or for each."""
    values, count = numbers(values, where), len(batch)
    total = place.total or count
    if values.shape == (total, *batch.shape[1:]):
        values = place.of(values, count)
    elif values.shape == batch.shape[1:]:
        values = np.broadcast_to(values, batch.shape)
    else:
        raise UsageError(
            "target.bad_shape",
            f"{where} has shape {list(values.shape)}, the output {[total, *batch.shape[1:]]}",
            "give weights of the output's shape; the batch axis may be left out",
        )
    if not values.any():
        raise UsageError("target.empty", f"{where} holds zeros only", "give weights that select something")
    name = "weights" if where.startswith("the ") else f"weights {where}"
    return Resolved(np.array(values), (name,) * count, (-1,) * count)


def _class_axis(shape: tuple[int, ...]) -> bool | None:
    """True: axis 1 holds classes. False: one value per sample. None: a higher rank."""
    meaningful = [i for i, size in enumerate(shape) if i > 0 and size != 1]
    if not meaningful:
        return len(shape) > 1
    return True if len(shape) == 2 or meaningful == [1] else None


def _class_index(target: Any, scores: Array, labels: Labels | None) -> int:
    count = len(scores)
    if isinstance(target, (bool, np.bool_)):
        raise UsageError("target.syntax", f"{target!r} is no target", "give a class index, a label or top1")
    if isinstance(target, (int, np.integer)) or (isinstance(target, str) and _INTEGER.fullmatch(target)):
        index = int(target)
        if not 0 <= index < count:
            raise UsageError(
                "target.out_of_range",
                f"class {index} doesn't exist: the model has {count} classes",
                f"give a class from 0 to {count - 1}",
            )
        return index
    if isinstance(target, str):
        match = _TOP.fullmatch(target)
        if match:
            rank = int(match[1])
            if not 1 <= rank <= count:
                raise UsageError("target.out_of_range", f"{target} of {count} classes doesn't exist")
            order = np.argsort(-np.nan_to_num(scores.astype(np.float64), nan=-np.inf), kind="stable")
            return int(order[rank - 1])
        if labels is not None:
            index = labels.index(target)
            if not 0 <= index < count:
                raise UsageError(
                    "target.out_of_range", f"label {target!r} is class {index}, but the model has {count} classes"
                )
            return index
        raise UsageError(
            "target.unknown_label",
            f"no labels are known, so {target[:80]!r} can't be found",
            "give --labels, or a class index",
        )
    raise UsageError("target.syntax", f"{target!r} is no target", "give a class index, a label, top1 or OUTPUT[:,3]")


def _element(target: Any, sample: Array) -> Resolved:
    """A target on an output of a higher rank."""
    if isinstance(target, str) and _TOP.fullmatch(target):
        rank = int(target[3:])
        flat = np.nan_to_num(sample.reshape(-1).astype(np.float64), nan=-np.inf)
        if not 1 <= rank <= flat.size:
            raise UsageError("target.out_of_range", f"{target} of {flat.size} elements doesn't exist")
        chosen = int(np.argsort(-flat, kind="stable")[rank - 1])
        weights = np.zeros(flat.size)
        weights[chosen] = 1.0
        where = ",".join(str(int(i)) for i in np.unravel_index(chosen, sample.shape[1:]))
        note = f"the output has rank {sample.ndim}: {target} is the sample's element of that rank by size"
        return Resolved(weights.reshape(sample.shape), (f"element [{where}]",), (-1,), (note,))
    number = isinstance(target, (int, np.integer)) and not isinstance(target, bool)
    if number or (isinstance(target, str) and _INTEGER.fullmatch(target)):
        index = int(target)
        if not 0 <= index < sample.shape[1]:
            raise UsageError(
                "target.out_of_range",
                f"index {index} doesn't exist on axis 1 of an output of shape {list(sample.shape)}",
                f"give 0 to {sample.shape[1] - 1}, or index the output as OUTPUT[:,i,j]",
            )
        weights = np.zeros(sample.shape)
        weights[:, index] = 1.0
        note = f"the output has rank {sample.ndim}: target {index} is the sum over [:, {index}]"
        return Resolved(weights, (f"sum of [{index}]",), (index,), (note,))
    raise UsageError(
        "target.syntax",
        f"target {target!r} doesn't fit an output of shape {list(sample.shape)}",
        "use top1 or index the output, as in OUTPUT[:,3,5]",
    )


def _indexed(leaf: Leaf, output: Array, place: Place) -> Resolved:
    """An index into the whole batch, of which ``output`` may be a part."""
    target, match, batch = leaf.target, leaf.indexed, len(output) if output.ndim else 1
    assert match is not None
    shape = (place.total or batch, *output.shape[1:]) if output.ndim else ()
    weights = np.zeros(shape)
    try:
        weights[parse_index(match["index"])] = 1.0
    except (IndexError, ValueError) as problem:
        reason = str(problem).split(":")[0]
        raise UsageError(
            "target.out_of_range",
            f"target {target!r} doesn't fit the output's shape {list(shape)}: {reason}",
            "the first index is the batch; use : for all of it",
        ) from None
    if not weights.any():
        raise UsageError("target.out_of_range", f"target {target!r} selects nothing", f"shape {list(shape)}")
    found = place.of(weights, batch) if output.ndim else weights.reshape(1)
    return Resolved(found, (target,) * batch, (-1,) * batch)
