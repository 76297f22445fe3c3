"""Which file is for which of a model's inputs, and what results are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyzer
from analyzer.data.reading import read_all, read_file, read_one, unique
from analyzer.errors import InputError, UsageError
from tests.common.models import cnn, two_inputs


def test_equal_names_get_numbers_that_no_other_has() -> None:
    assert unique(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]
    many = unique(["a"] * 2000)
    assert len(set(many)) == 2000
    assert many[-1] == "a-2000"


def test_named_files_are_one_input(tmp_path: Path) -> None:
    model = analyzer.load(two_inputs())
    shapes = {
        name: [size if isinstance(size, int) else 2 for size in spec.shape] for name, spec in model.inputs.items()
    }
    texts = []
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", np.ones(shape, model.inputs[name].dtype))
        texts.append(f"{name}={tmp_path / name}.npy")
    ((stem, files, feed),) = read_all(model, texts)
    assert stem == next(iter(shapes))
    assert [each.name for each in files] == list(shapes)
    assert {name: list(value.shape) for name, value in read_one(model, texts).items()} == shapes
    assert set(feed) == set(shapes)
    with pytest.raises(UsageError, match="given twice"):
        read_all(model, [texts[0], texts[0]])
    with pytest.raises(UsageError, match="without an input's name"):
        read_all(model, [texts[0], str(tmp_path / "x.npy")])
    with pytest.raises(UsageError, match=r"NAME=FILE for each.*data\.inputs"):
        read_all(model, [texts[0].partition("=")[2]])


def test_a_sample_for_a_model_whose_batch_is_fixed(tmp_path: Path) -> None:
    model = analyzer.load(cnn(batch=2))
    shape = next(iter(model.inputs.values())).shape
    np.save(tmp_path / "one.npy", np.zeros((1, *shape[1:]), np.float32))
    with pytest.raises(InputError, match="takes"):
        read_file(model, tmp_path / "one.npy")
    (read,) = read_file(model, tmp_path / "one.npy", any_batch=True)
    assert len(read.array) == 1
