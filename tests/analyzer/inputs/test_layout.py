"""What axes count: as given, else by the preprocessing, else by the graph, else by their lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs import PRESETS, Preprocess
from analyzer.inputs.layout import axes_of
from tests.common.models import assemble, cnn

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize(
    ("shape", "letters"),
    [
        ((1, 3, 8, 9), "NCHW"), ((1, 8, 9, 3), "NHWC"), ((1, 3, 8, 3), "NCHW"), ((1, 5, 6, 7, 1), "NDHWC"),
        ((1, 40, 2), "NTC"), ((1, 2, 40), "NCT"), ((1, 12), "NC"), ((4,), "N"),
    ],
)  # fmt: skip
def test_axes_follow_from_the_shape(shape: tuple[int, ...], letters: str) -> None:
    assert axes_of(shape, None).letters == letters


@pytest.mark.parametrize("name", PRESETS)
def test_a_preprocessing_that_leaves_the_layout_open_says_nothing(name: str) -> None:
    assert axes_of((1, 8, 9, 3), PRESETS[name]).letters == "NHWC"
    assert axes_of((1, 3, 8, 9), PRESETS[name]).letters == "NCHW"
    assert axes_of((1, 16, 16, 16), PRESETS[name], read=3).letters == "NHWC"
    channels_last = analyzer.load(cnn(nhwc=True), preprocess=name)
    assert channels_last.axes("x", (1, 8, 8, 3)).letters == "NHWC"
    assert not channels_last.guesses_axes("x", (1, 8, 8, 3))
    x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    models = channels_last, analyzer.load(cnn(nhwc=True))
    with_it, without = (model.explain(x, "occlusion", window=2, stride=2) for model in models)
    np.testing.assert_array_equal(with_it.attribution, without.attribution)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_preprocessing_comes_first(layout: str) -> None:
    preprocess = Preprocess(name="test", layout=layout)
    assert axes_of((1, 3, 8, 3), preprocess).letters == layout
    assert axes_of((1, 2, 40), preprocess).letters == "NCT"  # no picture
    assert axes_of((1, 3, 8, 3), preprocess, read=2).letters == layout


def test_the_graph_comes_before_the_sizes() -> None:
    assert axes_of((1, 10, 5), None, read=2).letters == "NTC"
    assert axes_of((1, 40, 2), None, read=1).letters == "NCT"


def flat(shape: list[Any], layout: Any = None) -> analyzer.Model:
    """A linear score of an input of some shape: nothing in the graph says what its axes count."""
    size = int(np.prod([side for side in shape if isinstance(side, int)]))
    weights = np.random.default_rng(0).standard_normal((size, 2)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    proto = assemble(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, ["n", 2])}, {"w": weights})
    return analyzer.load(proto, "cpu", threads=1, layout=layout)


def drops(model: analyzer.Model, x: Array, axes: tuple[int, ...]) -> Array:
    """Score less the score with one place hidden, for every place along some axes."""
    base = model.predict(x)["y"][0, 1]
    found = np.zeros([x.shape[axis] for axis in axes])
    for place in np.ndindex(found.shape):
        copy = x.copy()
        index: list[Any] = [slice(None)] * x.ndim
        for axis, at in zip(axes, place, strict=True):
            index[axis] = at
        copy[tuple(index)] = 0
        found[place] = base - model.predict(copy)["y"][0, 1]
    return found


@pytest.mark.parametrize(
    ("shape", "letters", "axes"),
    [
        ((1, 6, 5), "NTC", (1,)),
        ((1, 6, 5), "NCT", (2,)),
        ((1, 4, 5, 6), "NHWC", (1, 2)),
        ((1, 2, 4, 5), "NTHW", (1, 2, 3)),
    ],
)
def test_letters_say_where_windows_lie(shape: tuple[int, ...], letters: str, axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    model = flat(["n", *shape[1:]], letters)
    e = model.explain(x, "occlusion", target=1, window=1, stride=1)
    np.testing.assert_allclose(e.attribution.squeeze(), drops(model, x, axes).squeeze(), atol=1e-5)
    assert e.record["notes"] == []


def test_a_guess_is_said() -> None:
    x = np.ones((1, 6, 5), np.float32)
    notes = flat(["n", 6, 5]).explain(x, "occlusion", target=1).record["notes"]
    assert notes == ["input 'x' is taken as NCT, guessed from its sizes: layout= says otherwise"]


@pytest.mark.parametrize("layout", ["NTX", "NT", "NNC", "", {"y": "NTC"}])
def test_what_is_no_layout_is_refused(layout: Any) -> None:
    with pytest.raises(UsageError) as caught:
        flat(["n", 6, 5], layout)
    assert caught.value.code.startswith("layout.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("method", ["feature-ablation", "kernel-shap", "lime", "rise", "occlusion", "bubbles"])
def test_volumes_are_cut_into_blocks_that_share_their_channels(method: str, channels_last: bool) -> None:
    shape = (1, 8, 9, 10, 2) if channels_last else (1, 2, 8, 9, 10)
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    model = flat(["n", *shape[1:]], "NDHWC" if channels_last else "NCDHW")
    params: dict[str, Any] = {"kernel-shap": {"samples": 200}, "lime": {"samples": 200}, "rise": {"masks": 50}}.get(
        method, {}
    )
    e = model.explain(x, method, target=1, **({"samples": 20} if method == "bubbles" else params))
    assert e.attribution.shape == ((1, 8, 9, 10, 1) if channels_last else (1, 1, 8, 9, 10))
    if "segments" in e.record:
        assert all(25 <= count <= 50 for count in e.record["segments"])


def test_a_block_s_value_is_the_drop_without_it() -> None:
    x = np.random.default_rng(3).standard_normal((1, 2, 4, 4, 4)).astype(np.float32)
    model = flat(["n", 2, 4, 4, 4], "NCDHW")
    e = model.explain(x, "feature-ablation", target=1, segments="grid:2")
    assert e.record["segments"] == [8]
    copy = x.copy()
    copy[:, :, 2:, :2, 2:] = 0
    want = model.predict(x)["y"][0, 1] - model.predict(copy)["y"][0, 1]
    np.testing.assert_allclose(e.attribution[0, 0, 2:, :2, 2:], want, atol=1e-5)
    each = model.explain(x, "feature-ablation", target=1, segments="elements")
    assert each.record["segments"] == [64]
