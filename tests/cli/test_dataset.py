"""``dataset MODEL DATA top-inputs``: what is printed and written is what the API gives; wrong use is one line with its code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import analyzer
from tests.analyzer.report.pages import Page, chromium
from tests.cli.conftest import Call, files_in

WANTED = ("top-inputs", "--layer", "relu", "--channel", "1", "-k", "3")
FILES = {"top_inputs.json", "top_inputs.html", "top_inputs.ledger.json"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve pictures of three classes, and a file that is none."""
    rng = np.random.default_rng(3)
    for at in range(12):
        path = tmp_path / "pictures" / ("ant", "bee", "cat")[at % 3] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (tmp_path / "pictures" / "broken.png").write_bytes(b"nothing")
    return tmp_path / "pictures"


def test_help_fits_a_screen(call: Call) -> None:
    ran = call("dataset", "m.onnx", "data", "top-inputs", "--help")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 24
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_files_have_what_the_api_gives(call: Call, pictures_model: Path, pictures: Path, tmp_path: Path) -> None:
    ran = call("dataset", pictures_model, pictures, *WANTED, "-o", tmp_path / "out", "--json")
    assert ran.code == 0
    assert "1 of 13 inputs can't be read: broken.png" in ran.err
    assert files_in(tmp_path / "out") == FILES
    written = json.loads((tmp_path / "out" / "top_inputs.json").read_text())
    found = analyzer.load(pictures_model).top_inputs(pictures, "relu", channel=1, k=3).to_dict()
    for name in ("top", "bottom", "samples", "unreadable", "caution"):
        assert ran.json[name] == written[name] == json.loads(json.dumps(found[name]))
    assert all(len(each["crop"]) == 2 for each in written["top"])
    plain = call("dataset", pictures_model, pictures, *WANTED, "-q")
    assert plain.code == 0
    assert [each["id"] in plain.out for each in written["top"]] == [True] * 3
    assert "not the feature itself" in plain.out


def test_the_page_shows_crops_and_relevance_and_loads_nothing(
    call: Call, pictures_model: Path, pictures: Path, tmp_path: Path
) -> None:
    assert call("dataset", pictures_model, pictures, *WANTED, "-o", tmp_path / "out", "-q").code == 0
    source = (tmp_path / "out" / "top_inputs.html").read_text(encoding="utf-8")
    page = Page(source)
    assert not page.open
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.of("img"))
    shown = [text for tag, text in page.texts if tag == "figcaption"]
    assert shown == ["what the unit sees", "input", "relevance by gradient-x-input"] * 6
    assert "not the feature itself" in page.text()
    assert not page.of("script")
    read = chromium(tmp_path, "--dump-dom", (tmp_path / "out" / "top_inputs.html").as_uri())
    assert "Channel 1 of relu" in read


def test_inputs_that_are_no_pictures_are_drawn_as_what_they_are(call: Call, table_model: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 4)).round(3)
    (tmp_path / "rows.csv").write_text("a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in rows))
    ran = call(
        "dataset", table_model, tmp_path / "rows.csv", "top-inputs", "--class", "1", "-k", "2", "-o", tmp_path / "out"
    )
    assert ran.code == 0
    page = Page((tmp_path / "out" / "top_inputs.html").read_text(encoding="utf-8"))
    assert len(page.of("img")) == 4


def test_a_finished_run_is_replaced_only_by_force_and_without_another_pass(
    call: Call, pictures_model: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ("dataset", pictures_model, pictures, *WANTED, "-o", tmp_path / "out", "-q")
    assert call(*words).code == 0
    before = (tmp_path / "out" / "top_inputs.json").read_bytes()
    again = call(*words)
    assert again.code == 2
    assert "[output.exists]" in again.error
    assert call(*words, "--force").code == 0
    assert (tmp_path / "out" / "top_inputs.json").read_bytes() == before
    other = call(*words, "--force", "-k", "4")
    assert other.code == 2
    assert "[ledger.other]" in other.error


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--layer", "relux"], 2, "(did you mean relu?)"),
        ([], 2, "name either a layer or a class"),
        (["--layer", "relu", "--unit", "a"], 2, "[unit.syntax]"),
        (["--layer", "relu", "--channel", "99"], 2, "has no channel 99"),
        (["--class", "nobody"], 2, "[target.unknown_label]"),
        (["--class", "0", "-m", "lpr"], 2, "(did you mean lrp?)"),
        (["--class", "0", "-k", "0"], 2, "0 is not in the range"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(
    call: Call, pictures_model: Path, pictures: Path, words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    ran = call("dataset", pictures_model, pictures, "top-inputs", *words, "-o", tmp_path / "out")
    assert ran.code == code
    assert said in ran.error
    assert not (tmp_path / "out").exists()


def test_data_that_is_missing_or_empty_has_its_own_exit_code(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert call("dataset", pictures_model, tmp_path / "none", "top-inputs", "--class", "0").code == 2
    assert call("dataset", pictures_model, tmp_path / "empty", "top-inputs", "--class", "0").code == 4
