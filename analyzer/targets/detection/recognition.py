"""Outputs that can be read as detections without a decode spec: by their names, shapes and numbers.

Belongs here: what is known of detectors' usual outputs, and the spec that says it. Not here: what a spec means (``proposals``),
given specs (``analyzer.inputs.decode``).

A spec is only taken where the numbers bear it out: so many rows as the picture has grid cells, boxes of positive size in the
picture, scores between 0 and 1.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.inputs.decode import CENTRE_SIZE, CORNERS, PRESETS, Decode

Array = NDArray[Any]
Size = tuple[int, int]
#: Strides of a detector's levels.
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))
_STRIDES = (4, 8, 16, 32, 64, 128)
#: Fewer rows can be a grid's by chance.
_FEW = 20
#: So many rows, and so many times as many as columns, are boxes even where they aren't a grid's.
_MANY, _TIMES = 700, 8
#: Most rows that are left after a suppression in the model.
_READY = 1000
#: Bins of the four distances together, as they are usual: 8 and 17 and 16 for each.
_DISTRIBUTIONS = (32, 64, 68)
#: Share of the boxes that must lie in the picture; medians of class logits, which begin at a hundredth, lie below this.
_MOST, _UNLIKELY = 0.95, -2.0
_DISTANCE_WORDS, _CLASS_WORDS = ("dis", "reg", "box", "loc"), ("cls", "class", "score", "conf")


def recognised(outputs: Mapping[str, Array], size: Size, classes: int | None) -> Decode | None:
    """The spec that a detector's outputs fit; None where there is none, or where the numbers speak against it.

    Parameters
    ----------
    outputs
        Name -> value, on some picture, batch first.
    size
        Height and width of the picture.
    classes
        How many there are, where that is known.
    """
    outputs = {name: value for name, value in outputs.items() if value.size and value.dtype.kind in "fiu"}
    if not outputs or not all(np.isfinite(value).all() for value in outputs.values()):
        return None
    return _by_name(outputs) or _in_levels(outputs, size, classes) or _in_rows(outputs, size, classes)


def classes_named(metadata: Mapping[str, str]) -> int | None:
    """How many classes the metadata key ``names`` lists, as Ultralytics writes it; None without."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return len(names) if isinstance(names, dict | list | tuple) and names else None


def _by_name(outputs: Mapping[str, Array]) -> Decode | None:
    """Outputs that are called as those of a preset."""
    for preset in ("torchvision", "tensorflow", "detr"):
        spec = PRESETS[preset]
        wanted = (*(spec.boxes or ()), *(spec.scores or ()), *((spec.labels,) if spec.labels else ()))
        if set(wanted) <= set(outputs):
            return spec if spec.count in (None, *outputs) else spec.model_copy(update={"count": None})
    return None


# --- one row for each box -------------------------------------------------------------------------------------------


def _in_rows(outputs: Mapping[str, Array], size: Size, classes: int | None) -> Decode | None:
    """One output with everything, or boxes beside scores."""
    flat = {name: value for name, value in outputs.items() if value.ndim == 3}
    if len(flat) == 2 and len(outputs) == 2 and (pair := _boxes_and_scores(flat)) is not None:
        return pair
    if len(flat) != 1:
        return None
    (name, rows), masks = next(iter(flat.items())), [v.shape[1] for v in outputs.values() if v.ndim == 4]
    by_column = rows.swapaxes(1, 2)
    for found in (
        _ready(rows),
        _columns(by_column, size, classes, masks) if _counts_boxes(by_column, size) else None,
        _decoded_rows(rows, size, classes) if _counts_boxes(rows, size, (1, 3)) else None,
        _grid_rows(rows, size),
    ):
        if found is not None:
            return found.model_copy(update={"boxes": (name,)})
    return None


def _cells(size: Size, stride: int) -> int:
    return math.ceil(size[0] / stride) * math.ceil(size[1] / stride)


def _levels_of(count: int, size: Size, anchors: tuple[int, ...] = (1,)) -> tuple[int, ...] | None:
    """The strides whose grids have so many boxes."""
    found = (s for s in _LEVELS for a in anchors if a * sum(_cells(size, stride) for stride in s) == count)
    return next(found, None) if count >= _FEW else None


def _counts_boxes(rows: Array, size: Size, anchors: tuple[int, ...] = (1,)) -> bool:
    """Whether rows (batch, n, numbers) are as many as a picture's grid cells, or very many."""
    count, width = rows.shape[1:]
    return width > 4 and (_levels_of(count, size, anchors) is not None or count >= max(_MANY, _TIMES * width))


def _likely(values: Array) -> bool:
    """Whether numbers are probabilities."""
    return bool(values.size and (values >= 0).all() and (values <= 1 + 1e-3).all())


def _inside(boxes: Array, size: Size) -> bool:
    """Whether boxes (…, cx cy w h) have a size and lie in the picture, and aren't all in its first few pixels."""
    x, y, width, height = np.moveaxis(boxes, -1, 0)
    near = (np.abs(x - size[1] / 2) <= size[1]) & (np.abs(y - size[0] / 2) <= size[0])
    spread = max(float(np.max(x + width / 2)), float(np.max(y + height / 2))) > 2
    return bool((width >= 0).all() and (height >= 0).all() and near.mean() >= _MOST and spread)


def _columns(rows: Array, size: Size, classes: int | None, masks: list[int]) -> Decode | None:
    """YOLOv8 and later: a box, class probabilities, and perhaps what belongs to a mask, a pose or an angle."""
    if not _inside(rows[..., :4], size):
        return None
    every = rows.shape[2] - 4
    probable = next((at for at in range(every) if not _likely(rows[..., 4 + at])), every)
    count = min(probable, classes or every, every - masks[0] if masks and masks[0] < every else every)
    if count < 1:
        return None
    preset = PRESETS["yolov8"]
    if count == every:
        return preset
    return preset.model_copy(update={"row": (*CENTRE_SIZE, f"classes:{count}", f"_:{every - count}")})


def _decoded_rows(rows: Array, size: Size, classes: int | None) -> Decode | None:
    """YOLOv5, v6, v7 and YOLOX with decoded boxes; YOLOv8 and later transposed where the classes are that many."""
    if not (_inside(rows[..., :4], size) and _likely(rows[..., 4:])):
        return None
    if classes == rows.shape[2] - 4:
        return PRESETS["yolov8"].model_copy(update={"layout": "NC"})
    return PRESETS["yolov5"] if rows.shape[2] > 5 else None


def _grid_rows(rows: Array, size: Size) -> Decode | None:
    """Boxes that are still to be put on their grid: YOLOX, and NanoDet-Plus with classes before distances."""
    strides = _levels_of(rows.shape[1], size)
    if strides is None:
        return None
    if rows.shape[2] > 5 and _likely(rows[..., 4:]):
        return PRESETS["yolox"].model_copy(update={"strides": strides})
    classes = rows.shape[2] - _DISTRIBUTIONS[0]
    if classes > 0 and _likely(rows[..., :classes]) and not _likely(rows[..., classes:]):
        row = (f"classes:{classes}", f"distances:{_DISTRIBUTIONS[0]}")
        return Decode(name="nanodet", row=row, decode="distances", strides=strides, offset=0.0)
    return None


def _ready(rows: Array) -> Decode | None:
    """Detections after suppression: corners, score, class number."""
    if rows.shape[2] < 6 or rows.shape[1] > _READY:
        return None
    x0, y0, x1, y1, score, number = np.moveaxis(rows[..., :6], -1, 0)
    whole = (number == np.round(number)).all() and (number >= -1).all()
    ordered = (x1 >= x0).all() and (y1 >= y0).all() and float(max(x1.max(), y1.max())) > 2
    if not (whole and ordered and _likely(score) and score.max() > 0 and len(np.unique(score)) > 1):
        return None
    rest = rows.shape[2] - 6
    preset = PRESETS["yolov10"]
    return preset if not rest else preset.model_copy(update={"row": (*preset.row, f"_:{rest}")})


def _boxes_and_scores(flat: Mapping[str, Array]) -> Decode | None:
    """Decoded corners (batch, n, 4) beside class probabilities (batch, n, classes)."""
    for boxes, scores in (tuple(flat), tuple(flat)[::-1]):
        corners, known = flat[boxes], flat[scores]
        if corners.shape[2] != 4 or known.shape[:2] != corners.shape[:2] or not _likely(known):
            continue
        if not ((corners[..., 2:] >= corners[..., :2]).mean() >= _MOST and (corners[..., :2] >= -1).mean() >= 0.5):
            continue
        exclusive = known.shape[2] > 1 and np.allclose(known.sum(axis=2), 1, atol=1e-2)
        return Decode(
            boxes=(boxes,), scores=(scores,), row=CORNERS, units="fraction" if np.abs(corners).max() <= 4 else "pixels",
            background=int(known.mean(axis=(0, 1)).argmax()) if exclusive else None,
        )  # fmt: skip
    return None


# --- outputs for each level -----------------------------------------------------------------------------------------


def _in_levels(outputs: Mapping[str, Array], size: Size, classes: int | None) -> Decode | None:
    """One or two outputs for each level of a grid: NanoDet's classes and distances, the heads of YOLOv8 and later."""
    for rank, layout in ((3, "NC"), (3, "CN"), (4, "ACHW")):
        by_stride: dict[int, list[str]] = {}
        for name, value in outputs.items():
            by_stride.setdefault(_stride_of(value, rank, layout, size), []).append(name)
        strides = tuple(sorted(by_stride))
        if strides not in _LEVELS or len({len(names) for names in by_stride.values()}) != 1:
            continue
        levels = [by_stride[stride] for stride in strides]
        more = {"layout": layout, "strides": strides, "decode": "distances"}
        if len(levels[0]) == 2:
            return _split(outputs, levels, -1 if layout == "NC" else 1, more)
        if len(levels[0]) == 1 and rank == 4:
            return _heads([outputs[names[0]] for names in levels], [names[0] for names in levels], classes, more)
    return None


def _stride_of(value: Array, rank: int, layout: str, size: Size) -> int:
    """The stride of the grid that a level's output has; 0 for none."""
    if value.ndim != rank:
        return 0
    for stride in _STRIDES:
        grid = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        if rank == 4 and value.shape[2:] == grid:
            return stride
        if rank == 3 and value.shape[1 if layout == "NC" else 2] == math.prod(grid):
            return stride
    return 0


def _split(outputs: Mapping[str, Array], levels: list[list[str]], axis: int, more: Mapping[str, Any]) -> Decode | None:
    """Distances and class scores apart, level by level."""
    for boxes in _distances_first(outputs, levels, axis):
        scores = [next(n for n in names if n != box) for names, box in zip(levels, boxes, strict=True)]
        widths, counts = ({outputs[name].shape[axis] for name in names} for names in (boxes, scores))
        if len(widths) != 1 or len(counts) != 1 or (width := widths.pop()) not in _DISTRIBUTIONS:
            continue
        probable = all(_likely(outputs[name]) for name in scores)
        return Decode.model_validate({
            **more, "name": "nanodet", "boxes": boxes, "scores": scores, "row": [f"distances:{width}"],
            "activation": "none" if probable else "sigmoid",
        })  # fmt: skip
    return None


def _distances_first(outputs: Mapping[str, Array], levels: list[list[str]], axis: int) -> Iterator[list[str]]:
    """For each level the output with distances: by name, by which isn't made of probabilities, then each in turn."""
    for words, wanted in ((_DISTANCE_WORDS, True), (_CLASS_WORDS, False)):
        named = [[n for n in names if any(word in n.lower() for word in words) == wanted] for names in levels]
        if all(len(names) == 1 for names in named):
            yield [names[0] for names in named]
    free = [[n for n in names if not _likely(outputs[n])] for names in levels]
    if all(len(names) == 1 for names in free):
        yield [names[0] for names in free]
    for width in _DISTRIBUTIONS:
        of_width = [[n for n in names if outputs[n].shape[axis] == width] for names in levels]
        if all(len(names) == 1 for names in of_width):
            yield [names[0] for names in of_width]


def _heads(values: list[Array], names: list[str], classes: int | None, more: Mapping[str, Any]) -> Decode | None:
    """YOLOv8 and later before their boxes are put on the grid: four distributions over 16 bins, then class logits."""
    width, counts = _DISTRIBUTIONS[1], {value.shape[1] for value in values}
    count = counts.pop() - width
    logits = np.concatenate([value[:, width:].ravel() for value in values]) if not counts and count > 0 else np.zeros(1)
    if counts or count < 1 or not (count == classes or np.median(logits) < _UNLIKELY):
        return None
    return Decode.model_validate({
        **more, "name": "yolov8 heads", "boxes": names, "row": [f"distances:{width}", "classes"], "activation": "sigmoid",
    })  # fmt: skip
