"""A program written as an ONNX model with standard operators.

Belongs here: the walk over the program, inputs and outputs. Not here: what an operator becomes (``lowering``), what is
computed (``sweep_model``, ``analyzer.export``).
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Any

import onnx
import torch
from onnx import helper

from analyzer.compiler.ir import Batch, Constant, Ref, Step, Value
from analyzer.compiler.lowering import LOWERINGS
from analyzer.compiler.lowering.emitter import TYPES, Emitter
from analyzer.compiler.refusal import UNWRAPPED, refused
from analyzer.errors import UnsupportedError
from graph_rules.operators import MOVEMENTS

OPSET = 18
#: Name of the batch axis.
BATCH = "batch"
#: Element types too coarse for a sweep, and the operators that may give them because they compute nothing.
_COARSE = (torch.float16, torch.bfloat16)
_COPYING = MOVEMENTS - {getitem}


class Writer(Emitter):
    """Writes a program."""

    def write(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """The program as a model with a graph of that name."""
        program = self.program
        self._taken = {input_name for input_name, _ in program.inputs.values()} | set(program.outputs)
        for node, (input_name, result) in program.inputs.items():
            self.values[node] = Value(input_name, result.shape, result.dtype)
        for step in program.steps:
            self._lower(step)
        inputs = [_info(key, Value(key, result.shape, result.dtype)) for key, result in program.inputs.values()]
        outputs = [self._output(key, ref) for key, ref in program.outputs.items()]
        # built in place: helper.make_graph and make_model would copy the weights twice more
        model = onnx.ModelProto(ir_version=8, producer_name="onnxplain")
        model.opset_import.append(helper.make_opsetid("", OPSET))
        model.graph.name = name
        model.graph.node.extend(self._needed(program.outputs))
        model.graph.input.extend(inputs)
        model.graph.output.extend(outputs)
        read = {i for node in model.graph.node for i in node.input}
        model.graph.initializer.extend(tensor for tensor in self.initializers if tensor.name in read)
        helper.set_model_props(model, metadata)
        return model

    def _lower(self, step: Step) -> None:
        """Write the nodes of one call.

        Raises
        ------
        UnsupportedError
            ``compile.operator``, ``compile.precision``.
        """
        lowering = LOWERINGS.get(step.target)
        if lowering is None:
            raise refused(step.target, step.origin, "it has no form in standard ONNX operators here")
        if step.target not in _COPYING and any(r.dtype in _COARSE for r in step.results.values()):
            raise UnsupportedError(
                "compile.precision",
                "the model computes in half precision, where two runtimes' explanations don't agree",
                "convert the model to float32, or explain with the torch backend",
            )
        results: Any = step.results.get(None, step.results)
        args = [self._argument(a) for a in step.args]
        named = {k: self._argument(v) for k, v in step.kwargs.items()}
        try:
            names = lowering(self, results, *args, **named)
        except UNWRAPPED:
            raise
        except Exception as problem:
            raise refused(step.target, step.origin, problem) from problem
        for index, node in step.parts.items():
            result = step.results[index]
            self.values[node] = Value(names if index is None else names[index], result.shape, result.dtype)

    def _output(self, name: str, ref: Any) -> onnx.ValueInfoProto:
        value = self._argument(ref) if isinstance(ref, Ref) else ref
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=self.fresh("Identity")))
        return _info(name, value)

    def _needed(self, outputs: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes that the outputs depend on, in order."""
        wanted, needed = set(outputs), []
        for node in reversed(self.nodes):
            if any(output in wanted for output in node.output):
                needed.append(node)
                wanted.update(node.input)
        return needed[::-1]

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            if value.name not in self.values:
                self.values[value.name] = self._constant(self.program.constants[value.name])
            return self.values[value.name]
        if isinstance(value, tuple):
            return tuple(self._argument(each) for each in value)
        return value

    def _constant(self, constant: Constant) -> Value:
        tensor = constant.value
        stored = Value(self.tensor(tensor), tuple(tensor.shape), tensor.dtype)
        if constant.expanded is None:
            return stored
        return Value(self.expand(stored, constant.expanded), constant.expanded, tensor.dtype)


def _info(name: str, value: Value) -> onnx.ValueInfoProto:
    sizes = [(BATCH if s.times == 1 else f"{s.times}*{BATCH}") if isinstance(s, Batch) else int(s) for s in value.shape]
    return helper.make_tensor_value_info(name, TYPES[value.dtype], sizes)
