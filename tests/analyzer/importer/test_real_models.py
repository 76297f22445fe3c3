"""Real models of many producers on real inputs: their known predictions come out of the trace too.

Every case holds the trace against onnxruntime and the prediction against what is known of the model.
"""

from __future__ import annotations

import csv
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analyzer
from analyzer.inputs import read_input, read_labels
from analyzer.model import Model


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


def open_model(data: Path, name: str, **more: Any) -> Model:
    return analyzer.load(data / "models" / f"{name}.onnx", "cpu", **more)


def traced(model: Model, feed: Any, tolerance: float = 1e-3) -> dict[str, np.ndarray]:
    """The torch backend's outputs, held against onnxruntime's."""
    got, expected = model.predict(feed, backend="torch"), model.predict(feed)
    for name, reference in expected.items():
        if name == "label":  # two classes of a forest may tie to the last bit, and runtimes sum trees in any order
            ranked = np.sort(expected["probabilities"], axis=1)
            tied = ranked[:, -1] - ranked[:, -2] <= 1e-6
            assert (got[name] == reference)[~tied].all()
            continue
        error = np.abs(got[name].astype(np.float64) - reference).max() / max(np.abs(reference).max(), 1e-9)
        assert error <= tolerance, (name, error)
    return got


def picture(model: Model, path: Path, preprocess: Any = None) -> np.ndarray:
    name, spec = next(iter(model.inputs.items()))
    return read_input(path, name, spec.dtype, spec.shape, preprocess or model.preprocess).array


def only(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return next(iter(outputs.values()))


@pytest.mark.parametrize(("name", "tolerance"), [("squeezenet1_0_fp32_cast", 1e-3), ("squeezenet1_0_fp16", 1e-2)])
def test_squeezenet(data: Path, name: str, tolerance: float) -> None:
    model = open_model(data, name, preprocess="imagenet-caffe")
    labels = read_labels(data / "images" / "imagenet_classes.txt")
    known = json.loads((data / "models.json").read_text())
    photos = next(m for m in known if m["name"] == name)["verified"]["photos"]
    checked = 0
    for key, top in photos.items():
        path = data / "images" / Path(key).name
        if not path.exists():
            continue
        scores = only(traced(model, picture(model, path), tolerance)).reshape(-1)
        best = np.argsort(-scores)[:3]
        assert [labels.name(int(i)) for i in best] == [label for label, _ in top]
        np.testing.assert_allclose(scores[best], [p for _, p in top], atol=5e-3)
        checked += 1
    assert checked >= 3


def test_quantised_shufflenet(data: Path) -> None:
    model = open_model(data, "shufflenet_v2_int8", preprocess="imagenet")
    labels = read_labels(data / "images" / "imagenet_classes.txt")
    x = picture(model, data / "images" / "skimage_chelsea.png")
    scores = only(traced(model, x, 1e-6)).reshape(-1)
    assert [labels.name(int(i)) for i in np.argsort(-scores)[:3]] == ["Egyptian cat", "tabby", "tiger cat"]
    gradient = model.explain(x, method="gradient", target=285).attribution
    assert (gradient != 0).mean() > 0.5


@pytest.mark.parametrize(
    ("name", "scale", "least"),
    [
        ("mnist_cntk", 255.0, 0.96),
        ("nni_model_cnn", 1.0, 0.96),
        ("nni_model_am", 1.0, 0.96),
        ("nni_cam_classifier", 1.0, 0.96),
    ],
)
def test_digits(data: Path, name: str, scale: float, least: float) -> None:
    held = np.load(data / "mnist" / "t10k_first_2000.npz")
    images, labels = (held[key] for key in sorted(held.files, key=lambda k: -held[k].ndim)[:2])
    x = images[:200].reshape(-1, 1, 28, 28).astype(np.float32) / 255 * scale
    scores = only(traced(open_model(data, name), x))
    assert (scores.argmax(axis=1) == labels[:200]).mean() >= least


def test_zero_or_one(data: Path) -> None:
    held = np.load(data / "mnist" / "t10k_first_2000.npz")
    images, labels = (held[key] for key in sorted(held.files, key=lambda k: -held[k].ndim)[:2])
    chosen = labels[:500] < 2
    x = images[:500][chosen].reshape(-1, 1, 28, 28).astype(np.float32)
    scores = only(traced(open_model(data, "dianna_mnist"), x))
    assert (scores.argmax(axis=1) == labels[:500][chosen]).mean() >= 0.98


def test_generator_and_discriminator(data: Path) -> None:
    codes = np.random.default_rng(0).standard_normal((4, 100)).astype(np.float32)
    images = only(traced(open_model(data, "nni_mnist_generator"), codes))
    held = np.load(data / "mnist" / "t10k_first_2000.npz")
    real = held[max(held.files, key=lambda k: held[k].ndim)][:100].reshape(-1, 1, 28, 28).astype(np.float32) / 255
    judge = open_model(data, "nni_mnist_discriminator")
    assert only(traced(judge, real)).mean() > only(traced(judge, images.reshape(-1, 1, 28, 28))).mean()


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet20_with_bn"])
def test_cifar(data: Path, name: str) -> None:
    model = open_model(data, name)
    spec = {"resize": [32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    x = picture(model, data / "images" / "horses.jpg", spec)
    assert only(traced(model, x)).shape == (1, 10)


def test_leaf(data: Path) -> None:
    model = open_model(data, "dianna_leafsnap", preprocess="unit")
    scores = only(traced(model, picture(model, data / "images" / "leafsnap_example_acer_rubrum.jpg")))
    assert np.argsort(-scores[0])[:3].tolist() == [3, 26, 6]


def test_coffee_trees(data: Path) -> None:
    rows = [
        [float(v) for v in row] for row in csv.reader((data / "series" / "coffee_test.csv").read_text().splitlines())
    ]
    table = np.array(rows)
    got = traced(open_model(data, "dianna_coffee"), table[:, 1:].astype(np.float32), 1e-5)
    assert (got["output_label"] == table[:, 0]).all()


def test_season(data: Path) -> None:
    x = np.load(data / "series" / "weather_data.npy").astype(np.float32).reshape(1, 28, 1)
    model = open_model(data, "dianna_season")
    np.testing.assert_allclose(only(traced(model, x))[0], [0.35714, 0.64286], atol=1e-4)
    np.testing.assert_allclose(only(traced(model, -x))[0], [0.15998, 0.84002], atol=1e-4)


def test_segmentation(data: Path) -> None:
    model = open_model(data, "deeplabv3_dm05", preprocess="signed")
    x = picture(model, data / "images" / "faces.jpg")
    people = only(traced(model, x)).argmax(axis=1).mean()
    assert 0.05 < people < 0.95


def test_detector(data: Path) -> None:
    model = open_model(data, "yolox_nano")
    spec = {"color": "BGR", "letterbox": 114, "letterbox_at": "top-left", "resize": [416, 416], "scale": 1}
    output = only(traced(model, picture(model, data / "images" / "bus.jpg", spec)))[0]
    scores = output[:, 4] * output[:, 5:].max(axis=1)
    best = output[scores.argmax()]
    assert scores.max() == pytest.approx(0.91, abs=0.01)
    assert best[5:].argmax() == 5  # bus


def test_faces(data: Path) -> None:
    model = open_model(data, "ultraface_rfb320")
    spec = {"resize": [240, 320], "scale": 1, "mean": [127, 127, 127], "std": [128, 128, 128]}
    scores = traced(model, picture(model, data / "images" / "skimage_astronaut.png", spec))["scores"]
    assert scores[0, :, 1].max() == pytest.approx(0.9999973, abs=1e-5)


def test_text_direction(data: Path) -> None:
    model = open_model(data, "ppocr_cls")
    pixels = np.asarray(Image.open(data / "images" / "text_cls.jpg").convert("RGB").resize((192, 48)))[..., ::-1]
    for turned, expected in ((pixels, 1), (pixels[::-1, ::-1], 0)):
        x = np.ascontiguousarray((turned / 127.5 - 1).transpose(2, 0, 1)[None], dtype=np.float32)
        assert only(traced(model, x)).argmax() == expected


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_ifless"])
def test_voice_activity(data: Path, name: str) -> None:
    with wave.open(str(data / "series" / "speech.wav")) as sound:
        rate = sound.getframerate()
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float32) / 32768
    assert rate == 16000
    model = open_model(data, name)
    probabilities = {}
    for kind, signal in (
        ("speech", samples[16000:48000]),
        ("noise", 0.01 * np.random.default_rng(0).standard_normal(8192)),
    ):
        state, context, scores = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
        for start in range(0, len(signal) - 512, 512):
            chunk = np.concatenate([context, signal[start : start + 512]]).astype(np.float32)
            feed = {"input": chunk[None], "state": state, "sr": np.array(16000, np.int64)}
            got = model.predict(feed, backend="torch") if start else traced(model, feed)
            scores.append(float(got["output"].reshape(-1)[0]))
            state, context = got["stateN"], chunk[-64:]
        probabilities[kind] = np.mean(scores)
    assert probabilities["noise"] < 0.2 < 0.5 < probabilities["speech"]


def test_pitch(data: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(43844) / 22050).astype(np.float32).reshape(1, -1, 1)
    got = traced(open_model(data, "basic_pitch"), 0.5 * tone)
    assert got["StatefulPartitionedCall:1"].mean(axis=(0, 1)).argmax() == 48  # A4: bin 48
    assert got["StatefulPartitionedCall:0"].mean(axis=(0, 1)).argmax() == 145


def test_super_resolution(data: Path) -> None:
    large = (
        Image.open(data / "images" / "skimage_coffee.png").convert("YCbCr").resize((672, 672), Image.Resampling.BICUBIC)
    )
    small = large.resize((224, 224), Image.Resampling.BICUBIC)
    x = np.asarray(small, np.float32)[None, None, :, :, 0] / 255
    got = only(traced(open_model(data, "super_resolution_zoo"), x))[0, 0]
    truth = np.asarray(large, np.float32)[:, :, 0] / 255
    assert -10 * np.log10(np.mean((np.clip(got, 0, 1) - truth) ** 2)) > 29


def test_style_transfer(data: Path) -> None:
    model = open_model(data, "candy_coreml")
    spec = {"color": "BGR", "resize": [720, 720], "scale": 1}
    x = picture(model, data / "images" / "skimage_coffee.png", spec)
    got = only(traced(model, x))
    assert got.shape == x.shape
    assert np.corrcoef(got.ravel(), x.ravel())[0, 1] > 0.3


def test_recommender(data: Path) -> None:
    model = open_model(data, "vscode_ext_recommender")  # a 0/1 vector of installed extensions
    for share in (0.0, 0.003, 0.01):
        installed = (np.random.default_rng(0).random((4, 3450)) < share).astype(np.int32)
        got, expected = only(model.predict(installed, backend="torch")), only(model.predict(installed))
        np.testing.assert_allclose(got, expected, atol=1e-6)  # onnxruntime's sigmoid is coarse near zero


def test_typed_inputs(data: Path) -> None:
    model = open_model(data, "coreml_bikesharing_onehot")
    feed = {name: np.array([1], np.int64) for name in model.inputs}
    assert only(traced(model, feed, 1e-6)).shape == (1, 57)


def test_text_inside_is_refused_by_name_and_still_explained(data: Path) -> None:
    model = open_model(data, "azureml_joslat")
    feed: dict[str, np.ndarray] = {
        name: np.ones((2, 1), np.float32 if spec.dtype == "float32" else np.int64)
        for name, spec in model.inputs.items()
    }
    feed["tripDistance"][:] = 5
    assert model.predict(feed)["variable1"].ravel() == pytest.approx([21.5077] * 2, abs=3.0)
    with pytest.raises(analyzer.UnsupportedError, match="Tokenizer node 'Tokenizer'"):
        model.predict(feed, backend="torch")
    with pytest.raises(analyzer.UnsupportedError, match="TfIdfVectorizer"):
        model.explain(feed, method="gradient")
    assert np.isfinite(model.explain(feed, method="feature-ablation").attribution).all()


def _sklearn(loader: str) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    def load() -> tuple[np.ndarray, np.ndarray]:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{loader}")(return_X_y=True)
        return x.astype(np.float32), y

    return load


@pytest.mark.parametrize(
    ("name", "dataset", "least"),
    [
        ("sk_digits_rf", "digits", 0.97),
        ("sk_digits_mlp", "digits", 0.97),
        ("sk_cancer_logreg_zipmap", "breast_cancer", 0.95),
        ("sk_cancer_xgboost", "breast_cancer", 0.94),
        ("sk_wine_lightgbm", "wine", 0.98),
        ("iris_mlp_pytorch", "iris", 0.98),
    ],
)
def test_tables(data: Path, name: str, dataset: str, least: float) -> None:
    x, y = _sklearn(dataset)()
    model = open_model(data, name)
    got = traced(model, x, 1e-4)
    scores = got[list(model.outputs)[-1]]
    assert (scores.argmax(axis=1) == y).mean() >= least


def test_table_regression(data: Path) -> None:
    x, y = _sklearn("diabetes")()
    got = only(traced(open_model(data, "sk_diabetes_gbr"), x, 1e-4)).ravel()
    assert np.corrcoef(got, y)[0, 1] > 0.5


@pytest.mark.parametrize(
    ("name", "code"), [("pcb_aoi_customvision", "op.unknown"), ("super_resolution", "model.invalid")]
)
def test_invalid_models_are_refused(data: Path, name: str, code: str) -> None:
    with pytest.raises(analyzer.AnalyzerError) as caught:
        open_model(data, name)
    assert caught.value.code == code
