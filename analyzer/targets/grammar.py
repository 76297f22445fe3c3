"""Reading a target: contrasts, opposites and what they are made of.

Belongs here: from text to a tree. Not here: what a leaf of it means on an output (``language``, ``regions``, ``functional``).

A contrast takes its first target up to the comma that ends it, so that commas in brackets and those of a contrast inside it
don't count; its second target is the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from analyzer.errors import UsageError

_INDEXED = re.compile(r"^(?P<output>[^\[\]]*)\[(?P<index>[^\[\]]*)\]$")
_NO_NAME = re.compile(r"-?\d+|top\d+|reconstruction")
_CONTRAST, _NOT = "contrast:", "not:"
#: Functionals of an output that aren't linear; the first two are followed by a file.
FUNCTIONALS = ("cosine:", "distance:", "reconstruction")
_DEEPEST = 16


@dataclass(frozen=True, eq=False)
class Leaf:
    """A target that isn't made of others: text, a class index, or an array of weights.

    Attributes
    ----------
    scalar
        The output that it is the whole name of; empty for others.
    """

    target: Any
    scalar: str = ""

    @property
    def output(self) -> str | None:
        """The name of the output that it indexes, None for the default one."""
        if self.scalar:
            return self.scalar
        match = self.indexed
        return match["output"] or None if match else None

    @property
    def indexed(self) -> re.Match[str] | None:
        """Output and index where it is one."""
        if not isinstance(self.target, str) or self.target.startswith(_PREFIXES):
            return None
        return _INDEXED.match(self.target)

    @property
    def functional(self) -> bool:
        """Whether it isn't linear in the output."""
        text = self.target
        return isinstance(text, str) and (text == FUNCTIONALS[2] or text.startswith(FUNCTIONALS[:2]))

    @property
    def detection(self) -> bool:
        """Whether it is a detector's detection."""
        return isinstance(self.target, str) and self.target.startswith("detection:")


@dataclass(frozen=True, eq=False)
class Contrast:
    """One target minus another."""

    first: Tree
    second: Tree


@dataclass(frozen=True, eq=False)
class Opposite:
    """Minus a target."""

    of: Tree


Tree = Leaf | Contrast | Opposite
_PREFIXES = (*FUNCTIONALS[:2], "weights:", "region:", "detection:")


def parse(target: Any) -> Tree:
    """A target as a tree.

    Raises
    ------
    UsageError
        ``target.syntax``.
    """
    if isinstance(target, (Leaf, Contrast, Opposite)):
        return target
    if not isinstance(target, str):
        return Leaf(target)
    tree, _ = _read(target, True, 0)
    return tree


def trees(target: Any) -> tuple[list[Tree], bool]:
    """The trees of a target, and whether they are one per sample."""
    if isinstance(target, np.ndarray) and target.ndim == 0:
        target = target.item()
    if is_per_sample(target):
        return [parse(each) for each in target], True
    return [parse(target)], False


def is_per_sample(target: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a target holds one per sample; an array of floats holds weights."""
    return isinstance(target, (list, tuple)) or (
        isinstance(target, np.ndarray) and target.ndim > 0 and target.dtype.kind != "f"
    )


def leaves(tree: Tree) -> Iterator[Leaf]:
    """What a tree is made of."""
    if isinstance(tree, Leaf):
        yield tree
    elif isinstance(tree, Opposite):
        yield from leaves(tree.of)
    else:
        yield from leaves(tree.first)
        yield from leaves(tree.second)


def with_scalars(tree: Tree, outputs: Collection[str], labels: Collection[str]) -> Tree:
    """The tree with outputs that are named without brackets found; labels come first."""
    if isinstance(tree, Opposite):
        return Opposite(with_scalars(tree.of, outputs, labels))
    if isinstance(tree, Contrast):
        return Contrast(with_scalars(tree.first, outputs, labels), with_scalars(tree.second, outputs, labels))
    text = tree.target
    if not isinstance(text, str) or text not in outputs or text in labels or _NO_NAME.fullmatch(text):
        return tree
    return Leaf(text, text)


def all_leaves(several: Sequence[Tree]) -> list[Leaf]:
    """What trees are made of."""
    return [leaf for tree in several for leaf in leaves(tree)]


def _read(text: str, is_last: bool, depth: int) -> tuple[Tree, str]:
    """A tree from the beginning of a text, and the text after it; the last one takes all."""
    if depth > _DEEPEST:
        raise UsageError(
            "target.syntax", f"a target holds more than {_DEEPEST} others inside each other", "write it flatter"
        )
    text = text.strip(" ") if depth else text
    if text.startswith(_NOT):
        inner, rest = _read(text[len(_NOT) :], is_last, depth + 1)
        _require(inner, text)
        return Opposite(inner), rest
    if text.startswith(_CONTRAST):
        first, rest = _read(text[len(_CONTRAST) :], False, depth + 1)
        if not rest.startswith(",") or not rest[1:].strip():
            raise UsageError("target.syntax", f"target {text[:80]!r} needs two targets", "write contrast:A,B")
        second, rest = _read(rest[1:], is_last, depth + 1)
        return Contrast(first, second), rest
    end = len(text) if is_last else _comma(text)
    return Leaf(text[:end].strip(" ") if depth else text), text[end:]


def _require(tree: Tree, text: str) -> None:
    if isinstance(tree, Leaf) and tree.target == "":
        raise UsageError("target.syntax", f"target {text[:80]!r} needs a target after the colon", "write not:TARGET")


def _comma(text: str) -> int:
    """The place of the first comma outside brackets, else the text's end."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            return place
    if depth:
        raise unbalanced(text)
    return len(text)


def unbalanced(text: str) -> UsageError:
    """The error for brackets without a partner."""
    return UsageError(
        "target.syntax", f"brackets are not balanced in target {text[:80]!r}", "close each [ by a ], as in OUTPUT[:,3]"
    )
