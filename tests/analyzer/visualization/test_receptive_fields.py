"""Receptive fields against brute force: a pixel outside changes nothing, one inside changes the unit.

All weights and inputs are positive and every operator is monotone, so that a unit that reads a pixel must rise with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from analyzer.visualization.receptive_fields import ReceptiveField
from tests.analyzer.visualization.models import model, pictures

RNG = np.random.default_rng(2)
HEAD = '<ir_version: 8, opset_import: ["": 17]> net '


def kernel(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 1, shape).astype(np.float32)


#: Name -> (nodes that make v of x, the input's shape, weights).
PLACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "strided convolution": ("v = Conv <pads = [1, 0, 1, 2], strides = [2, 1]> (x, k)", "1, 9, 8", {"k": kernel(2, 1, 3, 3)}),
    "dilated after pooling": (
        "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) v = Conv <dilations = [2, 2], pads = [2, 2, 2, 2]> (p, k)",
        "1, 12, 12", {"k": kernel(2, 1, 3, 3)},
    ),
    "automatic padding": ('v = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, k)', "1, 7, 8", {"k": kernel(2, 1, 4, 3)}),
    "rounded up pooling": ("v = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", "1, 8, 8", {}),
    "average pooling": ("v = AveragePool <kernel_shape = [3, 2], pads = [1, 0, 1, 0], count_include_pad = 1> (x)", "1, 6, 6", {}),
    "transposed": (
        "d = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, k) "
        "v = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (d, t)",
        "1, 8, 8", {"k": kernel(2, 1, 3, 3), "t": kernel(2, 1, 3, 3)},
    ),
    "transposed with gaps": ("v = ConvTranspose <strides = [3, 3]> (x, t)", "1, 4, 4", {"t": kernel(1, 1, 2, 2)}),
    "transposed to a size": (
        'v = ConvTranspose <strides = [2, 2], auto_pad = "SAME_LOWER"> (x, t)', "1, 4, 4", {"t": kernel(1, 1, 3, 3)}
    ),
    "repeated": ("v = Resize (x, roi, by)", "1, 4, 4", {"roi": kernel(0), "by": np.array([1, 1, 2, 3], np.float32)}),
    "interpolated": (
        'v = Resize <mode = "linear"> (x, roi, by)', "1, 4, 4",
        {"roi": np.zeros(0, np.float32), "by": np.array([1, 1, 2, 1.5], np.float32)},
    ),
    "corners aligned": (
        'v = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, roi, by)', "1, 5, 4",
        {"roi": np.zeros(0, np.float32), "by": np.array([1, 1, 1, 1.75], np.float32)},
    ),
    "two paths": (
        "a = Conv <pads = [2, 2, 2, 2]> (x, k) b = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x) v = Add (a, b)",
        "1, 7, 7", {"k": kernel(1, 1, 5, 5)},
    ),
    "cut": ("c = Slice (x, from, to, along) v = Conv <pads = [1, 1, 1, 1]> (c, k)", "1, 8, 8",
            {"from": np.array([2, -5]), "to": np.array([7, 8]), "along": np.array([2, 3]), "k": kernel(1, 1, 3, 3)}),
    "padded apart": ("p = Pad (x, by) v = Conv (p, k)", "1, 5, 5",
                     {"by": np.array([0, 0, 2, 1, 0, 0, 0, 3]), "k": kernel(1, 1, 2, 2)}),
    "channels last": (
        "t = Transpose <perm = [0, 3, 1, 2]> (x) c = Conv <strides = [2, 1]> (t, k) v = Transpose <perm = [0, 2, 3, 1]> (c)",
        "8, 7, 2", {"k": kernel(3, 2, 3, 2)},
    ),
    "series": ("u = Unsqueeze (x, at) c = Conv <strides = [1, 2]> (u, k) v = Squeeze (c, at)", "2, 11",
               {"at": np.array([2]), "k": kernel(3, 2, 1, 4)}),
    "volume": ("v = Conv <pads = [1, 1, 1, 0, 0, 0]> (x, k)", "1, 4, 4, 4", {"k": kernel(1, 1, 2, 3, 2)}),
    "normalised by constants": ("b = BatchNormalization (x, s, s, s, s) v = Conv (b, k)", "1, 6, 6",
                                {"s": np.ones(1, np.float32), "k": kernel(1, 1, 3, 3)}),
    "cut, then joined": ("c = Slice (x, from, to, along) v = Flatten (c)", "1, 6, 6",
                         {"from": np.array([1]), "to": np.array([4]), "along": np.array([2])}),
    "channels shuffled": (
        "c = Conv (x, k) r = Reshape (c, apart) t = Transpose <perm = [0, 2, 1, 3, 4]> (r) "
        "j = Reshape (t, joined) v = Conv (j, l)",
        "1, 5, 7", {"k": kernel(4, 1, 2, 3), "apart": np.array([0, 2, 2, 4, 5]), "joined": np.array([0, 4, 4, 5]),
                    "l": kernel(3, 4, 3, 2)},
    ),
    "places joined": ("c = Conv (x, k) v = Reshape (c, flat)", "1, 5, 5", {"k": kernel(2, 1, 3, 3), "flat": np.array([0, 2, 9])}),
    "squeezed and excited": ("g = GlobalAveragePool (x) v = Mul (x, g)", "1, 5, 5", {}),
}  # fmt: skip


def made(kind: str) -> onnx.ModelProto:
    body, shape, weights = PLACES[kind]
    return model(f"{HEAD} (float[n, {shape}] x) => (float y) {{ {body} y = ReduceSum <keepdims = 0> (v) }}", **weights)


def seen(loaded: analyzer.Model, x: np.ndarray, field: ReceptiveField) -> np.ndarray:
    """Of every pixel, which units rise with it: (pixels along places..., units of the value...)."""
    sides = [x.shape[axis] for axis in field.places]
    changed = np.repeat(x, int(np.prod(sides)), axis=0)
    for at, place in enumerate(np.ndindex(*sides)):
        where = [slice(None)] * x.ndim
        for axis, position in zip(field.places, place, strict=True):
            where[axis] = slice(position, position + 1)
        changed[(at, *where[1:])] += 1000
    value = loaded.activations(np.concatenate([x, changed]), "v")["v"]
    rises: np.ndarray = np.abs(value[1:] - value[:1]) > 1e-3
    return rises.reshape(*sides, *value.shape[1:])


@pytest.mark.parametrize("kind", PLACES)
def test_a_unit_rises_with_the_pixels_of_its_field_and_no_others(kind: str) -> None:
    loaded = analyzer.load(made(kind))
    x = RNG.uniform(0.5, 1, (1, *(int(side) for side in PLACES[kind][1].split(",")))).astype(np.float32)
    field = loaded.receptive_fields(x, "v")["v"]
    rises = seen(loaded, x, field)
    rank = len(field.places)
    units = rises.reshape(*rises.shape[:rank], *rises.shape[rank:])
    for unit in np.ndindex(*rises.shape[rank:]):
        own = units[(..., *unit)]
        position = [unit[axis - 1] for axis in field.layout]
        box = field.box(position)
        outside = own.copy()
        outside[box] = False
        assert not outside.any(), (unit, box)
        if field.layout:  # each side of the box has a pixel that is read
            inside = own[box]
            assert all(inside.any(axis=tuple(a for a in range(rank) if a != axis))[[0, -1]].all()
                       for axis in range(rank) if inside.size), (unit, box)  # fmt: skip
            assert inside.size or not own.any()


def test_a_unit_without_places_sees_what_its_places_saw() -> None:
    x = np.ones((1, 1, 6, 6), np.float32)
    field = analyzer.load(made("cut, then joined")).receptive_fields(x, "v")["v"]
    assert (field.box(), field.whole, field.layout) == ((slice(1, 4), slice(0, 6)), False, ())
    gated = analyzer.load(made("squeezed and excited")).receptive_fields(x[..., :5, :5], "v")["v"]
    assert gated.whole


def test_size_stride_and_offset_are_those_of_the_closed_form() -> None:
    body = (
        "a = Conv <strides = [2, 2], pads = [3, 3, 3, 3]> (x, k) "
        "b = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (a) v = Conv <pads = [1, 1, 1, 1]> (b, l)"
    )
    weights = {"k": kernel(2, 3, 7, 7), "l": kernel(2, 2, 3, 3)}
    text = f"{HEAD} (float[n, 3, 64, 64] x) => (float y) {{ {body} y = ReduceSum <keepdims = 0> (v) }}"
    found = analyzer.load(model(text, **weights)).receptive_fields()
    facts = {name: (each.fields[0].size, each.fields[0].stride, each.fields[0].offset) for name, each in found.items()}
    # as of ResNet's stem: 7, 11, then 11 + 2 * 4
    assert {name: facts[name] for name in "abv"} == {"a": (7, 2, -3), "b": (11, 4, -5), "v": (19, 4, -9)}
    assert found["y"].whole
    assert "ReduceSum" in found["y"].why


def test_what_has_no_places_or_no_size_is_refused() -> None:
    flat = model(f"{HEAD} (float[n, 4] x) => (float[n, 4] y) {{ y = Tanh (x) }}")
    with pytest.raises(UnsupportedError, match="no axes of places"):
        analyzer.load(flat).receptive_fields()
    free = pictures()
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    with pytest.raises(UsageError, match="give an input") as caught:
        analyzer.load(free).receptive_fields()
    assert caught.value.code == "input.size_unknown"
    assert analyzer.load(free).receptive_fields(np.ones((1, 2, 6, 6), np.float32), "Conv")
