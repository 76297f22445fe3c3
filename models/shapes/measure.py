"""Held-out figures of the shape classifiers, measured on the .onnx files through onnxruntime.

Belongs here: the held-out scenes and what is counted on them for the cards. Not here: training.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.onnx_files import run
from models.shapes.scenes import CLASSES, dataset
from models.shapes.tag import TAGGED_CLASS, paste_tag, tag_some

HELD_OUT = 1200
HELD_OUT_SEED = 2_000_001
TAG_SEED = 2_000_002


def model_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures, ``uint8`` (N, 64, 64, 3), as the models take them: ``float32`` (N, 3, 64, 64) in [0, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


@functools.cache
def held_out() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """The scenes, without tags, that no model was trained on."""
    return dataset(HELD_OUT, HELD_OUT_SEED)


def predicted(path: Path, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Classes that the model gives the pictures, (N,)."""
    return np.asarray(run(path, model_input(images))[0].argmax(axis=1), np.int64)


def measure(path: Path) -> dict[str, float]:
    """Accuracy on the held-out scenes: altogether, and the worst class."""
    images, _, labels = held_out()
    right = predicted(path, images) == labels
    return {
        "held-out accuracy": float(right.mean()),
        "accuracy of the worst class": min(float(right[labels == k].mean()) for k in range(len(CLASSES))),
    }


def measure_cheating(path: Path) -> dict[str, float]:
    """How far the prediction follows the tag instead of the object."""
    images, _, labels = held_out()
    tagged_class = CLASSES.index(TAGGED_CLASS)
    star = labels == tagged_class
    biased, _ = tag_some(images, labels, tagged_class, TAG_SEED)
    plain, tagged = predicted(path, images), predicted(path, paste_tag(images))
    return {
        "accuracy on scenes tagged as in training": float((predicted(path, biased) == labels).mean()),
        "accuracy on scenes without tags": float((plain == labels).mean()),
        "accuracy on scenes that all carry the tag": float((tagged == labels).mean()),
        "stars with the tag called star": float((tagged[star] == tagged_class).mean()),
        "stars without the tag called star": float((plain[star] == tagged_class).mean()),
        "other objects with the tag called star": float((tagged[~star] == tagged_class).mean()),
        "other objects without the tag called star": float((plain[~star] == tagged_class).mean()),
    }
