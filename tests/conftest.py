"""Fixtures that every test may use. Not here: anything that only one package needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: No test reads or writes the user's own cache; those about the cache name a folder.
os.environ["ONNXPLAIN_CACHE"] = "off"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and reference results that lies beside the checkout, where there is one."""
    folder = ROOT.parent / "shared"
    if not (folder / "DESIGN.md").exists():
        pytest.skip("needs the reference data folder ../shared, which is absent here")
    return folder


@pytest.fixture(scope="session")
def sample_models() -> Path:
    """The project's own sample models."""
    return ROOT / "models"
