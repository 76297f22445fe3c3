"""The wheel: everything that a program needs is in it, and it explains a model from another folder.

It is built and installed offline: by the build backend that the ``dev`` extra brings, into a fresh environment that sees the
running one's packages, but neither its copy of onnxplain nor this checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGES = ("analyzer", "graph_rules", "cli")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="borrows packages by symbolic links")


def ran(words: list[Any] | tuple[Any, ...], cwd: Path, **environment: str) -> str:
    """What a program says on stdout; its complaint where it fails."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    clean = {key: value for key, value in os.environ.items() if key not in hidden} | environment
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders behind, and takes what earlier ones left."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    ran([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; what it depends on is borrowed from the running one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    ran([*PIP, "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel], folder)
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(path).iterdir():
            if not entry.name.startswith(("onnxplain", "__editable__", "__pycache__")) and entry.suffix != ".pth":
                (borrowed / entry.name).symlink_to(entry)
    (packages(folder) / "borrowed.pth").write_text(f"{borrowed}\n", encoding="utf-8")
    return folder


def packages(folder: Path) -> Path:
    (found,) = (folder / "env" / "lib").glob("python*/site-packages")
    return found


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        facts = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert held == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {"analyzer/report/report.css", "analyzer/report/report.html.j2"} <= held
    assert {"entry_points.txt", "licenses/LICENSE"} <= facts
    assert f"\nVersion: {VERSION}\n" in metadata


def test_the_wheel_explains_from_another_folder_and_without_its_metadata_too(installed: Path) -> None:
    program, python = installed / "env" / "bin" / "onnxplain", installed / "env" / "bin" / "python"
    where = ran([python, "-c", "import analyzer; print(analyzer.__file__)"], installed).strip()
    assert Path(where).is_relative_to(packages(installed))
    assert ran([program, "--version"], installed) == f"onnxplain {VERSION}\n"
    explained(installed, "with", VERSION)
    (metadata,) = packages(installed).glob("onnxplain-*.dist-info")
    shutil.rmtree(metadata)
    assert ran([program, "--version"], installed) == "onnxplain unknown\n"
    explained(installed, "without", "unknown")


def explained(folder: Path, out: str, version: str) -> None:
    """Explain a sample by a white-box method, its sweep compiled and kept, and by one that only runs the model."""
    program, models = folder / "env" / "bin" / "onnxplain", ROOT / "models"
    words = [
        program,
        "explain",
        models / "digits_cnn.onnx",
        models / "samples" / "digits_3.png",
        "-m",
        "lrp",
        "-m",
        "occlusion",
    ]
    json.loads(ran([*words, "-o", out, "--json"], folder, ONNXPLAIN_CACHE=str(folder / f"cache-{out}")))
    record = json.loads((folder / out / "digits_3.lrp.json").read_text(encoding="utf-8"))
    assert record["versions"]["onnxplain"] == version
    assert list((folder / f"cache-{out}").glob("*.onnx")), "the compiled sweep was not kept"
    page = (folder / out / "report.html").read_text(encoding="utf-8")
    assert "<style" in page
    assert "occlusion" in page
