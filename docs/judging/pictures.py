"""Draws the pictures of ``docs/judging.md``.

    python -m docs.judging.pictures

Belongs here: figures as pictures. Not here: the figures themselves (``experiments``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import analyzer
from analyzer.evaluation.flipping_frames import flipping_frames
from analyzer.report.animation import save_animation
from analyzer.report.canvas import LINE, Canvas
from analyzer.report.explained import panel, sample
from analyzer.report.heat import layers, resize
from analyzer.report.picture_curves import Line, draw_curves
from analyzer.report.pictures import png
from docs.judging import experiments

FOLDER = Path(__file__).resolve().parents[1] / "images" / "judging"
Pixels = NDArray[Any]


def moving() -> Pixels:
    """Maps of one scene, moved to the right pixel by pixel, for four values of γ."""
    x = experiments.moving()
    shown = np.linspace(0, len(x) - 1, 6).astype(int)
    side, gap, left, top, text = 150, 8, 96, 36, 16
    canvas = Canvas(left + 6 * (side + gap) + 12, top + 5 * (side + gap) + 12)
    for column, at in enumerate(shown):
        shift = at - len(x) // 2
        label = f"{shift:+d} pixels" if shift else "as it is"
        canvas.text(left + column * (side + gap), 10, label, text, colour=canvas.theme.faint)
        picture = np.rint(x[at].transpose(1, 2, 0) * 255).astype(np.uint8)
        canvas.image(left + column * (side + gap), top, resize(picture, side, side, smooth=False))
    canvas.text(12, top + side / 2 - text, "input", text)
    for row, gamma in enumerate(experiments.GAMMAS, 1):
        y = top + row * (side + gap)
        canvas.text(12, y + side / 2 - LINE * text, f"γ = {gamma:g}", text)
        e = experiments.maps_of_moving(gamma, x)
        for column, at in enumerate(shown):
            drawn = layers(sample(e, at, ""), panel(e, at)).overlay
            canvas.image(left + column * (side + gap), y, resize(drawn, side, side, smooth=False))
    return canvas.pixels()


def roughness() -> Pixels:
    """How far maps move beside how large they are, over γ."""
    y = np.array([experiments.roughness(gamma) for gamma in experiments.GAMMAS])
    line = Line("", np.array(experiments.GAMMAS), y)
    return draw_curves("How far a map changes when its scene moves by one pixel", [line], "γ", "mean ‖R − R'‖ / ‖R‖")


def exploding() -> Pixels:
    """Σ|R| / |f| over depth."""
    depths = (1, 4, 16, 32, 64)
    lines = [
        Line(name, np.array(depths, np.float64), np.array(values))
        for name, values in experiments.exploding(depths).items()
    ]
    return draw_curves("Relevance beside the score that it explains", lines, "ReLU layers", "Σ|R| / |f|")


def flipping() -> Pixels:
    """Curves of pixel-flipping with their intervals."""
    lines = []
    for name, found in experiments.flipped().items():
        curve = next(iter(found.curves.values()))
        error = 1.96 * curve.y.std(axis=0, ddof=1) / np.sqrt(len(curve.y))
        mean = curve.y.mean(axis=0)
        lines.append(Line(name, curve.x, mean, mean - error, mean + error))
    return draw_curves("Pixel-flipping of 50 scenes", lines, "share of the picture replaced by its mean", "logit")


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (moving, roughness, exploding, flipping):
        (FOLDER / f"{draw.__name__}.png").write_bytes(png(draw()))
    model, x = analyzer.load(experiments.MODEL, "cpu"), experiments.shapes(4)
    e = model.explain(x, "lrp", composite="epsilon-gamma-box", low=0.0, high=1.0)
    save_animation(flipping_frames(model, x, e, 1, steps=20, size=2), FOLDER / "losing_pixels.webp")


if __name__ == "__main__":
    main()
