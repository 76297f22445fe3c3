"""Texts as words: cutting them apart, and putting together what is left of them.

Belongs here: which texts are cut, words under masks. Not here: what replaces a word (``text_fill``), columns of text
(``features``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import Rows
from analyzer.importer.text import text_ends
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.replacement import MaskedInput

#: A word: what white space separates.
_WORD = re.compile(r"\S+")
#: Encoders that take a text as a whole, as the name of a category.
_CATEGORIES = frozenset(("OneHotEncoder", "LabelEncoder", "CategoryMapper", "TfIdfVectorizer", "Equal", "Cast"))
#: What methods may be told to cut rows into.
WAYS = ("words", "columns")


def cut_into_words(evaluator: Evaluator, how: Any) -> tuple[str, ...]:
    """The inputs whose texts are cut as a method's ``segments`` says: ``words``, ``columns``; else a text that is alone.

    A text that is alone is cut where the model itself does: what goes straight into an encoder of categories is no text.

    Raises
    ------
    UsageError
        ``segments.unknown`` where words are asked for and no changed input holds one text for each sample.
    """
    inputs = evaluator.inputs
    single = tuple(name for name in evaluator.texts if inputs[name].size == len(inputs[name]))
    if how == "words":
        if not single:
            raise UsageError(
                "segments.unknown", "no input holds one text for each sample", "cut by columns, or a count"
            )
        return single
    alone = len(evaluator.changed) == len(single) == 1 and how != "columns"
    return single if alone and _is_taken_apart(evaluator, single[0]) else ()


def _is_taken_apart(evaluator: Evaluator, name: str) -> bool:
    """Whether the model looks into a text: whether anything but an encoder of categories reads it."""
    nodes = evaluator.model.proto.graph.node
    ends = text_ends(nodes, [name])
    return not ends or any(nodes[at].op_type not in _CATEGORIES for at in ends)


def words_of(x: Array) -> list[str]:
    """The words of a sample's only text; of a text without words that text itself."""
    text = str(x.reshape(-1)[0])
    return _WORD.findall(text) or [text]


@dataclass(frozen=True)
class MaskedWords(MaskedInput):
    """A text under masks of its words.

    The replacement is a text for each word, None to take it out: then the white space before it goes too.
    """

    def copies(self, x: Array, rows: Rows) -> Array:
        """Copies of the sample with masked words replaced; as many as there are rows."""
        words, gaps = words_of(x), _WORD.split(str(x.reshape(-1)[0]))
        masks = self.mask_ops.masks({role: rows[self.prefix + role] for role in self.mask_ops.rows}, self.fixed)
        assert isinstance(self.replacement, np.ndarray)
        fill = self.replacement.reshape(-1)[0]
        made = np.empty(len(masks), object)
        for at, mask in enumerate(masks):
            made[at] = _joined([word if left else fill for word, left in zip(words, mask, strict=True)], gaps)
        return made.reshape(len(masks), *x.shape)


def _joined(words: Sequence[str | None], gaps: Sequence[str]) -> str:
    """The text of what is left of its words, each with the white space before it; the first with that of the text."""
    left = [(at, word) for at, word in enumerate(words) if word is not None]
    if not left:
        return ""
    begin = [gaps[0], *(gaps[at] for at, _ in left[1:])]
    return "".join(gap + word for gap, (_, word) in zip(begin, left, strict=True)) + (gaps[-1] if len(gaps) > 1 else "")
