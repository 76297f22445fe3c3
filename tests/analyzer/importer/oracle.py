"""Running one small ONNX model through the operator table and through onnxruntime, for tests of operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder


def node_model(
    op_type: str,
    inputs: Mapping[str, np.ndarray],
    outputs: int = 1,
    opset: int = 21,
    domain: str = "",
    initializers: tuple[str, ...] = (),
    extra_imports: Mapping[str, int] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; arrays named in ``initializers`` are baked in, the others are inputs."""
    names = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op_type, list(inputs), names, domain=domain, **attributes)
    typed = [
        onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in inputs.items()
        if k and k not in initializers
    ]
    untyped = [onnx.ValueInfoProto(name=n) for n in names]
    baked = [numpy_helper.from_array(np.ascontiguousarray(inputs[k]), k) for k in initializers]
    graph = onnx.helper.make_graph([node], "g", typed, untyped, baked)
    imports = {"": opset, **(extra_imports or {})}
    opsets = [onnx.helper.make_opsetid(k, v) for k, v in imports.items()]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def runtime(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """onnxruntime's outputs, graph optimisations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    return list(session.run(None, {k: v for k, v in feed.items() if k in wanted}))


def table(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], record: bool = True) -> list[np.ndarray]:
    """The operator table's outputs; with ``record`` they come from replaying the recorded trace."""
    graph = build(model, numpy_helper.to_array)
    with torch.no_grad():
        if not record:
            tensors = {k: as_tensor(v) for k, v in feed.items() if k in graph.inputs}
            return [_numpy(v) for v in run_graph(graph, tensors, Interpreter()).values()]
        recorder = Recorder()
        with recorder:
            tensors = {k: recorder.placeholder(k, as_tensor(v)) for k, v in feed.items() if k in graph.inputs}
            out = run_graph(graph, tensors, Interpreter(recorder))
        module = recorder.finish(out)
        return [_numpy(v) for v in module(*[as_tensor(v).clone() for k, v in feed.items() if k in graph.inputs])]


def _numpy(value: torch.Tensor) -> np.ndarray:
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()


def check(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Assert that the table, run directly and replayed from its trace, equals onnxruntime in value, shape and dtype."""
    expected = runtime(model, feed)
    for record in (False, True):
        got = table(model, feed, record)
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            assert mine.shape == theirs.shape, (mine.shape, theirs.shape)
            assert mine.dtype == theirs.dtype, (mine.dtype, theirs.dtype)
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol)
