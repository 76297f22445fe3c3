"""Defaults on photos: what noise, which reduction, how many masks; and whether relevance lies on the object and counts.

24 photos, each with the box of one object, and two classifiers; explained is the class of the object that the model gives the
most. Two figures for each map: the share of its positive relevance in the box, and insertion minus deletion (Petsiuk et al.
2018): the mean probability of the class while 16 x 16 blocks are taken from a blurred copy to the photo, the most relevant
first, less the mean while they are taken from the photo to the blurred copy.

    nice python -m benchmarks.photos [--data ../shared/data] [--only rise] [--page]

The data isn't part of the project: without it the script says so and ends. With ``--only`` maps whose label holds a word are
measured anew, the others stay as they were; ``--page`` writes the page from what was measured.

Belongs here: measuring. Not here: the page (``photos_page``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import analyzer
from benchmarks.photos_page import page

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "photos.json"
PAGE = ROOT / "docs" / "defaults.md"
SIDE, BLOCK, STEPS = 224, 16, 8

#: ImageNet classes of the objects in the photos.
CLASSES: dict[str, tuple[int, ...]] = {
    "zebra": (340,), "horse": (339,), "pizza": (963,), "banana": (954,), "dog": tuple(range(151, 269)),
    "cat": tuple(range(281, 286)), "bear": tuple(range(294, 298)), "train": (466, 547, 705, 820),
    "clock": (409, 530, 892), "airplane": (404, 895), "elephant": (101, 385, 386), "laptop": (620, 681),
    "bus": (654, 779, 874),
}  # fmt: skip

#: Label -> method, parameters, and the models that it is measured on; None for both.
METHODS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    **{
        f"smoothgrad noise={noise:g} reduce={reduce}": (
            "smoothgrad", {"samples": 15, "noise": noise, "reduce": reduce}, None,
        )
        for noise in (0.02, 0.05, 0.1, 0.15) for reduce in ("mean", "square")
    },
    **{f"rise masks={masks}": ("rise", {"masks": masks}, "squeezenet") for masks in (250, 1000)},
    "gradient": ("gradient", {}, None),
    "saliency": ("saliency", {}, None),
    "lrp": ("lrp", {}, None),
}  # fmt: skip


@dataclass(frozen=True)
class Classifier:
    """A model, its file, how a picture (H, W, 3) RGB in 0..255 becomes its input, and its probabilities."""

    name: str
    model: analyzer.Model
    logits: bool

    @classmethod
    def all_of(cls, folder: Path) -> list[Classifier]:
        """The two classifiers."""
        return [
            cls(name, analyzer.load(folder / file, "cpu", threads=1), logits)
            for name, file, logits in (
                ("squeezenet", "squeezenet1_0_fp32_cast.onnx", False), ("shufflenet", "shufflenet_v2_int8.onnx", True),
            )
        ]  # fmt: skip

    def of(self, picture: np.ndarray) -> np.ndarray:
        """A picture as the model's input, (1, 3, H, W)."""
        if self.logits:
            found = (picture / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        else:
            found = picture[..., ::-1] - (103.94, 116.78, 123.68)
        return np.ascontiguousarray(found.transpose(2, 0, 1)[None], np.float32)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(n, classes)."""
        scores = np.asarray(next(iter(self.model.predict(x).values())), np.float64).reshape(len(x), -1)
        if not self.logits:
            return scores
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def photos(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Object, picture (224, 224, 3) in 0..255 and the box as a mask: the short side scaled to 256, the middle cut out."""
    from PIL import Image

    for entry in json.loads((folder / "boxes.json").read_text()):
        image = Image.open(folder / entry["file"]).convert("RGB")
        scale = 256 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        cut = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
        x, y, w, h = entry["box_xywh_center_relative"]
        columns, rows = np.arange(SIDE) + left + 0.5, np.arange(SIDE) + top + 0.5
        inside = (np.abs(rows / height - y) <= h / 2)[:, None] & (np.abs(columns / width - x) <= w / 2)
        yield entry["object"], np.asarray(cut, np.float64), inside


def share_inside(map_: np.ndarray, box: np.ndarray) -> float:
    """Positive relevance in the box over all positive relevance; 0 where there is none."""
    positive = np.maximum(map_, 0.0)
    return float(positive[box].sum() / positive.sum()) if positive.sum() > 0 else 0.0


def insertion_minus_deletion(classifier: Classifier, picture: np.ndarray, map_: np.ndarray, number: int) -> float:
    """The difference of the mean probabilities, in -1 to 1."""
    blocks = map_.reshape(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(1, 3))
    rank = np.empty(blocks.size, int)
    rank[np.argsort(-blocks.ravel(), kind="stable")] = np.arange(blocks.size)
    rank = np.kron(rank.reshape(blocks.shape), np.ones((BLOCK, BLOCK), int))[..., None]
    x, blurred = picture, gaussian_filter(picture, (12, 12, 0))
    counts = [round(blocks.size * step / STEPS) for step in range(1, STEPS)]
    inserted, deleted = (
        [np.where(rank < count, new, old) for count in counts] for new, old in ((x, blurred), (blurred, x))
    )
    got = classifier.probabilities(np.concatenate([classifier.of(each) for each in (*inserted, *deleted)]))[:, number]
    return float(got[: len(counts)].mean() - got[len(counts) :].mean())


def measured(classifier: Classifier, folder: Path, methods: dict[str, Any]) -> dict[str, Any]:
    """Label -> the two figures of every photo, and seconds of processor time; and the relative error of RISE."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    known = {"area": np.ones((SIDE, SIDE)), "a blob in the middle": np.exp(-(yy**2 + xx**2) / (2 * 45**2))}
    found: dict[str, Any] = {}
    for object_, picture, box in photos(folder):
        x = classifier.of(picture)
        classes = np.array(CLASSES[object_])
        number = int(classes[classifier.probabilities(x)[0, classes].argmax()])
        maps: dict[str, tuple[np.ndarray, float, Any]] = {
            label: (map_, 0.0, None)
            for label, map_ in {**known, "a random map": rng.standard_normal((SIDE, SIDE))}.items()
            if label in methods
        }
        for label, made in methods.items():
            if made is None or made[2] not in (None, classifier.name):
                continue
            began = time.process_time()
            e = classifier.model.explain(x, made[0], target=number, **made[1])
            seconds = time.process_time() - began
            errors = next(iter(e.standard_errors.values()), None)
            maps[label] = np.asarray(e.attribution[0], np.float64).sum(axis=0), seconds, errors
        for label, (map_, seconds, errors) in maps.items():
            row = found.setdefault(label, {"share": [], "difference": [], "seconds": [], "noise": []})
            row["share"].append(share_inside(map_, box))
            row["difference"].append(insertion_minus_deletion(classifier, picture, map_, number))
            row["seconds"].append(seconds)
            if errors is not None:
                row["noise"].append(float(np.sqrt(np.mean(errors**2)) / np.std(map_)))
        print(f"{classifier.name} {object_}", flush=True)
    return found


def main() -> None:
    """Measure, write ``results/photos.json`` and the page."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    cli.add_argument("--only", default="", help="measure maps whose label holds this, keep the others")
    cli.add_argument("--page", action="store_true", help="write the page, measure nothing")
    given = cli.parse_args()
    if not given.page:
        if not (given.data / "coco" / "boxes.json").exists():
            print(f"no photos in {given.data / 'coco'}: nothing is measured")
            return
        every = {"area": None, "a blob in the middle": None, "a random map": None, **METHODS}
        methods = {label: made for label, made in every.items() if given.only in label}
        for classifier in Classifier.all_of(given.data / "models"):
            found = measured(classifier, given.data / "coco", methods)
            facts = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            facts.setdefault(classifier.name, {}).update(found)
            RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
