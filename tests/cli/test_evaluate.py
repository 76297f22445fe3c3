"""``evaluate`` and ``metrics``: what is printed and written is what the API gives, and wrong use is one line with its code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import analyzer
from analyzer.evaluation import registry
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Measure
from tests.cli.conftest import Call, files_in
from tests.common.models import cnn

JUDGE = ("-m", "gradient", "--metric", "sparseness")
FLIP = ("--metric", "pixel-flipping", "-p", "pixel-flipping.steps=4")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of ten pictures of three classes, and one file that is none."""
    rng = np.random.default_rng(3)
    for at in range(10):
        path = tmp_path / "pictures" / ("ant", "bee", "cat")[at % 3] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def inside() -> Iterator[str]:
    """A metric that needs masks."""
    said = dict.fromkeys(("range", "cost", "blind_spot", "source"), "")

    @registry.metric("test-inside", "localisation", needs="mask", higher_is_better=True, **said)
    def share(context: MetricContext) -> Measure:
        return Measure.of([float(context.masks["x"][at].mean()) for at in range(context.batch)])

    yield "test-inside"
    del registry._METRICS["test-inside"]


def many_rows(tmp_path: Path, count: int = 24) -> Path:
    rows = np.random.default_rng(0).standard_normal((count, 4)).round(3)
    path = tmp_path / "many.csv"
    path.write_text("a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in rows))
    return path


def test_the_table_has_what_the_api_gives(call: Call, pictures_model: Path, pictures: Path) -> None:
    ran = call(
        "evaluate", pictures_model, pictures, "-m", "gradient", "-m", "occlusion", *FLIP, "--seed", "2", "--json"
    )
    assert ran.code == 0, ran.err
    model = analyzer.load(pictures_model)
    paths = sorted(pictures.rglob("*.png"))
    assert ran.json["inputs"] == [path.relative_to(pictures).as_posix() for path in paths]
    assert ran.json["model"] == str(pictures_model)
    for result in ran.json["results"]:
        values, evaluations = [], 0
        for at, path in enumerate(paths):
            x = np.asarray(Image.open(path), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
            e = model.explain(x, result["method"])
            one = analyzer.evaluate(model, x, e, "pixel-flipping", steps=4, seed=2, start=at)
            values.append(one.value)
            evaluations += one.n_evaluations
        np.testing.assert_allclose(result["values"], values, rtol=1e-4, atol=1e-5)
        assert result["mean"] == pytest.approx(np.mean(values), rel=1e-4, abs=1e-5)
        assert result["low"] < result["mean"] < result["high"]
        assert (result["n_valid"], result["n_nan"], result["n_evaluations"]) == (10, 0, evaluations)
        assert (result["direction"], result["higher_is_better"]) == ("lower is better", False)
        assert np.shape(result["curves"]["morf"]["y"]) == (10, 5)
    assert [result["method"] for result in ran.json["results"]] == ["gradient", "occlusion"]
    printed = call("evaluate", pictures_model, pictures, "-m", "gradient", *FLIP, "--seed", "2")
    mean, low, high = (f"{ran.json['results'][0][key]:.4g}" for key in ("mean", "low", "high"))
    cost = ran.json["results"][0]["n_evaluations"]
    assert re.search(
        rf"gradient +{re.escape(mean)} +\[{re.escape(low)}, {re.escape(high)}\] +10 +{cost} +0", printed.out
    )
    assert "pixel-flipping (lower is better)" in printed.out


@pytest.mark.parametrize("form", ["folder", "files", "manifest", "npz"])
def test_inputs_in_every_form(call: Call, pictures_model: Path, pictures: Path, tmp_path: Path, form: str) -> None:
    paths = sorted(pictures.rglob("*.png"))
    given: list[Path] = [pictures]
    if form == "files":
        given = paths
    elif form == "manifest":
        given = [tmp_path / "list.csv"]
        given[0].write_text("path\n" + "\n".join(str(path) for path in paths))
    elif form == "npz":
        given = [tmp_path / "d.npz"]
        x = [np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / np.float32(255) for path in paths]
        np.savez(given[0], x=np.stack(x))
    ran = call("evaluate", pictures_model, *given, *JUDGE, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["inputs"]) == 10
    model = analyzer.load(pictures_model)
    x = np.asarray(Image.open(paths[3]), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    one = analyzer.evaluate(model, x, model.explain(x, "gradient"), "sparseness")
    assert ran.json["results"][0]["values"][3] == pytest.approx(one.value, rel=1e-5)


def test_rows_of_a_table_and_inputs_by_name(
    call: Call, table_model: Path, rows: Path, pair_model: Path, tmp_path: Path
) -> None:
    ran = call("evaluate", table_model, rows, *JUDGE, "--json")
    assert ran.json["inputs"] == ["rows.csv[0]", "rows.csv[1]", "rows.csv[2]"]
    np.save(tmp_path / "a.npy", np.ones((5, 2), np.float32))
    np.save(tmp_path / "b.npy", np.ones((5, 3), np.float32))
    ran = call("evaluate", pair_model, f"a={tmp_path / 'a.npy'}", f"b={tmp_path / 'b.npy'}", *JUDGE, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["inputs"]) == 5


@pytest.mark.parametrize("preset", ["unit", "imagenet"])
def test_channels_last_and_a_fixed_batch_change_nothing(
    call: Call, pictures: Path, tmp_path: Path, preset: str
) -> None:
    results = []
    for name, proto in (("plain", cnn()), ("last", cnn(nhwc=True)), ("fixed", cnn(batch=4)), ("one", cnn(batch=1))):
        onnx.save(proto, tmp_path / f"{name}.onnx")
        ran = call("evaluate", tmp_path / f"{name}.onnx", pictures, "-m", "lrp", *FLIP, "--preprocess", preset,
                   "-o", tmp_path / name, "--json")  # fmt: skip
        assert ran.code == 0, ran.err
        results.append(ran.json["results"][0]["values"])
        assert "pixel-flipping.webp" in files_in(tmp_path / name)
    for found in results[1:]:
        np.testing.assert_allclose(found, results[0], rtol=1e-4, atol=1e-5)


def test_masks_drawing_and_what_has_none(
    call: Call, pictures_model: Path, pictures: Path, tmp_path: Path, inside: str
) -> None:
    for at in range(5):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[: at + 1] = 255
        path = tmp_path / "masks" / ("ant", "bee", "cat")[at % 3] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    judged = ("evaluate", pictures_model, pictures, "-m", "gradient", "--metric", inside, "--mask", tmp_path / "masks")
    ran = call(*judged, "--json")
    (result,) = ran.json["results"]
    known = {name: value for name, value in zip(ran.json["inputs"], result["values"], strict=True) if value is not None}
    assert known == {f"{('ant', 'bee', 'cat')[at % 3]}/{at}.png": pytest.approx((at + 1) / 8) for at in range(5)}
    assert (result["n_nan"], result["reasons"]) == (5, {"no mask": 5})
    assert "gradient: no value for 5 of 10: no mask" in call(*judged).out
    drawn = call(*judged, "--samples", 6, "--stratify", "label", "--json").json["inputs"]
    assert sorted(name.split("/")[0] for name in drawn) == ["ant"] * 2 + ["bee"] * 2 + ["cat"] * 2


def test_what_was_assumed_of_the_inputs_is_said_once(call: Call, pictures_model: Path, pictures: Path) -> None:
    ran = call("evaluate", pictures_model, pictures, *JUDGE)
    assert ran.err.count("no preprocessing given: assumed RGB in [0, 1]") == 1


def test_what_cannot_be_read_is_counted(call: Call, pictures_model: Path, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"")
    ran = call("evaluate", pictures_model, pictures, *JUDGE)
    assert ran.code == 0
    assert "warning: 1 of 11 inputs can't be read; broken.png:" in ran.err
    assert "gradient: no value for 1 of 11: it can't be read [data.image_unreadable]" in ran.out
    assert list(call("evaluate", pictures_model, pictures, *JUDGE, "--json").json["unreadable"]) == ["broken.png"]


def test_the_folder_holds_the_document_a_page_and_curves(
    call: Call, pictures_model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    ran = call("evaluate", pictures_model, pictures, *JUDGE, *FLIP, "-o", out, "--json")
    assert ran.code == 0, ran.err
    assert files_in(out) == {
        "evaluation.json", "evaluation.html", "pixel-flipping.morf.png", "pixel-flipping.webp",
    }  # fmt: skip
    assert sorted(ran.json["files"]) == sorted(str(out / name) for name in files_in(out))
    document = json.loads((out / "evaluation.json").read_text())
    assert {**document, "files": ran.json["files"]} == ran.json
    page = (out / "evaluation.html").read_text()
    assert "sparseness" in page
    assert shlex.join(["onnxplain", "evaluate", str(pictures_model), str(pictures), "-m", "gradient"]) in page
    with Image.open(out / "pixel-flipping.morf.png") as image:
        assert image.size[0] > 300
    with Image.open(out / "pixel-flipping.webp") as image:
        assert image.n_frames == 5  # four steps behind the whole picture
    assert page.count('type="radio"') == 5


def test_nothing_is_replaced_unasked(call: Call, table_model: Path, rows: Path, tmp_path: Path) -> None:
    judged = ("evaluate", table_model, rows, *JUDGE, "-o", tmp_path / "o")
    assert call(*judged).code == 0
    before = (tmp_path / "o" / "evaluation.json").read_bytes()
    ran = call(*judged, "--seed", 1)
    assert ran.code == 2
    assert ran.error.endswith("[output.exists]")
    assert (tmp_path / "o" / "evaluation.json").read_bytes() == before
    assert call(*judged, "--seed", 1, "--force").code == 0
    assert json.loads((tmp_path / "o" / "evaluation.json").read_text())["seed"] == 1


def test_the_command_in_the_document_gives_the_same_again(call: Call, table_model: Path, tmp_path: Path) -> None:
    given = ("evaluate", table_model, many_rows(tmp_path), "--grid", "method=gradient,gradient-x-input", *FLIP,
             "--samples", "20", "--seed", "4", "--held-out", "0.4", "-t", "0", "--score", "probability")  # fmt: skip
    first = call(*given, "--json")
    assert first.code == 0, first.err
    again = call(*shlex.split(first.json["command"])[1:], "--json")
    assert again.json == first.json


def test_a_grid_is_ranked_confirmed_and_gives_ready_options(call: Call, table_model: Path, tmp_path: Path) -> None:
    """The scores are linear in the columns but for a softmax that is taken off: gradient-x-input is exact."""
    grid = (
        "--grid",
        "method=gradient,gradient-x-input,lrp",
        "--grid",
        "composite=epsilon,w2",
        "--grid",
        "epsilon=1e-9",
    )
    given = ("evaluate", table_model, many_rows(tmp_path), *grid, "--metric", "pixel-flipping", "-p", "fill=0")
    ran = call(*given)
    assert ran.code == 0, ran.err
    assert re.search(r"lrp composite=w2 epsilon=1e-09 +\d", ran.out)
    assert re.search(r"held out, 12 inputs: pixel-flipping .* of the second .*confirmed", ran.out)
    best = next(line for line in ran.out.splitlines() if line.startswith("best: "))
    selection = call(*given, "--json").json["selection"]
    assert best == f"best: {selection['winner']['options']}"
    assert selection["winner"]["method"] in ("gradient-x-input", "lrp")
    assert [each["rank"] for each in selection["ranking"]] == sorted(each["rank"] for each in selection["ranking"])
    assert {each["name"].split()[0] for each in selection["ranking"][2:]} == {"gradient", "lrp"}
    options = shlex.split(selection["winner"]["options"])
    assert call("explain", table_model, many_rows(tmp_path), *options, "-o", tmp_path / "o").code == 0


def test_a_combination_that_is_impossible_is_in_the_table(call: Call, table_model: Path, tmp_path: Path) -> None:
    rows = many_rows(tmp_path)
    ran = call(
        "evaluate",
        table_model,
        rows,
        "--grid",
        "method=gradient,gradient-x-input,grad-cam",
        "--metric",
        "pixel-flipping",
    )
    assert ran.code == 0, ran.err
    assert re.search(r"grad-cam +refused", ran.out)
    assert re.search(r"grad-cam: refused: \w+", ran.out)
    assert re.search(r"grad-cam has no rank: \w+", ran.out)
    ran = call("evaluate", table_model, rows, "--grid", "method=grad-cam,layer-cam", "--metric", "pixel-flipping")
    assert ran.code == 3
    assert ran.error


def test_parameters_go_to_whoever_they_name(call: Call, table_model: Path, rows: Path) -> None:
    judged = ("evaluate", table_model, rows, "-m", "integrated-gradients", "--metric", "pixel-flipping", "--json")
    found = call(*judged, "-p", "integrated-gradients.steps=7", "-p", "pixel-flipping.steps=2", "-p", "order=lerf").json
    (result,) = found["results"]
    assert (result["params"], result["metric_params"]["steps"], result["metric_params"]["order"]) == (
        {"steps": 7},
        2,
        "lerf",
    )
    ran = call(*judged[:-1], "-p", "steps=7")
    assert ran.code == 2
    assert "write integrated-gradients.steps=… or pixel-flipping.steps=…" in ran.error
    assert ran.error.endswith("[params.ambiguous]")


CASES: list[tuple[list[str], str, int, str]] = [
    (["-m", "gradient", "--metric", "pixel-fliping"], "metric.unknown", 2, "did you mean pixel-flipping?"),
    (["-m", "gradint", "--metric", "sparseness"], "method.unknown", 2, "did you mean gradient?"),
    (["-m", "gradient"], "usage", 2, "--metric"),
    (["--metric", "sparseness"], "evaluation.methods", 2, "no method is chosen"),
    (["-m", "gradient", "--metric", "pixel-flipping", "-p", "stepz=3"], "params.unknown", 2, "did you mean steps?"),
    (["-m", "gradient", "--metric", "pixel-flipping", "-p", "pixel-flipping.stepz=3"], "params.unknown", 2, "steps"),
    (["-m", "gradient", "--metric", "pixel-flipping", "-p", "steps=0"], "params.invalid", 2, "steps=0"),
    (["-m", "gradient", "--metric", "sparseness", "-t", "0", "-t", "1"], "evaluation.targets", 2, "2 targets"),
    (["-m", "gradient", "--metric", "sparseness", "--stratify", "site"], "data.stratify", 2, "'site'"),
    (["-m", "gradient", "--metric", "sparseness", "--mask", "nowhere"], "data.missing", 2, "nowhere"),
    (["-m", "gradient", "--metric", "sparseness", "--grid", "gamma"], "params.syntax", 2, "KEY=VALUE,VALUE"),
    (["-m", "lrp", "--metric", "pixel-flipping", "--grid", "gamma=0,,1"], "params.syntax", 2, "empty value"),
    (["-m", "lrp", "--metric", "pixel-flipping", "--grid", "gamma=0", "--grid", "gamma=1"], "params.syntax", 2, "twice"),
    (["-m", "lrp", "--metric", "pixel-flipping", "--grid", "gama=0,1"], "params.unknown", 2, "did you mean gamma?"),
    (["-m", "lrp", "--metric", "sparseness", "--grid", "gamma=0,1"], "selection.direction", 2, "only describes"),
    (["-m", "lrp", "--metric", "pixel-flipping", "--grid", "gamma=0"], "selection.candidates", 2, "nothing to choose"),
    (["-m", "lrp", "--metric", "pixel-flipping", "--grid", "gamma=0,1"], "selection.too_few", 4, "at least 8"),
    (["-m", "gradient", "--metric", "sparseness", "-o", "rows.csv"], "output.not_a_folder", 2, "rows.csv is a file"),
    (["-m", "gradient", "--metric", "sparseness", "--input", "y"], "inputs.unknown", 2, "'y'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "exit_code", "said"), CASES)
def test_wrong_use_is_one_line(
    call: Call, table_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str,
    exit_code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(rows.parent)
    before = files_in(rows.parent)
    ran = call("evaluate", table_model, rows, *arguments)
    assert ran.code == exit_code, ran.err
    assert said in ran.error
    assert ran.error.endswith(f"[{code}]")
    assert ran.out == ""
    assert files_in(rows.parent) == before


def test_data_that_is_no_data(call: Call, pictures_model: Path, pictures: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for name in "ab":
        (tmp_path / "broken" / f"{name}.png").write_bytes(b"x")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "small.png")
    cases: list[tuple[list[Any], str, int]] = [
        ([tmp_path / "empty", *JUDGE], "data.empty", 4),
        ([tmp_path / "broken", *JUDGE], "data.unreadable", 4),
        ([tmp_path / "broken" / "a.png", *JUDGE], "data.image_unreadable", 3),
        ([tmp_path / "gone", *JUDGE], "data.missing", 2),
        ([pictures, "-m", "gradient", "--metric", inside], "metric.mask", 2),
        ([pictures, "-m", "gradient", "--metric", inside, "--mask", tmp_path / "small.png"], "data.unreadable", 4),
    ]
    for arguments, code, exit_code in cases:
        ran = call("evaluate", pictures_model, *arguments)
        assert (ran.code, ran.error.rpartition(" ")[2]) == (exit_code, f"[{code}]"), ran.err


def test_no_value_at_all_is_inconclusive(call: Call, table_model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", np.zeros((3, 4), np.float32))
    ran = call("evaluate", table_model, tmp_path / "zeros.npy", "-m", "gradient-x-input", "--metric", "sparseness")
    assert ran.code == 4
    assert "none of 3 inputs has a value of sparseness: the map is zero everywhere" in ran.error
    assert ran.error.endswith("[evaluation.no_value]")
    ran = call("evaluate", table_model, tmp_path / "zeros.npy", "-m", "gradient-x-input", "-m", "gradient", *JUDGE[2:])
    assert ran.code == 0
    assert re.search(r"gradient-x-input +none +0 +3 ", ran.out)


def test_metrics_are_listed_and_shown(call: Call) -> None:
    ran = call("metrics")
    assert ran.code == 0
    assert re.search(r"pixel-flipping +faithfulness +lower is better +\w+", ran.out)
    document = call("metrics", "--json").json
    assert list(document) == list(analyzer.metrics())
    one = call("metrics", "pixel-flipping")
    assert "what it can't tell: " in one.out
    assert "--metric pixel-flipping -p pixel-flipping.steps=..." in one.out
    assert "no parameters" in call("metrics", "sparseness").out
    assert call("metrics", "pixel-flipping", "--json").json == document["pixel-flipping"]
    wrong = call("metrics", "sparsness")
    assert wrong.code == 2
    assert "did you mean sparseness?" in wrong.error
