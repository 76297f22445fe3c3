"""``onnxplain compare``: what it says and writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from scipy.stats import spearmanr

import analyzer
from tests.analyzer.report.pages import Page, chromium
from tests.cli.conftest import Call, files_in


def changed(path: Path, name: str, by: Any) -> Path:
    """The same network with other numbers in one weight, beside it."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(by(numpy_helper.to_array(tensor)).astype(np.float32), name))
    other = path.with_name(f"other-{name}.onnx")
    onnx.save(proto, other)
    return other


def noisy(value: Any) -> Any:
    return value + 0.4 * np.random.default_rng(5).standard_normal(value.shape)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, two of them in a class's folder."""
    rng = np.random.default_rng(3)
    for at in range(6):
        path = tmp_path / "data" / ("bee" if at < 2 else "cat") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "data"


def test_figures_and_nodes(call: Call, pictures_model: Path, folder: Path) -> None:
    other = changed(pictures_model, "k", noisy)
    ran = call("compare", pictures_model, other, folder, "-m", "gradient", "--nodes", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["inputs"] == 6 and found["files"] == []
    assert {row["id"].rsplit(".")[0] for row in found["rows"]} == {"bee/0", "bee/1", "cat/2", "cat/3", "cat/4", "cat/5"}
    assert [row["label"] for row in found["rows"]] == [1, 1, 2, 2, 2, 2]
    assert found["nodes"]["nodes"][0]["node"] == "conv"
    first, second = analyzer.load(pictures_model), analyzer.load(other)
    for row in found["rows"]:
        path = folder / row["id"]
        x = np.asarray(Image.open(path if path.suffix else f"{path}.png"), np.float32).transpose(2, 0, 1)[None] / 255
        maps = [model.explain(x, "gradient", row["first_class"]).attribution for model in (first, second)]
        want = spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
        assert row["similarity"]["spearman"] == pytest.approx(want, abs=1e-3)


def test_what_is_printed(call: Call, pictures_model: Path, folder: Path) -> None:
    ran = call("compare", pictures_model, changed(pictures_model, "k", noisy), folder, "-m", "gradient", "--nodes")
    assert ran.code == 0, ran.err
    for words in (
        "6 inputs explained by gradient", "same class on", "rank correlation", "Inputs that drift most", "bee/0",
        "Nodes that make explanations move", "nodes_to_exclude=['conv']",
    ):  # fmt: skip
        assert words in ran.out, words


def test_a_folder_of_results(call: Call, pictures_model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = changed(pictures_model, "w", lambda w: np.roll(w, 1, axis=1))
    ran = call("compare", pictures_model, other, folder, "-m", "lrp", "-p", "epsilon=0.1", "--nodes", "-o", out)
    assert ran.code == 0, ran.err
    assert files_in(out) == {"comparison.json", "report.html"}
    held = json.loads((out / "comparison.json").read_text())
    assert held["options"]["epsilon"] == 0.1 and len(held["data_sha256"]) == 64
    page = Page((out / "report.html").read_text())
    assert page.open == [] and not page.of("script")
    text = page.text()
    assert "Where the class changes" in text and "-p epsilon=0.1 --nodes" in text
    assert text.count("lrp of pictures.onnx") == text.count("lrp of other-w.onnx") == 6
    worst = min(held["rows"], key=lambda row: row["similarity"]["spearman"])
    assert f"rank correlation {worst['similarity']['spearman']:.3g}" in text


def test_what_is_shown_of_an_input_is_its_own(call: Call, pictures_model: Path, folder: Path, tmp_path: Path) -> None:
    """The prediction beside a map is that of the input, though inputs are explained together."""
    ran = call(
        "compare", pictures_model, changed(pictures_model, "k", noisy), folder, "-m", "gradient", "-o", tmp_path / "o"
    )
    assert ran.code == 0, ran.err
    text = Page((tmp_path / "o" / "report.html").read_text()).text()
    model = analyzer.load(pictures_model)
    for path in sorted(folder.rglob("*.png")):
        x = np.asarray(Image.open(path), np.float32).transpose(2, 0, 1)[None] / 255
        top = float(model.predict(x)["scores"].max())
        assert f"{top:.4g}" in text, path.name


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(call: Call, pictures_model: Path, folder: Path, tmp_path: Path, width: int) -> None:
    out = tmp_path / "out"
    other = changed(pictures_model, "k", noisy)
    assert call("compare", pictures_model, other, folder, "-m", "gradient", "--nodes", "-o", out).code == 0
    source = (
        (out / "report.html").read_text().replace("<meta http-equiv", "<meta name", 1)
    )  # the page itself runs nothing
    measure = "<script>document.body.dataset.width=document.documentElement.scrollWidth</script></body>"
    (tmp_path / "page.html").write_text(source.replace("</body>", measure))
    got = chromium(tmp_path, f"--window-size={width},900", "--dump-dom", (tmp_path / "page.html").as_uri())
    assert f'data-width="{max(width, 500)}"' in got  # headless windows are no narrower than 500


def test_a_table(call: Call, table_model: Path, rows: Path) -> None:
    other = changed(table_model, "w", lambda w: w + 0.1)
    ran = call("compare", table_model, other, rows, "-m", "gradient-x-input", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["inputs"] == 3
    assert "ssim" not in ran.json["overall"]["figures"]


def test_nothing_to_compare_is_inconclusive(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    ran = call("compare", pictures_model, pictures_model, empty)
    assert (ran.code, "[data.empty]" in ran.error) == (4, True)
    (empty / "a.png").write_text("no picture")
    ran = call("compare", pictures_model, pictures_model, empty, "-o", tmp_path / "out")
    assert (ran.code, "[compare.no_data]" in ran.error) == (4, True)
    assert not (tmp_path / "out").exists()


def test_unreadable_inputs_are_counted(call: Call, pictures_model: Path, folder: Path) -> None:
    (folder / "cat" / "9.png").write_text("no picture")
    ran = call("compare", pictures_model, pictures_model, folder, "-m", "gradient")
    assert ran.code == 0
    assert "1 inputs couldn't be read" in ran.err and "9.png" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["{table}", "{data}"], 2, "compare.inputs"),
        (["{pictures}", "{data}", "-m", "nothing"], 2, "method.unknown"),
        (["{pictures}", "{data}", "-p", "nothing=1"], 2, "params.unknown"),
        (["{pictures}", "missing"], 2, "data.missing"),
        (["missing.onnx", "{data}"], 2, "model.not_found"),
        (["{data}/bee/0.png", "{data}"], 3, "model."),
        (["{pictures}", "{data}", "-o", "{pictures}"], 2, "output.not_a_folder"),
        (["{pictures}"], 2, "usage"),
    ],
)
def test_errors_are_one_line(
    call: Call, pictures_model: Path, table_model: Path, folder: Path, arguments: list[str], code: int, word: str
) -> None:
    filled = [each.format(table=table_model, pictures=pictures_model, data=folder) for each in arguments]
    ran = call("compare", pictures_model, *filled, "--json")
    assert ran.code == code
    assert word in ran.json["error"]["code"]
    assert ran.err.count("\n") == 1
