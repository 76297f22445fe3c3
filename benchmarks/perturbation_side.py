"""One side of ``benchmarks.perturbation``, seen from the process that asks it.

Belongs here: starting it, a question and its answer. Not here: what it does (``perturbation_worker``).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_START = "from benchmarks.perturbation_worker import main; main()"


class Side:
    """A process that answers requests in turn."""

    def __init__(self, python: str | Path, name: str) -> None:
        self._process = subprocess.Popen(
            [str(python), "-c", _START, name], cwd=ROOT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, case: str, **more: Any) -> dict[str, Any]:
        """An answer, with ``each``: CPU seconds per evaluation."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"case": case, **more}) + "\n")
        self._process.stdin.flush()
        got: dict[str, Any] = json.loads(self._process.stdout.readline())
        if got.get("evaluations") and "seconds" in got:
            got["each"] = got["seconds"] / got["evaluations"]
        return got

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
