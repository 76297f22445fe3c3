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
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.importer import _load_wire
from analyzer.importer._load_text import quoted
from analyzer.importer.loading import Limits, read_model
from tests.analyzer.importer import corpus, corpus_cases
from tests.analyzer.importer.backend_cases import node_tests

REFUSED_ON_PURPOSE = {"pcb_aoi_customvision": "op.unknown", "super_resolution": "model.invalid"}


def every_tensor(model: onnx.ModelProto) -> list[TensorProto]:
    return [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]


# ---- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", corpus_cases.CASES, ids=lambda case: case.name)
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


@pytest.mark.parametrize("case", [c for c in corpus_cases.CASES if decided_by_bytes(c)], ids=lambda case: case.name)
def test_bytes_get_the_same_answer_as_their_file(case: corpus.Case, tmp_path: Path) -> None:
    path = case.build(tmp_path)
    with pytest.raises(InputError) as caught:
        read_model(path.read_bytes())
    assert caught.value.code == case.code


def test_corpus_names_are_distinct() -> None:
    assert len({case.name for case in corpus_cases.CASES}) == len(corpus_cases.CASES)


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


def test_mask_of_minus_infinity_is_no_fault() -> None:
    mask = numpy_helper.from_array(np.triu(np.full((8, 8), -np.inf, np.float32), 1), "w")
    assert not read_model(corpus.added(mask)).warnings


def test_nonfinite_warnings_are_few_lines() -> None:
    tensors = [numpy_helper.from_array(np.full(2, np.nan, np.float16), f"w{i}") for i in range(100)]
    loaded = read_model(corpus.model_of([helper.make_node("Relu", ["x"], ["y"])], tensors))
    assert len(loaded.warnings) == 21
    assert "80 more" in loaded.warnings[-1]


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
