"""What a run found survives being written and read, and its figures have names that trackers take."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from analyzer.errors import InputError
from analyzer.gate.formats import FORMATS
from analyzer.gate.outcome import GateResult
from tests.analyzer.gate.results import bounded, check, every_status, hostile, result


@pytest.mark.parametrize("given", [every_status(), hostile("\x1b<b>")], ids=["every status", "hostile"])
def test_a_result_is_read_back_as_it_was_written(given: GateResult) -> None:
    text = FORMATS["json"].write(given)
    read = GateResult.from_dict(json.loads(text))
    expected = given.to_dict()
    for each in expected["checks"]:
        each["exhibits"] = []
    assert read.to_dict() == expected


def test_numbers_that_json_has_no_way_to_write_are_read_back() -> None:
    (found,) = GateResult.from_dict(
        json.loads(FORMATS["json"].write(result(check("a", tests=(bounded(np.nan, -np.inf, high=np.inf),)))))
    ).checks
    (test,) = found.outcome.tests
    assert np.isnan(test.estimate)
    assert (test.bound, test.high) == (-np.inf, np.inf)
    np.testing.assert_array_equal(found.outcome.values["v"], [1.0, np.nan, np.inf])


@pytest.mark.parametrize("given", [{}, {"checks": 3}, {"seconds": {}, "checks": [{}]}, {"seconds": {"a": "b"}}])
def test_what_is_no_result_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        GateResult.from_dict(given)
    assert caught.value.code == "evidence.invalid"


def test_metrics_are_finite_numbers_under_names_that_mlflow_takes() -> None:
    """MLflow: names of at most 250 characters may hold letters, digits, ``_ - . space : /``."""
    tests = bounded(0.5), bounded(0.25, part="class [ant]"), bounded(np.nan, name="none")
    found = result(check("a.b", tests=tests)).metrics
    assert found == {"passed": 0.0, "a.b/the share": 0.5, "a.b/the share/class _ant_": 0.25}
    for name in hostile("x" * 10_000).metrics:
        assert re.fullmatch(r"[A-Za-z0-9_\-. :/]{1,250}", name)
