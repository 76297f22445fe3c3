"""``visualize``: what is printed and written is what the API gives, and wrong use is one line with its code."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import analyzer
from cli.main import COMMANDS
from tests.analyzer.visualization.models import nested
from tests.cli.conftest import Call, files_in


@pytest.fixture
def tensors(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A model with a branch, a file with two samples for it, and what it holds."""
    onnx.save(nested(), tmp_path / "nested.onnx")
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "nested.onnx", tmp_path / "x.npy", x


@pytest.mark.parametrize("what", ["activations", "filters", "receptive-fields", "maximize", "dream"])
def test_help_of_what_is_shown_fits_a_screen(call: Call, what: str) -> None:
    assert "visualize" in COMMANDS
    ran = call("visualize", "m.onnx", what, "--help")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 24
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_dump_holds_every_value_and_pictures(
    call: Call, pictures_model: Path, picture: Path, tmp_path: Path
) -> None:
    ran = call("visualize", pictures_model, "activations", picture, "--dump", tmp_path / "dump", "-q", "--json")
    assert ran.code == 0
    (found,) = ran.json["inputs"]
    assert [each["node"] for each in found["layers"]][:2] == ["conv", "relu"]
    assert files_in(tmp_path / "dump") == {Path(name).name for name in found["files"]}
    with np.load(tmp_path / "dump" / f"{picture.stem}.activations.npz") as values:
        assert set(values.files) == {each["value"] for each in found["layers"]}
        for each in found["layers"]:
            assert list(values[each["value"]].shape) == each["shape"]
            assert values[each["value"]].max() == pytest.approx(each["max"])
        np.testing.assert_array_equal(values["r"], np.maximum(values["c"], 0))
    assert f"{picture.stem}.c.png" in files_in(tmp_path / "dump")


def test_only_the_named_layers_are_shown_and_drawn(
    call: Call, tensors: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    model, file, x = tensors
    ran = call("visualize", model, "activations", file, "--layer", "If", "--layer", "sign", "--dump", tmp_path / "dump")
    assert ran.code == 0
    assert "picked" in ran.out
    assert "total" not in ran.out
    assert files_in(tmp_path / "dump") == {"x.activations.npz", "x.picked.png", "x.positive.png"}
    with np.load(tmp_path / "dump" / "x.activations.npz") as values:
        found = analyzer.load(model).activations(x, "choice")["picked"]
        np.testing.assert_array_equal(values["picked"], found)


def test_what_is_out_of_reach_or_no_tensor_is_named(call: Call, tensors: tuple[Path, Path, np.ndarray]) -> None:
    model, file, _ = tensors
    ran = call("visualize", model, "activations", file)
    assert ran.code == 0
    assert "2 values in bodies of branches, loops and functions can't be given out" in ran.err
    assert "pieces: a sequence or map, no tensor; left out" in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--layer", "lsat"], 2, "(did you mean last?)"),
        (["--layer", "inner_relu"], 2, "lies inside If node 'choice'"),
        (["--dump", "x.npy"], 2, "is a file"),
        (["--layout", "NQ"], 2, "[layout."),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(
    call: Call, tensors: tuple[Path, Path, np.ndarray], words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    model, file, _ = tensors
    before = files_in(tmp_path)
    ran = call(
        "visualize", model, "activations", file, *[tmp_path / word if word == "x.npy" else word for word in words]
    )
    assert ran.code == code
    assert said in ran.error
    assert files_in(tmp_path) == before


def test_an_input_that_is_missing_or_does_not_fit_is_one_line(
    call: Call, tensors: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    model, _, _ = tensors
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5), np.float32))
    assert call("visualize", model, "activations", tmp_path / "none.npy").code == 2
    ran = call("visualize", model, "activations", tmp_path / "wrong.npy", "--json")
    assert ran.code == 3
    assert ran.json["error"]["code"] == "data.bad_shape"


def test_filters_are_written_as_numbers_and_pictures(call: Call, pictures_model: Path, tmp_path: Path) -> None:
    ran = call("visualize", pictures_model, "filters", "-o", tmp_path / "out", "--json")
    assert ran.code == 0
    assert files_in(tmp_path / "out") == {"filters.npz", *(Path(each["file"]).name for each in ran.json["layers"])}
    kernel = next(t for t in onnx.load(pictures_model).graph.initializer if t.name == "k")
    with np.load(tmp_path / "out" / "filters.npz") as values:
        np.testing.assert_array_equal(values["c"], onnx.numpy_helper.to_array(kernel))
    plain = call("visualize", pictures_model, "filters", "--layer", "conv", "-o", tmp_path / "one")
    assert plain.code == 0
    assert files_in(tmp_path / "one") == {"filters.npz", "c.filters.png"}
    assert "filters in colours" in plain.out
    wrong = call("visualize", pictures_model, "filters", "--layer", "relu", "-o", tmp_path / "none")
    assert wrong.code == 2
    assert "[layer.no_filters]" in wrong.error
    assert not (tmp_path / "none").exists()


def test_receptive_fields_are_listed(call: Call, pictures_model: Path, tensors: tuple[Path, Path, np.ndarray]) -> None:
    found = {
        each["node"]: each for each in call("visualize", pictures_model, "receptive-fields", "--json").json["layers"]
    }
    assert found["conv"]["size"] == [3, 3]
    assert found["conv"]["offset"] == [-1, -1]
    assert found["pool"]["whole_input"]
    plain = call("visualize", pictures_model, "receptive-fields", "--layer", "conv")
    assert "3 × 3" in plain.out
    wrong = call("visualize", tensors[0], "receptive-fields")
    assert wrong.code == 3
    assert "[input.no_places]" in wrong.error


def test_maximised_inputs_are_written_with_a_record_that_asks_for_them_again(
    call: Call, pictures_model: Path, tmp_path: Path
) -> None:
    def ask(folder: str, *more: object) -> None:
        words = ("maximize", "-t", "0", "-t", "1", "-p", "steps=5", "-p", "l2=0.01", "-k", "2", "--animate", "gif")
        ran = call("visualize", pictures_model, *words, "-o", tmp_path / folder, "-q", *more)
        assert ran.code == 0, ran.err

    ask("one")
    assert files_in(tmp_path / "one") == {"maximized.json", "maximized.npz", "maximized.png", "maximized.gif"}
    record = json.loads((tmp_path / "one" / "maximized.json").read_text())
    again = call(*shlex.split(record["command"])[1:], "-o", tmp_path / "two", "-q", "--json")
    assert again.code == 0
    assert [each["scores"] for each in again.json["results"]] == [each["scores"] for each in record["results"]]
    with np.load(tmp_path / "one" / "maximized.npz") as one, np.load(tmp_path / "two" / "maximized.npz") as two:
        assert set(one.files) == {"x_0", "scores_0", "history_0", "x_1", "scores_1", "history_1"}
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name])
        assert len(one["x_0"]) == 2
    with Image.open(tmp_path / "one" / "maximized.gif") as way:
        assert getattr(way, "n_frames", 1) > 1
    refused = call("visualize", pictures_model, "maximize", "-t", "0", "-o", tmp_path / "one")
    assert refused.code == 2
    assert "output.exists" in refused.error


def test_a_photo_is_dreamt_on_at_its_own_size(call: Call, pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    words = ("dream", picture, "--layer", "conv", "-p", "octaves=2", "-p", "steps=2", "--animate", "webp")
    ran = call("visualize", pictures_model, *words, "-o", tmp_path / "dream", "-q", "--json")
    assert ran.code == 0, ran.err
    stem = f"{picture.stem}.dream"
    assert files_in(tmp_path / "dream") == {f"{stem}.png", f"{stem}.json", f"{stem}.webp"}
    with Image.open(tmp_path / "dream" / f"{stem}.png") as made, Image.open(picture) as given:
        assert made.size == given.size
    assert len(ran.json["scores"]) == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-p", "steps"), "params.syntax"),
        (("-p", "bounds=1"), "params.invalid"),
        (("-p", "stepz=3"), "params.unknown"),
        (("--layer", "conv", "--unit", "a"), "unit.syntax"),
        ((), "maximize.no_target"),
    ],
)
def test_wrong_words_write_nothing(
    call: Call, pictures_model: Path, tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    target = () if not words or words[0] == "--layer" else ("-t", "0")
    ran = call("visualize", pictures_model, "maximize", *target, *words, "-o", tmp_path / "none")
    assert ran.code == 2
    assert code in ran.error
    assert not (tmp_path / "none").exists()
