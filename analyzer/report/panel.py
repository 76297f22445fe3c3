"""What a report is made of: plain arrays and facts in small frozen records.

Belongs here: the records that the rest of this package draws. Not here: how they are drawn, and anything that
knows models, methods or files; whoever has an explanation fills these records in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError

Kind = Literal["image", "table", "series", "tokens", "tensor"]
Layout = Literal["CHW", "HWC", "HW", "CT", "TC", "T"]
ScoreKind = Literal["logit", "probability", "log-probability", "value"]


@dataclass(frozen=True, eq=False)
class Panel:
    """One explanation of one sample.

    Parameters
    ----------
    method
        Registry name of the method, ``"lrp"``.
    params
        Its parameters, ``{"composite": "epsilon-plus"}``; all are displayed.
    attribution
        The sample's map without the batch axis: same rank as ``Sample.values`` and broadcastable to it, or,
        for images, a map of another resolution (7 × 7 of a CAM), which is enlarged, with a note. Any real
        dtype. NaN and infinity are allowed: they are drawn grey and counted.
    signed
        True: diverging colours, symmetric about zero. False: sequential colours from zero; negative values
        are drawn as zero and counted.
    target
        What is explained, ``"Egyptian cat (285)"``.
    score
        The explained score.
    score_kind
        What the score is.
    seconds
        Time that the explanation took; displayed on the page, not in the picture (equal explanations, equal
        pictures).
    completeness
        Sentence on the sum of the map, ``"sum 12.31 of 12.40"``.
    notes
        Further sentences, displayed under the map.
    boxes
        (x0, y0, x1, y1) in pixels of the model's input, outlined on the picture of an image: the detection explained.
    region
        bool (H, W) over the pixels of the model's input, whose border is drawn on the picture of an image.
    """

    method: str
    params: Mapping[str, Any]
    attribution: NDArray[Any]
    signed: bool
    target: str
    score: float
    score_kind: ScoreKind = "logit"
    seconds: float | None = None
    completeness: str | None = None
    notes: tuple[str, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()
    region: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One input of the model, and its prediction.

    Parameters
    ----------
    name
        File stem, ``"chelsea"``.
    kind
        How the values are drawn.
    image
        For images: what the model saw after resize and crop, uint8, shape (H, W, 3). Where it is None the
        picture is drawn from ``values`` in grey.
    values
        The raw model input without the batch axis, any dtype (strings too, for tables).
    layout
        Where channels are: ``CHW``, ``HWC`` or ``HW`` for images, ``CT``, ``TC`` or ``T`` for series. None:
        inferred from the shapes (series: time is the longer axis).
    feature_names
        Table columns, tokens or series channels. Missing names are numbered.
    top
        The prediction's first five as (label, value).
    top_kind
        What these values are.

    Raises
    ------
    UsageError
        ``report.shape`` where ``image`` isn't uint8 of shape (H, W, 3).
    """

    name: str
    kind: Kind
    image: NDArray[np.uint8] | None
    values: NDArray[Any]
    layout: Layout | None = None
    feature_names: tuple[str, ...] = ()
    top: tuple[tuple[str, float], ...] = ()
    top_kind: ScoreKind = "probability"

    def __post_init__(self) -> None:
        image = self.image
        if image is None:
            return
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(
                "report.shape",
                f"the picture of a sample must be uint8 of shape (H, W, 3), not {image.dtype} {image.shape}",
                "pass what the model saw as 8-bit RGB, or image=None",
            )


@dataclass(frozen=True)
class ModelFacts:
    """What the model file is. Every string comes from an untrusted file and is cleaned where it is displayed.

    Parameters
    ----------
    path, sha256, size_bytes
        The file; the report displays its name and, on demand, the full hash.
    producer, ir_version, opsets
        What wrote it: ``"pytorch 2.13"``, the IR version, domain → version (``""`` is the ONNX domain). IR version 0: only an
        explanation is at hand, and nothing is said about the file but its digest.
    inputs, outputs
        (name, type and shape), ``("data_0", "float32 [1, 3, 224, 224]")``.
    operators
        Operator → how many nodes.
    parameters
        Number of weights.
    description, metadata
        The model's own doc string and metadata properties.
    """

    path: str
    sha256: str
    size_bytes: int
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    operators: Mapping[str, int]
    parameters: int
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
