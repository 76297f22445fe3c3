"""Detectors that put several grids one after the other: a map is read at the grid that its target lies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError
from tests.common.models import assemble

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
X = np.random.default_rng(2).standard_normal((2, 3, 16, 16)).astype(np.float32)
#: Boxes of the fine grid (8 x 8) come first, those of the coarse one (4 x 4) behind them.
FINE, COARSE = 9, 64 + 5


def detector(towers: bool) -> analyzer.Model:
    """Two grids, the coarse one made from the fine one; with ``towers`` a layer of its own before each grid's scores."""
    rng, weights, nodes = np.random.default_rng(0), dict[str, Array](), []

    def conv(source: str, name: str, channels: tuple[int, int], size: int, relu: bool = True, **attributes: Any) -> str:
        weights[f"{name}.w"] = (rng.standard_normal((*channels, size, size)) / (size * 2)).astype(np.float32)
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [source, f"{name}.w"], [name], name=name, pads=pads, **attributes))
        if not relu:
            return name
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
        return f"{name}.relu"

    fine = conv("x", "fine", (6, 3), 3, strides=[2, 2])
    coarse = conv(fine, "coarse", (6, 6), 3, strides=[2, 2])
    rows = []
    for name, grid, places in (("fine", fine, 64), ("coarse", coarse, 16)):
        if towers:
            grid = conv(grid, f"{name}.tower", (6, 6), 3)
        scores = conv(grid, f"{name}.scores", (5, 6), 1, relu=False)
        weights[f"{name}.shape"] = np.array([0, 5, places])
        nodes.append(helper.make_node("Reshape", [scores, f"{name}.shape"], [f"{name}.flat"]))
        rows.append(f"{name}.flat")
    nodes.append(helper.make_node("Concat", rows, ["joined"], axis=2))
    nodes.append(helper.make_node("Transpose", ["joined"], ["boxes"], perm=[0, 2, 1]))
    proto = assemble(nodes, {"x": (FLOAT, ["n", 3, 16, 16])}, {"boxes": (FLOAT, ["n", 80, 5])}, weights)
    return analyzer.load(proto, "cpu", threads=1)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam", "score-cam", "ablation-cam", "eigen-cam"])
@pytest.mark.parametrize(("box", "layer"), [(FINE, "fine.relu"), (COARSE, "coarse.relu")])
def test_a_map_is_read_at_the_target_s_own_grid(box: int, layer: str, method: str) -> None:
    model = detector(True)
    target = f"boxes[:,{box},2]"
    found = model.explain(X, method, target=target)
    assert found.record["layer"] == layer
    np.testing.assert_allclose(found.raw, model.explain(X, method, target=target, layer=layer).raw, atol=1e-6)


@pytest.mark.parametrize("box", [FINE, COARSE])
def test_without_layers_of_their_own_both_grids_have_the_map_whose_places_are_mixed(box: int) -> None:
    assert detector(False).explain(X, "grad-cam", target=f"boxes[:,{box},2]").record["layer"] == "fine.relu"


def test_a_target_on_both_grids_has_the_map_that_both_depend_on() -> None:
    model = detector(True)
    found = model.explain(X, "grad-cam", target="boxes[:,:,2]")
    assert found.record["layer"] == "fine.relu"


def test_no_fixed_graph_chooses_a_grid() -> None:
    model = detector(True)
    for call in (
        lambda: model.explain(X, "grad-cam", target=f"boxes[:,{FINE},2]", backend="onnxruntime"),
        lambda: analyzer.compile(model, "grad-cam", target="top1", example=X),
    ):
        with pytest.raises(AnalyzerError) as caught:
            call()
        assert "name a layer" in str(caught.value)


@pytest.mark.parametrize("box", [FINE, COARSE])
def test_a_fixed_target_s_grid_is_compiled(box: int) -> None:
    model, target = detector(True), f"boxes[:,{box},2]"
    done = analyzer.compile(model, "grad-cam", target=target, example=X)
    session = onnxruntime.InferenceSession(done.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = model.explain(X, "grad-cam", target=target).raw
    np.testing.assert_allclose(session.run(["relevance"], {"x": X})[0], want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("layer", ["fine.relu", "coarse.relu"])
def test_a_named_layer_is_compiled(layer: str) -> None:
    model = detector(True)
    done = analyzer.compile(model, "grad-cam", target="boxes[:,:,2]", example=X, layer=layer)
    session = onnxruntime.InferenceSession(done.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(["relevance"], {"x": X})[0]
    want = model.explain(X, "grad-cam", target="boxes[:,:,2]", layer=layer).raw
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
