"""Bad, odd and hostile model files, each built when it is needed: nothing binary lies in the repository.

Belongs here: one small builder per file. Not here: the code that loading each must answer with (``corpus_cases``), assertions.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
SHAPE = [1, 3, 8, 8]


@dataclass(frozen=True)
class Case:
    """One file of the corpus.

    Attributes
    ----------
    name
        Unique, starts with the number of the case.
    build
        Writes what the case needs into a folder and returns the path to load.
    code
        Code of the error that loading must raise; "" where the model must load.
    says
        What the message or hint must mention.
    warns
        What a warning must mention where the model loads.
    """

    name: str
    build: Callable[[Path], Path]
    code: str = ""
    says: str = ""
    warns: str = ""


def value(name: str, shape: Sequence[int | str] | None = SHAPE, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model_of(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto] = (),
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    opset: int = 17,
    ir: int = 8,
    **more: Any,
) -> ModelProto:
    """A model with input ``x`` and output ``y`` unless told otherwise."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [value("x")] if inputs is None else list(inputs),
        [value("y", None)] if outputs is None else list(outputs),
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, **more)


def relu_model(**more: Any) -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], name="relu")], **more)


def conv_model(**attributes: Any) -> ModelProto:
    weight = numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w")
    return model_of([helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)], [weight])


def added(tensor: TensorProto, **more: Any) -> ModelProto:
    """A model that adds one stored tensor."""
    return model_of([helper.make_node("Add", ["x", tensor.name], ["y"], name="add")], [tensor], **more)


def serialized(model: ModelProto) -> bytes:
    data: bytes = model.SerializeToString()
    return data


def saved(build: Callable[[], ModelProto]) -> Callable[[Path], Path]:
    return content(lambda: serialized(build()))


def content(build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(build())
        return path

    return write


# ---- files that aren't models ----------------------------------------------------------------------------------------


def truncated() -> bytes:
    data = serialized(conv_model())
    return data[: len(data) // 2]


def torch_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return stream.getvalue()


def directory(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.mkdir()
    return path


def fifo(folder: Path) -> Path:
    path = folder / "model.onnx"
    os.mkfifo(path)
    return path


def huge_sparse_file(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(relu_model().SerializeToString())
    os.truncate(path, 5 * 2**30)
    return path


# ---- model header ----------------------------------------------------------------------------------------------------


def no_graph() -> ModelProto:
    model = relu_model()
    model.ClearField("graph")
    return model


def no_opset() -> ModelProto:
    model = relu_model()
    del model.opset_import[:]
    return model


# ---- names -----------------------------------------------------------------------------------------------------------


def cycle() -> ModelProto:
    return model_of(
        [
            helper.make_node("Add", ["x", "b"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="second"),
            helper.make_node("Relu", ["b"], ["y"], name="third"),
        ]
    )


def cycle_through_subgraph() -> ModelProto:
    branch = helper.make_graph([helper.make_node("Relu", ["y"], ["r"])], "branch", [], [value("r", None)])
    condition = numpy_helper.from_array(np.array(True), "c")
    return model_of([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [condition])


def duplicated() -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])])


def unsorted() -> ModelProto:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])]
    return model_of(nodes, outputs=[value("y")])


def two_initializers() -> ModelProto:
    weight = numpy_helper.from_array(np.ones(8, np.float32), "w")
    return model_of([helper.make_node("Add", ["x", "w"], ["y"])], [weight, weight])


def default_of_input(shape: Sequence[int] = (8,), dtype: type = np.float32) -> ModelProto:
    weight = numpy_helper.from_array(np.ones(shape, dtype), "w")
    return model_of([helper.make_node("Add", ["x", "w"], ["y"])], [weight], inputs=[value("x"), value("w", [8])], ir=3)


def untyped_input() -> ModelProto:
    model = relu_model()
    model.graph.input[0].ClearField("type")
    return model


def empty_graph_name() -> ModelProto:
    model = relu_model()
    model.graph.name = ""
    return model


def bad_utf8() -> bytes:
    model = model_of([helper.make_node("Relu", ["x"], ["QQQ"], name="QQQ"), helper.make_node("Abs", ["QQQ"], ["y"])])
    return serialized(model).replace(b"QQQ", b"a\xffb")


def hostile_names() -> ModelProto:
    name = "<script>alert(1)</script>\x1b[31m{{7*7}}\u202e__import__('os')"
    model = model_of([helper.make_node("Relu", ["x"], [name], name=name), helper.make_node("Abs", [name], ["y"])])
    helper.set_model_props(model, {name: name})
    return model


def pwn_name() -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], name="../../tmp/pwn")])


def chain(length: int) -> ModelProto:
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    return model_of([helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])


# ---- tensors ---------------------------------------------------------------------------------------------------------


def raw(dims: Sequence[int], data: bytes, dtype: int = FLOAT) -> TensorProto:
    return TensorProto(name="w", data_type=dtype, dims=dims, raw_data=data)


def weights(values: Sequence[float]) -> ModelProto:
    return added(numpy_helper.from_array(np.array(values, np.float32), "w"))


def shape_model(op: str, shape: Sequence[int]) -> ModelProto:
    sizes = numpy_helper.from_array(np.array(shape, np.int64), "s")
    names = ["s"] if op == "ConstantOfShape" else ["x", "s"]
    return model_of([helper.make_node(op, names, ["y"], name="bomb")], [sizes])


def shape_from_constant_node() -> ModelProto:
    sizes = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "s")
    return model_of(
        [helper.make_node("Constant", [], ["s"], value=sizes), helper.make_node("ConstantOfShape", ["s"], ["y"])]
    )


def sparse(indices: Sequence[int], dims: Sequence[int] = (8,)) -> ModelProto:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])])
    values = helper.make_tensor("w", FLOAT, [len(indices)], [1.0] * len(indices))
    places = helper.make_tensor("", TensorProto.INT64, [len(indices)], list(indices))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, list(dims)))
    return model


def narrow_weights() -> ModelProto:
    tensors = [
        raw([4], b"\x80\x3f" * 4, TensorProto.BFLOAT16),
        raw([4], b"\x38" * 4, TensorProto.FLOAT8E4M3FN),
        raw([3], b"\x21\x03", TensorProto.INT4),
    ]
    for index, tensor in enumerate(tensors):
        tensor.name = f"w{index}"
    casts = [helper.make_node("Cast", [t.name], [f"{t.name}_f"], to=FLOAT) for t in tensors]
    return model_of([*casts, helper.make_node("Relu", ["x"], ["y"])], tensors, opset=21, ir=10)


# ---- external data ---------------------------------------------------------------------------------------------------


def external_model(entries: dict[str, str]) -> ModelProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    return added(tensor)


def external(prepare: Callable[[Path], object] | None = None, **entries: str) -> Callable[[Path], Path]:
    """A model in a folder of its own, beside a secret that it must not reach."""

    def build(folder: Path) -> Path:
        inner = folder / "model"
        inner.mkdir()
        (folder / "secret.bin").write_bytes(bytes(32))
        (inner / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
        if prepare is not None:
            prepare(inner)
        location = {"location": entries.pop("location", "w.bin")}
        path = inner / "model.onnx"
        path.write_bytes(external_model({**location, **entries}).SerializeToString())
        return path

    # Building twice must give the same file.
    kept = dict(entries)

    def repeatable(folder: Path) -> Path:
        entries.update(kept)
        return build(folder)

    return repeatable


# ---- nesting and functions -------------------------------------------------------------------------------------------


def deep_wire(levels: int) -> bytes:
    """graph → node → attribute → graph → … written byte by byte: no library would write it."""
    tags = [0x3A, *([0x0A, 0x2A, 0x32] * levels)]
    body = b""
    for tag in reversed(tags[:levels]):
        size, head = len(body), [tag]
        while size >= 0x80:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        body = bytes([*head, size]) + body
    return b"\x08\x08" + body + b"\x42\x02\x10\x11"


def nested_if(depth: int) -> ModelProto:
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["r0"])], "innermost", [], [value("r0", None)])
    for level in range(1, depth + 1):
        node = helper.make_node("If", ["c"], [f"r{level}"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], f"level{level}", [], [value(f"r{level}", None)])
        if level > 3:
            # Twice the body at each level doubles the file: past a few, the other branch stays flat.
            flat = helper.make_graph([helper.make_node("Abs", ["x"], ["f"])], "flat", [], [value("f", None)])
            node.attribute[1].g.CopyFrom(flat)
            body.node[0].CopyFrom(node)
    condition = numpy_helper.from_array(np.array(True), "c")
    body.node[0].output[0] = "y"
    return model_of(list(body.node), [condition])


def functions(bodies: Mapping[str, Sequence[str]], start: str) -> ModelProto:
    """Functions of the domain ``local``; each calls the listed ones in a row."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = []
    for name, callees in bodies.items():
        wires = ["a", *(f"t{i}" for i in range(len(callees) - 1)), "b"]
        nodes = [
            helper.make_node(callee, [wires[i]], [wires[i + 1]], domain="" if callee == "Relu" else "local")
            for i, callee in enumerate(callees)
        ]
        made.append(helper.make_function("local", name, ["a"], ["b"], nodes, imports))
    model = model_of([helper.make_node(start, ["x"], ["y"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(made)
    return model


def loop_forever() -> ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["v"], ["v2"])],
        "body",
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", None)],
        [value("c2", [], TensorProto.BOOL), value("v2", None)],
    )
    count = numpy_helper.from_array(np.array(2**62, np.int64), "n")
    return model_of([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], [count])


def many_nodes(count: int) -> bytes:
    """A graph of empty nodes, two bytes each, which a parser would turn into a hundred times as much memory."""
    body = b"\x0a\x00" * count
    size, head = len(body), [0x3A]
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return b"\x08\x08" + bytes([*head, size]) + body


def graph_attribute_missing() -> ModelProto:
    return model_of([helper.make_node("If", ["c"], ["y"])], [numpy_helper.from_array(np.array(True), "c")])


def node(op: str, domain: str = "", **attributes: Any) -> Callable[[], ModelProto]:
    return lambda: model_of([helper.make_node(op, ["x"], ["y"], name="odd", domain=domain, **attributes)])


def if_then_unknown() -> ModelProto:
    branch = helper.make_graph([helper.make_node("Conw", ["x"], ["r"], name="odd")], "b", [], [value("r", None)])
    condition = numpy_helper.from_array(np.array(True), "c")
    return model_of([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [condition])
