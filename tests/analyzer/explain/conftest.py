"""What the tests of explanations share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
