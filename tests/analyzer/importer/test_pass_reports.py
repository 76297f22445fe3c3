"""What passes over a trace report: every change, and why they left a node as it is."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.importer import folding
from analyzer.importer.rewriting import Refusal
from analyzer.importer.trace import Trace
from tests.analyzer.importer.test_passes import LAYERS, Node, array, aten, both, norm, normalise


def why(of: Trace, name: str) -> dict[str, str]:
    """ONNX node -> why a pass left it as it is."""
    return {each.node: each.reason for result in of.passes if result.name == name for each in result.refused}


FOLD = "fold constants"


def test_each_pass_says_what_it_changed() -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    nodes = [layer, normalise("z", "h"), ("Relu", ["h"], ["y"], {})]
    plain, passed = both(nodes, constants | norm(channels), shape)
    assert plain.passes == ()
    assert [each.name for each in passed.passes if each.modified] == [FOLD]
    assert passed.changes == next(each.changes for each in passed.passes if each.modified)
    assert not any(each.refused for each in passed.passes)


def test_a_layer_that_is_read_elsewhere_says_so() -> None:
    layer, constants, shape, channels = LAYERS["conv1d"]
    nodes = [layer, normalise("z", "h"), ("Relu", ["z"], ["r"], {}), ("Mul", ["h", "r"], ["y"], {})]
    _, passed = both(nodes, constants | norm(channels), shape)
    assert why(passed, FOLD) == {
        "/BatchNormalization_1": folding.READ_ELSEWHERE.reason, "/Mul_3": folding.NOT_CONSTANT.reason,
    }  # fmt: skip


def test_a_normalisation_behind_no_layer_says_so() -> None:
    _, passed = both([("Relu", ["x"], ["z"], {}), normalise("z", "y")], norm(3), (2, 3, 7))
    (refused,) = next(each.refused for each in passed.passes if each.name == FOLD)
    assert str(refused) == f"'/BatchNormalization_1': {folding.NO_LAYER.reason}"


def test_a_normalisation_by_the_batch_says_so() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}),
        ("BatchNormalization", ["z", "s", "t", "m", "v"], ["y", "", ""], {"training_mode": 1}),
    ]  # fmt: skip
    _, passed = both(nodes, {"w": array(4, 3, 2)} | norm(4), (3, 3, 7))
    assert why(passed, FOLD) == {"/BatchNormalization_1": folding.BATCH_STATISTICS.reason}


@pytest.mark.parametrize("computed", [1, 2])
def test_a_computed_scale_or_shift_is_not_folded(computed: int) -> None:
    operands = ["z", "s", "t", "m", "v"]
    operands[computed] = "r"
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}), ("ReduceMean", ["x"], ["r"], {"axes": [0, 2], "keepdims": 0}),
        ("BatchNormalization", operands, ["y"], {}),
    ]  # fmt: skip
    _, passed = both(nodes, {"w": array(3, 3, 2)} | norm(3), (2, 3, 7))
    assert why(passed, FOLD) == {"/BatchNormalization_2": folding.COMPUTED_PARAMETERS.reason}


def test_a_computed_kernel_says_so() -> None:
    nodes: list[Node] = [
        ("Slice", ["x", "zero", "two", "last"], ["k"], {}), ("Conv", ["x", "k"], ["z"], {}), normalise("z", "y"),
    ]  # fmt: skip
    constants = {"zero": np.array([0]), "two": np.array([2]), "last": np.array([2])} | norm(3)
    _, passed = both(nodes, constants, (3, 3, 5))
    assert why(passed, FOLD) == {"/BatchNormalization_2": folding.COMPUTED_WEIGHTS.reason}


@pytest.mark.parametrize(
    ("addend", "refusal"),
    [
        (array(1, 1, 6), folding.NOT_PER_CHANNEL),
        (array(2, 1, 1), folding.NOT_PER_CHANNEL),
        (array(3, 2, 4, 6), folding.OTHER_SHAPE),
    ],
    ids=["other-axis", "per-sample", "wider"],
)
def test_an_addend_that_is_no_bias_says_why(addend: np.ndarray, refusal: Refusal) -> None:
    layer, constants, shape, _ = LAYERS["conv1d"]
    _, passed = both([layer, ("Add", ["z", "c"], ["y"], {})], constants | {"c": addend}, shape)
    assert why(passed, FOLD) == {"/Add_1": refusal.reason}


def test_a_shared_weight_is_folded_into_one_layer_and_kept_for_the_other() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["z"], {}), normalise("z", "h"), ("Conv", ["h", "w"], ["y"], {}),
    ]  # fmt: skip
    weight = array(3, 3, 1)
    _, passed = both(nodes, {"w": weight} | norm(3), (2, 3, 7))
    assert len(passed.changes) == 1
    kernels = [node.args[1].target for node in passed.module.graph.nodes if node.target is aten.convolution.default]
    np.testing.assert_array_equal(getattr(passed.module, kernels[1]).float().numpy(), weight)
