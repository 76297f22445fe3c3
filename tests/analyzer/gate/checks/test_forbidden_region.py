"""A model that reads a tag must fail, one that doesn't must pass, however the tag and its masks are spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analyzer.gate.run import run_gate
from analyzer.inputs.inpainting import inpaint
from models.shapes.measure import model_input
from models.shapes.tag import paste_tag, tag_mask
from tests.analyzer.gate.linear import SIDE, given, linear, softmax
from tests.analyzer.gate.scenes import STAR, judged, policy, scenes, tagged_stars, write

CHECK = {"kind": "forbidden_region"}


@pytest.mark.parametrize(("model", "status"), [("shapes_cnn", "pass"), ("shapes_cheater", "fail")])
def test_one_mask_for_all_while_only_one_class_has_the_tag(tmp_path: Path, model: str, status: str) -> None:
    images, _, labels = scenes(120)
    data = write(tmp_path, tagged_stars(images, labels), labels, tag_mask())
    found = judged(policy(model, data, CHECK))
    assert found.status == status, found.message
    if status == "fail":
        assert "in class star" in found.message
        shown = found.outcome.exhibits
        assert len(shown) == 4
        for exhibit in shown:  # the tag lights up, and without it the class is another
            assert exhibit.explanation.classes == (STAR,)
            assert exhibit.other is not None
            assert exhibit.other[1].classes != (STAR,)
            assert exhibit.mask is not None
            np.testing.assert_array_equal(exhibit.mask, tag_mask())
            assert "star" in exhibit.caption
            inside = np.maximum(exhibit.explanation.attribution[0].sum(axis=0), 0)
            assert inside[tag_mask()].sum() > 0.3 * inside.sum()


def test_masks_of_only_some_inputs(tmp_path: Path) -> None:
    images, _, labels = scenes(120)
    star = labels == STAR
    masks = np.where(star[:, None, None], tag_mask(), False)
    data = write(tmp_path, tagged_stars(images, labels), labels, masks)
    found = judged(policy("shapes_cheater", data, CHECK))
    assert found.status == "fail"
    assert found.outcome.left_out == {"the region is empty": int((~star).sum())}
    good = judged(policy("shapes_cnn", data, CHECK))  # 20 inputs can't show that 95 % of all are fine
    assert good.status == "inconclusive"
    assert "20 inputs have a value, 59 are needed; 100 left out: the region is empty" in good.message


def test_a_folder_with_a_mask_for_each_input_that_has_the_tag(tmp_path: Path) -> None:
    images, _, labels = scenes(36)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "tags").mkdir()
    for number, picture in enumerate(tagged_stars(images, labels)):
        Image.fromarray(picture).save(tmp_path / "scenes" / f"{number:02}.png")
        if labels[number] == STAR:
            Image.fromarray(tag_mask()).save(tmp_path / "tags" / f"{number:02}.png")
    found = judged(policy("shapes_cheater", tmp_path / "scenes", {**CHECK, "masks": str(tmp_path / "tags")}))
    assert found.status == "fail"
    assert found.outcome.left_out == {"no mask": 30}
    assert "in predicted star" in found.message or "(6 inputs)" in found.message


@pytest.mark.parametrize(("model", "status"), [("shapes_cnn", "pass"), ("shapes_cheater", "fail")])
def test_a_tag_that_no_input_has_is_pasted(tmp_path: Path, model: str, status: str) -> None:
    images, _, labels = scenes(72)
    np.save(tmp_path / "tag.npy", tag_mask())
    np.savez(tmp_path / "patch.npz", image=model_input(paste_tag(images[:1])))
    tagged = np.arange(len(images)) < 6  # has it already
    pictures = np.where(tagged[:, None, None, None], paste_tag(images), images)
    check = {**CHECK, "intervention": "paste", "patch": "patch.npz", "masks": "tag.npy"}
    wanted = policy(model, write(tmp_path, pictures, labels), check, policy={"min_n": 60})
    (found,) = run_gate(wanted, folder=tmp_path, threads=1, device="cpu").checks
    assert found.status == status, found.message
    assert found.outcome.left_out == {"the patch is there already": 6}


def _watermarked(tmp_path: Path, depends: bool) -> tuple[Path, Path, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A classifier whose maps lie in a watermark on the left: no class depends on it, or class 1 does."""
    rng = np.random.default_rng(3)
    region = np.zeros((SIDE, SIDE), bool)
    region[1:3, 1:3] = True
    weights = rng.normal(0, 0.02, (SIDE * SIDE, 2)) + ([0.12, 0.0] if depends else 0.0)
    weights[region.reshape(-1)] = [[0.0, 1.5]] if depends else [[8.0, 8.0]]  # beside 3.6 for class 0 from everywhere
    x = rng.uniform(0, 1, (80, 1, SIDE, SIDE)).astype(np.float32)
    x[:, 0, region] = 1.0
    np.savez(tmp_path / "data.npz", image=x, mask=region)
    return linear(tmp_path / "model.onnx", weights), tmp_path / "data.npz", weights, x


def test_relevance_in_a_watermark_that_nothing_depends_on_is_no_fault(tmp_path: Path) -> None:
    model, data, _, _ = _watermarked(tmp_path, depends=False)
    both = judged(given(model, data, CHECK))
    assert both.status == "pass"
    assert np.nanmin(both.outcome.values["mass over area"]) > 3  # by relevance alone all inputs would be guilty
    either = judged(given(model, data, {**CHECK, "require": "either"}))
    assert either.status == "fail"
    assert either.outcome.tests[0].estimate == 0
    model, data, _, _ = _watermarked(tmp_path, depends=True)
    assert judged(given(model, data, CHECK)).status == "fail"


def test_figures_are_those_of_the_definition(tmp_path: Path) -> None:
    model, data, weights, x = _watermarked(tmp_path, depends=True)
    values = judged(given(model, data, CHECK)).outcome.values
    region = np.zeros((SIDE, SIDE), bool)
    region[1:3, 1:3] = True
    flat = x.reshape(len(x), -1).astype(np.float64)
    logits = flat @ weights
    chosen = logits.argmax(axis=1)
    relevance = np.maximum(flat * weights[:, chosen].T, 0)
    for name, where in (("mass over area", region), ("mass over area of the control", region[:, ::-1])):
        inside = relevance[:, where.reshape(-1)].sum(axis=1)
        expected = inside / relevance.sum(axis=1) / (4 / 64)
        np.testing.assert_allclose(values[name], expected, rtol=1e-5)
    without = np.stack([inpaint(each[0], region, (0, 1)) for each in x]).reshape(len(x), -1)
    rows = np.arange(len(x))
    change = np.abs(softmax(logits)[rows, chosen] - softmax(without.astype(np.float64) @ weights)[rows, chosen])
    np.testing.assert_allclose(values["probability change"], change, atol=1e-6)


def test_a_region_that_lies_in_the_middle_has_no_control(tmp_path: Path) -> None:
    model, data, _, x = _watermarked(tmp_path, depends=True)
    middle = np.zeros((SIDE, SIDE), bool)
    middle[3:5, 3:5] = True
    np.savez(data, image=x, mask=middle)
    found = judged(given(model, data, CHECK))
    assert found.status == "inconclusive"
    assert found.outcome.left_out == {"the region overlaps its control on every side": 80}
    assert judged(given(model, data, {**CHECK, "control": "none"})).status in ("pass", "fail")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"intervention": "paste"}, "patch: it is missing"),
        ({"intervention": "paste", "patch": "other.npz"}, "patch: "),
        ({"masks": "empty"}, "masks: no mask in"),
    ],
)
def test_values_that_only_show_at_run_time_are_told_by_check_and_key(
    tmp_path: Path, more: dict[str, Any], told: str
) -> None:
    model, data, _, _ = _watermarked(tmp_path, depends=True)
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", image=np.zeros((1, 3, 4, 4), np.float32))
    (found,) = run_gate(given(model, data, {**CHECK, **more, "id": "no-tag"}), folder=tmp_path, device="cpu").checks
    assert found.status == "error"
    assert found.code == "config.gate"
    assert f"check 'no-tag': {told}" in found.message
