"""Every white-box method on onnxruntime against torch, on every kind of model that it is meant for."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.errors import AnalyzerError
from tests.common.checks import explain, load, registered, suits
from tests.common.models import Array, Case, cases
from tests.kinks import equal_up_to_flips

CASES: dict[str, Case] = {case.name: case for case in cases()}
#: They run parts of the model, which no compiled sweep does.
INSIDE = ("ablation-cam",)
WHITE = [name for name, info in registered().items() if info.needs == "trace"]
BOTH = [(method, name) for name, case in CASES.items() for method in WHITE if suits(method, case)]
#: What tells two runs apart.
RUN = ("seconds", "parity", "backend")


@functools.cache
def model_of(name: str) -> analyzer.Model:
    """The case's model; its traces and compiled sweeps are shared by the tests."""
    return load(CASES[name].proto)


@pytest.mark.parametrize(("method", "name"), [p for p in BOTH if p[0] not in INSIDE])
def test_onnxruntime_gives_what_torch_gives(method: str, name: str) -> None:
    feed, target = CASES[name].feed, [0, 2, 1]
    on_torch = explain(model_of(name), feed, method, target=target, backend="torch")
    compiled = explain(model_of(name), feed, method, target=target, backend="onnxruntime")
    assert (on_torch.record["backend"], compiled.record["backend"]) == ("torch", "onnxruntime")
    rtol, wants, gots = 1e-4, maps_of(on_torch), maps_of(compiled)
    assert {key: value.dtype for key, value in gots.items()} == {key: value.dtype for key, value in wants.items()}

    def again() -> dict[str, Array]:
        return maps_of(explain(model_of(name), feed, method, target=target, backend="torch"))

    equal_up_to_flips(gots, wants, again, rtol, f"{method} {name}")
    alike(compiled.to_dict(), on_torch.to_dict(), rtol)
    assert compiled.record["parity"]["ok"]
    assert compiled.record["parity"]["outputs"].keys() == on_torch.record["parity"]["outputs"].keys()
    np.testing.assert_array_equal(compiled.score, on_torch.score)


def maps_of(explanation: analyzer.Explanation) -> dict[str, Array]:
    """Attributions and what they were made of, by name."""
    return {f"{key} of {kind}": v for kind in ("attributions", "raws") for key, v in getattr(explanation, kind).items()}


def alike(got: Any, want: Any, rtol: float, where: str = "") -> None:
    """The same record, numbers up to rounding."""
    if isinstance(want, dict):
        assert got.keys() == want.keys(), where
        for key in want:
            if key not in RUN:
                alike(got[key], want[key], rtol, f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for each, other in zip(got, want, strict=True):
            alike(each, other, rtol, where)
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=10 * rtol, abs=10 * rtol), where
    else:
        assert got == want, where


@pytest.mark.parametrize("name", [name for method, name in BOTH if method in INSIDE])
@pytest.mark.parametrize("method", INSIDE)
def test_what_looks_inside_is_refused_in_a_line(method: str, name: str) -> None:
    with pytest.raises(AnalyzerError) as caught:
        explain(model_of(name), CASES[name].feed, method, backend="onnxruntime")
    assert caught.value.code == "backend.onnxruntime"
    assert "torch" in explain(model_of(name), CASES[name].feed, method, backend="auto").record["backend"]
