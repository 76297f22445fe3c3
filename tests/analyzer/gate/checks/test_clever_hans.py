"""A class that is read off a tag is found without a mask; models that look at objects, or at digits that lie alike, aren't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.digits.data import split
from models.shapes.tag import paste_tag, tag_mask
from tests.analyzer.gate.scenes import MODELS, STAR, judged, policy, scenes, tagged_stars, write

CHECK = {"kind": "clever_hans"}


@pytest.mark.parametrize(("model", "status"), [("shapes_cnn", "pass"), ("shapes_cheater", "fail")])
def test_a_class_that_is_all_tag(tmp_path: Path, model: str, status: str) -> None:
    images, _, labels = scenes(120)
    found = judged(policy(model, write(tmp_path, tagged_stars(images, labels), labels), CHECK))
    assert found.status == status, found.message
    flagged = np.flatnonzero(found.outcome.values["in a flagged group"])
    if status == "pass":
        assert not len(flagged)
        return
    assert set(labels[flagged]) == {STAR}
    assert "inputs of class star have their relevance in one place" in found.message
    assert len(found.outcome.exhibits) == 4
    place = found.outcome.exhibits[0].mask
    assert place is not None
    assert place[tag_mask()].sum() > 0.9 * place.sum()


def test_a_tag_on_few_inputs_of_every_class_makes_a_group_of_its_own(tmp_path: Path) -> None:
    images, _, labels = scenes(120)
    tagged = np.arange(len(images)) % 10 == 0
    pictures = np.where(tagged[:, None, None, None], paste_tag(images), images)
    found = judged(policy("shapes_cheater", write(tmp_path, pictures, labels), {**CHECK, "min_n_per_class": 8}))
    assert found.status == "fail"
    flagged = found.outcome.values["in a flagged group"] == 1
    assert tagged[flagged].all()
    assert flagged.sum() >= 0.9 * tagged.sum()


def test_digits_that_all_lie_in_the_same_place_are_no_alarm(tmp_path: Path) -> None:
    (x, labels), _ = split()
    np.savez(tmp_path / "data.npz", image=x[:300], label=labels[:300])
    given = {
        "schema": 1, "model": {"path": str(MODELS / "digits_cnn.onnx")}, "data": {"path": str(tmp_path / "data.npz")},
        "explain": {"method": "lrp"}, "check": [{"id": "hans", **CHECK}],
    }  # fmt: skip
    assert judged(given).status == "pass"


def test_too_few_inputs_and_tables_show_nothing(tmp_path: Path) -> None:
    images, _, labels = scenes(12)
    found = judged(policy("shapes_cnn", write(tmp_path, images, labels), CHECK))
    assert found.status == "inconclusive"
    assert "no class has 12 inputs" in found.message
    np.savez(tmp_path / "rows.npz", x=np.zeros((20, 30), np.float32))
    given = {
        "schema": 1, "model": {"path": str(MODELS / "tumour_mlp.onnx")}, "data": {"path": str(tmp_path / "rows.npz")},
        "check": [{"id": "hans", **CHECK}],
    }  # fmt: skip
    assert judged(given).code == "gate.no_places"
