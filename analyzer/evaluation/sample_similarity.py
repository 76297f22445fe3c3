"""How alike two maps of one sample are, over all its inputs.

Belongs here: choosing a similarity by name, and what each takes of a map. Not here: the similarities themselves (``similarity``),
what the maps are of (``metrics``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np

from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array
from analyzer.evaluation.similarity import picture, spearman, ssim

Kind = Literal["spearman", "spearman-absolute", "ssim"]
#: The parameter by which metrics choose how maps are compared.
Similarity = Annotated[
    Kind,
    "how maps are compared: spearman, the rank correlation of all elements; spearman-absolute, that of their absolute values; "
    "ssim, the structural similarity of pictures, channels summed and each map divided by its largest absolute value",
]


def similarity(context: MetricContext, one: Mapping[str, Array], other: Mapping[str, Array], kind: Kind) -> float | str:
    """How alike two maps of a sample are, from -1 to 1, or why that can't be told.

    Parameters
    ----------
    one, other
        Input name -> map without the batch axis; ``ssim`` is the mean over the inputs that are pictures.
    """
    if kind != "ssim":
        first, second = (np.concatenate([maps[name].reshape(-1) for name in one]) for maps in (one, other))
        return spearman(first, second, absolute=kind == "spearman-absolute")
    found = []
    for name, value in one.items():
        shape = context.inputs[name].shape if name in context.inputs else (1, *value.shape)
        places = tuple(axis - 1 for axis in context.model.axes(name, shape).places)
        pictures = [picture(map_, places) for map_ in (value, other[name])]
        if pictures[0] is not None and pictures[1] is not None:
            found.append(ssim(_scaled(pictures[0]), _scaled(pictures[1])))
    if not found:
        return "ssim compares pictures, and no explained input is one"
    known = [each for each in found if not isinstance(each, str)]
    return float(np.mean(known)) if len(known) == len(found) else next(e for e in found if isinstance(e, str))


def _scaled(values: Array) -> Array:
    return values / (np.abs(values).max() or 1.0)
