"""The page on the gate: its example is a policy that can run, its snippets do what they say."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from analyzer.gate.lint import lint
from analyzer.gate.policy import ReportSection, parse_policy, schema
from docs.make import HERE
from tests.conftest import ROOT

TEXT = (HERE / "gate.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everything that the full example names."""
    for name in ("model.onnx", "model_prev.onnx"):
        shutil.copy(ROOT / "models" / "shapes_cnn.onnx", tmp_path / name)
    shutil.copy(ROOT / "models" / "shapes_cnn.preprocess.toml", tmp_path / "preprocess.toml")
    rows = ["path,label"]
    (tmp_path / "masks").mkdir()
    mask = Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), 27))
    mask.save(tmp_path / "watermark.png")
    for at in range(60):
        shutil.copy(ROOT / "models" / "samples" / "shapes_star.png", tmp_path / f"{at}.png")
        mask.save(tmp_path / "masks" / f"{at}.png")
        rows.append(f"{at}.png,star")
    (tmp_path / "val.csv").write_text("\n".join(rows))
    return tmp_path


def test_the_full_example_can_run(folder: Path) -> None:
    (example,) = re.findall(r"<!-- full example -->\n```toml\n(.*?)```", TEXT, re.DOTALL)
    (folder / "gate.toml").write_text(example.replace("samples = 200\n", ""))
    found = lint(folder / "gate.toml")
    assert len(found.checks) == 16
    assert found.inputs == 60
    (folder / "masks" / "0.png").unlink()
    shutil.rmtree(folder / "masks")
    with pytest.raises(Exception, match=r"data\.masks"):
        lint(folder / "gate.toml")


def test_the_example_is_valid_by_the_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    (example,) = re.findall(r"<!-- full example -->\n```toml\n(.*?)```", TEXT, re.DOTALL)
    published = json.loads((HERE / "gate.schema.json").read_text(encoding="utf-8"))
    assert published == schema()
    jsonschema.Draft202012Validator(published).validate(tomllib.loads(example))


@pytest.mark.parametrize("name", ["shapes_cnn", "shapes_cheater", "shapes_int8"])
def test_the_demo_has_policies_that_can_be_read(name: str) -> None:
    given = tomllib.loads((ROOT / "models" / "gates" / f"{name}.toml").read_text(encoding="utf-8"))
    assert parse_policy(given).report.dir == name


def test_snippets_name_files_that_are_written() -> None:
    from analyzer.gate.evidence import FILES

    named = set(re.findall(r"gate-out/([\w.-]+)", TEXT))
    assert named <= set(FILES)
    assert set(FILES) <= set(re.findall(r"`([\w.-]+)`", TEXT))
    assert ReportSection().dir == "gate-out"


def test_the_action_takes_what_the_snippet_gives() -> None:
    action = yaml.safe_load((ROOT / ".github/actions/onnxplain-gate/action.yml").read_text(encoding="utf-8"))
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml"))
    step: dict[str, Any] = github["jobs"]["gate"]["steps"][-1]
    assert step["uses"].startswith("OWNER/onnxplain/.github/actions/onnxplain-gate@")
    assert set(step["with"]) <= set(action["inputs"])
    assert gitlab["gate"]["artifacts"]["when"] == "always"


def test_the_signing_snippet_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("securesystemslib.dsse")
    (snippet,) = (text for text in blocks("python") if "securesystemslib" in text)
    (tmp_path / "gate-out").mkdir()
    (tmp_path / "gate-out" / "statement.intoto.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "gate.md", "exec"), {})
