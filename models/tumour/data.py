"""scikit-learn's breast cancer data, split once, and the figures of the card.

Not here: training, export.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.onnx_files import run

CLASSES = ("malignant", "benign")
SPLIT_SEED = 11

Split = tuple[NDArray[np.float32], NDArray[np.int64]]


def feature_names() -> list[str]:
    """Names of the thirty columns."""
    from sklearn.datasets import load_breast_cancer

    return [str(name) for name in load_breast_cancer().feature_names]


def split() -> tuple[Split, Split]:
    """Training and held-out rows: features ``float32`` (N, 30), labels ``int64`` (N,)."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    tumours = load_breast_cancer()
    train_x, test_x, train_y, test_y = train_test_split(
        tumours.data.astype(np.float32),
        tumours.target.astype(np.int64),
        test_size=0.3,
        stratify=tumours.target,
        random_state=SPLIT_SEED,
    )
    return (train_x, train_y), (test_x, test_y)


def measure(path: Path) -> dict[str, float]:
    """Accuracy, and the share of malignant tumours that are found, on the held-out rows."""
    features, labels = split()[1]
    found = run(path, features)[0]
    return {
        "held-out accuracy": float((found == labels).mean()),
        "malignant tumours found": float((found[labels == 0] == 0).mean()),
        "benign tumours found": float((found[labels == 1] == 1).mean()),
    }
