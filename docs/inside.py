"""Draws the pictures of ``docs/inside.md``.

    python -m docs.inside

Belongs here: the same calls that the page tells of. Not here: what they do (``analyzer.visualization``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import analyzer
from analyzer.jobs.filter_pictures import filter_picture
from analyzer.jobs.layer_pictures import layer_picture
from analyzer.report.canvas import LINE, Canvas
from analyzer.report.heat import resize
from analyzer.report.pictures import png
from analyzer.visualization.layers import chosen
from models.shapes.measure import model_input
from models.shapes.scenes import dataset

FOLDER = Path(__file__).parent / "images" / "inside"
MODEL = Path(__file__).parents[1] / "models" / "shapes_cnn.onnx"
#: The layer that is looked at, channels of it, and how many scenes are gone through.
LAYER, CHANNELS, SCENES, SEED = "relu_5", (2, 9, 37), 400, 77
Pixels = NDArray[np.uint8]


def first_layer() -> Pixels:
    """The filters of the first convolution, in their colours."""
    return filter_picture(next(iter(analyzer.load(MODEL).filters().values())), MODEL.stem)[0]


def feature_maps() -> Pixels:
    """What a layer makes of a star."""
    from PIL import Image

    model = analyzer.load(MODEL)
    with Image.open(MODEL.parent / "samples" / "shapes_star.png") as star:
        x = model_input(np.asarray(star.convert("RGB"))[None])
    value = model.activations(x, LAYER)[LAYER]
    drawn = layer_picture(model, chosen(model, LAYER)[0], value[:, :24], 0, "star")
    assert drawn is not None
    return drawn


def top_inputs() -> Pixels:
    """For each of some channels: what it sees where it is largest, for the eight scenes that drive it most."""
    images, _, _ = dataset(SCENES, SEED)
    model = analyzer.load(MODEL)
    side, gap, left, text = 92, 8, 112, 16
    canvas = Canvas(left + 8 * (side + gap) + 12, 46 + len(CHANNELS) * (side + gap))
    canvas.text(12, 10, f"{LAYER}, the eight of {SCENES} scenes that drive a channel most", text, bold=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scenes.npz"
        np.savez(data, x=model_input(images))
        for row, channel in enumerate(CHANNELS):
            y = 42 + row * (side + gap)
            canvas.text(12, y + side / 2 - LINE * text / 2, f"channel {channel}", text, colour=canvas.theme.faint)
            found = model.top_inputs(data, LAYER, channel=channel, k=8, method=None)
            for column, each in enumerate(found.top):
                crop = images[each.at][each.box] if each.box is not None else images[each.at]
                factor = side / max(crop.shape[:2])
                shown = resize(crop, round(crop.shape[0] * factor), round(crop.shape[1] * factor), smooth=True)
                canvas.image(left + column * (side + gap), y, shown)
    return canvas.pixels()


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (first_layer, feature_maps, top_inputs):
        (FOLDER / f"{draw.__name__}.png").write_bytes(png(draw()))


if __name__ == "__main__":
    main()
