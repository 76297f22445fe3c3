"""The commands on the page about judging many inputs do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from cli.main import run
from docs.make import HERE

COMMANDS = [
    shlex.split(block.replace("\\\n", " "))[1:]
    for block in re.findall(r"```sh\n(onnxplain .*?)```", (HERE / "evaluate.md").read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("command", COMMANDS, ids=["tables", "choice"])
def test_commands_run(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.loadtxt(HERE.parent / "models" / "samples" / "tumour_rows.csv", delimiter=",", skiprows=1)
    np.savetxt(tmp_path / "rows.csv", np.concatenate([rows * factor for factor in (1, 0.99, 1.01)]), delimiter=",")
    monkeypatch.chdir(HERE.parent)
    words = [str(tmp_path / word) if word == "rows.csv" else word for word in command]
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "pixel-flipping (lower is better)" in out
    assert ("best: -m " in out) == ("--grid" in words)
