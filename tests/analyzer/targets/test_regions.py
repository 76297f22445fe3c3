"""Regions of class maps: what is summed, over which elements, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs import Labels
from analyzer.targets.language import resolve
from tests.analyzer.targets.nets import PICTURES, Array, class_map

MAP = np.random.default_rng(5).standard_normal((2, 3, 6, 4))
LABELS = Labels(("_background_", "cat", "dog: big"))


def where(number: int) -> Array:
    """The weights of a class over the elements where it is the prediction."""
    chosen = np.arange(3)[None, :, None, None] == number
    return np.asarray((MAP.argmax(1)[:, None] == number) & chosen, np.float64)


@pytest.mark.parametrize(
    ("target", "number"),
    [("region:2", 2), ("region:cat", 1), ("region:dog: big", 2), ("region:0", 0), ("region:_background_", 0)],
)
def test_a_region_is_the_class_where_it_is_predicted(target: str, number: int) -> None:
    found = resolve(target, MAP, LABELS)
    np.testing.assert_array_equal(found.weights, where(number))
    assert found.classes == (number, number)
    np.testing.assert_allclose(found.score(MAP), (MAP * where(number)).sum((1, 2, 3)))


def test_a_mask_is_resampled_by_the_nearest_element(tmp_path: Path) -> None:
    mask = np.zeros((12, 8), np.uint8)
    mask[4:8, 2:4] = 1
    Image.fromarray(mask * 255).save(tmp_path / "m.png")
    Image.fromarray(mask).save(tmp_path / "faint.png")
    np.save(tmp_path / "m.npy", mask.astype(bool))
    np.save(tmp_path / "float.npy", mask[None] * 0.5)
    want = np.zeros((2, 3, 6, 4))
    want[:, 2, 2:4, 1:2] = 1
    for file in ("m.png", "faint.png", "m.npy", "float.npy"):
        for name in ("2", "dog: big"):
            found = resolve(f"region:{name}:{tmp_path / file}", MAP, LABELS)
            np.testing.assert_array_equal(found.weights, want)
    np.save(tmp_path / "small.npy", np.array([[1, 0], [0, 0], [0, 0]]))
    want = np.zeros((2, 3, 6, 4))
    want[:, 1, :2, :2] = 1
    np.testing.assert_array_equal(resolve(f"region:cat:{tmp_path / 'small.npy'}", MAP, LABELS).weights, want)


def test_the_default_is_the_class_that_most_elements_are_predicted_as() -> None:
    for labels, least in ((LABELS, 1), (None, 0)):
        found, second = resolve("top1", MAP, labels), resolve("region:top2", MAP, labels)
        for sample, each in enumerate(MAP.argmax(1)):
            counts = np.bincount(each.ravel(), minlength=3)
            order = [int(c) for c in np.argsort(-counts, kind="stable") if c >= least]
            assert (found.classes[sample], second.classes[sample]) == (order[0], order[1])
            np.testing.assert_array_equal(found.weights[sample], where(order[0])[sample])
            assert f"over the {counts[order[0]]} elements" in found.notes[sample]
            assert "elsewhere" in found.notes[sample]
            assert "region:CLASS" in found.notes[sample]


def test_background_is_explained_where_there_is_nothing_else() -> None:
    flat = np.zeros((1, 3, 2, 2))
    flat[:, 0] = 1
    found = resolve("top1", flat, LABELS)
    assert found.classes == (0,)
    assert "elsewhere nothing else" in found.notes[0]


@pytest.mark.parametrize("method", ["gradient", "lrp", "grad-cam", "occlusion", "integrated-gradients"])
def test_every_method_takes_the_default(method: str) -> None:
    model = analyzer.load(class_map(), "cpu")
    default = model.explain(PICTURES, method)
    logits = model.values({"x": PICTURES}, ["z"])["z"]
    chosen = [int(np.bincount(each.ravel(), minlength=3).argmax()) for each in logits.argmax(1)]
    assert default.classes == tuple(chosen)
    assert any("is a class map" in note for note in default.record["notes"])
    named = model.explain(PICTURES, method, [f"region:{number}" for number in chosen])
    np.testing.assert_array_equal(default.attribution, named.attribution)
    weights = (logits.argmax(1)[:, None] == np.arange(3)[None, :, None, None]) & (
        np.array(chosen)[:, None, None, None] == np.arange(3)[None, :, None, None]
    )
    given = model.explain(PICTURES, method, weights.astype(np.float32))
    if not method.endswith("cam"):
        np.testing.assert_allclose(default.attribution, given.attribution, atol=1e-6)
    np.testing.assert_allclose(default.score, (logits * weights).sum((1, 2, 3)), rtol=1e-4)


def test_a_region_in_a_contrast_and_in_a_fixed_batch() -> None:
    free, fixed = analyzer.load(class_map(), "cpu"), analyzer.load(class_map(1), "cpu")
    for target in ("contrast:region:top1,z[:,0,2,1]", "contrast:region:top1,region:top2", "not:region:top1"):
        want, got = (model.explain(PICTURES, "gradient", target.replace("z[", "y[")) for model in (free, fixed))
        np.testing.assert_allclose(got.attribution, want.attribution, atol=1e-6)


def test_an_inner_unit_keeps_its_strongest_element() -> None:
    model = analyzer.load(class_map(), "cpu")
    assert model.explain(PICTURES, "gradient", layer="z").target[0].startswith("element [")


def test_the_default_compiles(tmp_path: Path) -> None:
    for labels in (None, LABELS):
        model = analyzer.load(class_map(), "cpu", labels=labels)
        for target in ("top1", "top2", "not:top1"):
            done = analyzer.compile(model, "gradient", target, batch=2, example=PICTURES)
            assert done.difference is not None
            assert done.difference < 1e-5
    np.save(tmp_path / "m.npy", np.eye(6)[:, :4])
    done = analyzer.compile(
        analyzer.load(class_map(), "cpu"), "lrp", f"region:1:{tmp_path / 'm.npy'}", example=PICTURES
    )
    assert done.difference is not None
    with pytest.raises(UsageError) as caught:
        analyzer.compile(analyzer.load(class_map(), "cpu"), "lrp", "region:1", example=PICTURES)
    assert caught.value.code == "target.not_compilable"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("region:3", "target.out_of_range"), ("region:-1", "target.out_of_range"), ("region:", "target.syntax"),
        ("region:1:", "target.syntax"), ("region:zebra", "target.unknown_label"), ("region:1:none.png", "target.file"),
        ("region:1:broken.png", "target.file"), ("region:1:none.npy", "target.file"), ("region:1:nan.npy", "target.nonfinite"),
        ("region:1:cube.npy", "target.bad_shape"), ("region:1:empty.npy", "target.empty"), ("top0", "target.out_of_range"),
        ("top9", "target.out_of_range"), ("region:top9", "target.out_of_range"), ("region:top0", "target.unknown_label"),
    ],
)  # fmt: skip
def test_wrong_regions_are_one_line(target: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    arrays: dict[str, Any] = {"nan": np.full((2, 2), np.nan), "cube": np.ones((2, 2, 2)), "empty": np.zeros((2, 2))}
    for name, value in arrays.items():
        np.save(f"{name}.npy", value)
    with pytest.raises(UsageError) as caught:
        resolve(target, MAP, LABELS)
    assert caught.value.code == code
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_class_that_is_predicted_nowhere_is_refused() -> None:
    flat = np.zeros((1, 3, 2, 2))
    flat[:, 0] = 1
    with pytest.raises(UsageError, match=r"predicted nowhere.*target\.empty"):
        resolve("region:1", flat, LABELS)
    for shape in ((2, 3), (2, 3, 4), (2, 3, 1, 1), (2, 1, 4, 4)):
        with pytest.raises(UsageError, match=r"target\.not_a_class_map"):
            resolve("region:0", np.zeros(shape), LABELS)
