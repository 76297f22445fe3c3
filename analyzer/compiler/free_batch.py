"""From recordings to a written model whose batch axis is free where that is possible.

Belongs here: recording at two batch sizes, and falling back to one. Not here: what is recorded (``sweep_model``,
``analyzer.export``), comparing two recordings (``unify``), writing (``writer``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from torch import fx

from analyzer.compiler import unify
from analyzer.compiler.ir import Program
from analyzer.compiler.writer import Writer
from analyzer.errors import InputError, ParityError, UnsupportedError

#: Protobuf holds less than 2 GiB.
MAX_BYTES = 2**31 - 2**24
HINT = "explain with the torch backend instead"


@dataclass(frozen=True)
class Recorded:
    """One recording with the names of its outputs; ``facts`` go into the description of the model."""

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
        None where it is free.
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
        Records at a batch size; None stands for the size of the example.
    batch
        The batch size of the example.
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
                recorded_2, recorded_3 = record(2), record(3)
                program = unify.free(recorded_2.module, recorded_3.module, recorded_2.outputs, (2, 3))
                return _written(program, recorded_2, describe)
            except (unify.FixedBatchError, InputError, ParityError) as problem:
                reason = str(problem)
        at_example = record(None)
        return _written(unify.fixed(at_example.module, at_example.outputs, batch, reason), at_example, describe)


def _written(
    program: Program, recorded: Recorded, describe: Callable[[Mapping[str, Any], int | None], dict[str, str]]
) -> Written:
    proto = Writer(program).write("onnxplain", describe(recorded.facts, program.batch))
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > MAX_BYTES:
        raise UnsupportedError("compile.size", "the compiled model would be larger than 2 GiB", HINT)
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content)
    return Written(proto, content, recorded.facts, program.batch, program.reason)
