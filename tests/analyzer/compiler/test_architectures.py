"""Compiled explanations of many architectures, run where neither torch nor this project can be imported.

The files of a group are run by one process that has onnxruntime and numpy alone, and held against the torch backend here.

Two runtimes round differently, and where a unit stands at a kink its whole share moves: what differs by more than the
tolerance must be proved to be rounding (``tests.kinks``).
"""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import analyzer
from tests.kinks import Proof, equal_up_to_flips

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": ("gradient", {}),
    "epsilon-plus": ("lrp", {"composite": "epsilon-plus"}),
    "epsilon-gamma-box": ("lrp", {"composite": "epsilon-gamma-box"}),
    "grad-cam": ("grad-cam", {}),
}
TOLERANCE = 1e-4
ALONE = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx2torch", "onnx", "analyzer", "graph_rules"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np, onnxruntime as ort
from pathlib import Path
options = ort.SessionOptions()
options.intra_op_num_threads = 1
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    with np.load(path.with_suffix(".feed.npz")) as feed:
        given = {name: feed[str(i)] for i, name in enumerate(names)}
    np.save(path.with_suffix(".npy"), session.run(["relevance"], given)[0])
"""


@dataclass
class Case:
    """One compiled explanation and what it should give."""

    name: str
    method: str
    model: analyzer.Model
    feed: dict[str, np.ndarray]
    params: dict[str, Any]
    compiled: analyzer.Compiled
    expected: np.ndarray


def bounds(feed: dict[str, np.ndarray]) -> dict[str, float]:
    low, high = min(float(v.min()) for v in feed.values()), max(float(v.max()) for v in feed.values())
    return {"low": float(np.floor(low)), "high": float(np.ceil(high))}


def cases(
    name: str, path: Path, feed: dict[str, np.ndarray], *, maps: bool = True, free: bool = True, target: str = "top1"
) -> list[Case]:
    """All methods on a model: ``maps`` says whether it has feature maps, ``free`` whether any batch must fit."""
    model = analyzer.load(path, device="cpu", threads=1)
    named = dict(zip(model.inputs, feed.values(), strict=True))
    found = []
    for key, (method, params) in METHODS.items():
        if method == "grad-cam" and not maps:
            with pytest.raises(analyzer.UnsupportedError) as caught:
                analyzer.compile(model, method, example=named)
            assert caught.value.code == "layer.none"
            continue
        params = params | (bounds(feed) if key.endswith("box") else {}) | {"target": target}
        expected = model.explain(named, method=method, backend="torch", **params).raw
        compiled = analyzer.compile(model, method, example=named, verify=False, **params)
        assert (compiled.batch is None) == free, f"{name} {key}: {compiled.reason}"
        found.append(Case(name, key, model, named, params, compiled, expected))
    return found


def outcomes(given: list[Case], folder: Path) -> list[np.ndarray]:
    """The relevances of all files, run in one process without torch."""
    for number, case in enumerate(given):
        proto, stem = case.compiled.proto, folder / f"{number:03d}"
        onnx.checker.check_model(proto, full_check=True)
        assert {(o.domain, o.version) for o in proto.opset_import} == {("", 18)}
        assert {node.domain for node in proto.graph.node} == {""}
        assert not proto.functions
        onnx.save(proto, stem.with_suffix(".onnx"))
        read = [value.name for value in proto.graph.input]
        feed: dict[str, Any] = {str(i): case.feed[name] for i, name in enumerate(read)}
        np.savez(stem.with_suffix(".feed.npz"), **feed)
    subprocess.run([sys.executable, "-c", ALONE, str(folder)], check=True, timeout=300)
    found = []
    for number, case in enumerate(given):
        got, want = np.load(folder / f"{number:03d}.npy"), case.expected
        assert (got.shape, got.dtype) == (want.shape, np.float32), f"{case.name} {case.method}"
        assert want.any() or not got.any(), f"{case.name} {case.method}"
        found.append(got)
    return found


def equal(case: Case, got: np.ndarray) -> Proof:
    """Hold a relevance against the torch backend's."""

    def again() -> np.ndarray:
        return case.model.explain(case.feed, method=METHODS[case.method][0], backend="torch", **case.params).raw

    return equal_up_to_flips(got, case.expected, again, TOLERANCE, f"{case.name} {case.method}")


def hold(given: list[Case], folder: Path) -> None:
    """Hold the relevances against the torch backend's, and say all that are wrong."""
    wrong = []
    for case, got in zip(given, outcomes(given, folder), strict=True):
        try:
            equal(case, got)
        except AssertionError as problem:
            wrong.append(str(problem))
    assert not wrong, "\n".join(wrong)


class Inception(nn.Module):
    """Blocks of four branches side by side: single places, small and larger windows, averages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-3)
        self.blocks = nn.ModuleList(self._block(channels) for channels in (8, 24))
        self.head = nn.Linear(24, 6)

    @staticmethod
    def _block(channels: int) -> nn.ModuleList:
        def conv(inside: int, out: int, *how: Any) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inside, out, *how), nn.ReLU())

        return nn.ModuleList([
            conv(channels, 4, 1),
            nn.Sequential(conv(channels, 4, 1), conv(4, 8, (1, 5), 1, (0, 2)), conv(8, 8, (5, 1), 1, (2, 0))),
            nn.Sequential(conv(channels, 4, 1), conv(4, 8, 3, 1, 1)),
            nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(channels, 4, 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            x = torch.cat([branch(x) for branch in block], 1)
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def exported(net: nn.Module, x: np.ndarray, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            net.eval(), (torch.from_numpy(x),), str(path), dynamo=False, opset_version=17, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
    return path


def picture(path: Path, size: int, colours: str) -> np.ndarray:
    values = np.asarray(Image.open(path).convert(colours).resize((size, size)), np.float32) / 255
    return np.ascontiguousarray(values.transpose(2, 0, 1) if values.ndim == 3 else values[None])[None]


def own(sample_models: Path, folder: Path) -> list[Case]:
    """The project's own models, and one made here."""
    rng = np.random.default_rng(0)
    samples = sample_models / "samples"
    shapes = np.concatenate(
        [picture(p, 64, "RGB") for p in sorted(samples.glob("shapes_*.png")) if "mask" not in p.name]
    )
    digits = np.concatenate([picture(samples / f"digits_{i}.png", 8, "L") for i in range(3)])
    rows = np.loadtxt(samples / "tumour_rows.csv", np.float32, delimiter=",", skiprows=1)
    codes = rng.standard_normal((2, 8)).astype(np.float32)
    x = rng.uniform(-1, 1, (2, 3, 33, 33)).astype(np.float32)
    torch.manual_seed(0)
    return (
        cases("shapes_cnn", sample_models / "shapes_cnn.onnx", {"x": shapes})
        + cases("shapes_cheater", sample_models / "shapes_cheater.onnx", {"x": shapes[:2]})
        + cases("digits_cnn", sample_models / "digits_cnn.onnx", {"x": digits})
        + cases("digits_generator", sample_models / "digits_generator.onnx", {"z": codes})
        + cases("tumour_mlp", sample_models / "tumour_mlp.onnx", {"X": rows}, maps=False)
        + cases("inception", exported(Inception(), x, folder / "inception"), {"x": x})
    )


def test_own_models(sample_models: Path, tmp_path: Path) -> None:
    hold(own(sample_models, tmp_path), tmp_path)


def references(shared: Path) -> list[Case]:
    """Small networks of the usual kinds, by three exporters."""
    kinds = {
        "vgg": "opset17_legacy", "resnet": "opset18_dynamo", "mobilenet": "opset17_legacy_nofold",
        "gapnet": "opset18_dynamo_noopt", "textcnn": "opset17_legacy", "transformer": "opset18_dynamo",
    }  # fmt: skip
    given = []
    for name, kind in kinds.items():
        folder = shared / "golden" / name
        with np.load(folder / "io.npz") as io:
            feed = {"x": io["input"]}
        given += cases(name, folder / f"model_{kind}.onnx", feed, maps=name != "transformer")
    return given


def test_reference_networks(shared: Path, tmp_path: Path) -> None:
    hold(references(shared), tmp_path)


#: Export -> (whether it has feature maps, whether its batch is free).
EXPORTS = {
    "mobilenet_v3_small__dynamo_op23": (True, True), "keras_mobilenetv2__tf2onnx_op18": (True, True),
    "hf_vit__dynamo_op18": (True, True), "vit_b_16__ts_op17": (True, True), "hf_bert__ts_op17": (False, False),
    "torch_transformer__dynamo_op23": (False, True), "lstm_cls__ts_op17": (False, True),
    "gru_cls__dynamo_opdef": (False, True), "cnn1d__ts_op17": (True, True), "cnn3d__dynamo_op22": (True, True),
    "paddle_cnn__paddle2onnx_op17": (True, True), "jax_cnn__jax2onnx": (True, True),
    "dcgan_g__ts_op17": (True, True),
}  # fmt: skip


def exports(shared: Path, part: int, parts: int) -> list[Case]:
    """Exports of everyday architectures."""
    given = []
    for name, (maps, free) in list(EXPORTS.items())[part::parts]:
        folder = shared / "exported"
        with np.load(folder / f"{name.partition('__')[0]}.npz") as io:
            feed = {key: io[key] for key in sorted(io.files) if key.startswith("in")}
        given += cases(name, folder / f"{name}.onnx", feed, maps=maps, free=free)
    return given


@pytest.mark.parametrize("part", [0, 1])
def test_exports(shared: Path, tmp_path: Path, part: int) -> None:
    hold(exports(shared, part, 2), tmp_path)


#: Model -> (its file, whether its batch is free).
REAL = {
    "squeezenet": ("squeezenet1_0_fp32_cast", False), "leafsnap": ("dianna_leafsnap", True),
    "shufflenet int8": ("shufflenet_v2_int8", False), "cifar10 resnet": ("cifar10_resnet20_with_bn", True),
    "season": ("dianna_season", True), "cntk": ("mnist_cntk", False), "ultraface": ("ultraface_rfb320", False),
    "pitch": ("basic_pitch", True), "deeplab": ("deeplabv3_dm05", False),
}  # fmt: skip


def real(shared: Path, name: str) -> list[Case]:
    """A real model on seeded noise."""
    file, free = REAL[name]
    path, rng = shared / "data" / "models" / f"{file}.onnx", np.random.default_rng(3)
    specs = analyzer.load(path, device="cpu").inputs
    shapes = {key: [1, *(int(size or 1) for size in spec.shape[1:])] for key, spec in specs.items()}
    feed = {key: rng.random(shape).astype(np.float32) for key, shape in shapes.items()}
    return cases(name, path, feed, free=free, target="scores[:,100,1]" if name == "ultraface" else "top1")


@pytest.mark.parametrize("part", [0, 1])
def test_real_models(shared: Path, tmp_path: Path, part: int) -> None:
    names = [name for name in REAL if name != "deeplab"][part::2]
    hold([case for name in names for case in real(shared, name)], tmp_path)


@pytest.mark.slow
def test_large_real_model(shared: Path, tmp_path: Path) -> None:
    hold(real(shared, "deeplab"), tmp_path)


def test_half_precision(shared: Path, tmp_path: Path) -> None:
    """A model of half precision is computed in float32, by both backends; its inputs and outputs keep their types."""
    path, rng = shared / "data" / "models" / "squeezenet1_0_fp16.onnx", np.random.default_rng(3)
    (spec,) = analyzer.load(path, device="cpu").inputs.values()
    feed = {"x": rng.uniform(-100, 100, [1, *spec.shape[1:]]).astype(np.float16)}  # type: ignore[list-item]
    given = cases("squeezenet fp16", path, feed, free=False)
    for case in given:
        graph = case.compiled.proto.graph
        kinds = {value.type.tensor_type.elem_type for value in (graph.input[0], graph.output[0])}
        assert kinds == {onnx.TensorProto.FLOAT16}
    hold(given, tmp_path)
