"""From a detector's outputs to proposals: boxes in pixels, class probabilities, objectness.

Belongs here: applying a `Decode`. Not here: reshaping (``layouts``), comparing proposals with a detection (``target``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.inputs.decode import CENTRE_SIZE, CORNER_SIZE, CORNERS, Decode
from analyzer.targets.detection.boxes import suppressed
from analyzer.targets.detection.layouts import anchor_table, anchors_at, columns_of, misfit, rows_of

Array = NDArray[Any]
#: So many of the best proposals are considered when detections are selected.
_CANDIDATES = 3000


@dataclass(frozen=True)
class Proposals:
    """What a model proposes for one picture.

    Attributes
    ----------
    boxes
        (n, 4) float64: x0, y0, x1, y1 in pixels of the model's input.
    numbers
        (n,) class numbers of detections that the model has already selected, else None.
    raw_classes, raw_objectness
        (n, classes) and (n,) before any activation, None where the model gives none.
    """

    spec: Decode
    boxes: Array
    numbers: Array | None
    raw_classes: Array | None
    raw_objectness: Array | None

    def take(self, rows: Array) -> Proposals:
        """Some of the proposals."""

        def part(values: Array | None) -> Array | None:
            return None if values is None else values[rows]

        return Proposals(
            self.spec, self.boxes[rows], part(self.numbers), part(self.raw_classes), part(self.raw_objectness)
        )

    @property
    def probabilities(self) -> Array:
        """(n, classes) float64, a background class included; one column of ones where the model scores no classes."""
        if self.raw_classes is None:
            return np.ones((len(self.boxes), 1))
        values = np.nan_to_num(self.raw_classes.astype(np.float64), posinf=1e4, neginf=-1e4)
        if self.spec.activation == "sigmoid":
            return sigmoid(values)
        if self.spec.activation == "softmax":
            powers = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        return values

    @property
    def foreground(self) -> Array:
        """:attr:`probabilities` with 0 for the background class."""
        found = self.probabilities
        if self.spec.background is not None:
            found = found.copy()
            found[:, self.background_of(found.shape[1])] = 0.0
        return found

    def background_of(self, classes: int) -> int:
        """The background's class number, counted from 0."""
        number = self.spec.background or 0
        if not -classes <= number < classes:
            raise misfit(f"background is class {number}, the model scores {classes} classes")
        return number % classes

    @property
    def objectness(self) -> Array | None:
        """(n,) float64 in [0, 1] where the model gives it, else None."""
        if self.raw_objectness is None:
            return None
        values = np.nan_to_num(self.raw_objectness.astype(np.float64), posinf=1e4, neginf=-1e4)
        return values if self.spec.activation == "none" else sigmoid(values)

    @property
    def classes(self) -> Array:
        """(n,) class numbers: those that the model gives, else each proposal's best class."""
        return self.numbers if self.numbers is not None else self.foreground.argmax(axis=1)

    @property
    def scores(self) -> Array:
        """(n,) float64: objectness times the best class's probability."""
        best = np.ones(len(self.boxes)) if self.numbers is not None else self.foreground.max(axis=1, initial=0.0)
        return best if self.objectness is None else best * self.objectness

    def detections(self) -> Array:
        """Indices of the detections, best first: those above the threshold, after suppression unless the model has done that."""
        scores = self.scores
        candidates = np.flatnonzero((scores >= self.spec.threshold) & np.isfinite(self.boxes).all(axis=1))
        candidates = candidates[np.argsort(-scores[candidates], kind="stable")][:_CANDIDATES]
        if self.spec.ready:
            return candidates
        chosen = self.take(candidates)
        return candidates[suppressed(chosen.boxes, chosen.scores, chosen.classes, self.spec.nms)]


@dataclass(frozen=True)
class Decoder:
    """A spec applied to a model: the names of its outputs, the size of its pictures, its priors.

    Attributes
    ----------
    boxes
        Names of the outputs that hold boxes.
    size
        Height and width of the model's input, in pixels.
    picture
        Name of the input; its batch axis is the number of samples where the rows of all samples lie in one list.
    priors
        (n, 4) for ``ssd``, else None.
    """

    spec: Decode
    boxes: tuple[str, ...]
    size: tuple[int, int]
    picture: str
    priors: Array | None = None

    @property
    def shared(self) -> bool:
        """Whether the rows of all samples lie in one list, with a column that holds the index of the sample."""
        return any(name == "batch" for name, _ in self.spec.columns)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The values that proposals are decoded from."""
        others = (*(self.spec.scores or ()), self.spec.labels, self.spec.count, self.picture if self.shared else None)
        return (*self.boxes, *(name for name in others if name))

    def batched(self, got: Mapping[str, Array]) -> bool:
        """Whether the outputs can hold more than one picture."""
        return self.shared or np.ndim(got[self.boxes[0]]) > 2

    def __call__(self, got: Mapping[str, Array]) -> list[Proposals]:
        """The proposals for each picture of a batch.

        Parameters
        ----------
        got
            Each of :attr:`wanted` -> its value.

        Raises
        ------
        UsageError
            ``config.decode`` where the spec doesn't fit the outputs.
        """
        outputs = [np.asarray(got[name]) for name in self.boxes]
        channels = self._channels(outputs)
        rows = [rows_of(o, self.spec.layout, a) for o, a in zip(outputs, channels, strict=True)]
        table = self._table(outputs, rows)
        joined = np.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]
        if self.shared:
            joined = joined.reshape(-1, joined.shape[-1])
            owner = columns_of(joined, self.spec)["batch"]
            return [
                self._proposals(joined[owner == sample], None, None, None) for sample in range(len(got[self.picture]))
            ]
        if self.spec.labels and self.spec.scores:
            scores = self._flat_output(self.spec.scores[0], got, *joined.shape[:2])
        else:
            scores = self._scores(got, channels, *joined.shape[:2])
        labels = self._flat_output(self.spec.labels, got, *joined.shape[:2])
        counts = self._flat_output(self.spec.count, got, len(joined), 1)
        found = []
        for sample, boxes in enumerate(joined):
            valid = slice(None if counts is None else max(0, int(np.nan_to_num(counts[sample, 0]))))
            found.append(
                self._proposals(
                    boxes[valid],
                    None if scores is None else scores[sample][valid],
                    None if labels is None else labels[sample][valid],
                    None if table is None else table[valid],
                )
            )
        return found

    def _channels(self, outputs: Sequence[Array]) -> list[int]:
        """Boxes of each grid cell, output by output."""
        axis = 1 if self.spec.layout == "ACHW" else -1
        return [anchors_at(self.spec, level, o.shape[axis] if o.ndim > 3 else None) for level, o in enumerate(outputs)]

    def _table(self, outputs: Sequence[Array], rows: Sequence[Array]) -> Array | None:
        """The grid cell and anchor of each row, or its prior; None for boxes that need no decoding."""
        if self.spec.decode == "none":
            return None
        count = sum(part.shape[1] for part in rows)
        if self.spec.decode != "ssd":
            return anchor_table(self.spec, tuple(o.shape for o in outputs), self.size, count)
        assert self.priors is not None
        if len(self.priors) != count:
            raise misfit(f"there are {len(self.priors)} priors, the output has {count} boxes")
        return self.priors

    def _flat_output(self, name: str | None, got: Mapping[str, Array], batch: int, count: int) -> Array | None:
        """An output that has ``count`` numbers for each picture, as (batch, count); None without a name."""
        if name is None:
            return None
        value = np.asarray(got[name])
        if value.size != batch * count:
            raise misfit(
                f"output {name!r} of shape {list(value.shape)} hasn't {count} numbers for each of {batch} pictures"
            )
        return value.reshape(batch, count)

    def _scores(self, got: Mapping[str, Array], anchors: Sequence[int], batch: int, count: int) -> Array | None:
        """Class scores (batch, boxes, classes); None where they are columns of the row."""
        if not self.spec.scores:
            return None
        parts = [np.asarray(got[name]) for name in self.spec.scores]
        layout: str = self.spec.layout
        if len(parts) == 1 and parts[0].ndim == 3 and layout in ("NC", "CN"):  # boxes and scores may differ in it
            fits = {"NC": parts[0].shape[1], "CN": parts[0].shape[2]}
            other = "CN" if layout == "NC" else "NC"
            layout = other if fits[layout] != count == fits[other] else layout
        rows = [rows_of(part, layout, a) for part, a in zip(parts, anchors, strict=True)]
        found = np.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]
        if found.shape[:2] != (batch, count):
            raise misfit(f"there are {batch} x {count} boxes, but scores for {found.shape[0]} x {found.shape[1]}")
        return found

    def _proposals(self, rows: Array, scores: Array | None, labels: Array | None, table: Array | None) -> Proposals:
        columns = columns_of(rows, self.spec)
        numbers = labels if labels is not None else columns.get("class")
        classes = None if self.spec.ready else scores if scores is not None else columns.get("classes")
        objectness = columns.get("objectness", columns.get("score"))
        if self.spec.labels is not None:
            objectness = scores
        if numbers is not None:
            numbers = np.clip(np.nan_to_num(numbers.astype(np.float64), nan=-1), -1, 2**31).round().astype(np.int64)
        return Proposals(self.spec, self._corners(columns, table), numbers, classes, objectness)

    def _corners(self, columns: Mapping[str, Array], table: Array | None) -> Array:
        """x0, y0, x1, y1 in pixels."""
        if self.spec.decode == "distances":
            assert table is not None
            return _from_distances(columns["distances"].astype(np.float64), table, self.spec.offset)
        form = next(form for form in (CORNERS, CORNER_SIZE, CENTRE_SIZE) if set(form) <= set(columns))
        raw = np.stack([columns[name].astype(np.float64) for name in form], axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if table is not None:
                raw = _DECODERS[self.spec.decode](raw, table, np.asarray(self.spec.variances))
            first, second = raw[:, :2], raw[:, 2:]
            if form is CENTRE_SIZE:
                first = first - second / 2
            if form is not CORNERS:
                second = first + second
            found = np.concatenate([first, second], axis=1)
            return found * np.array([*self.size[::-1]] * 2) if self.spec.units == "fraction" else found


def sigmoid(values: Array) -> Array:
    """The logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _yolox(t: Array, cell: Array, _: Array) -> Array:
    """Ge et al. 2021, YOLOX."""
    stride = cell[:, 2:3]
    return np.concatenate([(t[:, :2] + cell[:, :2]) * stride, np.exp(t[:, 2:]) * stride], axis=1)


def _yolov3(t: Array, cell: Array, _: Array) -> Array:
    """Redmon, Farhadi 2017 and 2018, YOLO9000 and YOLOv3, section 2.1; anchors in pixels."""
    centre = (sigmoid(t[:, :2]) + cell[:, :2]) * cell[:, 2:3]
    return np.concatenate([centre, np.exp(t[:, 2:]) * cell[:, 3:]], axis=1)


def _yolov5(t: Array, cell: Array, _: Array) -> Array:
    """Jocher et al. 2020, YOLOv5, the Detect layer."""
    centre = (2 * sigmoid(t[:, :2]) - 0.5 + cell[:, :2]) * cell[:, 2:3]
    return np.concatenate([centre, (2 * sigmoid(t[:, 2:])) ** 2 * cell[:, 3:]], axis=1)


def _ssd(t: Array, prior: Array, variances: Array) -> Array:
    """Liu et al. 2016, SSD, eq. 2 solved for the box, with the variances of its implementation."""
    scaled = t * variances
    return np.concatenate([prior[:, :2] + scaled[:, :2] * prior[:, 2:], prior[:, 2:] * np.exp(scaled[:, 2:])], axis=1)


def _from_distances(t: Array, cell: Array, offset: float) -> Array:
    """Tian et al. 2019, FCOS, eq. 1; as distributions Li et al. 2020, Generalized focal loss, eq. 5: their means."""
    if t.shape[-1] > 4:
        bins = t.reshape(len(t), 4, -1)
        powers = np.exp(bins - bins.max(axis=2, keepdims=True, initial=-np.inf))
        t = (powers / powers.sum(axis=2, keepdims=True)) @ np.arange(bins.shape[2])
    centre, stride = (cell[:, :2] + offset) * cell[:, 2:3], cell[:, 2:3]
    return np.concatenate([centre - t[:, :2] * stride, centre + t[:, 2:] * stride], axis=1)


_DECODERS = {"yolox": _yolox, "yolov3": _yolov3, "yolov5": _yolov5, "ssd": _ssd}
