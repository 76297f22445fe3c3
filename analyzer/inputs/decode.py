"""`Decode`: what a detector's outputs mean, as data.

Belongs here: the schema and the presets. Not here: finding and reading it (``decode_files``), applying it
(``analyzer.targets.detection``).
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CODE = "config.decode"
#: The ways to write a box: which columns make one.
CORNERS, CORNER_SIZE, CENTRE_SIZE = ("x0", "y0", "x1", "y1"), ("x", "y", "w", "h"), ("cx", "cy", "w", "h")
DISTANCES = ("distances",)
_OTHERS = ("objectness", "score", "class", "classes", "batch", "_")
#: Columns that may have a width, and the one that they have without.
_WIDE: dict[str, int | None] = {"classes": None, "_": 1, "distances": 4}
_COLUMN = re.compile(r"(?P<name>\w+?)(:(?P<width>[1-9]\d{0,5}))?")


def _names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError("must be an output's name, or a list of them, one for each level")
    if len(set(names)) < len(names):
        raise ValueError("names an output twice")
    return tuple(names)


def _column(value: Any) -> tuple[str, int | None]:
    match = _COLUMN.fullmatch(value) if isinstance(value, str) else None
    known = {*CORNERS, *CORNER_SIZE, *CENTRE_SIZE, *DISTANCES, *_OTHERS}
    if match is None or match["name"] not in known or (match["width"] and match["name"] not in _WIDE):
        wide = ", ".join(f"{name}:N" for name in _WIDE)
        raise ValueError(f"holds {str(value)[:40]!r}; columns are {', '.join(sorted(known))}, {wide}")
    width = int(match["width"]) if match["width"] else _WIDE.get(match["name"], 1)
    if match["name"] in DISTANCES and (width or 0) % 4:
        raise ValueError(f"holds {str(value)[:40]!r}: distances are four numbers, or four distributions of one length")
    return match["name"], width


def _row(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('must be a list of columns, as ["cx", "cy", "w", "h", "objectness", "classes"]')
    names = [_column(each)[0] for each in value]
    if any(names.count(name) > 1 for name in names if name != "_"):
        raise ValueError("names a column twice")
    if not any(set(box) <= set(names) for box in (CORNERS, CORNER_SIZE, CENTRE_SIZE, DISTANCES)):
        raise ValueError("holds no box: it takes x0, y0, x1, y1 or x, y, w, h or cx, cy, w, h or distances")
    if "class" in names and "classes" in names:
        raise ValueError("holds both a class number and class scores")
    if "objectness" in names and "score" in names:
        raise ValueError("holds both objectness and score, which are two names of one thing")
    return tuple(value)


def _numbers(value: Any, count: int, what: str) -> tuple[float, ...]:
    fine = isinstance(value, list | tuple) and len(value) == count
    if not fine or not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
        raise ValueError(what)
    return tuple(float(v) for v in value)


def _anchors(value: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    what = "must be a list of [width, height] in pixels for each stride, as [[[10, 13], [16, 30]]]"
    if not isinstance(value, list | tuple) or not all(isinstance(level, list | tuple) and level for level in value):
        raise ValueError(what)
    return tuple(tuple(_numbers(pair, 2, what) for pair in level) for level in value)


def _priors(value: Any) -> str | tuple[tuple[float, ...], ...]:
    what = "must name a value of the model, or be a list of [cx, cy, w, h] in the same units as the boxes"
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(what)
    return tuple(_numbers(each, 4, what) for each in value)


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Whole = Annotated[int, Field(strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Decode(BaseModel):
    """What a detector's outputs mean.

    Parameters
    ----------
    boxes
        The output that holds boxes, or boxes with everything else; a list where there is one for each level. None: the
        model's first output.
    scores
        The output, or one for each level, that holds class scores where ``boxes`` holds none; with ``labels`` one score
        for each box.
    labels
        The output that holds class numbers: the detections are ready, their suppression is done.
    count
        The output with the number of rows that are detections; the others are padding.
    row
        What the numbers of a box are, in order: a box (``x0 y0 x1 y1``, ``x y w h`` from its corner, ``cx cy w h``, or
        ``distances`` from a grid cell's centre; ``distances:32`` for four distributions over 8 bins each), and
        ``objectness`` (or ``score``), ``classes`` (one score for each class, the rest of the row; ``classes:80`` for 80 of
        them), ``class`` (its number), ``batch`` (which sample it belongs to), ``_`` (nothing of interest; ``_:32`` for 32).
    layout
        The order of the axes behind the batch axis. ``NC``: boxes, then their numbers; what lies between is flattened.
        ``CN``: numbers first. ``ACHW``: a grid with anchors and their numbers as channels. ``HWAC``: the same, channels
        last. ``NC`` and ``CN`` hold levels one after the other, and in each anchors, lines, columns.
    decode
        What is still to be done. ``none``; ``yolox``: centre (t + g) s, size s exp t at grid cell g and stride s;
        ``yolov3`` (v2, v3): centre (sigmoid t + g) s, size anchor exp t; ``yolov5`` (v5, v7): centre (2 sigmoid t - 0.5 + g) s,
        size anchor (2 sigmoid t)^2; ``ssd``: centre prior + t v size, size prior exp(t v) with variances v; ``distances``:
        the corners lie at c s - t s and c s + t s for the left, upper, right and lower distance t from the cell's centre c = g
        + offset, where t is the mean of a softmax over 0, 1, … if it is given as a distribution.
    strides
        Pixels between grid cells, for each level.
    offset
        Where in its cell the point lies from which ``distances`` are measured: 0.5 in the middle.
    anchors
        For each level a list of [width, height], in pixels.
    priors
        The name of a weight or value of the model that holds rows cx, cy, w, h, or these rows.
    variances
        Of cx, cy, w, h.
    activation
        What makes the class scores probabilities: ``none`` where they are, ``sigmoid`` or ``softmax`` for logits, which takes
        a sigmoid for objectness as well.
    background
        The number of the class that means nothing is there; -1 for the last.
    units
        ``pixels`` of the model's input, or ``fraction`` of its sides.
    threshold, nms
        Detections score at least ``threshold``; of those of a class that overlap by more than ``nms`` (IoU) the best stays.
    name
        Which preset this is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    boxes: Names | None = None
    scores: Names | None = None
    labels: str | None = None
    count: str | None = None
    row: Annotated[tuple[str, ...], BeforeValidator(_row)] = CORNERS
    layout: Literal["NC", "CN", "ACHW", "HWAC"] = "NC"
    decode: Literal["none", "yolox", "yolov3", "yolov5", "ssd", "distances"] = "none"
    strides: tuple[Annotated[Whole, Field(ge=1, le=4096)], ...] = ()
    offset: Fraction = 0.5
    anchors: Annotated[tuple[tuple[tuple[float, ...], ...], ...], BeforeValidator(_anchors)] = ()
    priors: Annotated[str | tuple[tuple[float, ...], ...] | None, BeforeValidator(_priors)] = None
    variances: Annotated[
        tuple[float, ...], BeforeValidator(lambda v: _numbers(v, 4, "must be 4 numbers, for cx, cy, w, h"))
    ] = (0.1, 0.1, 0.2, 0.2)
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: Whole | None = None
    units: Literal["pixels", "fraction"] = "pixels"
    threshold: Fraction = 0.25
    nms: Fraction = 0.45
    name: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Decode:
        names = {name for name, _ in self.columns}
        if self.labels and ("classes" in names or "class" in names):
            raise ValueError("labels goes with a row that holds the box alone")
        if self.labels and (self.scores is None or len(self.scores) > 1):
            raise ValueError("labels needs scores: one output with a score for each box")
        if self.scores and not self.labels and {"class", "classes"} & names:
            raise ValueError("scores goes with a row without class and classes")
        if not self.scores and not {"class", "classes", "objectness", "score"} & names:
            raise ValueError("nothing says how sure a box is: add classes, objectness or score to row, or set scores")
        if self.boxes and self.scores and len(self.boxes) != len(self.scores):
            raise ValueError("boxes and scores name different numbers of outputs")
        if self.ready and self.decode != "none":
            raise ValueError(f"detections with class numbers are ready: decode {self.decode} doesn't go with them")
        if (self.decode == "distances") != (set(DISTANCES) <= names):
            raise ValueError("distances in row go with decode distances, and it with them")
        if self.decode not in ("none", "distances") and not set(CENTRE_SIZE) <= names:
            raise ValueError(f"decode {self.decode} needs cx, cy, w, h in row")
        if self.decode not in ("none", "ssd") and not self.strides:
            raise ValueError(f"decode {self.decode} needs strides")
        if self.anchors and len(self.anchors) != len(self.strides):
            raise ValueError(f"anchors has {len(self.anchors)} lists, strides {len(self.strides)} levels")
        if self.decode in ("yolov3", "yolov5") and len(self.anchors) != len(self.strides):
            raise ValueError(f"decode {self.decode} needs anchors, a list for each of the {len(self.strides)} strides")
        if self.decode == "ssd" and self.priors is None:
            raise ValueError("decode ssd needs priors")
        if self.boxes and len(self.boxes) > 1 and self.strides and len(self.boxes) != len(self.strides):
            raise ValueError("boxes names several outputs, but not one for each stride")
        if "batch" in names and not self.ready and not {"objectness", "score"} & names:
            raise ValueError("batch goes with ready detections: class and score in row")
        return self

    @property
    def columns(self) -> tuple[tuple[str, int | None], ...]:
        """The row's columns with their widths; None takes the rest."""
        return tuple(_column(each) for each in self.row)

    @property
    def ready(self) -> bool:
        """Whether the model has chosen and suppressed already: class numbers instead of class scores."""
        return self.labels is not None or any(name == "class" for name, _ in self.columns)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready record of what isn't left at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)


_SCORED = (*CENTRE_SIZE, "objectness", "classes")

PRESETS: dict[str, Decode] = {
    "yolov5": Decode(name="yolov5", row=_SCORED),
    "yolov8": Decode(name="yolov8", row=(*CENTRE_SIZE, "classes"), layout="CN"),
    "yolov10": Decode(name="yolov10", row=(*CORNERS, "score", "class")),
    "yolox": Decode(name="yolox", row=_SCORED, decode="yolox", strides=(8, 16, 32)),
    "torchvision": Decode(name="torchvision", boxes=("boxes",), labels="labels", scores=("scores",)),
    "tensorflow": Decode(
        name="tensorflow", boxes=("detection_boxes",), scores=("detection_scores",), labels="detection_classes",
        count="num_detections", row=("y0", "x0", "y1", "x1"), units="fraction",
    ),
    "detr": Decode(
        name="detr", boxes=("pred_boxes",), scores=("logits",), row=CENTRE_SIZE, units="fraction",
        activation="softmax", background=-1, nms=1.0,
    ),
}  # fmt: skip
