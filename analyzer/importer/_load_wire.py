"""One pass over a model's bytes before the protobuf library sees them.

A few bytes of protobuf can ask for gigabytes of objects or thousands of levels of recursion, and the library's own
errors don't tell a truncated download from a file that never was a model. This walk answers all of that without
building anything: it follows message boundaries only, skips weights, and jumps over runs of numbers with one regular
expression.

Belongs here: the wire format. Not here: what the fields mean (``validation`` and the other ``_load_*`` checks).

Source: the protobuf encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from analyzer.errors import InputError
from analyzer.importer._load_file import HEAD, looks_like
from analyzer.importer._load_limits import Limits, human
from analyzer.importer._load_text import quoted

# protobuf's own limit on nested messages: 100 below the outermost.
DEEPEST_MESSAGE = 100
BYTES_PER_MESSAGE = 160
BYTES_PER_TEXT = 32
HIGHEST_IR = 10_000
IR_VERSION_TAG = 0x08


def _one_of(wire_type: int) -> bytes:
    return b"[" + b"".join(b"\\x%02x" % (number << 3 | wire_type) for number in range(1, 16)) + b"]"


# Possessive, so that a run of millions of numbers needs neither recursion nor memory.
NUMBERS = re.compile(
    b"(?:" + _one_of(0) + rb"[\x80-\xff]{0,9}[\x00-\x7f]|" + _one_of(1) + b".{8}|" + _one_of(5) + b".{4})++",
    re.DOTALL,
)
SKIP, TEXT, PACKED = "skip", "text", "packed"


@dataclass(eq=False)
class Kind:
    """A message type: what each of its length-delimited fields holds, by tag."""

    name: str
    fields: dict[int, Kind | str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WireFacts:
    """What the walk found: counts, and whether any text isn't UTF-8."""

    fields: int
    nodes: int
    bad_text: bool


@functools.cache
def model_kind() -> Kind:
    """The message types of ONNX, from the installed onnx package's own descriptors."""
    kinds: dict[str, Kind] = {}

    def kind_of(descriptor: Descriptor) -> Kind:
        if descriptor.full_name in kinds:
            return kinds[descriptor.full_name]
        kind = kinds[descriptor.full_name] = Kind(descriptor.name)
        for entry in descriptor.fields:
            tag = entry.number << 3 | 2
            kind.labels[tag] = entry.name
            if entry.message_type is not None:
                kind.fields[tag] = kind_of(entry.message_type)
            elif entry.type == FieldDescriptor.TYPE_STRING:
                kind.fields[tag] = TEXT
            elif entry.type == FieldDescriptor.TYPE_BYTES:
                kind.fields[tag] = SKIP
            else:
                kind.fields[tag] = PACKED
        return kind

    return kind_of(onnx.ModelProto.DESCRIPTOR)


def scan(data: bytes, limits: Limits) -> WireFacts:
    """Walk the messages of a serialised ModelProto.

    Cost: about half a microsecond per text or message; weights are free.

    Raises
    ------
    InputError
        ``model.truncated``, ``model.not_onnx``, ``model.too_deep``, ``model.invalid`` (damaged inside),
        ``limit.graph_size``, ``limit.memory``.
    """
    root = model_kind()
    numbers, text, packed = NUMBERS.match, TEXT, PACKED
    stack: list[tuple[int, Kind]] = []
    end, kind, position = len(data), root, 0
    fields = messages = nodes = texts = 0
    bad_text = False
    # What the parsed model takes at least, weights included.
    memory = len(data)
    while True:
        if position >= end:
            if not stack:
                break
            end, kind = stack.pop()
            continue
        start = position
        if data[position] & 7 != 2 and (run := numbers(data, position, end)):
            position = run.end()
            memory += 4 * (position - start)
            continue
        # Tag, then length: one byte each in nearly every field.
        tag, position = data[position], position + 1
        if tag & 0x80:
            tag, position = _varint(data, start, end)
        if position >= 0 and tag & 7 != 2:
            position = _skip_number(data, position, end, tag)
            if position < 0 or not tag >> 3:
                raise _fault(data, start, stack, kind, tag)
            continue
        if 0 <= position < end and data[position] < 0x80:
            size, position = data[position], position + 1
        else:
            size, position = _varint(data, position, end)
        stop = position + size
        if position < 0 or stop > end or not tag >> 3:
            raise _fault(data, start, stack, kind, tag)
        fields += 1
        inner = kind.fields.get(tag, SKIP)
        if isinstance(inner, Kind):
            messages += 1
            nodes += inner.name == "NodeProto"
            stack.append((end, kind))
            if len(stack) > DEEPEST_MESSAGE:
                raise InputError(
                    "model.too_deep",
                    f"nests {DEEPEST_MESSAGE} levels of messages at byte {start}, deeper than any parser follows",
                    "flatten the subgraphs or re-export the model",
                )
            end, kind, position = stop, inner, position
        else:
            if inner is text:
                texts += 1
                bad_text = bad_text or not _is_utf8(data[position:stop])
            elif inner is packed:
                memory += 8 * size
            position = stop
        if nodes > limits.nodes or fields > limits.fields:
            what = f"{limits.nodes} nodes" if nodes > limits.nodes else f"{limits.fields} fields"
            raise InputError("limit.graph_size", f"has more than {what}", "use a smaller model")
    memory += BYTES_PER_MESSAGE * messages + BYTES_PER_TEXT * texts
    if memory > limits.memory_bytes:
        raise InputError(
            "limit.memory",
            f"takes at least {human(memory)} once parsed, more than the budget of {human(limits.memory_bytes)}",
            "use a smaller model or a machine with more memory",
        )
    return WireFacts(fields, nodes, bad_text)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position` and where it ends; (0, -1) where it runs past `end` or is longer than 64 bits."""
    if position < 0:
        return 0, -1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            return 0, -1
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return 0, -1


def _skip_number(data: bytes, position: int, end: int, tag: int) -> int:
    """Where the number after a tag ends; -1 where it doesn't or where the tag announces no number."""
    wire_type = tag & 7
    if wire_type == 0:
        return _varint(data, position, end)[1]
    width = {1: 8, 5: 4}.get(wire_type, 0)
    return position + width if width and position + width <= end else -1


def _fault(data: bytes, start: int, stack: list[tuple[int, Kind]], kind: Kind, tag: int) -> InputError:
    """The error for a field at `start` that can't be read: cut off, damaged, or no model at all."""
    if not _starts_like_a_model(data):
        kind_of_file = looks_like(data[:HEAD])
        what = f"looks like {kind_of_file}, not an ONNX model" if kind_of_file else "is not an ONNX model"
        return InputError("model.not_onnx", what, "give a .onnx file; export the model if it has none")
    label = kind.labels.get(tag, "an unknown field")
    if not stack and _runs_past_the_end(data, start):
        return InputError(
            "model.truncated",
            f"ends after {len(data)} bytes in the middle of {quoted(label)}, which starts at byte {start}",
            "download or export it again: the file is incomplete",
        )
    return InputError(
        "model.invalid",
        f"is damaged at byte {start}: {label} of {kind.name} can't be read",
        "download or export it again",
    )


def _runs_past_the_end(data: bytes, start: int) -> bool:
    """Whether the top-level field at `start` is a known one of the right type that would end after the file."""
    tag, position = _varint(data, start, len(data))
    if position < 0:
        return len(data) - start < 10
    known = {entry.number for entry in onnx.ModelProto.DESCRIPTOR.fields}
    return tag >> 3 in known and tag & 7 in (0, 2) and (tag & 7 == 2 or _varint(data, position, len(data))[1] < 0)


def _starts_like_a_model(data: bytes) -> bool:
    """Whether the first fields are those that exporters write first.

    A serialised ModelProto starts with ``ir_version``, a small number in field 1, before another field of ModelProto; a
    writer that orders its fields otherwise still starts with several complete fields.
    """
    wire_types = {
        entry.number: 0 if entry.type == FieldDescriptor.TYPE_INT64 else 2
        for entry in onnx.ModelProto.DESCRIPTOR.fields
    }
    position, complete = 0, 0
    while complete < 3 and position < len(data):
        start = position
        tag, position = _varint(data, position, len(data))
        if position < 0:
            return len(data) - start < 10 and complete > 0
        if wire_types.get(tag >> 3) != tag & 7:
            return False
        number, position = _varint(data, position, len(data))
        if start == 0 and tag == IR_VERSION_TAG:
            if position >= 0 and number >= HIGHEST_IR:
                return False
            complete += 1
        if position < 0 or (tag & 7 == 2 and position + number > len(data)):
            return complete > 0
        position += number if tag & 7 == 2 else 0
        complete += 1
    return complete > 0
