"""Tensors of a loaded model: every type, every shape, external data that stays in its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import InputError
from analyzer.importer.loading import Limits, LoadedModel, read_model, tensor_to_numpy
from tests.analyzer.importer import corpus
from tests.analyzer.importer.test_loading import every_tensor


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
    with pytest.raises(InputError, match=r"model\.changed"):
        tensor_to_numpy(loaded.proto.graph.initializer[0], loaded)
    data.unlink()
    data.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"model\.changed"):
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
