"""The page of ``benchmarks.photos``: tables from what was measured, and what follows from them.

Belongs here: Markdown. Not here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.perturbation_page import table

Measured = Mapping[str, Mapping[str, Mapping[str, list[float]]]]

HEAD = """# Defaults, measured on photos

Written by `python -m benchmarks.photos`. 24 photos of COCO, each with the box of one object, and two classifiers of ImageNet:
squeezenet, and shufflenet v2 in eight bits. Explained is the logit of the object's class. Two figures for each map, means over
the photos ± their standard error:

- **in the box**: the share of positive relevance that lies in the box, less the box's share of the area (0 for a map that knows
  nothing);
- **insertion − deletion** (Petsiuk et al. 2018): the mean probability of the class while 16 × 16 blocks are uncovered on a
  blurred copy, the most relevant first, less the mean while they are blurred in the photo.

"""
_SMOOTHGRAD = """## SmoothGrad

Noise as a fraction of the input's max − min, 15 copies. The mean of gradients has a sign that changes from element to element
and cancels; their mean square doesn't. The defaults are `noise=0.05, reduce="square"`; the paper's are
`noise=0.15, reduce="mean"`.

"""
_RISE = """## RISE

Centred, which is the default: the mean score is taken off, so that 0 is neutral. The paper's own form is `centre=false`: where
the logit is of one sign, its map is one colour and mostly noise.

How much of a map is chance follows from its standard errors: their root mean square as a part of the map's standard deviation,
the median over the photos, and the correlation with the map of infinitely many masks that this leaves. Both follow for other
numbers of masks, since the errors fall with the root of the number (marked *). The default is 1,000: four times as many, the
paper's number, would add 0.03 to that correlation at four times the cost. `standard_error=` stops at a given error instead.

"""


def page(found: Measured) -> str:
    """The whole page."""
    return HEAD + _beside(found) + _smoothgrad(found) + _rise(found)


def _figure(values: Iterable[float]) -> str:
    numbers = np.array(list(values))
    return f"{numbers.mean():+.3f} ± {numbers.std(ddof=1) / np.sqrt(len(numbers)):.3f}"


def _rows(found: Measured, labels: Mapping[str, str]) -> str:
    """A table with both figures of every model that they were measured on."""
    head = ["map", *(f"{model}: {what}" for model in found for what in ("in the box", "insertion − deletion"))]
    rows = []
    for label, shown in labels.items():
        cells = []
        for measured in found.values():
            if label in measured:
                inside = np.array(measured[label]["share"]) - np.array(measured["area"]["share"])
                cells += [_figure(inside), _figure(measured[label]["difference"])]
            else:
                cells += ["", ""]
        if any(cells):
            rows.append([shown, *cells])
    return table(head, rows)


def _labels(found: Measured, start: str) -> dict[str, str]:
    """Label -> what distinguishes it, of those that begin with a word."""
    every = dict.fromkeys(label for measured in found.values() for label in measured if label.startswith(start))
    return {label: f"`{label.partition(' ')[2]}`" for label in every}


def _beside(found: Measured) -> str:
    """Other methods, and maps that know nothing."""
    labels = (
        "lrp",
        "gradient",
        "saliency",
        "a blob in the middle",
        "a random map",
    )
    return "## Other methods and maps that know nothing\n\n" + _rows(found, {label: label for label in labels}) + "\n"


def _smoothgrad(found: Measured) -> str:
    return _SMOOTHGRAD + _rows(found, _labels(found, "smoothgrad")) + "\n"


def _rise(found: Measured) -> str:
    noise = {
        int(label.partition("=")[2]): float(np.median(one["noise"]))
        for measured in found.values()
        for label, one in measured.items()
        if label.startswith("rise")
    }
    most = max(noise)
    shown = {**{masks: (share, "") for masks, share in noise.items()}}
    for masks in (2 * most, 4 * most):
        shown[masks] = (noise[most] * (most / masks) ** 0.5, "*")
    rows = [
        [f"{masks:,}{mark}", f"{share:.2f}", f"{(1 - share**2) ** 0.5:.3f}"]
        for masks, (share, mark) in sorted(shown.items())
    ]
    head = ("masks", "standard error / standard deviation", "correlation with the limit")
    return _RISE + table(head, rows) + "\n" + _rows(found, _labels(found, "rise"))
