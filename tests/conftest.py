"""Fixtures that every test may use, and what makes their order free. Not here: anything that only one package needs."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer  # noqa: F401  before any test imports onnxruntime: it turns off telemetry

ROOT = Path(__file__).resolve().parent.parent
#: No test reads or writes the user's own cache; those about the cache name a folder.
os.environ["ONNXPLAIN_CACHE"] = "off"

#: Generators that test modules share among their tests, as they stood when all tests had been collected.
_SHARED: list[tuple[np.random.Generator, Any]] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note where shared generators stand before any test draws from them."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "tests"]
    found = {id(value): value for module in modules for value in vars(module).values()}
    generators = [value for value in found.values() if isinstance(value, np.random.Generator)]
    _SHARED[:] = [(generator, generator.bit_generator.state) for generator in generators]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let every test draw the same numbers whatever ran before it: tests run in an order of chance."""
    for generator, state in _SHARED:
        generator.bit_generator.state = state
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for the libraries that we compare with
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how a failing order is repeated; pytest's own line is hidden by ``-q``."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"the same order again: --randomly-seed={config.getoption('randomly_seed')}")


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
