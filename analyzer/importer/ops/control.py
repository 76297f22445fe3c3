"""Control flow: If, Loop and Scan, walked with concrete conditions and unrolled.

Belongs here: choosing a branch, counting iterations, carrying state and stacking scan outputs. Not here: running a
graph (``interpreter``) and recurrent layers (``recurrent``).

A condition or trip count that depends on the model's input is read through :func:`recorder.concrete`, which
marks the trace as valid for that input only. One that doesn't (a flag, a constant, a shape) leaves no mark, and
the trace holds the unrolled iterations and nothing of the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from analyzer.errors import AnalyzerError, InputError
from analyzer.importer import recorder
from analyzer.importer.graph import Graph, Node
from analyzer.importer.interpreter import Scope
from analyzer.importer.quantized import plain
from analyzer.importer.table import operator

#: Iterations that a loop may have in a trace; each one is written out.
MOST_ITERATIONS = 100_000


@operator("If", control=True)
def if_(node: Node, condition: Tensor, *, scope: Scope) -> tuple[Any, ...]:
    """The outputs of ``then_branch`` or ``else_branch``."""
    if condition.numel() != 1:
        raise InputError(
            "op.bad_attribute",
            f"{node}: the condition has shape {tuple(condition.shape)}, one truth value is needed",
            "re-export the model",
        )
    taken = "then_branch" if recorder.concrete(condition).item() else "else_branch"
    branch: Graph = node.required(taken)
    return scope.run(branch, ())


@operator("Loop", control=True)
def loop(
    node: Node, count: Tensor | None = None, condition: Tensor | None = None, *state: Any, scope: Scope
) -> tuple[Any, ...]:
    """Carried values after the last iteration, then the stacked scan outputs."""
    body: Graph = node.required("body")
    trips = None if count is None else int(recorder.concrete(count).item())
    if trips is not None and trips > MOST_ITERATIONS and condition is None:
        raise _too_long(node)
    carried, columns = list(state), _columns(body, 1 + len(state))
    condition = torch.tensor(True) if condition is None else condition
    step = 0
    while (trips is None or step < trips) and recorder.concrete(condition).item():
        if step >= MOST_ITERATIONS:
            raise _too_long(node)
        condition, *outputs = scope.run(body, (torch.tensor(step), condition, *carried))
        carried = outputs[: len(state)]
        for column, value in zip(columns, outputs[len(state) :], strict=True):
            column.append(plain(value))
        step += 1
    with _provenance(scope, node):
        if step:
            return (*carried, *(torch.stack(column) for column in columns))
        shapes = _dry_run(body, (torch.tensor(0), condition, *carried), scope)[1 + len(state) :]
        return (*carried, *(torch.empty((0, *value.shape), dtype=value.dtype) for value in shapes))


@operator("Scan", since=9, control=True)
def scan(node: Node, *inputs: Any, scope: Scope) -> tuple[Any, ...]:
    """Final states, then the scan outputs; every scan input has its own axis and direction."""
    body: Graph = node.required("body")
    scanned = int(node.required("num_scan_inputs"))
    states, sequences = list(inputs[: len(inputs) - scanned]), [plain(x) for x in inputs[len(inputs) - scanned :]]
    produced = len(body.outputs) - len(states)
    axes = _each(node, "scan_input_axes", scanned)
    backwards = _each(node, "scan_input_directions", scanned)
    final, columns = _scan(node, body, states, sequences, axes, backwards, scope)
    out_axes = _each(node, "scan_output_axes", produced)
    reverse = _each(node, "scan_output_directions", produced)
    with _provenance(scope, node):
        stacked = [
            torch.stack(column[::-1] if flip else column, axis)
            for column, axis, flip in zip(columns, out_axes, reverse, strict=True)
        ]
    return (*final, *stacked)


@operator("Scan", since=8, control=True)
def scan_8(node: Node, lengths: Tensor | None, *inputs: Any, scope: Scope) -> tuple[Any, ...]:
    """Scan of opset 8: batch first, sequence second, each sample with its own length; the rest is zero."""
    body: Graph = node.required("body")
    scanned = int(node.required("num_scan_inputs"))
    states, sequences = inputs[: len(inputs) - scanned], [plain(x) for x in inputs[len(inputs) - scanned :]]
    backwards = _each(node, "directions", scanned)
    batch, longest = sequences[0].shape[:2]
    steps = [longest] * batch if lengths is None else recorder.integers(lengths)
    finals: list[list[Tensor]] = []
    outputs: list[list[Tensor]] = []
    for sample in range(batch):
        own = [x[sample, : steps[sample]] for x in sequences]
        first = [plain(state)[sample] for state in states]
        final, columns = _scan(node, body, first, own, [0] * scanned, backwards, scope)
        with _provenance(scope, node):
            finals.append([plain(value) for value in final])
            outputs.append([_padded(torch.stack(column), longest) for column in columns])
    with _provenance(scope, node):
        return tuple(torch.stack(column) for column in [*zip(*finals, strict=True), *zip(*outputs, strict=True)])


def _scan(
    node: Node,
    body: Graph,
    states: Sequence[Any],
    sequences: Sequence[Tensor],
    axes: Sequence[int],
    backwards: Sequence[int],
    scope: Scope,
) -> tuple[list[Any], list[list[Tensor]]]:
    """Run a scan body over sequences; gives the final states and, per scan output, the values of every step."""
    lengths = {x.shape[axis] for x, axis in zip(sequences, axes, strict=True)}
    if len(lengths) != 1:
        raise InputError(
            "op.bad_attribute", f"{node}: scan inputs of different lengths {sorted(lengths)}", "re-export the model"
        )
    steps = lengths.pop()
    if steps > MOST_ITERATIONS:
        raise _too_long(node)
    columns = _columns(body, len(states))
    carried = list(states)
    for step in range(steps):
        with _provenance(scope, node):
            elements = [
                x.select(axis, steps - 1 - step if back else step)
                for x, axis, back in zip(sequences, axes, backwards, strict=True)
            ]
        outputs = scope.run(body, (*carried, *elements))
        carried = list(outputs[: len(states)])
        for column, value in zip(columns, outputs[len(states) :], strict=True):
            column.append(plain(value))
    return carried, columns


def _padded(value: Tensor, length: int) -> Tensor:
    missing = length - value.shape[0]
    if not missing:
        return value
    nothing = torch.zeros((missing, *value.shape[1:]), dtype=value.dtype, device=value.device)
    return torch.cat([value, nothing])


def _columns(body: Graph, states: int) -> list[list[Tensor]]:
    return [[] for _ in body.outputs[states:]]


def _each(node: Node, name: str, count: int) -> list[int]:
    values = [int(v) for v in node.attr(name) or [0] * count]
    if len(values) != count:
        raise InputError(
            "op.bad_attribute", f"{node}: {name} has {len(values)} entries, {count} are needed", "re-export the model"
        )
    return values


def _dry_run(body: Graph, inputs: tuple[Any, ...], scope: Scope) -> tuple[Tensor, ...]:
    """A body's outputs off the record: they give the shapes of what a loop without iterations would have stacked."""
    with recorder.without_recording():
        aside = Scope(type(scope.interpreter)(precision=scope.interpreter.precision), {}, scope, scope.path)
        try:
            return tuple(plain(value) for value in aside.run(body, inputs))
        except AnalyzerError:  # it needs a first iteration's values: no shape can be known
            return tuple(torch.empty(()) for _ in body.outputs)


@contextmanager
def _provenance(scope: Scope, node: Node) -> Iterator[None]:
    """What is recorded here belongs to the control-flow node, not to the last node of its body."""
    if scope.interpreter.recorder is not None:
        scope.interpreter.recorder.provenance = {"onnx": scope.path + node.name, "op": node.op_type}
    yield


def _too_long(node: Node) -> InputError:
    return InputError(
        "limit.time",
        f"{node} runs more than {MOST_ITERATIONS} iterations, each of which a trace would write out",
        "perturbation methods such as occlusion work without a trace",
    )
