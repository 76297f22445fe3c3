"""onnx2torch as the fallback: used where the table has nothing, never unverified."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.importer import onnx2torch_fallback, table
from tests.analyzer.importer.oracle import node_model

pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="onnx2torch is not installed")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Hide operators from the table."""
    real = table.lookup

    def hide(*operators: str) -> None:
        monkeypatch.setattr(table, "lookup", lambda d, op, v: None if op in operators else real(d, op, v))

    return hide


def conv_model(opset: int = 17) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 6), np.float32), rng.standard_normal((4, 3, 3, 3), np.float32)
    return node_model("Conv", {"x": x, "w": w}, opset=opset, initializers=("w",), pads=[1, 1, 1, 1]), x, w


def test_imports_beside_a_cpu_only_torch() -> None:
    assert onnx2torch_fallback.available()


def test_converts_a_node_that_the_table_lacks(without: Callable[..., None]) -> None:
    without("Conv")
    proto, x, _ = conv_model()
    model = analyzer.load(proto)
    np.testing.assert_allclose(model.predict(x, backend="torch")["y0"], model.predict(x)["y0"], atol=1e-5)
    assert model.trace({"x": x}).converted == ("Conv node 'Conv_0'",)


def test_gradient_flows_through_it(without: Callable[..., None]) -> None:
    proto, x, w = conv_model()
    expected = analyzer.load(proto).explain(x, method="gradient", target="y0[:,1,2,3]").attribution
    without("Conv")
    got = analyzer.load(proto).explain(x, method="gradient", target="y0[:,1,2,3]").attribution
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(got[:, :, 1:4, 2:5], np.broadcast_to(w[1], (2, 3, 3, 3)), atol=1e-6)


def test_an_opset_it_doesnt_know_is_named(without: Callable[..., None]) -> None:
    without("Conv")
    proto, x, _ = conv_model(opset=22)
    with pytest.raises(analyzer.UnsupportedError, match=r"Conv node 'Conv_0' \(opset 22\)") as caught:
        analyzer.load(proto).predict(x, backend="torch")
    assert caught.value.code == "op.unsupported"


def test_a_wrong_conversion_is_refused(without: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    without("Conv")
    real = onnx2torch_fallback.run
    monkeypatch.setattr(onnx2torch_fallback, "run", lambda node, *inputs: tuple(v * 1.01 for v in real(node, *inputs)))
    proto, x, _ = conv_model()
    with pytest.raises(analyzer.ParityError, match="Conv node 'Conv_0'"):
        analyzer.load(proto).predict(x, backend="torch")
