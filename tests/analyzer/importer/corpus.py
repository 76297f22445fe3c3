"""Bad, odd and hostile model files, each built when it is needed: nothing binary lies in the repository.

Belongs here: one small builder per file, with the code that loading it must answer with. Not here: assertions.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import struct
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


SEQUENCE_INPUT = helper.make_tensor_sequence_value_info("x", FLOAT, None)
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(64)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"
PAGE = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
PYRAMID = {"f0": ["Relu"] * 10, **{f"f{i}": [f"f{i - 1}"] * 10 for i in range(1, 8)}}
TOWER = {"f0": ["Relu"], **{f"f{i}": [f"f{i - 1}"] for i in range(1, 2000)}}
INF = float("inf")
GARBAGE = random.Random(3).randbytes(4096)

CASES = (
    Case("1 empty", content(lambda: b""), "model.empty"),
    Case("2 truncated", content(truncated), "model.truncated"),
    Case("2b one byte", content(lambda: b"\x08"), "model.truncated"),
    Case("3 random bytes", content(lambda: GARBAGE), "model.not_onnx"),
    Case("3b zero bytes", content(lambda: bytes(1000)), "model.not_onnx", "zero bytes"),
    Case("4 PNG", content(lambda: PNG), "model.not_onnx", "PNG"),
    Case("5 pickle", content(lambda: pickle.dumps({"a": [1.0]}, protocol=4)), "model.not_onnx", "pickle"),
    Case("6 page", content(lambda: PAGE), "model.not_onnx", "HTML"),
    Case("6b JSON", content(lambda: b'{"error": "not found"}'), "model.not_onnx", "JSON"),
    Case("6c text", content(lambda: b"Not Found\n"), "model.not_onnx", "text"),
    Case("7 LFS pointer", content(lambda: LFS), "model.lfs_pointer", "git lfs pull"),
    Case("8 torch archive", content(torch_archive), "model.not_onnx", "torch.onnx.export"),
    Case("8b gzip", content(lambda: b"\x1f\x8b\x08" + bytes(99)), "model.not_onnx", "gzip"),
    Case("8c HDF5", content(lambda: b"\x89HDF\r\n\x1a\n" + bytes(99)), "model.not_onnx", "HDF5"),
    Case("10 no graph", saved(no_graph), "model.no_graph"),
    Case("11 no opset", saved(no_opset), "model.invalid", "operator set"),
    Case("12 opset 9999", saved(lambda: relu_model(opset=9999)), "model.opset_unsupported", "9999"),
    Case("12b opset -1", saved(lambda: relu_model(opset=-1)), "model.opset_unsupported", "-1"),
    Case("13 IR 9999", saved(lambda: relu_model(ir=9999)), "model.ir_unsupported", "9999"),
    Case("14 unknown op", saved(node("Rellu")), "op.unknown", "did you mean 'Relu'?"),
    Case("14b op of a later opset", saved(node("Gelu")), "op.unknown", "version 20"),
    Case("14c dropped op", saved(node("Upsample", scales=[1.0])), "op.unknown", "no longer"),
    Case("14d unknown op in a branch", saved(if_then_unknown), "op.unknown", "did you mean 'Conv'?"),
    Case("15 custom domain", saved(node("Relu", "com.example")), "op.custom_domain", "com.example"),
    Case("15b compiled engine", saved(node("EPContext", "com.microsoft")), "op.unsupported"),
    Case("16 cycle", saved(cycle), "graph.cycle", "'second'"),
    Case("16b cycle through a branch", saved(cycle_through_subgraph), "graph.cycle", "If"),
    Case("17 dangling", saved(lambda: model_of([helper.make_node("Relu", ["X"], ["y"])])), "graph.dangling", "'x'"),
    Case("18 duplicate", saved(duplicated), "graph.ssa", "'y'"),
    Case("18b shadowed input", saved(lambda: model_of([helper.make_node("Relu", ["x"], ["x"])])), "graph.ssa"),
    Case("19 no outputs", saved(lambda: relu_model(outputs=[])), "graph.no_output"),
    Case("20 output missing", saved(lambda: relu_model(outputs=[value("z")])), "graph.output_missing", "'z'"),
    Case("21 raw data short", saved(lambda: added(raw([8], bytes(31)))), "tensor.size_mismatch", "32 bytes"),
    Case("21b typed data long", saved(lambda: added(TensorProto(name="w", data_type=1, dims=[1], float_data=[1, 2]))),
         "tensor.size_mismatch"),
    Case("21c wrong field", saved(lambda: added(TensorProto(name="w", data_type=1, dims=[1], int32_data=[1]))),
         "tensor.size_mismatch"),
    Case("22 dims 2^40", saved(lambda: added(raw([2**40], bytes(8)))), "tensor.size_mismatch"),
    Case("23 negative dims", saved(lambda: added(raw([-8], bytes(32)))), "tensor.bad_shape"),
    Case("24 overflowing dims", saved(lambda: added(raw([2**33, 2**33], bytes(32)))), "tensor.bad_shape"),
    Case("24b overflow behind a zero", saved(lambda: added(raw([0, 2**33, 2**33], b""))), "tensor.bad_shape"),
    Case("24c axes without end", saved(lambda: added(raw([2**62] * 10_000, bytes(32)))), "tensor.bad_shape", "axes"),
    Case("25 dtype 999", saved(lambda: added(raw([8], bytes(32), 999))), "tensor.bad_dtype", "999"),
    Case("25b no dtype", saved(lambda: added(raw([8], bytes(32), 0))), "tensor.bad_dtype"),
    Case("26 ConstantOfShape bomb", saved(lambda: shape_model("ConstantOfShape", [2**20, 2**20])), "limit.memory",
         "4.0 TiB"),
    Case("26b bomb from a Constant node", saved(shape_from_constant_node), "limit.memory"),
    Case("26c bomb beyond floats", saved(lambda: shape_model("ConstantOfShape", [2**62] * 200)), "limit.memory"),
    Case("27 Expand bomb", saved(lambda: shape_model("Expand", [2**21, 2**20])), "limit.memory", "'bomb'"),
    Case("27b Tile bomb", saved(lambda: shape_model("Tile", [2**10] * 4)), "limit.memory"),
    Case("28 external ..", external(location="../secret.bin"), "external.escape"),
    Case("28b external a/../..", external(location="a/../../secret.bin"), "external.escape"),
    Case("28c external backslash", external(location="..\\secret.bin"), "external.escape"),
    Case("28d external drive", external(location="C:secret.bin"), "external.escape"),
    Case("29 external absolute", external(location="/etc/passwd"), "external.escape"),
    Case("30 external symlink", external(lambda f: (f / "l.bin").symlink_to(f.parent / "secret.bin"),
         location="l.bin"), "external.symlink"),
    Case("31 external parent symlink", external(lambda f: (f / "up").symlink_to(f.parent), location="up/secret.bin"),
         "external.escape"),
    Case("32 external hardlink", external(lambda f: (f / "l.bin").hardlink_to(f.parent / "secret.bin"),
         location="l.bin"), "external.hardlink"),
    Case("33 external length", external(length=str(10**15)), "external.range"),
    Case("33b external offset", external(offset="4"), "external.range"),
    Case("33c external length of another shape", external(length="16"), "tensor.size_mismatch"),
    Case("34 external negative offset", external(offset="-4"), "external.range"),
    Case("34b external offset of a thousand digits", external(offset="9" * 5000), "external.range"),
    Case("35 external missing", external(location="v.bin"), "external.missing", "v.bin"),
    Case("36 external bad key", external(__class__="x"), "external.bad_key", "__class__"),
    Case("37 external device", external(location="/dev/zero"), "external.escape"),
    Case("38 external FIFO", external(lambda f: os.mkfifo(f / "p.bin"), location="p.bin"), "external.not_regular"),
    Case("38b external empty location", external(location=""), "external.not_regular"),
    Case("38c external folder", external(lambda f: (f / "d").mkdir(), location="d"), "external.not_regular"),
    Case("38d external", external(offset="0", length="32")),
    Case("39 Loop 2^62", saved(loop_forever)),
    Case("40 nested If", saved(lambda: nested_if(20))),
    Case("41 wire nesting", content(lambda: deep_wire(5000)), "model.too_deep"),
    Case("42 recursive function", saved(lambda: functions({"f": ["f"]}, "f")), "graph.recursive_function", "local::f"),
    Case("43 mutual recursion", saved(lambda: functions({"f": ["g"], "g": ["f"]}, "f")), "graph.recursive_function"),
    Case("44 function pyramid", saved(lambda: functions(PYRAMID, "f7")), "limit.graph_size"),
    Case("44b function tower", saved(lambda: functions(TOWER, "f1999")), "model.too_deep"),
    Case("44c nodes without end", content(lambda: many_nodes(1_000_001)), "limit.graph_size"),
    Case("44d functions", saved(lambda: functions({"g": ["Relu", "f"], "f": ["Relu"]}, "g"))),
    Case("45 NaN weight", saved(lambda: weights([1, float("nan")] * 4)), warns="'w' has NaN values"),
    Case("46 Inf weight", saved(lambda: weights([1, INF] * 4)), warns="'w' has infinite values"),
    Case("46b -Inf weight", saved(lambda: weights([1, 2, 3, -INF] * 2)), warns="'w' has infinite values"),
    Case("50 group 0", saved(lambda: conv_model(group=0)), "op.bad_attribute", "group"),
    Case("51 stride 0", saved(lambda: conv_model(strides=[0, 1])), "op.bad_attribute", "strides"),
    Case("51b dilation -1", saved(lambda: conv_model(dilations=[1, -1])), "op.bad_attribute", "dilations"),
    Case("52 kernel 2^31", saved(lambda: conv_model(kernel_shape=[2**31, 1])), "op.bad_attribute", "kernel_shape"),
    Case("52b attribute missing", saved(node("Cast")), "op.bad_attribute", "'to'"),
    Case("52c branches missing", saved(graph_attribute_missing), "op.bad_attribute", "branch"),
    Case("52d too few inputs", saved(node("Add")), "op.bad_inputs", "2"),
    Case("53 hostile names", saved(hostile_names)),
    Case("54 path as name", saved(pwn_name)),
    Case("55 long chain", saved(lambda: chain(30_000))),
    Case("56 string input", saved(lambda: relu_model(inputs=[value("x", [1], TensorProto.STRING)])),
         "input.unsupported_type"),
    Case("56b sequence input", saved(lambda: relu_model(inputs=[SEQUENCE_INPUT])), "input.unsupported_type"),
    Case("57 untyped input", saved(untyped_input), "graph.untyped_input", "'x'"),
    Case("57b input of dtype 0", saved(lambda: relu_model(inputs=[value("x", [1], 0)])), "graph.untyped_input"),
    Case("57c input of dtype 999", saved(lambda: relu_model(inputs=[value("x", [1], 999)])), "tensor.bad_dtype"),
    Case("58 no graph name", saved(empty_graph_name), warns="no name"),
    Case("60 invalid UTF-8", content(bad_utf8), warns="aren't UTF-8"),
    Case("61 axis 99", saved(node("Softmax", axis=99)), "op.bad_attribute", "axis 99"),
    Case("63 two initializers", saved(two_initializers), "graph.ssa", "'w'"),
    Case("64 initializer and input", saved(default_of_input)),
    Case("64b of another shape", saved(lambda: default_of_input((4,))), "tensor.bad_shape"),
    Case("64c of another type", saved(lambda: default_of_input((8,), np.int32)), "tensor.bad_dtype"),
    Case("65 sparse initializer", saved(lambda: sparse([0, 3]))),
    Case("65b sparse index outside", saved(lambda: sparse([0, 8])), "tensor.bad_shape", "index"),
    Case("65c sparse bomb", saved(lambda: sparse([0], [2**40])), "limit.memory"),
    Case("66 narrow weights", saved(narrow_weights)),
    Case("67 huge sparse file", huge_sparse_file, "limit.file_size"),
    Case("68 directory", directory, "model.is_directory"),
    Case("68b FIFO", fifo, "model.not_regular"),
    Case("70b unsorted", saved(unsorted), warns="sorted"),
)  # fmt: skip
