"""A model lets go of all that it holds: sessions, traces, plans, compiled sweeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.common.checks import load
from tests.common.models import assemble, cases, cnn

CASES = {case.name: case for case in cases()}
SIDE = 2048


def layers(path: Path, side: int) -> Path:
    """Four matrices with ReLUs between them."""
    draw = np.random.default_rng(0)
    weights = {f"w{i}": (draw.standard_normal((side, side)) / side**0.5).astype(np.float32) for i in range(4)}
    nodes = []
    for i in range(4):
        nodes += [
            helper.make_node("MatMul", [f"a{i}", f"w{i}"], [f"z{i}"]),
            helper.make_node("Relu", [f"z{i}"], [f"a{i + 1}"]),
        ]
    shapes = {"a0": (TensorProto.FLOAT, ["n", side])}
    onnx.save(assemble(nodes, shapes, {"a4": (TensorProto.FLOAT, ["n", side])}, weights), path)
    return path


CODE = """
import sys
import numpy as np
import analyzer

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def use(path):
    model = analyzer.load(path, "cpu", threads=1)
    side = model.inputs["a0"].shape[1]
    x = np.random.default_rng(1).standard_normal((2, side)).astype(np.float32)
    for method in ("gradient", "lrp", "integrated-gradients", "deeplift"):
        model.explain(x, method, 0, backend="torch")
    model.explain(x, "lrp", 0, composite="epsilon-alpha2-beta1", backend="torch")
    model.explain(x, "gradient", 0, backend="onnxruntime")
    model.explain(x, "occlusion", 0, window=side // 4)
    model.explain_targets(x, [0, 1, 2], "lrp", backend="torch")
    return model

small = use(sys.argv[1])  # what a process needs once, whatever it explains
small.clear()
print(resident())
model = use(sys.argv[2])
print(resident())
model.clear()
print(resident())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_is_given_back(tmp_path: Path) -> None:
    small, large = layers(tmp_path / "small.onnx", 16), layers(tmp_path / "large.onnx", SIDE)
    environment = {
        "ONNXPLAIN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(analyzer.__file__).parents[1]), "PATH": "",
        "HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(small), str(large)],
        capture_output=True, check=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    fresh, used, cleared = map(int, done.stdout.split())
    assert used > 1.2 * fresh, "the test must see what is kept"
    assert cleared <= 1.05 * fresh


def test_a_context_manager_clears() -> None:
    case = CASES["cnn"]
    with load(case.proto) as model:
        first = model.explain(case.x, "lrp", 1)
        assert "backends" in model.__dict__
    assert not {"backends", "session_pool", "graph"} & set(model.__dict__)
    assert not model._sessions
    np.testing.assert_array_equal(model.explain(case.x, "lrp", 1).attribution, first.attribution)


def test_an_input_that_is_changed_in_place_is_another_input() -> None:
    """Nothing is kept by an array's identity: its numbers may change."""
    model, x = load(cnn()), CASES["cnn"].x.copy()
    before = model.explain(x, "gradient-x-input", 1, backend="torch").attribution
    parity = model.verify(x)
    x *= 2
    after = model.explain(x, "gradient-x-input", 1, backend="torch").attribution
    assert model.verify(x) is not parity
    assert np.abs(after - before).max() > 0
    np.testing.assert_array_equal(after, load(cnn()).explain(x, "gradient-x-input", 1, backend="torch").attribution)


def test_verdicts_are_kept_for_the_same_numbers() -> None:
    model, x = load(cnn()), CASES["cnn"].x
    assert model.verify(x) is model.verify(x.copy())
    nan = np.full_like(x, np.nan)
    assert model.verify(nan) is model.verify(nan.copy())
    assert model.verify(np.zeros_like(x)) is not model.verify(-np.zeros_like(x))
