"""From recordings to a written model whose batch is free where it can be.

Belongs here: trying two batch sizes, and falling back to one. Not here: recording (``export``, ``sweeps``), comparing
recordings (``program``), writing one (``writer``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from torch import fx

from analyzer.compiler import ir as program
from analyzer.compiler.writer import Writer
from analyzer.errors import InputError, ParityError, UnsupportedError

#: Protobuf holds less than 2 GiB.
MOST_BYTES = 2**31 - 2**24
HINT = "explain with the torch backend instead"


@dataclass(frozen=True)
class Recorded:
    """One recording; ``facts`` are what else is to be known of it."""

    module: fx.GraphModule
    outputs: list[str]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A written model.

    Attributes
    ----------
    content
        The serialised model.
    batch
        None where any fits.
    reason
        Why the batch is fixed.
    """

    proto: onnx.ModelProto = field(repr=False)
    content: bytes = field(repr=False)
    facts: Mapping[str, Any]
    batch: int | None
    reason: str


def write(
    record: Callable[[int | None], Recorded],
    batch: int,
    reason: str,
    describe: Callable[[Mapping[str, Any], int | None], dict[str, str]],
) -> Written:
    """Record and write.

    Parameters
    ----------
    record
        Records at a batch size, None for the given input's own.
    batch
        That input's own.
    reason
        Why the batch has to be fixed; empty where it may be free.
    describe
        The file's metadata from a recording's facts and the batch.

    Raises
    ------
    UnsupportedError
        ``compile.operator``, ``compile.size``, and what ``record`` raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not reason:
            try:
                first, second = record(2), record(3)
                made = program.free(first.module, second.module, first.outputs, (2, 3))
                return _written(made, first, describe)
            except (program.FixedBatchError, InputError, ParityError) as problem:
                reason = str(problem)
        only = record(None)
        return _written(program.fixed(only.module, only.outputs, batch, reason), only, describe)


def _written(
    made: program.Program, recorded: Recorded, describe: Callable[[Mapping[str, Any], int | None], dict[str, str]]
) -> Written:
    proto = Writer(made).write("onnxplain", describe(recorded.facts, made.batch))
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > MOST_BYTES:
        raise UnsupportedError("compile.size", "the compiled model would be larger than 2 GiB", HINT)
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content)
    return Written(proto, content, recorded.facts, made.batch, made.reason)
