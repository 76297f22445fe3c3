"""Every sample model: valid, dynamic in its batch, self-contained, labelled, carded, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.onnx_files import FOLDER, stated, table

MODELS = sorted(FOLDER.glob("*.onnx"))
CLASS_NAMES = {
    "shapes_cnn": "shapes_classes.txt",
    "shapes_cheater": "shapes_classes.txt",
    "digits_cnn": "digits_classes.txt",
    "tumour_mlp": "tumour_classes.txt",
}


def test_all_models_are_here() -> None:
    assert {path.stem for path in MODELS} == {*CLASS_NAMES, "digits_generator"}


def test_models_are_small_together() -> None:
    kept = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in kept) < 6_000_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model_is_valid_and_alone(path: Path) -> None:
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert b"site-packages" not in path.read_bytes()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_batch_is_dynamic_and_samples_are_independent(path: Path) -> None:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert not isinstance(source.shape[0], int)
    values = np.random.default_rng(0).random((5, *source.shape[1:])).astype(np.float32)
    together = session.run(None, {source.name: values})
    for index in range(5):
        alone = session.run(None, {source.name: values[index : index + 1]})
        for whole, single in zip(together, alone, strict=True):
            if isinstance(whole, list):
                assert whole[index] == pytest.approx(single[0], abs=1e-5)
            else:
                np.testing.assert_allclose(whole[index], single[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stem", "file"), CLASS_NAMES.items())
def test_class_names_agree(stem: str, file: str) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(FOLDER / f"{stem}.onnx").metadata_props}
    names = (FOLDER / file).read_text(encoding="utf-8").splitlines()
    assert json.loads(metadata["labels"]) == names
    if stem != "tumour_mlp":
        session = ort.InferenceSession(FOLDER / f"{stem}.onnx", providers=["CPUExecutionProvider"])
        assert session.get_outputs()[0].shape[1] == len(names)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_card_tells_the_truth_about_the_file(path: Path) -> None:
    model = onnx.load(path)
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    tensors = [
        tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    ]
    weights = sum(int(np.prod(tensor.dims)) for tensor in tensors)
    assert f"opset {opset}" in card
    assert f"{weights:,} weights" in card
    assert f"`{model.graph.input[0].name}`" in card
    assert all(f"`{output.name}`" in card for output in model.graph.output)
    assert "Apache-2.0" in card
    for section in ("## Data", "## Figures", "## Export", "## Intended use", "## Reproduce", "## Licence"):
        assert section in card


def test_index_lists_every_model() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.stem}.md)" in index for path in MODELS)


def test_table_is_read_back(tmp_path: Path) -> None:
    figures = {"held-out accuracy": 0.9958, "stars with the tag called star": 1.0}
    card = tmp_path / "card.md"
    card.write_text(f"# A model\n\n{table(figures)}\n", encoding="utf-8")
    assert stated(card) == figures
