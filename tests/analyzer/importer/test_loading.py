"""Loading: every file of the corpus gets its answer, every good model loads, nothing is changed on the way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.importer import _load_wire
from analyzer.importer._load_text import quoted
from analyzer.importer.loading import Limits, LoadedModel, read_model, tensor_to_numpy
from tests.analyzer.importer import corpus
from tests.analyzer.importer.backend_cases import node_tests

REFUSED_ON_PURPOSE = {"pcb_aoi_customvision": "op.unknown", "super_resolution": "model.invalid"}


def every_tensor(model: onnx.ModelProto) -> list[TensorProto]:
    return [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]


# ---- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", corpus.CASES, ids=lambda case: case.name)
def test_corpus(case: corpus.Case, tmp_path: Path) -> None:
    path = case.build(tmp_path)
    if not case.code:
        loaded = read_model(path)
        assert case.warns in "\n".join(loaded.warnings)
        assert bool(case.warns) == bool(loaded.warnings)
        return
    with pytest.raises(InputError) as caught:
        read_model(path)
    fault = caught.value
    assert (fault.code, fault.exit_code) == (case.code, 3)
    assert str(path) in fault.message
    assert case.says in f"{fault.message} {fault.hint}"
    assert str(fault).isprintable(), "one line, no control characters"


def decided_by_bytes(case: corpus.Case) -> bool:
    """Whether the file's content alone decides: not its size, its kind or its neighbours."""
    return bool(case.code) and not case.name.startswith(("67", "68", "33c")) and "external." not in case.code


@pytest.mark.parametrize("case", [c for c in corpus.CASES if decided_by_bytes(c)], ids=lambda case: case.name)
def test_bytes_get_the_same_answer_as_their_file(case: corpus.Case, tmp_path: Path) -> None:
    path = case.build(tmp_path)
    with pytest.raises(InputError) as caught:
        read_model(path.read_bytes())
    assert caught.value.code == case.code


def test_corpus_names_are_distinct() -> None:
    assert len({case.name for case in corpus.CASES}) == len(corpus.CASES)


def test_missing_file_names_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "squeezenet.onnx").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        read_model(tmp_path / "squeezenot.onnx")
    assert (caught.value.code, caught.value.exit_code) == ("model.not_found", 2)
    assert "'squeezenet.onnx'" in caught.value.hint


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "no/such/folder/model.onnx", ""])
def test_impossible_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnalyzerError) as caught:
        read_model(str(tmp_path / name))
    assert caught.value.code in {"model.not_found", "model.unreadable", "model.is_directory"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = corpus.saved(corpus.relu_model)(tmp_path)
    path.chmod(0)
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert caught.value.code == "model.unreadable"


def test_unreadable_file_for_any_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = corpus.saved(corpus.relu_model)(tmp_path)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert caught.value.code == "model.unreadable"
    assert "Permission denied" in caught.value.message


def test_other_sources_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        read_model(3)  # type: ignore[arg-type]
    assert caught.value.code == "model.bad_source"


def test_long_and_hostile_names_stay_one_short_line() -> None:
    shown = quoted("\x1b]0;pwn\x07\n\u202e" + "a" * 10_000)
    assert shown.isprintable()
    assert len(shown) < 200
    assert quoted(b"a\xffb") == "'a\\xffb'"


# ---- good models -----------------------------------------------------------------------------------------------------


def real_models(shared: Path) -> list[Path]:
    return [
        *sorted((shared / "data/models").glob("*.onnx")),
        *sorted((shared / "exported").glob("*.onnx")),
        *sorted((shared / "golden").glob("*/*.onnx")),
    ]


def test_real_models_load(shared: Path) -> None:
    paths = real_models(shared)
    assert len(paths) > 200
    refused = {}
    for path in paths:
        try:
            loaded = read_model(path)
        except AnalyzerError as fault:
            refused[path.stem] = fault.code
            continue
        assert loaded.path == path
        assert loaded.size == path.stat().st_size
        assert not loaded.repaired
    assert refused == REFUSED_ON_PURPOSE


def test_digests_of_real_models(shared: Path) -> None:
    described = json.loads((shared / "data/models.json").read_text(encoding="utf-8"))
    small = [m for m in described if m["bytes"] < 2**21 and m["name"] not in REFUSED_ON_PURPOSE]
    for model in small:
        assert read_model(shared / "data" / model["file"]).sha256 == model["sha256"]


def test_backend_models_that_onnxruntime_takes_load() -> None:
    """The onnx package's own node tests; only inputs that are no tensors may be refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    loaded = 0
    refused: dict[str, str] = {}
    for case in node_tests():
        if case.model is None:
            continue
        data = case.model.SerializeToString()
        try:
            model = read_model(data)
        except AnalyzerError as fault:
            try:
                onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception:
                continue
            refused[case.name] = fault.code
            assert "text" not in fault.message  # the standard's own models take text where it says so
            continue
        loaded += 1
        if model.repaired:  # the locale that they name may be missing here
            assert all("locale" in warning for warning in model.warnings)
            continue
        assert model.proto.SerializeToString(deterministic=True) == onnx.ModelProto.FromString(data).SerializeToString(
            deterministic=True
        )
    assert loaded > 1500
    assert set(refused.values()) <= {"input.unsupported_type"}


def test_legacy_operators_only_below_opset_10() -> None:
    for opset, accepted in ((7, True), (9, True), (10, False)):
        model = corpus.model_of([helper.make_node("Affine", ["x"], ["y"], alpha=2.0)], opset=opset)
        if accepted:
            assert read_model(model).proto == model
        else:
            with pytest.raises(InputError, match=r"op\.unknown"):
                read_model(model)


def test_withdrawn_operators_load_where_onnxruntime_runs_them() -> None:
    scale = numpy_helper.from_array(np.ones(1, np.float32), "s")
    group_norm = helper.make_node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=1)
    scatter = helper.make_node("Scatter", ["x", "i", "x"], ["y"])
    index = numpy_helper.from_array(np.zeros(corpus.SHAPE, np.int64), "i")
    for node, weight, opset in ((group_norm, scale, 18), (scatter, index, 10), (scatter, index, 11)):
        model = corpus.model_of([node], [weight], opset=opset)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph:
            with pytest.raises(InputError, match=r"op\.unknown"):
                read_model(model)
        else:
            read_model(model)


def test_domain_ai_onnx_is_the_default_domain() -> None:
    model = corpus.model_of([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")])
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.append(helper.make_opsetid("com.example.unused", 1))
    assert not read_model(model).warnings


def test_subgraphs_see_values_of_outer_graphs_only_backwards() -> None:
    read_model(corpus.nested_if(3))
    branch = helper.make_graph([helper.make_node("Relu", ["nowhere"], ["r"])], "b", [], [corpus.value("r", None)])
    condition = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(InputError, match="'nowhere'"):
        read_model(corpus.model_of([node], [condition]))


# ---- what loading leaves alone, and what it repairs ------------------------------------------------------------------


def test_file_and_protobuf_stay_as_they_were(tmp_path: Path) -> None:
    for build in (corpus.unsorted, corpus.conv_model, corpus.hostile_names):
        model = build()
        before = model.SerializeToString(deterministic=True)
        loaded = read_model(model)
        assert model.SerializeToString(deterministic=True) == before
        loaded.proto.graph.node[0].name = "changed"
        assert model.SerializeToString(deterministic=True) == before
        path = tmp_path / "model.onnx"
        path.write_bytes(before)
        from_file = read_model(path)
        assert path.read_bytes() == before
        assert from_file.sha256 == loaded.sha256 == hashlib.sha256(before).hexdigest()
        assert from_file.size == loaded.size == len(before)


def test_unsorted_nodes_are_sorted_and_said_so() -> None:
    loaded = read_model(corpus.unsorted())
    assert [node.op_type for node in loaded.proto.graph.node] == ["Abs", "Relu"]
    assert loaded.repaired
    onnx.checker.check_model(loaded.proto)


def test_unsorted_long_graph_equals_the_sorted_one() -> None:
    model = corpus.chain(500)
    sorted_nodes = [*model.graph.node]
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(random.Random(0).sample(sorted_nodes, len(sorted_nodes)))
    assert read_model(shuffled).proto == model


def test_text_that_is_not_utf8_becomes_escaped_text(tmp_path: Path) -> None:
    loaded = read_model(corpus.content(corpus.bad_utf8)(tmp_path))
    first, second = loaded.proto.graph.node
    assert first.name == first.output[0] == second.input[0] == "a\\xffb"
    assert loaded.repaired
    session = onnxruntime.InferenceSession(loaded.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["x"]


def test_hostile_names_are_data() -> None:
    model = corpus.hostile_names()
    assert read_model(model).proto == model


def test_weights_beyond_the_budget_are_refused() -> None:
    with pytest.raises(InputError, match=r"limit\.memory"):
        read_model(corpus.conv_model(), limits=Limits(initializer_bytes=100))
    with pytest.raises(InputError, match=r"limit\.memory"):
        read_model(corpus.conv_model(), limits=Limits(memory_bytes=100))
    with pytest.raises(InputError, match=r"limit\.graph_size"):
        read_model(corpus.conv_model(), limits=Limits(fields=5))


def test_walk_counts_what_the_parser_finds() -> None:
    model = corpus.nested_if(4)
    facts = _load_wire.scan(model.SerializeToString(), Limits())

    def count(graph: onnx.GraphProto) -> int:
        return sum(1 + sum(count(a.g) for a in node.attribute if a.HasField("g")) for node in graph.node)

    assert facts.nodes == count(model.graph)


def test_deepest_nesting_that_the_parser_takes_is_the_deepest_the_walk_takes() -> None:
    for levels in range(_load_wire.DEEPEST_MESSAGE - 2, _load_wire.DEEPEST_MESSAGE + 3):
        data = corpus.deep_wire(levels)
        try:
            onnx.ModelProto.FromString(data)
            parses = True
        except Exception:
            parses = False
        try:
            _load_wire.scan(data, Limits())
            walks = True
        except InputError as fault:
            assert fault.code == "model.too_deep"
            walks = False
        assert walks == parses


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 1e38])
def test_sizes_that_are_no_sizes(number: float) -> None:
    """Range and OneHot take floats as sizes; whatever they hold, the answer is an answer."""
    numbers = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("a", 0), ("b", number), ("c", 1))]
    loads_or_says_why(corpus.model_of([helper.make_node("Range", ["a", "b", "c"], ["y"])], numbers).SerializeToString())
    one_hot = helper.make_node("OneHot", ["x", "b", "v"], ["y"])
    numbers.append(numpy_helper.from_array(np.zeros(2, np.float32), "v"))
    loads_or_says_why(corpus.model_of([one_hot], numbers).SerializeToString())


def test_mask_of_minus_infinity_is_no_fault() -> None:
    mask = numpy_helper.from_array(np.triu(np.full((8, 8), -np.inf, np.float32), 1), "w")
    assert not read_model(corpus.added(mask)).warnings


def test_nonfinite_warnings_are_few_lines() -> None:
    tensors = [numpy_helper.from_array(np.full(2, np.nan, np.float16), f"w{i}") for i in range(100)]
    loaded = read_model(corpus.model_of([helper.make_node("Relu", ["x"], ["y"])], tensors))
    assert len(loaded.warnings) == 21
    assert "80 more" in loaded.warnings[-1]


# ---- tensors ---------------------------------------------------------------------------------------------------------


def stored_forms(code: int) -> list[TensorProto]:
    """A tensor of odd size of one element type, in typed fields and as raw data."""
    dtype = helper.tensor_dtype_to_np_dtype(code)
    values: np.ndarray = np.array([0, 1, 1, 0, 1, 1, 0])
    if code == TensorProto.STRING:
        texts = ["a", "ä", "", "b", "c", "d", "e"]
        return [TensorProto(name="w", data_type=code, dims=[7], string_data=[text.encode() for text in texts])]
    if dtype.kind in "iu":
        values = np.array([0, 1, 2, 3, 100, 127, np.iinfo(dtype).max], dtype)
    elif dtype.kind == "c":
        values = np.array([0, 1 + 2j, -3j, 4, 5, 6, 7])
    elif dtype.kind == "f":
        values = np.array([0.0, -1.5, 2.25, np.inf, np.nan, 1e-3, 300.0])
    array = values.astype(dtype)
    return [numpy_helper.from_array(array, "w"), helper.make_tensor("w", code, [7], array)]


@pytest.mark.parametrize("name", [n for n in TensorProto.DataType.keys() if n != "UNDEFINED"])  # noqa: SIM118
def test_values_of_every_dtype(name: str) -> None:
    code = TensorProto.DataType.Value(name)
    forms = stored_forms(code)
    for tensor in forms:
        model = corpus.model_of([helper.make_node("Relu", ["x"], ["y"])], [tensor], ir=13, opset=25)
        loaded = read_model(model)
        got, expected = tensor_to_numpy(loaded.proto.graph.initializer[0], loaded), numpy_helper.to_array(tensor)
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape == (7,)
        assert not got.flags.writeable
        if got.dtype == object:
            assert got.tolist() == expected.tolist() == ["a", "ä", "", "b", "c", "d", "e"]
        else:
            assert got.tobytes() == expected.tobytes()
    assert name == "STRING" or forms[0].HasField("raw_data")


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 3), (3, 1, 5)])
@pytest.mark.parametrize("code", [TensorProto.FLOAT, TensorProto.INT4, TensorProto.UINT2, TensorProto.FLOAT6E2M3])
def test_values_of_every_shape(shape: tuple[int, ...], code: int) -> None:
    array = np.ones(shape).astype(helper.tensor_dtype_to_np_dtype(code))
    tensor = numpy_helper.from_array(array, "w")
    loaded = read_model(corpus.model_of([helper.make_node("Relu", ["x"], ["y"])], [tensor], ir=13, opset=25))
    got = tensor_to_numpy(loaded.proto.graph.initializer[0], loaded)
    assert got.shape == shape
    assert got.tobytes() == array.tobytes()


def external_model(folder: Path, arrays: dict[str, np.ndarray]) -> LoadedModel:
    model = corpus.model_of(
        [helper.make_node("Relu", ["x"], ["y"])], [numpy_helper.from_array(a, n) for n, a in arrays.items()], ir=13
    )
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights/data.bin", size_threshold=0)
    return read_model(path)


@pytest.mark.parametrize("name", ["FLOAT", "FLOAT16", "BFLOAT16", "INT64", "BOOL", "INT4", "FLOAT8E5M2", "COMPLEX64"])
def test_external_values(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(name))
    arrays = {f"w{i}": (np.arange(11 * i) % 5).astype(dtype) for i in range(4)}
    loaded = external_model(tmp_path, arrays)
    assert loaded.external.keys() == arrays.keys()
    for tensor in loaded.proto.graph.initializer:
        assert not tensor.raw_data
        got = tensor_to_numpy(tensor, loaded)
        assert got.dtype == dtype
        assert got.tobytes() == arrays[tensor.name].tobytes()
        assert not got.flags.writeable
        entry = loaded.external[tensor.name]
        assert entry.path == tmp_path / "weights/data.bin"
    stored = sum(entry.length for entry in loaded.external.values())
    assert loaded.size == (tmp_path / "model.onnx").stat().st_size + stored


def test_external_values_are_mapped_not_read(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    loaded = external_model(tmp_path, {"w": np.arange(1000, dtype=np.float32)})
    array = tensor_to_numpy(loaded.proto.graph.initializer[0], loaded)
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_external_file_that_changes_after_loading_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    loaded = external_model(tmp_path, {"w": np.arange(1000, dtype=np.float32)})
    data = tmp_path / "weights/data.bin"
    os.truncate(data, 100)
    with pytest.raises(InputError, match=r"external\.range"):
        tensor_to_numpy(loaded.proto.graph.initializer[0], loaded)
    data.unlink()
    data.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"external\.symlink"):
        tensor_to_numpy(loaded.proto.graph.initializer[0], loaded)


def test_nonfinite_external_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    loaded = external_model(tmp_path, {"good": np.ones(9, np.float32), "bad": np.full(9, np.nan, np.float32)})
    assert [w for w in loaded.warnings if "'bad'" in w and "NaN" in w] == list(loaded.warnings)


def test_many_weights_of_one_external_range_count_each(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(32))
    model = corpus.external_model({"location": "w.bin"})
    for index in range(100):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"w{index}"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"limit\.memory"):
        read_model(path, limits=Limits(initializer_bytes=1000))


def test_external_data_without_a_folder() -> None:
    with pytest.raises(InputError, match=r"external\.missing"):
        read_model(corpus.external_model({"location": "w.bin"}))


def test_real_weights_equal_onnx(shared: Path) -> None:
    for path in sorted((shared / "exported").glob("*.onnx")):
        loaded, whole = read_model(path), onnx.load(path)
        tensors, originals = list(every_tensor(loaded.proto)), list(every_tensor(whole))
        assert [t.name for t in tensors] == [t.name for t in originals]
        for tensor, original in zip(tensors, originals, strict=True):
            got, expected = tensor_to_numpy(tensor, loaded), numpy_helper.to_array(original)
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            assert got.tolist() == expected.tolist() if got.dtype == object else got.tobytes() == expected.tobytes()


def test_large_weights_stay_in_the_file(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
    small = np.arange(4, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["z"]), onnx.helper.make_node("Mul", ["z", "s"], ["y"])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 64])], [onnx.helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(small[:1], "s")],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    path.write_bytes(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()
    )
    before = path.read_bytes()
    loaded = read_model(path)
    by_name = {tensor.name: tensor for tensor in loaded.proto.graph.initializer}
    assert loaded.proto.ByteSize() < 2000
    assert loaded.external["w"].length == weights.nbytes
    assert "s" not in loaded.external
    assert tensor_to_numpy(by_name["w"], loaded).tobytes() == weights.tobytes()
    assert tensor_to_numpy(by_name["s"], loaded).tolist() == [0.0]
    assert list(loaded.proto.graph.node) == list(onnx.load(path).graph.node)
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    through = read_model(link)
    assert tensor_to_numpy(through.proto.graph.initializer[0], through).tobytes() == weights.tobytes()
    assert path.read_bytes() == before
    path.write_bytes(before[:500])
    with pytest.raises(InputError, match="changed since it was loaded"):
        tensor_to_numpy(by_name["w"], loaded)


# ---- anything at all -------------------------------------------------------------------------------------------------


def loads_or_says_why(data: bytes) -> None:
    try:
        loaded = read_model(data)
    except AnalyzerError as fault:
        assert fault.code
        assert fault.message
        assert str(fault).isprintable()
    else:
        for tensor in every_tensor(loaded.proto):
            tensor_to_numpy(tensor, loaded)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    loads_or_says_why(data)
    loads_or_says_why(b"\x08\x08" + data)


SEEDS = [
    build().SerializeToString()
    for build in (
        corpus.conv_model,
        corpus.narrow_weights,
        corpus.loop_forever,
        corpus.unsorted,
        lambda: corpus.nested_if(2),
        lambda: corpus.sparse([0, 3]),
        lambda: corpus.functions({"g": ["Relu", "f"], "f": ["Relu"]}, "g"),
        lambda: corpus.external_model({"location": "w.bin"}),
    )
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), max_size=4), st.data())
def test_damaged_models(seed: bytes, edits: list[tuple[int, bytes]], data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for place, patch in edits:
        start = place % (len(damaged) + 1)
        damaged[start : start + data.draw(st.integers(0, 3))] = patch
    loads_or_says_why(bytes(damaged))


@given(st.integers(1, 10**6))
def test_cut_models_are_truncated(length: int) -> None:
    """Any part of a model is called truncated, unless it ends between two fields."""
    whole = corpus.conv_model().SerializeToString()
    part = whole[: 1 + length % (len(whole) - 1)]
    with pytest.raises(InputError) as caught:
        read_model(part)
    assert caught.value.code in {"model.truncated", "model.no_graph", "model.invalid"}
    if len(part) > 10 and len(part) < len(whole) - 10:
        assert caught.value.code == "model.truncated"


NAMES = st.sampled_from(["x", "y", "w", "a", "b", ""])
NODES = st.builds(
    lambda op, inputs, outputs, ints: helper.make_node(op, inputs, outputs, **ints),
    st.sampled_from(["Relu", "Add", "Conv", "If", "Expand", "Constant", "Pad", "Nope", "Range"]),
    st.lists(NAMES, max_size=3),
    st.lists(NAMES, max_size=2),
    st.dictionaries(
        st.sampled_from(["group", "strides", "kernel_shape", "pads", "axis", "value_ints"]),
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(-3, 2**40), min_size=1, max_size=3)),
        max_size=2,
    ),
)
TENSORS = st.builds(
    lambda name, dims, code, data: TensorProto(name=name, dims=dims, data_type=code, raw_data=data),
    NAMES,
    st.lists(st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**40, 2**62])), max_size=3),
    st.integers(0, 30),
    st.binary(max_size=16),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(NODES, max_size=5), st.lists(TENSORS, max_size=3))
def test_almost_valid_models(nodes: list[onnx.NodeProto], tensors: list[TensorProto]) -> None:
    loads_or_says_why(corpus.model_of(nodes, tensors).SerializeToString())


# ---- memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from analyzer.importer.loading import read_model
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
read_model(sys.argv[1])
before = peak()
read_model(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
def test_peak_memory_is_the_protobuf_and_one_copy_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(rng.random(2**20, np.float32), f"w{i}") for i in range(16)]
    path = corpus.saved(lambda: corpus.model_of([helper.make_node("Relu", ["x"], ["y"])], tensors))(tmp_path)
    small = tmp_path / "small.onnx"
    small.write_bytes(corpus.conv_model().SerializeToString())
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert int(done.stdout) < 2.2 * path.stat().st_size
