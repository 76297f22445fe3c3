"""The tumour classifier does what its card says, and its sample rows are held-out ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.onnx_files import SAMPLES, stated
from models.tumour.data import CLASSES, feature_names, measure, split
from models.tumour.train import train_and_export
from tests.models.running import CARD_TOLERANCE, outputs


def test_accuracy_is_as_stated(sample_models: Path) -> None:
    path = sample_models / "tumour_mlp.onnx"
    features, labels = split()[1]
    found, probabilities = outputs(path, features)
    assert (found == labels).mean() > 0.95
    assert measure(path) == pytest.approx(stated(path.with_suffix(".md")), abs=CARD_TOLERANCE)
    assert measure(path)["held-out accuracy"] == (found == labels).mean()
    assert [max(row, key=row.__getitem__) for row in probabilities] == found.tolist()


def test_output_is_a_zipmap(sample_models: Path) -> None:
    model = onnx.load(sample_models / "tumour_mlp.onnx")
    (zipmap,) = [node for node in model.graph.node if node.op_type == "ZipMap"]
    assert zipmap.output[0] == model.graph.output[1].name
    assert model.graph.output[1].type.HasField("sequence_type")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["features"]) == feature_names()


def test_sample_rows_are_held_out_and_recognised(sample_models: Path) -> None:
    header, *rows = csv.reader((SAMPLES / "tumour_rows.csv").read_text(encoding="utf-8").splitlines())
    (title,), *truth = csv.reader((SAMPLES / "tumour_labels.csv").read_text(encoding="utf-8").splitlines())
    assert header == feature_names()
    assert title == "label"
    assert len(rows) == len(truth) == 8
    values = np.array(rows, np.float32)
    held_out = split()[1][0]
    assert all(np.isclose(held_out, row, rtol=1e-6).all(axis=1).any() for row in values)
    found = outputs(sample_models / "tumour_mlp.onnx", values)[0]
    assert [[CLASSES[label]] for label in found] == truth


def test_training_again_gives_the_same_model(sample_models: Path, tmp_path: Path) -> None:
    again = tmp_path / "tumour_mlp.onnx"
    train_and_export(again)
    features = split()[1][0]
    old, new = (outputs(path, features)[0] for path in (sample_models / "tumour_mlp.onnx", again))
    assert (old == new).mean() > 0.99
