"""A mapping as a TOML document, with comments: the standard library only reads TOML.

Belongs here: the text. Not here: what a policy may hold (``policy``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analyzer.errors import UsageError

Key = tuple[str | int, ...]


def to_toml(document: Mapping[str, Any], comments: Mapping[Key, Sequence[str]] | None = None) -> str:
    """A document of tables and lists of tables, which may hold anything that TOML has a way to write; None is left out.

    Parameters
    ----------
    comments
        (table, key) or (list, position, key) -> lines above it; () -> lines at the top.

    Raises
    ------
    UsageError
        ``config.toml`` for a value that TOML has no way to write.
    """
    notes = comments or {}
    lines = [f"# {line}" for line in notes.get((), ())]
    plain = {name: value for name, value in document.items() if not _is_table(value) and not _are_tables(value)}
    lines += _pairs(plain, (), notes)
    for name, value in document.items():
        if _is_table(value):
            lines += ["", f"[{_key(name)}]", *_pairs(value, (name,), notes)]
        elif _are_tables(value):
            for at, each in enumerate(value):
                lines += ["", f"[[{_key(name)}]]", *_pairs(each, (name, at), notes)]
    return "\n".join(lines).strip("\n") + "\n"


def _pairs(content: Mapping[str, Any], where: Key, notes: Mapping[Key, Sequence[str]]) -> Iterator[str]:
    for name, value in content.items():
        if value is not None:
            yield from (f"# {line}" for line in notes.get((*where, name), ()))
            yield f"{_key(name)} = {_value(value)}"


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)  # inf, nan
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(name)} = {_value(each)}" for name, each in value.items() if each is not None)
        return f"{{{', '.join(pairs)}}}"
    raise UsageError(
        "config.toml", f"{type(value).__name__} {value!r} can't be written as TOML", "give text or numbers"
    )
