"""Rules on the command line: ``--rule`` and ``--rules`` of explain and compile, ``inspect --rules``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import analyzer
from tests.cli.conftest import Call, files_in, save

TABLE = 'composite = "epsilon"\n\n[rules]\nconvolution = "zplus"\n"Gemm@depth>0.5" = "flat"\n'


@pytest.fixture
def workspace(tmp_path: Path, pictures_model: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules.toml").write_text(TABLE)
    (tmp_path / "open.toml").write_text('composite = "epsilon\n')
    (tmp_path / "key.toml").write_text('compsite = "epsilon"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raw(folder: str, method: str = "lrp") -> np.ndarray:
    with np.load(Path(folder) / f"photo.{method}.npz") as read:
        return np.asarray(read["raw"])


# --- explain -----------------------------------------------------------------------------------------------------


def test_rules_reach_the_method_and_the_record(call: Call, workspace: Path) -> None:
    rules = ["--rule", "Conv@depth<=0.5=gamma:0.5,mixing", "--rule", "linear=epsilon:0.1"]
    assert call("explain", "pictures.onnx", "photo.png", "-m", "lrp", *rules, "-o", "out").code == 0
    record = json.loads((workspace / "out" / "photo.lrp.json").read_text())
    table = {"Conv@depth<=0.5": "gamma:0.5,mixing", "linear": "epsilon:0.1"}
    assert record["params"]["rules"] == table
    assert record["overrides"] == table
    with np.load("out/photo.lrp.npz") as read:
        again = analyzer.load("pictures.onnx").explain(read["input"], method="lrp", rules=table)
    np.testing.assert_allclose(raw("out"), again.raw, rtol=1e-6, atol=1e-9)
    assert call("explain", "pictures.onnx", "photo.png", "-m", "lrp", "-o", "plain").code == 0
    assert not np.allclose(raw("out"), raw("plain"))


def test_a_table_that_rebuilds_a_composite_gives_its_map(call: Call, workspace: Path) -> None:
    zplus = ["-p", "composite=epsilon", "--rule", "convolution=zplus"]
    for folder, more in (("built-in", ["-p", "composite=epsilon-plus"]), ("rebuilt", zplus)):
        assert call("explain", "pictures.onnx", "photo.png", "-m", "lrp", *more, "-o", folder).code == 0
    assert np.array_equal(raw("rebuilt"), raw("built-in"))


@pytest.mark.parametrize("how", [["--rules", "rules.toml"], ["--rule", "rules.toml"], ["-p", "rules=rules.toml"]])
def test_a_file_gives_the_same_as_its_parts(call: Call, workspace: Path, how: list[str]) -> None:
    parts = ["-p", "composite=epsilon", "--rule", "convolution=zplus", "--rule", "Gemm@depth>0.5=flat"]
    assert call("explain", "pictures.onnx", "photo.png", "-m", "lrp", *how, "-o", "file").code == 0
    assert call("explain", "pictures.onnx", "photo.png", "-m", "lrp", *parts, "-o", "parts").code == 0
    assert np.array_equal(raw("file"), raw("parts"))
    file, given = (json.loads(Path(f"{name}/photo.lrp.json").read_text())["params"] for name in ("file", "parts"))
    assert file == given


def test_rules_leave_other_methods_alone(call: Call, workspace: Path) -> None:
    arguments = ["-m", "lrp", "-m", "gradient", "--rule", "Conv=flat", "-o", "out"]
    assert call("explain", "pictures.onnx", "photo.png", *arguments).code == 0
    assert json.loads(Path("out/photo.gradient.json").read_text())["params"] == {}
    assert "--rule Conv=flat" in Path("out/report.html").read_text()


WRONG = [
    (["--rule", "Conv"], "data.missing", "Conv"),
    (["--rule", "Conv="], "params.syntax", "KEY=RULE"),
    (["--rule", "Conv=gama"], "params.invalid", "did you mean gamma["),
    (["--rule", "Conv=gamma:-1"], "params.invalid", "at least 0"),
    (["--rule", "Conv=alpha-beta:2,2"], "params.invalid", "alpha - beta must be 1"),
    (["--rule", "Cnov=gamma"], "params.invalid", "did you mean Conv?"),
    (["--rule", "Conv@depth>0.9=gamma"], "params.invalid", "'Conv' is at depth 0.5"),
    (["--rule", "Conv@depth>9=gamma"], "params.invalid", "no depth"),
    (["--rule", "Conv=flat", "--rule", "Conv=w2"], "params.syntax", "two rules"),
    (["--rules", "no.toml"], "data.missing", "no.toml"),
    (["--rules", "open.toml"], "config.rules", "line 1"),
    (["--rules", "key.toml"], "config.rules", "did you mean composite?"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG)
@pytest.mark.parametrize("command", ["explain", "compile", "inspect"])
def test_wrong_rules_are_one_line_and_leave_nothing(
    call: Call, workspace: Path, command: str, arguments: list[str], code: str, message: str
) -> None:
    before = files_in(workspace)
    words = {"explain": ["photo.png", "-m", "lrp", "-o", "out"], "compile": ["-m", "lrp", "-o", "out.onnx"],
             "inspect": []}[command]  # fmt: skip
    if command == "inspect":  # where --rules is the listing itself
        arguments = ["--rule" if word == "--rules" else word for word in arguments]
    elif command == "compile":
        words += ["--example", "one.npy"]
        np.save("one.npy", np.ones((1, 3, 8, 8), np.float32))
        before |= {"one.npy"}
    ran = call(command, "pictures.onnx", *words, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.error.endswith(f"[{code}]")
    assert message in ran.error
    assert files_in(workspace) == before


def test_rules_without_a_method_that_takes_them(call: Call, workspace: Path) -> None:
    ran = call("explain", "pictures.onnx", "photo.png", "-m", "occlusion", "--rule", "Conv=flat")
    assert ran.code == 2
    assert "-m lrp" in ran.error


# --- compile -----------------------------------------------------------------------------------------------------


def test_a_compiled_explanation_has_the_rules(call: Call, workspace: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert call("compile", "pictures.onnx", "-m", "lrp", "--rules", "rules.toml", "-o", "out.onnx").code == 0
    (found,) = onnxruntime.InferenceSession("out.onnx").run(["relevance"], {"x": x})
    want = analyzer.load("pictures.onnx").explain(
        x, method="lrp", composite="epsilon", rules={"convolution": "zplus", "Gemm": "flat"}, backend="torch"
    )
    np.testing.assert_allclose(found, want.raw, rtol=1e-4, atol=1e-6)


# --- inspect -----------------------------------------------------------------------------------------------------


def test_the_listing_names_every_node_with_its_rule(call: Call, workspace: Path) -> None:
    rows = call("inspect", "pictures.onnx", "--rules", "--json").json["rules"]
    assert [(row["node"], row["operator"], row["kind"], row["depth"], row["rule"]) for row in rows] == [
        ("conv", "Conv", "convolution", 0.5, "zplus"), ("relu", "Relu", "relu", 0.5, "pass"),
        ("pool", "GlobalAveragePool", "average", 0.5, "epsilon:1e-06"), ("flatten", "Flatten", "movement", 0.5,
        "gradient"), ("head", "Gemm", "linear", 1.0, "epsilon:1e-06"),
    ]  # fmt: skip
    assert not any(row["override"] for row in rows)


def test_the_listing_for_people(call: Call, workspace: Path) -> None:
    ran = call("inspect", "pictures.onnx", "--rules", "--composite", "epsilon", "--rule", "Conv=gamma:0.5")
    assert (ran.code, ran.err) == (0, "")
    lines = [text.split() for text in ran.out.splitlines() if text.strip()]
    assert lines[0] == ["node", "operator", "kind", "depth", "rule", "given", "by"]
    assert ["conv", "Conv", "convolution", "0.50", "gamma:0.5", "Conv"] in lines
    assert not any(line[0] == "flatten" for line in lines)
    assert ["flatten", "Flatten", "movement", "0.50", "gradient"] in [
        text.split() for text in call("inspect", "pictures.onnx", "--rules", "-v").out.splitlines()
    ]


def test_a_rule_that_is_used_nowhere_is_warned_of(call: Call, workspace: Path) -> None:
    rules = [
        "--rule",
        "first=flat",
        "--rule",
        "Conv=gamma",
        "--rule",
        "softmax=pass",
    ]  # the first layer is the one Conv
    ran = call("inspect", "pictures.onnx", "--rules", *rules)
    assert ran.code == 0
    assert [text.split("'")[1] for text in ran.err.splitlines()] == ["Conv", "softmax"]
    assert call("inspect", "pictures.onnx", "--rules", *rules, "--json").json["unused"] == ["Conv", "softmax"]
    assert call("inspect", "pictures.onnx", "--rules", *rules, "-q").err == ""


def test_nodes_without_a_rule_are_listed_with_the_remedy(call: Call, workspace: Path) -> None:
    weights = {"w": np.diag([1, 2, 3]).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="layer"),
             helper.make_node("Det", ["h"], ["y"], name="determinant")]  # fmt: skip
    model = save(workspace / "det.onnx", nodes, {"x": ["n", 3, 3]}, {"y": ["n"]}, weights)
    ran = call("inspect", model, "--rules")
    assert ran.code == 0
    assert "none: --rule 'determinant=epsilon'" in ran.out
    assert "lrp would refuse the model" in ran.error
    assert "none" not in call("inspect", model, "--rules", "--rule", "determinant=epsilon").out


def test_any_option_about_rules_asks_for_the_listing(call: Call, workspace: Path) -> None:
    for more in (["--composite", "gamma"], ["--rule", "Conv=gamma"], ["-p", "composite=gamma"], ["-p", "gamma=0.25"]):
        rows = call("inspect", "pictures.onnx", *more, "--json").json["rules"]
        assert rows[0]["rule"] == ("zplus" if more[1] == "gamma=0.25" else "gamma:0.25")


def test_the_listing_on_a_given_input(call: Call, workspace: Path) -> None:
    rows = call("inspect", "pictures.onnx", "--rules", "--input", "photo.png", "--json").json["rules"]
    assert rows == call("inspect", "pictures.onnx", "--rules", "--json").json["rules"]
    ran = call("inspect", "pictures.onnx", "--rules", "--input", "photo.png", "--input", "photo.png")
    assert ran.code == 2
    assert ran.error.endswith("[data.inputs]")
    assert call("inspect", "pictures.onnx", "--rules", "--input", "no.png").code == 2
