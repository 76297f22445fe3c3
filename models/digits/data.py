"""scikit-learn's handwritten digits, split once for both models, and the figures of their cards.

Belongs here: the split, counting on the .onnx files. Not here: networks, training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.onnx_files import run

CLASSES = tuple("0123456789")
SPLIT_SEED = 11
CODE = 8  # numbers in a code of the generator
CODES, CODES_SEED = 2000, 12

Split = tuple[NDArray[np.float32], NDArray[np.int64]]


def split() -> tuple[Split, Split]:
    """Training and held-out digits: images ``float32`` (N, 1, 8, 8) in [0, 1], labels ``int64`` (N,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.3, stratify=labels, random_state=SPLIT_SEED
    )
    return (train_x, train_y), (test_x, test_y)


def measure(path: Path) -> dict[str, float]:
    """Accuracy of the classifier on the held-out digits."""
    images, labels = split()[1]
    right = run(path, images)[0].argmax(axis=1) == labels
    return {
        "held-out accuracy": float(right.mean()),
        "accuracy of the worst class": min(float(right[labels == k].mean()) for k in range(10)),
    }


def codes() -> NDArray[np.float32]:
    """The standard normal codes that the generator is judged on, (CODES, CODE)."""
    return np.random.default_rng(CODES_SEED).standard_normal((CODES, CODE)).astype(np.float32)


def judged(generator: Path, classifier: Path) -> NDArray[np.float64]:
    """Class probabilities that the classifier gives to decoded random codes, (CODES, 10)."""
    logits = run(classifier, run(generator, codes())[0])[0].astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def measure_generator(generator: Path, classifier: Path) -> dict[str, float]:
    """How sure the classifier is of decoded random codes, and which digits they are."""
    probabilities = judged(generator, classifier)
    best = probabilities.max(axis=1)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=10) / len(best)
    return {
        "mean largest probability": float(best.mean()),
        "share with a probability above 0.9": float((best > 0.9).mean()),
        **{f"share of digit {digit}": float(share) for digit, share in enumerate(shares)},
    }
