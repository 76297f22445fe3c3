"""An index as text: integers, slices and an ellipsis, and nothing else.

Belongs here: reading it. Not here: what it selects (``language``).
"""

from __future__ import annotations

import ast
from typing import Any

from analyzer.errors import UsageError

_LONGEST_INDEX = 500
#: What reading a hostile index can raise; the last two come from deep nesting.
_UNREADABLE = (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError)


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
