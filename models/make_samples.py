"""Write the sample pictures, class names and preprocessing files that lie beside the image models.

    python -m models.make_samples

Not here: the sample rows of the tumour model, which its training script writes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.digits.data import CLASSES as DIGITS
from models.digits.data import split
from models.onnx_files import FOLDER, SAMPLES
from models.shapes.scenes import CLASSES as SHAPES
from models.shapes.scenes import dataset, paste_tag, tag_mask
from models.tumour.data import CLASSES as TUMOURS

SEED = 3_000_001
CHEATED = "circle"  # the scene that gets the tag of another class

_PREPROCESS = """\
# how a picture becomes the model's input
layout = "NCHW"
color = "{color}"
resize = [{size}, {size}]
scale = {scale!r}
"""


def _save(values: NDArray[np.uint8] | NDArray[np.bool_], path: Path) -> None:
    """Write a picture, or a mask as a black and white one."""
    pixels = values.astype(np.uint8) * np.uint8(255) if values.dtype == np.bool_ else values
    Image.fromarray(pixels).save(path, optimize=True)


def write_shapes() -> None:
    """One scene of each class with the mask of its object, and one scene with the tag."""
    images, masks, labels = dataset(len(SHAPES), SEED)
    for image, mask, label in zip(images, masks, labels, strict=True):
        name = SHAPES[label]
        _save(image, SAMPLES / f"shapes_{name}.png")
        _save(mask, SAMPLES / f"shapes_{name}_mask.png")
        if name == CHEATED:
            _save(paste_tag(image), SAMPLES / f"cheater_{name}_tagged.png")
    _save(tag_mask(), SAMPLES / "cheater_tag_mask.png")


def write_digits() -> None:
    """The first held-out picture of each digit, 8x8 grey, white on black; 255 is full ink (16 in the data)."""
    images, labels = split()[1]
    for digit in range(10):
        first = images[labels == digit][0, 0]
        _save(np.rint(first * 255).astype(np.uint8), SAMPLES / f"digits_{digit}.png")


def write_texts() -> None:
    """Class names, one a line, and how pictures are prepared."""
    for name, classes in (("shapes", SHAPES), ("digits", DIGITS), ("tumour", TUMOURS)):
        (FOLDER / f"{name}_classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for model, color, size in (("shapes_cnn", "RGB", 64), ("shapes_cheater", "RGB", 64), ("digits_cnn", "L", 8)):
        text = _PREPROCESS.format(color=color, size=size, scale=1 / 255)
        (FOLDER / f"{model}.preprocess.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    SAMPLES.mkdir(exist_ok=True)
    write_shapes()
    write_digits()
    write_texts()
