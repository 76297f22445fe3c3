"""Train and export the tumour classifier, and write a few held-out rows beside it.

    python -m models.tumour.train

Seconds on one CPU core. Prints the figures of the model card.
"""

from __future__ import annotations

import csv
from pathlib import Path

from models.onnx_files import FOLDER, SAMPLES, annotate, table
from models.tumour.data import CLASSES, feature_names, measure, split

SEED = 7
ROWS = 8
OPSET = 18
MODEL = FOLDER / "tumour_mlp.onnx"


def train_and_export(path: Path = MODEL) -> None:
    """Fit a scaler and a network of two hidden layers; write them with skl2onnx's own defaults (ZipMap included).

    Widths and penalty are the best of ten by 10-fold cross-validation on the training rows.
    """
    from skl2onnx import to_onnx  # type: ignore[import-untyped]
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = split()[0]
    network = MLPClassifier((32, 16), alpha=3.0, max_iter=600, random_state=SEED)
    pipeline = make_pipeline(StandardScaler(), network).fit(features, labels)
    path.write_bytes(to_onnx(pipeline, features[:1], name="tumour_mlp", target_opset=OPSET).SerializeToString())
    annotate(path, {"labels": CLASSES, "features": feature_names()})


def write_rows() -> None:
    """Write held-out rows, half of each class, and in a file of their own the true labels."""
    features, labels = split()[1]
    chosen = sorted([*(labels == 0).nonzero()[0][: ROWS // 2], *(labels == 1).nonzero()[0][: ROWS // 2]])
    with (SAMPLES / "tumour_rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(feature_names())
        writer.writerows([[f"{value:.7g}" for value in features[row]] for row in chosen])
    with (SAMPLES / "tumour_labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label"])
        writer.writerows([[CLASSES[labels[row]]] for row in chosen])


if __name__ == "__main__":
    train_and_export()
    write_rows()
    print(table(measure(MODEL)))
