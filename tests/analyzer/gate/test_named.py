"""A path that a check names must be there before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.errors import UsageError
from analyzer.gate.check import Check, FilePath
from analyzer.gate.named import paths_of
from analyzer.gate.policy import parse_policy
from analyzer.gate.run import run_gate
from tests.conftest import ROOT


class Looking(Check):
    """A check with paths; without a kind no policy can name it."""

    masks: FilePath | None = None
    folders: FilePath = "here"
    name: str = "no path"


def test_paths_are_those_of_the_fields_that_are_marked() -> None:
    assert paths_of(Looking(id="a")) == {"folders": "here"}
    assert paths_of(Looking(id="a", masks="m")) == {"masks": "m", "folders": "here"}


def test_a_path_that_leads_nowhere_is_told_with_check_and_key(tmp_path: Path) -> None:
    given = {"schema": 1, "model": {"path": str(ROOT / "models" / "absent.onnx")}, "data": {"path": "."},
             "check": [{"id": "finite", "kind": "finite"}]}  # fmt: skip
    policy = parse_policy(given).model_copy(update={"check": [Looking(id="no-tag", masks="nowhere.png", folders=".")]})
    with pytest.raises(UsageError, match=r"check 'no-tag': masks: .*nowhere\.png: no such file"):
        run_gate(policy, folder=tmp_path)
