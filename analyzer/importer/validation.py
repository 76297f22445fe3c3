"""Is a parsed model one that may be handed to a native library?

The order of the checks is the order of trust: versions and structure first, then names, operators and tensors, all in
plain Python with budgets. The onnx checker and onnxruntime come later and elsewhere: they can be made to crash.

Belongs here: the list of checks and model-level facts. Not here: walking through subgraphs (``subgraphs``), each single
idea (``_load_graph``, ``_load_ops``, ``_load_functions``, ``_load_tensors``, ``_load_memory``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from analyzer.errors import InputError
from analyzer.importer import _load_tensors as tensors
from analyzer.importer._load_functions import called, check_functions, function_keys, plain_domain
from analyzer.importer._load_graph import Order, check_function, check_graph, node_label
from analyzer.importer._load_limits import Limits, human
from analyzer.importer._load_memory import check_memory
from analyzer.importer._load_ops import Operators, imported_versions, newest_version, takes_text
from analyzer.importer._load_text import quoted
from analyzer.importer.checked_files import Stamp
from analyzer.importer.external import ExternalTensor
from analyzer.importer.subgraphs import with_subgraphs

MOST_WARNINGS = 20
NEWER = "update the onnx and onnxruntime packages, or export for an older version"


class _Stored(NamedTuple):
    """A tensor somewhere in a model, with its name for messages."""

    label: str
    tensor: TensorProto | SparseTensorProto
    is_weight: bool = False
    """Whether it is an initializer of the outermost graph."""


@dataclass
class Findings:
    """What validation learned about a model that it accepts.

    Attributes
    ----------
    warnings
        One line each.
    external
        Initializer name -> where its values lie.
    external_files
        Each external file with its stamp when it was first looked at.
    external_bytes
        Bytes in other files, attributes' tensors included.
    order
        Graphs whose nodes must be put in order.
    """

    warnings: list[str] = field(default_factory=list)
    external: dict[str, ExternalTensor] = field(default_factory=dict)
    external_files: dict[Path, Stamp] = field(default_factory=dict)
    external_bytes: int = 0
    order: Order = field(default_factory=Order)


def validate(model: ModelProto, folder: Path | None, limits: Limits) -> Findings:
    """Check a parsed model; changes nothing.

    Parameters
    ----------
    model
        The parsed model; its texts must be ``str`` throughout.
    folder
        The folder that external data may lie in; None where the model came without a file.
    limits
        Budgets.

    Raises
    ------
    InputError
        The first fault, with its code.
    """
    findings = Findings()
    versions = _check_header(model, findings)
    check_functions(model, limits)
    _check_interface(model.graph, findings)
    check_graph(model.graph, limits, findings.order)
    for function in model.functions:
        check_function(function, limits, findings.order)
    _check_operators(model, versions)
    _check_text(model, versions)
    _check_tensors(model, folder, limits, findings)
    for graph in (model.graph, *model.functions):
        check_memory(graph, limits)
    if findings.order.graphs:
        findings.warnings.append("nodes weren't stored in an order they can run in; sorted")
    if len(findings.warnings) > MOST_WARNINGS:
        rest = len(findings.warnings) - MOST_WARNINGS
        findings.warnings[MOST_WARNINGS:] = [f"and {rest} more warnings"]
    return findings


def _check_header(model: ModelProto, findings: Findings) -> Mapping[str, int]:
    if not model.HasField("graph"):
        if not model.opset_import and not model.ir_version:
            raise InputError("model.not_onnx", "is not an ONNX model", "give a .onnx file; export the model first")
        raise InputError("model.no_graph", "has no graph", "export it again; is it an ONNX model at all?")
    if model.ir_version > onnx.IR_VERSION or model.ir_version < 0:
        raise InputError(
            "model.ir_unsupported",
            f"has IR version {model.ir_version}, the installed onnx reads up to {onnx.IR_VERSION}",
            NEWER,
        )
    if not model.opset_import:
        raise InputError(
            "model.invalid", "names no operator set (opset_import is empty)", "export it again with a current exporter"
        )
    for entry in model.opset_import:
        newest = newest_version(plain_domain(entry.domain))
        if not plain_domain(entry.domain) and not 1 <= entry.version <= newest:
            raise InputError(
                "model.opset_unsupported",
                f"uses opset {entry.version}, the installed onnx knows 1 to {newest}",
                NEWER,
            )
    versions = imported_versions(model.opset_import)
    if len({(plain_domain(e.domain), e.version) for e in model.opset_import}) > len(versions):
        findings.warnings.append("names one operator set with two versions; the last counts")
    if not model.ir_version:
        findings.warnings.append("has no IR version")
    if model.training_info:
        findings.warnings.append("has training information, which is left alone")
    return versions


def _check_interface(graph: GraphProto, findings: Findings) -> None:
    """Inputs and outputs of the whole model."""
    if not graph.name:
        findings.warnings.append("its graph has no name")
    if not graph.output:
        raise InputError("graph.no_output", "its graph has no outputs", "name the outputs when exporting")
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for entry in graph.input:
        label = f"input {quoted(entry.name)}"
        kind = entry.type.WhichOneof("value")
        if entry.name in stored:
            _check_default(entry, stored[entry.name])
            continue
        if kind is None or (kind == "tensor_type" and not entry.type.tensor_type.elem_type):
            raise InputError("graph.untyped_input", f"{label} has no type", "export the model with typed inputs")
        if kind != "tensor_type":
            raise InputError(
                "input.unsupported_type",
                f"{label} is a {kind.removesuffix('_type')}, only tensors can be given",
                "export the part of the model after it",
            )
        code = entry.type.tensor_type.elem_type
        if tensors.element_type(code) is None:
            raise InputError("tensor.bad_dtype", f"{label} has the unknown element type {code}", NEWER)


def _check_default(entry: onnx.ValueInfoProto, tensor: TensorProto) -> None:
    """An initializer that is an input, too, must be of the input's type and shape."""
    declared = entry.type.tensor_type
    if declared.elem_type and declared.elem_type != tensor.data_type:
        raise InputError(
            "tensor.bad_dtype",
            f"initializer {quoted(tensor.name)} is of another element type than the input of that name",
            "re-export the model",
        )
    if not declared.HasField("shape"):
        return
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in declared.shape.dim]
    fits = len(sizes) == len(tensor.dims) and all(
        size is None or size < 0 or size == stored for size, stored in zip(sizes, tensor.dims, strict=True)
    )
    if not fits:
        raise InputError(
            "tensor.bad_shape",
            f"initializer {quoted(tensor.name)} is of another shape than the input of that name",
            "re-export the model",
        )


def _check_operators(model: ModelProto, versions: Mapping[str, int]) -> None:
    functions = frozenset(function_keys(model))
    operators = Operators(versions, functions)
    for index, node in _nodes(model.graph):
        operators.check(node, node_label(node, index))
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise InputError(
                    "op.bad_attribute",
                    f"{node_label(node, index)}: attribute {quoted(attribute.name)} is to be taken from a call, but the node "
                    "is in no function",
                    "re-export the model",
                )
    for function in model.functions:
        operators = Operators({**versions, **imported_versions(function.opset_import)}, functions)
        for index, node in _nodes(function):
            operators.check(node, f"function {quoted(function.name)}, {node_label(node, index)}")


def _check_text(model: ModelProto, versions: Mapping[str, int]) -> None:
    """Inputs that hold text may only go where the standard, or a function of the model's own, lets text go."""
    graph, functions = model.graph, frozenset(function_keys(model))
    stored = {tensor.name for tensor in graph.initializer}
    texts = {v.name for v in graph.input if v.type.tensor_type.elem_type == TensorProto.STRING} - stored
    if not texts:
        return
    for index, node in enumerate(graph.node):
        domain = plain_domain(node.domain)
        for position, name in enumerate(() if called(node) in functions else node.input):
            if name in texts and not takes_text(domain, node.op_type, versions.get(domain, 1), position):
                raise InputError(
                    "input.unsupported_type",
                    f"input {quoted(name)} holds text, which {node_label(node, index)} doesn't take",
                    "export the model again, with the nodes that turn the text into numbers",
                )


def _check_tensors(model: ModelProto, folder: Path | None, limits: Limits, findings: Findings) -> None:
    total = 0
    for stored in _tensors(model):
        sparse = stored.tensor if isinstance(stored.tensor, SparseTensorProto) else None
        total += tensors.check_sparse(sparse) if sparse else 0
        for tensor in (sparse.values, sparse.indices) if sparse else (stored.tensor,):
            nbytes, entry, nonfinite = tensors.check(tensor, folder)
            total += nbytes
            if nonfinite:
                text = f"tensor {quoted(stored.label)} has {nonfinite} values [numeric.nonfinite_weight]"
                findings.warnings.append(text)
            if entry is not None:
                findings.external_bytes += entry.length
                findings.external_files.setdefault(entry.path, entry.stamp)
                if stored.is_weight:
                    findings.external[tensor.name] = entry
        if sparse:
            tensors.check_sparse_indices(sparse, folder)
        if total > limits.initializer_bytes:
            raise InputError(
                "limit.memory",
                f"its weights take more than the budget of {human(limits.initializer_bytes)}",
                "use a machine with more memory",
            )


def _nodes(graph: GraphProto | FunctionProto) -> Iterator[tuple[int, NodeProto]]:
    """All nodes of a graph with their positions, subgraphs included."""
    for each in with_subgraphs(graph):
        yield from enumerate(each.node)


def _tensors(model: ModelProto) -> Iterator[_Stored]:
    """All tensors of a model: initializers and attributes, at any depth."""
    outermost = True
    for graph in chain.from_iterable(map(with_subgraphs, (model.graph, *reversed(model.functions)))):
        if isinstance(graph, GraphProto):
            for tensor in graph.initializer:
                yield _Stored(tensor.name, tensor, outermost)
            outermost = False
            yield from (_Stored(sparse.values.name, sparse) for sparse in graph.sparse_initializer)
        for node in graph.node:
            for attribute in node.attribute:
                yield from _attribute_tensors(node, attribute)


def _attribute_tensors(node: NodeProto, attribute: AttributeProto) -> Iterator[_Stored]:
    found: list[TensorProto | SparseTensorProto] = [*attribute.tensors, *attribute.sparse_tensors]
    found += [attribute.t] if attribute.HasField("t") else []
    found += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    if found:
        label = f"{node.name or (node.output[0] if node.output else node.op_type)}.{attribute.name}"
        yield from (_Stored(label, tensor) for tensor in found)
