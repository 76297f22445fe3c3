"""Draws the pictures of ``docs/inside.md``.

    python -m docs.inside

Belongs here: the same calls that the page tells of. Not here: what they do (``analyzer.visualization``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import analyzer
from analyzer.jobs.filter_pictures import filter_picture
from analyzer.jobs.input_pictures import sheet
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
#: Regularisers of what is maximised, and the layers that dream.
SMOOTH: dict[str, Any] = {"blur": 1.5, "tv": 0.0002}
DREAMT = ("relu_5", "relu_7")
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


def maximized() -> Pixels:
    """What drives each class of shapes most, smoothed; each the best of two ascents."""
    model = analyzer.load(MODEL)
    assert model.labels is not None
    found = [model.maximize(name, restarts=2, **SMOOTH) for name in model.labels.names]
    labels = [f"{each.probabilities[0]:.3f} {each.goal.target}" for each in found if each.probabilities is not None]
    drawn = sheet("shapes_cnn: inputs that drive classes", found[0].domain, [each.x[0] for each in found], labels, ())
    assert drawn is not None
    return drawn


def codes() -> Pixels:
    """The same for digits, among the codes of a generator."""
    folder = MODEL.parent
    model = analyzer.load(folder / "digits_cnn.onnx")
    found = [model.maximize(digit, generator=folder / "digits_generator.onnx", l2=0.005) for digit in range(10)]
    labels = [f"{each.probabilities[0]:.3f} {each.goal.target}" for each in found if each.probabilities is not None]
    title = "digits_cnn: codes of a generator"
    drawn = sheet(title, found[0].domain, [each.x[0] for each in found], labels, ())
    assert drawn is not None
    return drawn


def dream() -> Pixels:
    """A scene, and what two layers make of it."""
    from PIL import Image

    model = analyzer.load(MODEL)
    with Image.open(MODEL.parent / "samples" / "shapes_star.png") as star:
        x = model_input(np.asarray(star.convert("RGB").resize((192, 192), Image.Resampling.BICUBIC))[None])[0]
    shown = [x, *(model.dream(x, layer, octaves=3, steps=8).x for layer in DREAMT)]
    tiles = np.stack([np.rint(np.moveaxis(each, 0, -1) * 255).astype(np.uint8) for each in shown])
    sheet_ = np.full((192, 3 * 192 + 2 * 8, 3), 255, np.uint8)
    for at, tile in enumerate(tiles):
        sheet_[:, at * 200 : at * 200 + 192] = tile
    return sheet_


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (first_layer, feature_maps, top_inputs, maximized, codes, dream):
        (FOLDER / f"{draw.__name__}.png").write_bytes(png(draw()))


if __name__ == "__main__":
    main()
