"""What a change can reach, against brute force: noise in a window, and where onnxruntime's values change."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.executor.incremental import Graph, Source, Span, chain, planned
from analyzer.executor.incremental.plan import _partition
from analyzer.executor.incremental.reach import Reach
from analyzer.executor.session import Session
from tests.analyzer.executor.incremental.graphs import random_network


@given(
    side=st.integers(3, 30), kernel=st.integers(1, 5), step=st.integers(1, 4), dilation=st.integers(1, 3),
    begin=st.integers(0, 4), end=st.integers(0, 4), low=st.integers(0, 29), width=st.integers(1, 12),
)  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_forward_is_what_reads_the_change(
    side: int, kernel: int, step: int, dilation: int, begin: int, end: int, low: int, width: int
) -> None:
    span = (kernel - 1) * dilation + 1
    size = (side + begin + end - span) // step + 1
    low = min(low, side - 1)
    high = min(low + width, side)
    if size < 1:
        return
    reach = Reach(span, step, begin)
    found = reach.forward(Span(np.array([low]), np.array([high])), size)
    reading = [o for o in range(size) if any(low <= o * step - begin + k * dilation < high for k in range(kernel))]
    assert all(found.low[0] <= o < found.high[0] for o in reading)
    if reading and dilation == 1:
        assert (found.low[0], found.high[0]) == (reading[0], reading[-1] + 1)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 20), st.integers(1, 9))
def test_what_outputs_need(span: int, step: int, begin: int, first: int, count: int) -> None:
    reach = Reach(span, step, begin)
    read = [o * step - begin + k for o in range(first, first + count) for k in range(span)]
    start = int(reach.start(np.array([first]))[0])
    assert (start, start + reach.length(count)) == (min(read), max(read) + 1)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(1, 8))
def test_groups_are_the_cheapest(widths: list[int], most: int) -> None:
    """Against all ways to cut the sorted lengths."""
    array = np.array(widths)
    group = _partition(array, most)
    assert sorted(set(group.tolist())) == list(range(int(group.max()) + 1))
    assert group.max() < most

    def cost(groups: list[list[int]]) -> int:
        return sum(len(g) * max(g) for g in groups)

    ordered, lengths = sorted(widths), sorted(set(widths))
    if len(lengths) > 9:
        return
    best = min(
        cost([[w for w in ordered if low < w <= high] for low, high in itertools.pairwise([0, *bounds, lengths[-1]])])
        for count in range(min(most, len(lengths)))
        for bounds in itertools.combinations(lengths[:-1], count)
    )
    assert cost([array[group == g].tolist() for g in range(int(group.max()) + 1)]) == best


@pytest.mark.parametrize("seed", range(500, 530))
def test_nothing_changes_outside_the_region(seed: int) -> None:
    made = random_network(seed)
    proto, draw = made.model([made.value]), np.random.default_rng(seed)
    sides = made.first[1:]
    low = [int(draw.integers(0, side - 4)) for side in sides]
    high = [int(draw.integers(a + 4, side + 1)) for a, side in zip(low, sides, strict=True)]
    windows = [Span(np.array([a]), np.array([b])) for a, b in zip(low, high, strict=True)]
    plan = planned(chain(Graph(Source(proto), {"x": (1, *made.first)}), "x", (2, 3), [made.value]), windows)
    values = [name for stage in plan.chain.stages for name in stage.made if name in plan.chain.layouts]
    session = Session(proto.SerializeToString(), expose=values, threads=1, optimize=False)
    x = draw.standard_normal((1, *made.first)).astype(np.float32)
    clean, touched = session.run({"x": x}), np.zeros(len(values), bool)
    for _ in range(4):
        other = x.copy()
        other[:, :, low[0] : high[0], low[1] : high[1]] += draw.standard_normal(
            (1, made.first[0], high[0] - low[0], high[1] - low[1])
        ).astype(np.float32)
        changed = session.run({"x": other})
        for position, stage in enumerate(plan.chain.stages):
            for name in (n for n in stage.made if n in values):
                where = np.argwhere(np.abs(changed[name] - clean[name])[0].max(axis=0) > 0)
                touched[values.index(name)] |= bool(len(where))
                for axis, (span, region) in enumerate(zip(plan.reached[name], plan.regions[position], strict=True)):
                    for bound in (span, region):
                        assert (where[:, axis] >= bound.low[0]).all()
                        assert (where[:, axis] < bound.high[0]).all()
    assert touched.any()


def test_shapes_are_not_inferred_beyond_standard_operators() -> None:
    """ONNX's inference of a LabelEncoder ends the process where its input's type is unknown, as behind other domains' nodes."""
    code = """
from onnx import TensorProto, helper
from analyzer.executor.incremental import Graph, Source
nodes = [
    helper.make_node("Relu", ["x"], ["r"]),
    helper.make_node("Unknown", ["r"], ["t"], domain="com.example"),
    helper.make_node("LabelEncoder", ["t"], ["y"], domain="ai.onnx.ml", classes_strings=["1"], default_string="?"),
]
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
opsets = [helper.make_opsetid("", 9), helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("com.example", 1)]
model = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:]), opset_imports=opsets, ir_version=7)
shapes = Graph(Source(model), {"x": (1, 1)}).shapes
assert shapes == {"x": (1, 1), "r": (1, 1)}, shapes
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
