"""Parameters are checked by themselves before anything heavy is there: bounds, truth values, empty texts."""

from __future__ import annotations

import subprocess
import sys
import typing
from typing import Annotated, Any

import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.methods.parameters import MOST, Bounds, Parameter, valid
from analyzer.methods.registry import get
from graph_rules import composites
from graph_rules.composite_params import CompositeName


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(1, 10), [1, 10, 5.5], [0, 11, -1]),
        (Bounds(0, 1, open=True), [0.1, 0.9], [0, 1, 2]),
        (Bounds(0), [0, 1e9], [-1e-9]),
        (Bounds(0, open=True), [1e-9], [0, -1]),
    ],
)
def test_bounds(bounds: Bounds, inside: list[float], outside: list[float]) -> None:
    assert all(bounds.hold(value) for value in [*inside, inside, None, "auto"])
    assert not any(bounds.hold(value) for value in [*outside, [inside[0], outside[0]]])


@pytest.mark.parametrize(
    ("bounds", "text"),
    [(Bounds(2, MOST), "from 2 to 1,000,000"), (Bounds(0, 1, open=True), "above 0 and below 1"),
     (Bounds(0), "at least 0"), (Bounds(0, open=True), "above 0")],
)  # fmt: skip
def test_bounds_say_what_they_are(bounds: Bounds, text: str) -> None:
    assert str(bounds) == text


@pytest.mark.parametrize(
    ("method", "name", "value", "said"),
    [
        ("rise", "masks", 100_000_000_000, "from 2 to 1,000,000"),
        ("rise", "masks", 1, "from 2 to 1,000,000"),
        ("rise", "grid", 100_000, "from 1 to 1,024"),
        ("rise", "keep", 1.0, "above 0 and below 1"),
        ("bubbles", "sigma", 0, "above 0"),
        ("bubbles", "count", 10**9, "from 1 to 1,000,000"),
        ("lime", "samples", 10**11, "1,000,000"),
        ("lime", "kernel_width", 0, "above 0"),
        ("kernel-shap", "samples", 10**11, "1,000,000"),
        ("kernel-shap", "budget", 0, "from 1"),
        ("occlusion", "window", 0, "from 1"),
        ("occlusion", "window", [3, -1], "from 1"),
        ("occlusion", "window", True, "no truth value"),
        ("occlusion", "stride", False, "no truth value"),
        ("lime", "features", True, "no truth value"),
        ("grad-cam", "layer", "", "it is empty"),
        ("grad-cam", "layer", " ", "it is empty"),
        ("smoothgrad", "samples", 0, "from 1"),
        ("smoothgrad", "noise", -0.1, "at least 0"),
        ("smoothgrad", "base", "lrp", "can't average"),
        ("integrated-gradients", "steps", 10**9, "from 1 to 5,000"),
        ("gradient-shap", "samples", 1, "from 2"),
        ("meaningful-perturbation", "jitter", 2, "from 0 to 0.5"),
        ("meaningful-perturbation", "grid", 100_000, "1,024"),
        ("taylor", "tolerance", 0, "above 0"),
        ("lrp", "composite", "foo", "unknown composite 'foo'"),
        ("lrp", "composite", "epsilon-plsu", "did you mean epsilon-plus?"),
        ("lrp", "low", 0, "both low and high"),
        ("deep-taylor", "high", 1, "both low and high"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(method: str, name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        get(method).check({name: value})
    assert caught.value.code == "params.invalid"
    assert said in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_truth_value_where_one_is_wanted() -> None:
    assert get("grad-cam").check({"relu": False})["relu"] is False
    assert valid("m", Parameter("p", bool | None, None, ""), True) is True


def test_a_parameter_reads_its_annotation() -> None:
    assert Parameter.of("p", Annotated[int, "how many", Bounds(1, 3)], 2) == Parameter(
        "p", int, 2, "how many", Bounds(1, 3)
    )
    assert Parameter.of("p", int, 2) == Parameter("p", int, 2, "")


@pytest.mark.parametrize("name", list(analyzer.methods()))
def test_every_count_has_an_upper_bound(name: str) -> None:
    for parameter in get(name).parameters.values():
        if parameter.annotation in (int, int | None):
            assert parameter.bounds is not None, parameter.name
            assert parameter.bounds.high <= MOST, parameter.name


def test_names_of_composites_stand_where_no_torch_is_needed() -> None:
    assert typing.get_args(CompositeName) == composites.names()


@pytest.mark.parametrize(
    ("method", "params"), [("lrp", {"composite": "foo"}), ("rise", {"masks": 10**11}), ("grad-cam", {"layer": ""})]
)
def test_a_wrong_parameter_costs_neither_torch_nor_a_session(method: str, params: dict[str, Any]) -> None:
    code = f"""
import sys
import numpy as np
import analyzer
from analyzer.errors import UsageError
from tests.common.models import cnn
model = analyzer.load(cnn(), "cpu")
try:
    model.explain(np.zeros((1, 3, 8, 8), np.float32), {method!r}, **{params!r})
except UsageError as problem:
    assert problem.code == "params.invalid", problem
else:
    raise SystemExit("accepted")
assert not {{"torch", "onnxruntime"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
