"""The target language: which number of a model's output is explained.

Belongs here: reading a target and resolving it on a concrete output to weights. Not here: which output holds scores
(``scores``), the resolved target (``target``).

A target is a linear functional of one output: it resolves to weights of the output's shape, and the explained score of a
sample is the weighted sum of its output. Forms:

=====================  ==================================================================================
``"top1"``, ``"top3"``  the class ranked first, third, …; in a rank above 2 the sample's largest element
``281``, ``"281"``      a class index
``"tabby"``             a class by its label
``[281, 282]``          one per sample
``"contrast:A,B"``      A minus B, each of the forms above
``"OUTPUT[:,3]"``       numpy-style indexing of a named output, batch axis first, summed
``"detection:0"``       a detector's detection: no functional of one output, see :mod:`analyzer.targets.detection.target`
=====================  ==================================================================================
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.targets.target import Array, Resolved

if TYPE_CHECKING:
    from analyzer.inputs import Labels

TargetLike = int | str | Sequence[int | str] | Array
_INDEXED = re.compile(r"^(?P<output>[^\[\]]*)\[(?P<index>[^\[\]]*)\]$")
_TOP = re.compile(r"top(\d{1,18})")
_INTEGER = re.compile(r"-?\d{1,18}")
_LONGEST_INDEX = 500
#: What reading a hostile index can raise; the last two come from deep nesting.
_UNREADABLE = (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError)


def output_of(target: TargetLike) -> str | None:
    """The name of the output that a target indexes, None for the default one."""
    if isinstance(target, str):
        match = _INDEXED.match(target)
        if match and match["output"]:
            return match["output"]
    return None


def is_detection(target: object) -> bool:
    """Whether a target, or one of a list of targets, is a detection."""
    each = target if isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) else [target]
    return any(isinstance(one, str) and one.startswith("detection:") for one in each)


def resolve(target: TargetLike, output: Array, labels: Labels | None = None) -> Resolved:
    """A target's weights on an output.

    Parameters
    ----------
    output
        The scores, batch first.

    Raises
    ------
    UsageError
        ``target.out_of_range``, ``target.unknown_label``, ``target.syntax``, ``target.count``, ``target.detection``.
    """
    if is_detection(target):
        raise UsageError(
            "target.detection",
            f"{str(target)[:80]!r} is the target of an explanation with a decode spec, not of this",
            "index the detection's class score: OUTPUT[:,ROW,COLUMN]",
        )
    output = np.asarray(output)
    batch = output if output.ndim else output.reshape(1)
    if isinstance(target, str) and _INDEXED.match(target):
        return _indexed(target, output)
    if isinstance(target, np.ndarray) and target.ndim == 0:
        target = target.item()
    if isinstance(target, (list, tuple, np.ndarray)):
        if len(target) != len(batch):
            raise UsageError(
                "target.count",
                f"{len(target)} targets were given for a batch of {len(batch)}",
                "give one target, or one per sample",
            )
        parts = [_single(each, batch[i : i + 1], labels) for i, each in enumerate(target)]
    else:
        parts = [_single(target, batch[i : i + 1], labels) for i in range(len(batch))]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    weights = np.concatenate([part.weights for part in parts]).reshape(output.shape or (1,))
    return Resolved(
        weights, tuple(name for p in parts for name in p.names), tuple(c for p in parts for c in p.classes), notes
    )


def _single(target: Any, sample: Array, labels: Labels | None) -> Resolved:
    """One sample's weights; ``sample`` has a batch axis of size 1."""
    if isinstance(target, str) and target.startswith("contrast:"):
        first, comma, second = target.removeprefix("contrast:").partition(",")
        if not comma or not second:
            raise UsageError("target.syntax", f"target {target!r} needs two classes", "write contrast:A,B")
        a, b = _single(first.strip(), sample, labels), _single(second.strip(), sample, labels)
        return Resolved(a.weights - b.weights, (f"{a.names[0]} minus {b.names[0]}",), (-1,), a.notes + b.notes)
    classes = _class_axis(sample.shape)
    if classes is None:
        return _element(target, sample)
    count = sample.shape[1] if classes else 1
    index = _class_index(target, sample.reshape(count), labels)
    weights = np.zeros(count)
    weights[index] = 1.0
    return Resolved(weights.reshape(sample.shape), (_name(index, labels, count),), (index if count > 1 else -1,))


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


def _name(index: int, labels: Labels | None, count: int) -> str:
    if count == 1:
        return "value"
    name = labels.name(index) if labels is not None else None
    return f"{name} ({index})" if name and name != str(index) else f"class {index}"


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


def _indexed(target: str, output: Array) -> Resolved:
    match = _INDEXED.match(target)
    assert match is not None
    weights = np.zeros(output.shape)
    try:
        weights[parse_index(match["index"])] = 1.0
    except (IndexError, ValueError) as problem:
        reason = str(problem).split(":")[0]
        raise UsageError(
            "target.out_of_range",
            f"target {target!r} doesn't fit the output's shape {list(output.shape)}: {reason}",
            "the first index is the batch; use : for all of it",
        ) from None
    if not weights.any():
        raise UsageError("target.out_of_range", f"target {target!r} selects nothing", f"shape {list(output.shape)}")
    batch = len(output) if output.ndim else 1
    return Resolved(weights if output.ndim else weights.reshape(1), (target,) * batch, (-1,) * batch)


def parse_index(text: str) -> Any:
    """``:,3,1:4,...`` as a numpy index; only integers, slices and an ellipsis.

    Raises
    ------
    UsageError
        ``target.syntax``.
    """
    try:
        if len(text) > _LONGEST_INDEX:
            raise ValueError(len(text))
        node = ast.parse(f"x[{text}]", mode="eval").body
        assert isinstance(node, ast.Subscript)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return tuple(_index_part(part) for part in parts)
    except _UNREADABLE:
        raise UsageError(
            "target.syntax", f"can't read the index [{text[:80]}]", "use integers, slices and ..., as in [:,3,1:4]"
        ) from None


def _index_part(node: ast.expr) -> Any:
    if isinstance(node, ast.Slice):
        return slice(*(None if part is None else _integer(part) for part in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Constant) and node.value is Ellipsis:
        return Ellipsis
    return _integer(node)


def _integer(node: ast.expr) -> int:
    value = ast.literal_eval(node)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(value)
    return value
