"""Decoding every layout against naive loops over levels, anchors, lines and columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.inputs.decode import Decode
from analyzer.targets.detection.proposals import Decoder, Proposals

Array = NDArray[Any]
SIZE = (32, 48)  # height, width
STRIDES = (8, 16)
ANCHORS = [[[5.0, 7.0], [9.0, 4.0], [12.0, 12.0]], [[20.0, 24.0], [30.0, 16.0], [40.0, 31.0]]]
CLASSES = 4
ROW = ["cx", "cy", "w", "h", "objectness", "classes"]


def logistic(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def cells(order: str, anchors: bool) -> list[tuple[int, int, int, int]]:
    """(level, anchor, line, column) of every box in the order of a layout."""
    found = []
    for level, stride in enumerate(STRIDES):
        tall, wide, many = SIZE[0] // stride, SIZE[1] // stride, 3 if anchors else 1
        if order == "HWA":
            found += [(level, a, y, x) for y in range(tall) for x in range(wide) for a in range(many)]
        else:
            found += [(level, a, y, x) for a in range(many) for y in range(tall) for x in range(wide)]
    return found


def naive(how: str, cell: tuple[int, int, int, int], t: Array) -> tuple[list[float], float, list[float]]:
    """Corners, objectness and class probabilities of one box, from its raw numbers."""
    level, a, y, x = cell
    s, (aw, ah) = STRIDES[level], ANCHORS[level][a]
    if how == "yolox":
        cx, cy, w, h = (t[0] + x) * s, (t[1] + y) * s, math.exp(t[2]) * s, math.exp(t[3]) * s
    elif how == "yolov3":
        cx, cy, w, h = (logistic(t[0]) + x) * s, (logistic(t[1]) + y) * s, aw * math.exp(t[2]), ah * math.exp(t[3])
    else:
        cx, cy = (2 * logistic(t[0]) - 0.5 + x) * s, (2 * logistic(t[1]) - 0.5 + y) * s
        w, h = aw * (2 * logistic(t[2])) ** 2, ah * (2 * logistic(t[3])) ** 2
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], logistic(t[4]), [logistic(v) for v in t[5:]]


def outputs_in(layout: str, raw: dict[tuple[int, int, int, int], Array]) -> tuple[dict[str, Array], str]:
    """The numbers of every box written into tensors one by one; and the order of the boxes."""
    width, many = 5 + CLASSES, max(cell[1] for cell in raw) + 1
    sides = [(SIZE[0] // s, SIZE[1] // s) for s in STRIDES]
    order = "HWA" if layout.startswith("HWAC") else "AHW"
    if layout in ("NC", "CN", "HWAC flat"):
        flat = np.stack([raw[cell] for cell in cells(order, many > 1)])[None]
        return {"out": flat.transpose(0, 2, 1) if layout == "CN" else flat}, order
    shapes = {
        "ACHW": lambda h, w: (1, many * width, h, w), "AHWC": lambda h, w: (1, many, h, w, width),
        "HWAC": lambda h, w: (1, h, w, many * width), "HWAC five": lambda h, w: (1, h, w, many, width),
    }  # fmt: skip
    tensors = [np.full(shapes[layout](h, w), np.nan, np.float32) for h, w in sides]
    for (level, a, y, x), numbers in raw.items():
        for c, number in enumerate(numbers):
            at = {"ACHW": (0, a * width + c, y, x), "AHWC": (0, a, y, x, c), "HWAC": (0, y, x, a * width + c),
                  "HWAC five": (0, y, x, a, c)}[layout]  # fmt: skip
            tensors[level][at] = number
    return {f"out{level}": tensor for level, tensor in enumerate(tensors)}, order


def decoded(spec: dict[str, Any], got: dict[str, Array], boxes: tuple[str, ...] = (), **more: Any) -> list[Proposals]:
    names = boxes or tuple(got)
    return Decoder(Decode.model_validate(spec), names, SIZE, "x", **more)(got)


@pytest.mark.parametrize("layout", ["NC", "CN", "HWAC flat", "ACHW", "AHWC", "HWAC", "HWAC five"])
@pytest.mark.parametrize("how", ["yolox", "yolov3", "yolov5"])
def test_raw_grids(layout: str, how: str) -> None:
    rng = np.random.default_rng(1)
    anchored = how != "yolox"
    raw = {cell: rng.standard_normal(5 + CLASSES).astype(np.float32) for cell in cells("AHW", anchored)}
    got, order = outputs_in(layout, raw)
    spec: dict[str, Any] = {
        "row": ROW, "decode": how, "strides": STRIDES, "activation": "sigmoid",
        "layout": "NC" if layout == "AHWC" else layout.split()[0], **({"anchors": ANCHORS} if anchored else {}),
    }  # fmt: skip
    (found,) = decoded(spec, got)
    expected = [naive(how, cell, raw[cell].astype(np.float64)) for cell in cells(order, anchored)]
    np.testing.assert_allclose(found.boxes, [box for box, _, _ in expected], rtol=1e-6, atol=1e-6)
    assert found.objectness is not None
    np.testing.assert_allclose(found.objectness, [o for _, o, _ in expected], rtol=1e-9)
    np.testing.assert_allclose(found.probabilities, [p for _, _, p in expected], rtol=1e-9)
    np.testing.assert_allclose(found.scores, [o * max(p) for _, o, p in expected], rtol=1e-9)
    assert found.classes.tolist() == [int(np.argmax(p)) for _, _, p in expected]


def test_yolov2_takes_a_softmax_over_classes() -> None:
    """Redmon, Farhadi 2017: one level of 5 anchors, 13 x 13 cells there, 2 x 3 here."""
    raw = np.random.default_rng(2).standard_normal((1, 5 * (5 + 3), 2, 3)).astype(np.float32)
    anchors = [[[i * 10.0, i * 8.0] for i in range(1, 6)]]
    spec = {
        "row": ROW,
        "layout": "ACHW",
        "decode": "yolov3",
        "strides": [16],
        "anchors": anchors,
        "activation": "softmax",
    }
    (found,) = decoded(spec, {"grid": raw})
    index = 0
    for a in range(5):
        for y in range(2):
            for x in range(3):
                t = raw[0, a * 8 : a * 8 + 8, y, x].astype(np.float64)
                powers = [math.exp(v) for v in t[5:]]
                np.testing.assert_allclose(found.probabilities[index], [p / sum(powers) for p in powers], rtol=1e-9)
                wide = (a + 1) * 10 * math.exp(t[2])
                assert math.isclose(found.boxes[index, 0], (logistic(t[0]) + x) * 16 - wide / 2, rel_tol=1e-6)
                assert math.isclose(found.scores[index], logistic(t[4]) * max(powers) / sum(powers), rel_tol=1e-9)
                index += 1
    assert index == len(found.boxes)


@pytest.mark.parametrize("layout", ["NC", "ACHW", "HWAC"])
def test_ssd_deltas_and_scores_of_each_level(layout: str) -> None:
    rng = np.random.default_rng(3)
    variances = (0.1, 0.2, 0.3, 0.4)
    raw = {cell: (rng.standard_normal(4), rng.standard_normal(CLASSES)) for cell in cells("HWA", True)}
    got: dict[str, Array] = {}
    for level, stride in enumerate(STRIDES):
        h, w = SIZE[0] // stride, SIZE[1] // stride
        deltas, scores = np.zeros((1, h, w, 3, 4)), np.zeros((1, h, w, 3, CLASSES))
        for (at, a, y, x), (t, c) in raw.items():
            if at == level:
                deltas[0, y, x, a], scores[0, y, x, a] = t, c
        for name, value in (("d", deltas), ("s", scores)):
            if layout == "ACHW":
                value = value.transpose(0, 3, 4, 1, 2).reshape(1, -1, h, w)
            else:
                value = value.reshape((1, h, w, -1) if layout == "HWAC" else (1, -1, value.shape[-1]))
            got[f"{name}{level}"] = value
    order = cells("AHW" if layout == "ACHW" else "HWA", True)
    priors = {cell: rng.uniform(0.1, 0.9, 4) for cell in raw}
    spec = {
        "boxes": ["d0", "d1"], "scores": ["s0", "s1"], "row": ["cx", "cy", "w", "h"], "layout": layout, "decode": "ssd",
        "priors": "given", "variances": variances, "activation": "softmax", "background": 0, "units": "fraction",
    }  # fmt: skip
    (found,) = decoded(spec, got, ("d0", "d1"), priors=np.array([priors[cell] for cell in order]))
    for index, cell in enumerate(order):
        (tx, ty, tw, th), (px, py, pw, ph) = raw[cell][0], priors[cell]
        cx, cy = px + tx * 0.1 * pw, py + ty * 0.2 * ph
        w, h = pw * math.exp(tw * 0.3), ph * math.exp(th * 0.4)
        expected = [(cx - w / 2) * SIZE[1], (cy - h / 2) * SIZE[0], (cx + w / 2) * SIZE[1], (cy + h / 2) * SIZE[0]]
        np.testing.assert_allclose(found.boxes[index], expected, rtol=1e-6)
        powers = np.exp(raw[cell][1])
        np.testing.assert_allclose(found.probabilities[index], powers / powers.sum(), rtol=1e-9)
        assert found.classes[index] == 1 + int(np.argmax(powers[1:]))
        assert math.isclose(found.scores[index], max(powers[1:]) / powers.sum(), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        (["x0", "y0", "x1", "y1"], [4, 8, 20, 16]), (["y0", "x0", "y1", "x1"], [8, 4, 16, 20]),
        (["x", "y", "w", "h"], [4, 8, 16, 8]), (["cx", "cy", "w", "h"], [12, 12, 16, 8]),
        (["cy", "cx", "h", "w"], [12, 12, 8, 16]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("units", ["pixels", "fraction"])
def test_every_way_to_write_a_box(row: list[str], numbers: list[float], units: str) -> None:
    along = {"x": 48, "w": 48, "y": 32, "h": 32}
    if units == "fraction":
        numbers = [v / along[name.lstrip("c")[0]] for name, v in zip(row, numbers, strict=True)]
    rows = np.array([[[7, *numbers, 0.5, 0.2, 0.9]]])
    spec = {"row": ["_", *row, "objectness", "classes"], "units": units}
    (found,) = decoded(spec, {"out": rows})
    np.testing.assert_allclose(found.boxes, [[4, 8, 20, 16]])
    assert found.scores.tolist() == [0.45]


def test_a_row_may_go_on_behind_the_classes() -> None:
    rows = np.arange(2 * 9, dtype=np.float32).reshape(1, 2, 9)
    (found,) = decoded({"row": ["x0", "y0", "x1", "y1", "classes:3", "_:2"]}, {"out": rows})
    np.testing.assert_array_equal(found.probabilities, rows[0, :, 4:7])


@pytest.mark.parametrize("turned", [False, True])
def test_class_scores_may_be_transposed_to_the_boxes(turned: bool) -> None:
    scores = np.random.default_rng(4).random((1, 5, 3))
    got = {"boxes": np.zeros((1, 5, 4)), "scores": scores.transpose(0, 2, 1) if turned else scores}
    (found,) = decoded({"scores": "scores"}, got, ("boxes",))
    np.testing.assert_array_equal(found.probabilities, scores[0])


def test_boxes_with_an_axis_too_many() -> None:
    """YOLOv4 exports: boxes (1, n, 1, 4), class scores (1, n, classes)."""
    rng = np.random.default_rng(5)
    got = {"boxes": rng.random((1, 6, 1, 4)), "confs": rng.random((1, 6, 3))}
    (found,) = decoded({"scores": "confs", "units": "fraction"}, got, ("boxes",))
    np.testing.assert_allclose(found.boxes, got["boxes"][0, :, 0] * [48, 32, 48, 32])


READY = np.array([[2, 3, 10, 12, 0.9, 5], [1, 1, 30, 30, 0.4, 0], [4, 4, 8, 8, 0.1, 2], [0, 0, 0, 0, 0, -1]])


@pytest.mark.parametrize("form", ["rows", "outputs", "outputs without batch", "owned", "caffe"])
def test_ready_detections(form: str) -> None:
    got: dict[str, Array] = {"out": READY[None]}
    spec: dict[str, Any] = {"row": ["x0", "y0", "x1", "y1", "score", "class"]}
    if form.startswith("outputs"):
        got = {"boxes": READY[None, :, :4], "labels": READY[None, :, 5].astype(np.int64), "scores": READY[None, :, 4]}
        spec = {"labels": "labels", "scores": "scores"}
        if form.endswith("without batch"):
            got = {name: value[0] for name, value in got.items()}
    elif form in ("owned", "caffe"):
        rows = np.concatenate([np.zeros((4, 1)), READY[:, 5:], READY[:, 4:5], READY[:, :4]], axis=1)
        got = {"out": rows if form == "owned" else rows[None, None], "x": np.zeros((1, 3, *SIZE))}
        spec = {"row": ["batch", "class", "score", "x0", "y0", "x1", "y1"]}
    (found,) = decoded(spec, got, ("boxes",) if "boxes" in got else ("out",))
    np.testing.assert_array_equal(found.boxes, READY[:, :4])
    assert found.classes.tolist() == [5, 0, 2, -1]
    np.testing.assert_array_equal(found.scores, READY[:, 4])
    assert found.detections().tolist() == [0, 1]  # no suppression, though they overlap; the threshold counts


def test_padding_behind_the_count_is_left_out() -> None:
    got = {
        "count": np.array([[1], [3]]), "boxes": np.stack([READY[:, :4]] * 2), "scores": np.stack([READY[:, 4]] * 2),
        "labels": np.stack([READY[:, 5]] * 2),
    }  # fmt: skip
    spec = {"labels": "labels", "scores": "scores", "count": "count"}
    assert [len(found.boxes) for found in decoded(spec, got, ("boxes",))] == [1, 3]


def test_rows_find_their_owners() -> None:
    owned = np.array([[1, 0, 0.5, 0, 0, 9, 9], [0, 0, 0.7, 1, 1, 9, 9], [1, 3, 0.9, 2, 2, 9, 9.0]])
    got = {"out": owned, "x": np.zeros((3, 3, *SIZE))}
    found = decoded({"row": ["batch", "class", "score", "x0", "y0", "x1", "y1"]}, got, ("out",))
    assert [each.scores.tolist() for each in found] == [[0.7], [0.5, 0.9], []]


def test_nothing_found_is_no_fault() -> None:
    got = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64), "scores": np.zeros(0)}
    (found,) = decoded({"labels": "labels", "scores": "scores"}, got, ("boxes",))
    assert len(found.detections()) == len(found.scores) == 0


def test_numbers_out_of_range_are_no_detection() -> None:
    rows = np.array(
        [[[np.nan, 1, 2, 2, 0.9], [1e38, 0, 9e4, 1, 0.8], [5, 5, 2, 2, np.nan], [5, 5, 3, 3, 0.7]]], np.float32
    )
    spec = {"row": ["cx", "cy", "w", "h", "classes"], "decode": "yolox", "strides": [16], "layout": "NC"}
    (found,) = Decoder(Decode.model_validate(spec), ("out",), (32, 32), "x")({"out": rows})
    assert found.detections().tolist() == [3]


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        ({"row": ROW, "decode": "yolox", "strides": [8, 16]}, (1, 31, 9), "make 30 boxes of a picture of 32x48"),
        ({"row": ["cx", "cy", "w", "h", "objectness", "classes:3"]}, (1, 30, 9), "has 9 numbers, the spec's row 8"),
        ({"row": ROW}, (1, 30, 5), "has 5 numbers, the spec's row at least 6"),
        ({"row": ROW, "layout": "ACHW"}, (1, 30, 9), "layout ACHW doesn't fit an output of shape"),
        ({"row": ROW, "layout": "ACHW", "decode": "yolov3", "strides": [8], "anchors": ANCHORS[:1]}, (1, 28, 4, 6), "28 "),
        ({"row": ROW}, (30,), "layout NC doesn't fit"),
        ({"row": [*ROW[:4], "classes"], "background": 7}, (1, 30, 9), "background is class 7, the model scores 5 classes"),
    ],
)  # fmt: skip
def test_outputs_that_are_not_what_the_spec_says(spec: dict[str, Any], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        assert decoded(spec, {"out": np.zeros(shape)})[0].scores.sum() < 0
    assert caught.value.code == "config.decode"
    assert "\n" not in str(caught.value)


def test_scores_for_other_boxes() -> None:
    with pytest.raises(UsageError, match="there are 1 x 5 boxes, but scores for 1 x 6"):
        decoded({"scores": "s"}, {"b": np.zeros((1, 5, 4)), "s": np.zeros((1, 6, 2))}, ("b",))


def test_a_spec_can_not_ask_for_more_memory_than_the_output_takes() -> None:
    """A spec may come from a model's metadata: a hundred thousand anchors at every pixel are counted, not made."""
    anchors = [[[1.0, 1.0]] * 100_000]
    spec = Decode.model_validate({"row": ROW, "decode": "yolov3", "strides": [1], "anchors": anchors})
    with pytest.raises(UsageError, match="make 100000000000 boxes"):
        Decoder(spec, ("out",), (1000, 1000), "x")({"out": np.zeros((1, 30, 9))})


@pytest.mark.parametrize(
    ("spec", "got", "says"),
    [
        (
            {"labels": "l", "scores": "s"},
            {"b": (1, 5, 4), "l": (1, 4), "s": (1, 5)},
            "'l' of shape .* hasn't 5 numbers",
        ),
        (
            {"labels": "l", "scores": "s"},
            {"b": (1, 5, 4), "l": (1, 5), "s": (1, 5, 3)},
            "'s' of shape .* hasn't 5 numbers",
        ),
        (
            {"labels": "l", "scores": "s", "count": "c"},
            {"b": (2, 5, 4), "l": (2, 5), "s": (2, 5), "c": (1,)},
            "'c' of shape",
        ),
        ({"scores": "s"}, {"b": (2, 5, 4), "s": (1, 5, 3)}, "2 x 5 boxes, but scores for 1 x 5"),
        ({"scores": "s"}, {"b": (1, 5, 0), "s": (1, 5, 3)}, "holds no numbers"),
    ],
)
def test_outputs_that_do_not_go_together(spec: dict[str, Any], got: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        decoded(spec, {name: np.zeros(shape) for name, shape in got.items()}, ("b",))
    assert caught.value.code == "config.decode"


def test_wild_class_numbers_and_counts_are_no_fault() -> None:
    rows = np.array([[[1, 1, 9, 9, 0.9, np.nan], [1, 1, 9, 9, 0.8, 1e30], [1, 1, 9, 9, 0.7, -5]]])
    spec = {"row": ["x0", "y0", "x1", "y1", "score", "class"]}
    (found,) = decoded(spec, {"out": rows})
    assert found.classes.tolist() == [-1, 2**31, -1]
    for count, expected in ((-3, 0), (2, 2), (99, 3), (np.nan, 0)):
        (found,) = decoded(spec | {"count": "c"}, {"out": rows, "c": np.array([count])}, ("out",))
        assert len(found.boxes) == expected
