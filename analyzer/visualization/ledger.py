"""A ledger: how far a run over a data set came, so that it goes on where it was cut off.

Belongs here: reading, checking and writing the file. Not here: what is noted (``top_inputs``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analyzer.errors import UsageError
from analyzer.files import write_atomically

#: Seconds between two writes.
EVERY = 2.0


class Ledger:
    """One run's ledger.

    Parameters
    ----------
    path
        The file; None keeps nothing.
    about
        JSON-ready: everything that the run's result depends on, by what it is called.

    Raises
    ------
    UsageError
        ``ledger.other`` where the file is about something else, ``ledger.unreadable`` where it isn't a ledger.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path, self._about = path, json.loads(json.dumps(about))
        self._written = time.monotonic()
        #: What an earlier run noted last; None where there was none.
        self.noted: dict[str, Any] | None = None
        if path is not None and path.exists():
            self.noted = self._read(path)

    def _read(self, path: Path) -> dict[str, Any]:
        start_over = "choose another folder, or delete that file to start over"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            about, noted = dict(held["about"]), dict(held["noted"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError("ledger.unreadable", f"{path} is no ledger of a run", start_over) from None
        for name, value in self._about.items():
            if about.get(name) != value:
                raise UsageError("ledger.other", f"{path} is about a run with another {name}", start_over)
        return noted

    def note(self, state: Mapping[str, Any], *, now: bool = False) -> None:
        """Write down how far the run is, every few seconds or ``now``."""
        if self._path is None or (not now and time.monotonic() - self._written < EVERY):
            return
        text = json.dumps({"about": self._about, "noted": state})
        write_atomically(self._path, lambda draft: draft.write_text(text, encoding="utf-8"))
        self._written = time.monotonic()
