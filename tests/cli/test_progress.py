"""The progress bar: how far, of how many, time left; only on a terminal."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest

from cli.output import Options, progress


class Terminal(io.StringIO):
    """A stderr that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replaces stderr."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    return found


def options(quiet: bool = False) -> Options:
    """As without any flag."""
    return Options(json=False, quiet=quiet, verbose=False, color=True, seed=0, device="cpu", threads=0)


def frames(terminal: Terminal) -> list[str]:
    """What the bar said, without colours and movements of the cursor."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text)
    return [line.strip() for line in re.split(r"[\r\n]+", re.sub("[━╸╺ ]+", " ", text)) if line.strip()]


class Clock:
    """A clock that only advances when it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """The bar drawn only on request, on a clock of ours."""
    from rich import progress as rich_progress

    original = rich_progress.Progress.__init__

    def quiet(self: Any, *columns: Any, **how: Any) -> None:
        original(self, *columns, **how, auto_refresh=False, get_time=clock)

    monkeypatch.setattr(rich_progress.Progress, "__init__", quiet)


def test_it_shows_evaluations_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, terminal = Clock(), on_terminal(monkeypatch)
    opened(monkeypatch, clock)
    bars = []
    from rich.progress import Progress

    enter = Progress.__enter__
    monkeypatch.setattr(Progress, "__enter__", lambda self: bars.append(self) or enter(self))
    with progress(options(), "explaining") as advance:
        for done in range(0, 101, 10):
            clock.now += 2
            advance(done, 1100)
        bars[0].refresh()
        assert any(
            re.search(r"explaining .*100/1100 evaluations, time left 0:03:20", line) for line in frames(terminal)
        )
        advance(110, 200)  # it will stop early
        bars[0].refresh()
        assert any("110/200" in line for line in frames(terminal))
        for done in range(0, 21, 10):  # the next one, ten times as fast
            clock.now += 0.2
            advance(done, 110)
        bars[0].refresh()
        assert any(re.search(r"20/110 evaluations, time left 0:00:02", line) for line in frames(terminal))


def test_it_is_silent_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    with progress(options(), "explaining") as advance:
        advance(1, 2)
    assert plain.getvalue() == ""
    watching = Terminal()
    monkeypatch.setattr(sys, "stderr", watching)
    with progress(options(quiet=True), "explaining") as advance:
        advance(1, 2)
    assert watching.getvalue() == ""
