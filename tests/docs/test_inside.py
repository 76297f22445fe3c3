"""The commands on the page about what a network holds inside run, and its pictures are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import run
from docs import inside

PAGE = (Path(inside.__file__).parent / "inside.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(text)[1:] for text in re.findall(r"```sh\n(onnxplain .*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=[words[2] if words[0] == "visualize" else words[3] for words in COMMANDS]
)
def test_commands_run(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(inside.__file__).parents[1])
    assert run([str(tmp_path / "out") if word == "DIR" else word for word in command]) == 0
    if "DIR" in command:
        assert any((tmp_path / "out").iterdir())


def test_the_picture_of_the_first_layer_is_what_the_code_draws() -> None:
    with Image.open(inside.FOLDER / "first_layer.png") as held:
        kept = np.asarray(held)
    drawn = inside.first_layer()
    assert kept.shape == drawn.shape
    assert (np.abs(kept.astype(int) - drawn) <= 1).mean() > 0.99  # fonts may differ by a shade at their edges
