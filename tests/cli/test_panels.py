"""Which parameters a picture and a report show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analyzer.explanation import Explanation
from analyzer.methods import registry
from analyzer.report.explained import panel


def explained(method: str, **given: Any) -> Explanation:
    """An explanation as a method leaves it, all parameters filled in."""
    info = registry.get(method)
    params = info.check(given)
    map_ = {"x": np.ones((1, 3), np.float32)}
    return Explanation(
        method, params, map_, map_, map_, ("class 0",), (0,), np.ones(1), "logit", True, notable=info.notable(params)
    )


@pytest.mark.parametrize(
    ("method", "given", "params"),
    [
        ("gradient", {}, {}),
        ("grad-cam", {}, {}),
        ("grad-cam", {"layer": "relu"}, {"layer": "relu"}),
        ("lrp", {}, {"composite": "epsilon-plus"}),
        ("lrp", {"gamma": 0.5}, {"composite": "epsilon-plus", "gamma": 0.5}),
        ("lrp", {"low": [0.0, 1.0], "high": 2.0}, {"composite": "epsilon-plus", "low": [0.0, 1.0], "high": 2.0}),
        ("integrated-gradients", {}, {"steps": 50}),
        ("integrated-gradients", {"rule": "riemann_middle"}, {"steps": 50, "rule": "riemann_middle"}),
        ("smoothgrad", {}, {"samples": 50}),
        ("lime", {}, {"samples": 1000}),
        ("lime", {"segments": "grid:4"}, {"samples": 1000, "segments": "grid:4"}),
        ("occlusion", {}, {}),
        ("occlusion", {"window": 4, "stride": 2}, {"window": 4, "stride": 2}),
        ("occlusion", {"fill": "blur"}, {"fill": "blur"}),
    ],
)
def test_only_what_tells_something_is_shown(method: str, given: dict[str, Any], params: dict[str, Any]) -> None:
    found = explained(method, **given)
    assert found.headline == params
    assert dict(panel(found, 0).params) == params


def test_an_array_that_was_given_is_shown() -> None:
    mask = np.zeros((2, 2), np.int64)
    assert explained("lime", segments=mask).headline["segments"] is mask


def test_a_method_that_is_not_registered_shows_all() -> None:
    map_ = {"x": np.ones((1, 1))}
    other = Explanation("mine", {"a": 1, "b": None}, map_, map_, map_, ("t",), (0,), np.ones(1), "logit", True)
    assert other.headline == {"a": 1}
