"""Versions are told where there is something that says them, and nothing fails where there isn't."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.compiler import cache
from analyzer.explain import pipeline
from analyzer.versions import version


@pytest.fixture
def no_metadata(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program that was bundled without any package's metadata."""

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    cached = (cache.code_version, pipeline._versions)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_an_installed_package() -> None:
    assert version("numpy") == np.__version__


def test_an_absent_package() -> None:
    assert version("no-such-package-here") == "unknown"
    assert version("no-such-package-here", "not installed") == "not installed"


@pytest.mark.parametrize("broken", [None, KeyError("Version")])
def test_metadata_without_a_version(monkeypatch: pytest.MonkeyPatch, broken: Exception | None) -> None:
    def damaged(name: str) -> str | None:
        if broken is not None:
            raise broken
        return None

    monkeypatch.setattr(importlib.metadata, "version", damaged)
    assert version("numpy") == "unknown"


def test_without_metadata_everything_that_tells_versions_works(no_metadata: None) -> None:
    assert analyzer.__version__ == "unknown"
    assert len(cache.code_version()) == 64
    told = pipeline._versions()
    assert told.pop("python").startswith("3.")
    assert told == dict.fromkeys(("onnxplain", "onnx", "numpy"), "unknown")
