"""The digit classifier and the digit generator do what their cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from models.digits.data import CODE, codes, measure, measure_generator, split
from models.onnx_files import SAMPLES, stated
from tests.models.running import CARD_TOLERANCE, classes, outputs


def test_split_uses_every_digit_once() -> None:
    (train_images, _), (test_images, _) = split()
    rows = np.concatenate([train_images, test_images]).reshape(-1, 64) * 16
    every = load_digits().data
    assert len(rows) == len(every)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, every.tolist()))
    seen = {tuple(row) for row in train_images.reshape(-1, 64).tolist()}
    assert not any(tuple(row) in seen for row in test_images.reshape(-1, 64).tolist())


def test_accuracy_is_as_stated(sample_models: Path) -> None:
    path = sample_models / "digits_cnn.onnx"
    images, labels = split()[1]
    accuracy = float((outputs(path, images)[0].argmax(axis=1) == labels).mean())
    figures = stated(path.with_suffix(".md"))
    assert accuracy > 0.98
    assert accuracy == pytest.approx(figures["held-out accuracy"], abs=CARD_TOLERANCE)
    assert measure(path)["held-out accuracy"] == accuracy
    assert set(measure(path)) == set(figures)


@pytest.mark.parametrize("digit", range(10))
def test_sample_digit_is_recognised(sample_models: Path, digit: int) -> None:
    picture = np.asarray(Image.open(SAMPLES / f"digits_{digit}.png"))
    assert picture.shape == (8, 8)
    assert classes(sample_models / "digits_cnn.onnx", picture[None, :, :, None])[0] == digit


def test_generator_is_as_stated(sample_models: Path) -> None:
    path, classifier = sample_models / "digits_generator.onnx", sample_models / "digits_cnn.onnx"
    measured = measure_generator(path, classifier)
    assert measured == pytest.approx(stated(path.with_suffix(".md")), abs=CARD_TOLERANCE)
    pictures = outputs(path, codes())[0]
    assert pictures.shape == (len(codes()), 1, 8, 8)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    logits = outputs(classifier, pictures)[0].astype(np.float64)
    best = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)  # softmax of the largest logit
    assert measured["mean largest probability"] == pytest.approx(best.mean(), abs=1e-6)
    counts = np.bincount(logits.argmax(axis=1), minlength=10)
    assert counts.min() > 0.05 * len(best)
    assert best.mean() > 0.85


def test_generated_digits_look_like_digits(sample_models: Path) -> None:
    """Decoded codes lie nearer to held-out digits than pictures with shuffled pixels do."""
    real = split()[1][0].reshape(-1, 64)
    made = outputs(sample_models / "digits_generator.onnx", codes()[:300])[0].reshape(-1, 64)
    shuffled = np.random.default_rng(0).permuted(made, axis=1)
    near, far = (np.linalg.norm(some[:, None] - real[None], axis=2).min(axis=1) for some in (made, shuffled))
    assert np.median(near) < 0.6 * np.median(far)


def test_code_moves_the_picture_everywhere(sample_models: Path) -> None:
    """No dead number in the code: each one changes the decoded pictures."""
    path = sample_models / "digits_generator.onnx"
    base = codes()[:50]
    for position in range(CODE):
        moved = base.copy()
        moved[:, position] += 1.5
        assert np.abs(outputs(path, moved)[0] - outputs(path, base)[0]).mean() > 0.01
