"""Real classifiers on real pictures: the preprocessing gives the predictions published with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.inputs import LoadedInput, Preprocess, load_preprocess, read_input, read_labels

ort = pytest.importorskip("onnxruntime")


def run(
    shared: Path, model: str, picture: str, preprocess: Preprocess | str | None
) -> tuple[np.ndarray[Any, Any], LoadedInput]:
    """The first output, flat, of a model on a picture."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    path = shared / "data" / "models" / f"{model}.onnx"
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    loaded = read_input(shared / "data" / "images" / picture, spec.name, spec.type, spec.shape, preprocess)
    return session.run(None, {spec.name: loaded.array})[0].astype(np.float64).ravel(), loaded


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, Any]:
    return {entry["name"]: entry["verified"] for entry in json.loads((shared / "data" / "models.json").read_text())}


def test_squeezenet_sees_an_egyptian_cat(shared: Path):
    scores, loaded = run(shared, "squeezenet1_0_fp32_cast", "skimage_chelsea.png", "imagenet-caffe")
    labels = read_labels(shared / "data" / "images" / "imagenet_classes.txt")
    assert scores.argmax() == 285 == labels.index("egyptian cat") and labels.check(scores.size) is None
    assert loaded.picture is not None and loaded.picture.shape == (224, 224, 3)


@pytest.mark.parametrize("model", ["squeezenet1_0_fp32_cast", "squeezenet1_0_fp16"])
def test_squeezenet_probabilities(shared: Path, expected: dict[str, Any], model: str):
    labels = read_labels(shared / "data" / "images" / "imagenet_classes.txt")
    seen = 0
    for key, top in expected[model]["photos"].items():
        name = key.rsplit("/", 1)[-1].replace("dog_cat.jfif", "dog_cat.jpg")
        name = name if "." in name else f"{name}.png"
        if not (shared / "data" / "images" / name).exists():
            continue
        scores, _ = run(shared, model, name, "imagenet-caffe")
        order = np.argsort(-scores)[:3]
        assert [labels.name(int(i)) for i in order] == [label for label, _ in top], name
        np.testing.assert_allclose(scores[order], [p for _, p in top], atol=1.5e-3, err_msg=name)
        seen += 1
    assert seen >= 8


def test_shufflenet(shared: Path, expected: dict[str, Any]):
    labels = read_labels(shared / "data" / "images" / "imagenet_classes.txt")
    scores, _ = run(shared, "shufflenet_v2_int8", "skimage_chelsea.png", "imagenet")
    assert [labels.name(int(i)) for i in np.argsort(-scores)[:3]] == expected["shufflenet_v2_int8"]["chelsea"]


def test_leafsnap_with_the_assumed_preprocessing(shared: Path, expected: dict[str, Any]):
    labels = read_labels(shared / "data" / "images" / "leafsnap_classes.csv")
    scores, loaded = run(shared, "dianna_leafsnap", "leafsnap_example_acer_rubrum.jpg", None)
    assert np.argsort(-scores)[:3].tolist() == expected["dianna_leafsnap"]["top3"]
    assert labels.name(3) == "acer_rubrum" and labels.index("acer rubrum") == 3
    assert loaded.notes == ("no preprocessing given: assumed RGB in [0, 1]",)


@pytest.mark.parametrize("picture", ["skimage_astronaut.png", "both.png"])
def test_face_detector(shared: Path, expected: dict[str, Any], picture: str):
    values, loaded = run(shared, "ultraface_rfb320", picture, load_preprocess({"mean": 127, "std": 128}))
    assert loaded.array.shape == (1, 3, 240, 320)
    wanted = expected["ultraface_rfb320"][f"data_photos/{picture}"]["max_score"]
    assert values.reshape(-1, 2)[:, 1].max() == pytest.approx(wanted, abs=1e-4)


def test_text_direction_with_a_free_size(shared: Path):
    scores, _ = run(
        shared, "ppocr_cls", "text_cls.jpg", Preprocess(color="BGR", resize=(48, 192), scale=1 / 127.5, mean=1)
    )
    np.testing.assert_allclose(scores, [0, 1], atol=1e-4)


def test_detector_with_a_letterbox(shared: Path, expected: dict[str, Any]):
    values, _ = run(
        shared, "yolox_nano", "bus.jpg", Preprocess(color="BGR", letterbox=114, letterbox_at="top-left", scale=1)
    )
    boxes = values.reshape(-1, 85)
    best = (boxes[:, 4:5] * boxes[:, 5:]).max(axis=0)
    wanted = {label: score for label, score, _ in reversed(expected["yolox_nano"]["bus.jpg"])}
    assert best[0] == pytest.approx(wanted["person"], abs=0.01) and best[5] == pytest.approx(wanted["bus"], abs=0.01)


@pytest.mark.parametrize(
    ("model", "preset"), [("mnist_cntk", "raw"), ("nni_model_cnn", "unit"), ("dianna_mnist", "raw")]
)
def test_digits(shared: Path, tmp_path: Path, model: str, preset: str):
    from PIL import Image

    scores, loaded = run(shared, model, "digit0.jpg", preset)
    assert scores.argmax() == 0 and loaded.array.shape == (1, 1, 28, 28)
    digits = np.load(shared / "data" / "mnist" / "t10k_first_2000.npz")
    path = shared / "data" / "models" / f"{model}.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    chosen = [i for i in range(100) if model != "dianna_mnist" or digits["labels"][i] < 2]
    right = 0
    for index in chosen:
        Image.fromarray(digits["images"][index]).save(tmp_path / "digit.png")
        x = read_input(tmp_path / "digit.png", spec.name, spec.type, spec.shape, preset).array
        right += int(session.run(None, {spec.name: x})[0].argmax() == digits["labels"][index])
    assert right / len(chosen) > 0.97


def test_series_files(shared: Path):
    folder = shared / "data" / "series"
    sound = read_input(folder / "speech.wav", "input", "tensor(float)", [0, 0])
    assert sound.record["sample_rate"] == 16000 and 0.05 < np.abs(sound.array).max() <= 1
    season = read_input(folder / "weather_data.npy", "input_3:0", "tensor(float)", ["unk", 28, 1])
    np.testing.assert_allclose(season.array[0, :5, 0], [8.1, 8.7, 9.6, 9.4, 7.4], rtol=1e-6)
    coffee = read_input(
        folder / "coffee_test.csv", "float_input", "tensor(float)", [0, 286], columns=list(range(1, 287))
    )
    assert coffee.array.shape == (28, 286) and coffee.kind == "table"
