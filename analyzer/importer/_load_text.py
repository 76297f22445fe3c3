"""Names that come from a model file: how they are shown in messages, and what happens to text that isn't UTF-8.

Belongs here: quoting and the repair of undecodable text. Not here: which names are wrong (``_load_graph``).
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from analyzer.nearest import nearest

LONGEST_SHOWN = 80


def quoted(name: str | bytes, longest: int = LONGEST_SHOWN) -> str:
    """A name in quotes, at most `longest` characters, with everything unprintable escaped.

    Escapes terminal codes, line breaks and bidirectional marks, so that the result is safe in a one-line message.
    """
    text = decoded(name)
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"'{shown}'"


def decoded(text: str | bytes) -> str:
    """Text from a protobuf, with bytes that aren't UTF-8 as ``\\xff``."""
    return text if isinstance(text, str) else bytes(text).decode("utf-8", "backslashreplace")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``did you mean 'Relu'?`` for the nearest of `choices`, or nothing where none is near."""
    near = nearest(name, choices)
    return f"did you mean {quoted(near)}?" if near else ""


def escape_undecodable(model: onnx.ModelProto) -> int:
    """Rewrite, in place, every text field whose bytes aren't UTF-8 (protobuf hands those out as ``bytes``).

    Each bad byte becomes the four characters ``\\xff``, consistently, so that names still refer to each other.

    Returns
    -------
    int
        How many texts were rewritten.
    """
    rewritten = 0
    waiting: list[Message] = [model]
    while waiting:
        message = waiting.pop()
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend([value] if isinstance(value, Message) else value)
            elif field.type == FieldDescriptor.TYPE_STRING:
                if isinstance(value, bytes):
                    setattr(message, field.name, decoded(value))
                    rewritten += 1
                elif not isinstance(value, str):
                    bad = [index for index, item in enumerate(value) if isinstance(item, bytes)]
                    for index in bad:
                        value[index] = decoded(value[index])
                    rewritten += len(bad)
    return rewritten
