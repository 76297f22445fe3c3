"""``onnxplain explain``: what is written, what the record holds, what is said. Not here: what is refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import analyzer
from analyzer.data.reading import read_all
from tests.cli.conftest import LABELS, Call, files_in, save


def test_files_are_what_is_promised(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    ran = call("explain", pictures_model, picture, "-m", "grad-cam", "-m", "occlusion", "-o", out)
    assert ran.code == 0, ran.err
    stems = [f"photo.{method}.{suffix}" for method in ("grad-cam", "occlusion") for suffix in ("npz", "json", "png")]
    assert files_in(out) == {*stems, "report.html"}
    assert ran.out.rstrip().endswith(f"report: {out / 'report.html'}")
    assert (out / "photo.grad-cam.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert all(word in page for word in ("photo", "grad-cam", "occlusion"))
    assert "onnxplain explain" in page


def test_arrays_are_those_of_the_library(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    call("explain", pictures_model, picture, "-m", "grad-cam", "-m", "gradient", "-o", tmp_path / "o")
    model = analyzer.load(pictures_model)
    for method in ("grad-cam", "gradient"):
        with np.load(tmp_path / "o" / f"photo.{method}.npz") as arrays:
            assert set(arrays.files) == {"attribution", "raw", "input"}
            assert arrays["input"].shape == (1, 3, 8, 8)
            again = model.explain(arrays["input"], method=method)
            np.testing.assert_array_equal(arrays["attribution"], again.attribution)
            np.testing.assert_array_equal(arrays["raw"], again.raw)


def test_the_record_reproduces_the_explanation(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    ran = call(
        "explain", pictures_model, picture, "-m", "integrated-gradients", "-p", "steps=7", "-t", "bee",
        "--seed", "5", "--device", "cpu", "-o", tmp_path / "o",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "o" / "photo.integrated-gradients.json").read_text())
    assert record["model"]["sha256"] == hashlib.sha256(pictures_model.read_bytes()).hexdigest()
    assert record["sources"][0]["sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert {"python", "onnx", "numpy", "torch", "onnxplain"} <= set(record["versions"])
    assert record["method"] == "integrated-gradients"
    assert record["params"]["steps"] == 7
    assert record["params"]["rule"] == "gausslegendre"
    assert record["request"] == {"target": "bee", "score": "logit"}
    assert record["target"] == ["bee (1)"]
    assert record["classes"] == [1]
    assert record["seed"] == 5
    assert record["device"] == "cpu"
    assert set(record["seconds"]) == {"method", "total"}
    assert record["parity"]["error"] <= record["parity"]["tolerance"]
    assert record["preprocess"]["layout"] == "NCHW"
    assert record["attribution"] == {"x": {"shape": [1, 3, 8, 8], "dtype": "float32"}}
    with np.load(tmp_path / "o" / "photo.integrated-gradients.npz") as arrays:
        total = arrays["attribution"].sum(dtype=np.float64)
        scores = analyzer.load(pictures_model).predict(arrays["input"])["scores"]
    assert record["score"][0] == pytest.approx(scores[0, 1], rel=1e-5)
    assert record["completeness"]["total"][0] == pytest.approx(total, rel=1e-5)


def test_json_is_one_document_with_the_files(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    ran = call("explain", pictures_model, picture, "-m", "saliency", "-m", "occlusion", "-o", out, "--json")
    document = ran.json
    assert set(document) == {"report", "warnings", "explanations"}
    assert [e["method"] for e in document["explanations"]] == ["saliency", "occlusion"]
    for e in document["explanations"]:
        written = json.loads((out / f"photo.{e['method']}.json").read_text())
        assert e == {"input": "photo", "files": e["files"], **written}
        assert [Path(f).name for f in e["files"]] == [f"photo.{e['method']}.{s}" for s in ("npz", "json", "png")]
        assert all(Path(f).is_file() for f in e["files"])
    assert document["explanations"][0]["parity"] is not None
    assert "parity" not in document["explanations"][1]  # occlusion runs the file itself


def test_an_assumed_preprocessing_is_warned_of_once(
    call: Call, pictures_model: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.png").write_bytes(picture.read_bytes())
    arguments = ["explain", pictures_model, picture, tmp_path / "other.png", "-m", "gradient", "-m", "saliency"]
    ran = call(*arguments, "-o", tmp_path / "o")
    assert ran.error == "onnxplain: warning: photo and 1 more: no preprocessing given: assumed RGB in [0, 1]"
    assert "warning" not in ran.out
    assert call(*arguments, "-o", tmp_path / "quiet", "-q").err == ""
    assert call(*arguments, "-o", tmp_path / "said", "--preprocess", "unit").err == ""


def test_a_note_of_several_methods_is_said_once(call: Call, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 3]}, {"y": ["n", 2, 3]}, {})
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    ran = call("explain", model, tmp_path / "x.npy", "-m", "gradient", "-m", "saliency", "-o", tmp_path / "o")
    assert ran.error.startswith("onnxplain: warning: x, gradient and 1 more: the output has rank 3")


def test_inputs_of_one_stem_get_apart(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    paths = []
    for folder, name in (("a", "photo"), ("b", "photo"), ("c", "photo-2")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / f"{name}.png")
        paths[-1].write_bytes(picture.read_bytes())
    ran = call("explain", pictures_model, *paths, "-m", "gradient", "-o", tmp_path / "o", "--json")
    assert [e["input"] for e in ran.json["explanations"]] == ["photo", "photo-2", "photo-2-2"]
    assert len(list((tmp_path / "o").glob("*.npz"))) == 3


def test_a_stem_like_a_method_keeps_its_files(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    path = picture.rename(tmp_path / "x.saliency.png")
    ran = call("explain", pictures_model, path, "-m", "saliency", "-m", "gradient", "-o", tmp_path / "o", "--json")
    assert [len(e["files"]) for e in ran.json["explanations"]] == [3, 3]
    assert all("gradient" in file for file in ran.json["explanations"][1]["files"])


def test_parameters_reach_those_that_take_them(call: Call, table_model: Path, rows: Path, tmp_path: Path) -> None:
    ran = call(
        "explain", table_model, rows, "-m", "lime", "-m", "occlusion", "-p", "fill=0", "-p", "occlusion.fill=1.5",
        "-p", "samples=30", "-o", tmp_path / "o", "--json",
    )  # fmt: skip
    lime, occlusion = (e["params"] for e in ran.json["explanations"])
    assert (lime["fill"], lime["samples"]) == (0, 30)
    assert occlusion["fill"] == 1.5


@pytest.mark.parametrize(
    ("text", "value"),
    [("[1,2]", [1, 2]), ("1,2", [1, 2]), ("none", None), ("TRUE", True), ("-1e-3", -1e-3), ("mean", "mean")],
)
def test_values_of_parameters(text: str, value: object) -> None:
    from analyzer.jobs.arguments import parse_params

    assert parse_params([f"fill={text}"], ["occlusion"]) == {"occlusion": {"fill": value}}


def test_all_samples_of_a_batch_are_shown(call: Call, table_model: Path, rows: Path, tmp_path: Path) -> None:
    ran = call("explain", table_model, rows, "-m", "gradient", "-o", tmp_path / "o")
    x = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [0, 0, 1, -1]], np.float64)
    z = x @ np.array([1, 2, 0, -3.0])
    for index, score in enumerate(z):
        winner, probability = int(score < 0), 1 / (1 + np.exp(-2 * abs(score)))
        assert f"rows [{index}]: {winner} {probability:.3f}, " in ran.out
        assert re.search(rf"gradient +class {winner} +{abs(score):.4f} logit", ran.out)


def test_a_long_batch_says_how_much_is_shown(call: Call, table_model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.ones((9, 4), np.float32))
    ran = call("explain", table_model, tmp_path / "many.npy", "-m", "occlusion", "-o", tmp_path / "o")
    assert "many: 8 of 9 samples shown" in ran.out
    assert "many [7]" in ran.out
    assert "many [8]" not in ran.out


def test_several_inputs_by_name_and_in_one_file(call: Call, pair_model: Path, tmp_path: Path) -> None:
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4, 5]], np.float32)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    np.savez(tmp_path / "both.npz", a=a, b=b)
    named = [f"a={tmp_path / 'a.npy'}", f"b={tmp_path / 'b.npy'}"]
    for given, stem in ((named, "a"), ([tmp_path / "both.npz"], "both")):
        ran = call("explain", pair_model, *given, "-m", "gradient-x-input", "-o", tmp_path / stem)
        assert ran.code == 0, ran.err
        assert "value -30.000" in ran.out
        with np.load(tmp_path / stem / f"{stem}.gradient-x-input.npz") as arrays:
            np.testing.assert_array_equal(arrays["attribution"], 2 * a)
            np.testing.assert_array_equal(arrays["attribution/b"], -3 * b)
            np.testing.assert_array_equal(arrays["input/b"], b)


def test_a_file_whose_name_holds_an_equals_sign(table_model: Path, rows: Path) -> None:
    odd = rows.rename(rows.with_name("k=v.csv"))
    assert [name for name, _, _ in read_all(analyzer.load(table_model), [str(odd)])] == ["k=v"]


def test_the_report_holds_the_command_that_made_it(call: Call, table_model: Path, rows: Path, tmp_path: Path) -> None:
    options = ["-m", "occlusion", "-p", "fill=2", "-t", "1", "--seed", "3"]
    call("explain", table_model, rows, *options, "-o", tmp_path / "o")
    page = (tmp_path / "o" / "report.html").read_text()
    assert f"onnxplain explain {table_model} {rows} {' '.join(options)}" in page


def test_labels_from_a_file_and_from_the_model(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("eins\nzwei\ndrei\n")
    arguments = ["explain", pictures_model, picture, "-m", "gradient", "-t", "1", "-o", tmp_path / "o", "--json"]
    assert call(*arguments).json["explanations"][0]["target"] == [f"{LABELS[1]} (1)"]
    named = call(*arguments, "--force", "--labels", tmp_path / "names.txt").json["explanations"][0]
    assert named["target"] == ["zwei (1)"]


def test_too_few_labels_are_warned_of(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("eins\nzwei\n")
    arguments = ["explain", pictures_model, picture, "-m", "gradient", "--preprocess", "unit", "-o", tmp_path / "o"]
    ran = call(*arguments, "--labels", tmp_path / "names.txt", "-t", "0")
    assert "2 names for 3 classes" in ran.error


def test_sample_models_explain_their_samples(call: Call, sample_models: Path, tmp_path: Path) -> None:
    if not (sample_models / "shapes_cnn.onnx").exists():
        pytest.skip("the sample models aren't here")
    star = sample_models / "samples" / "shapes_star.png"
    ran = call("explain", sample_models / "shapes_cnn.onnx", star, "-m", "lrp", "-o", tmp_path / "o")
    assert ran.code == 0
    (said,) = ran.err.splitlines()  # the preprocessing lies beside the model: nothing is assumed
    assert "went into biases" in said
    assert re.search(r"lrp +star \(3\)", ran.out)


# --- several targets, inner values -----------------------------------------------------------------------------------

MODELS = Path(__file__).resolve().parents[2] / "models"
CNN, STAR = MODELS / "shapes_cnn.onnx", MODELS / "samples" / "shapes_star.png"


def test_several_targets_and_methods(call: Call, tmp_path: Path) -> None:
    ran = call("explain", CNN, STAR, "-m", "lrp", "-m", "gradient", "-t", "top1", "-t", "top2", "-t", "contrast:3,1",
              "-o", tmp_path, "--json")  # fmt: skip
    assert ran.code == 0
    entries = json.loads(ran.out)["explanations"]
    names = ["contrast-3-1", "top1", "top2"]
    expected = sorted(f"{STAR.stem}.{method}.{name}.npz" for method in ("gradient", "lrp") for name in names)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == expected
    assert [entry["request"]["target"] for entry in entries] == ["top1", "top2", "contrast:3,1"] * 2
    for entry in entries:
        folder = tmp_path / f"alone-{entry['method']}-{entry['request']['target']}"
        single = call("explain", CNN, STAR, "-m", entry["method"], "-t", entry["request"]["target"], "-o", folder)
        assert single.code == 0
        together = np.load(next(file for file in entry["files"] if file.endswith(".npz")))["attribution"]
        apart = np.load(folder / f"{STAR.stem}.{entry['method']}.npz")["attribution"]
        np.testing.assert_allclose(together, apart, rtol=0, atol=1e-5 * np.abs(apart).max())


def test_relevance_at_an_inner_node(call: Call, tmp_path: Path) -> None:
    ran = call("explain", CNN, STAR, "-m", "lrp", "--at", "node_relu_4", "-o", tmp_path)
    assert ran.code == 0
    assert np.load(tmp_path / f"{STAR.stem}.lrp.npz")["attribution"].shape == (1, 32, 16, 16)
    assert json.loads((tmp_path / f"{STAR.stem}.lrp.json").read_text())["request"]["at"] == "node_relu_4"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["-m", "lrp", "--at", "node_relu_44"], "did you mean node_relu_4?"),
     (["-m", "occlusion", "--at", "node_relu_4"], "occlusion can't be given at an inner value"),
     (["-m", "lrp", "-t", "node_relu_44[:,1]"], "the model has no output 'node_relu_44'")],
)  # fmt: skip
def test_a_wrong_inner_node_is_one_line(call: Call, tmp_path: Path, words: list[str], message: str) -> None:
    ran = call("explain", CNN, STAR, *words, "-o", tmp_path / "out")
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
