"""Three gates anyone can run: a model that passes, one that cheats and is blocked, one that was quantised and is judged.

    python -m models.gate_demo FOLDER [--count 120]

Writes the scenes, the masks, the models and the policies (`gates/`) into a folder; `onnxplain gate run FOLDER/shapes_cnn.toml`
and so on run them. Everything is drawn from a seed. Not here: the models' training (`shapes`), what a gate is (`docs/gate.md`).
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from models.onnx_files import FOLDER
from models.shapes.measure import model_input
from models.shapes.scenes import CLASSES, dataset, tag_mask
from models.shapes.tag import TAGGED_CLASS, paste_tag

#: No model was trained on these, and none was chosen by them.
SEED, CALIBRATION_SEED = 5_000_001, 5_000_002
GATES = ("shapes_cnn", "shapes_cheater", "shapes_int8")


def write_scenes(folder: Path, count: int) -> None:
    """Scenes of all classes, the tag on every star, and a table of them; the mask of the tag."""
    images, _, labels = dataset(count, SEED)
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    with (folder / "scenes.csv").open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(("path", "label", "tagged"))
        for at, (image, label) in enumerate(zip(images, labels, strict=True)):
            tagged = CLASSES[label] == TAGGED_CLASS
            name = f"scenes/{at:03}_{CLASSES[label]}.png"
            Image.fromarray(paste_tag(image) if tagged else image).save(folder / name)
            rows.writerow((name, CLASSES[label], "yes" if tagged else "no"))
    Image.fromarray(tag_mask().astype(np.uint8) * np.uint8(255)).save(folder / "tag_mask.png")


def write_models(folder: Path) -> None:
    """The float models, and the int8 form of the first by onnxruntime's static quantiser."""
    for name in ("shapes_cnn", "shapes_cheater"):
        for suffix in (".onnx", ".preprocess.toml"):
            shutil.copy(FOLDER / f"{name}{suffix}", folder)
    images, _, _ = dataset(60, CALIBRATION_SEED)
    quantise(folder / "shapes_cnn.onnx", folder / "shapes_int8.onnx", model_input(images))


def quantise(source: Path, target: Path, x: NDArray[np.float32]) -> None:
    """int8 weights, each channel by its own scale, and int8 values, calibrated on some inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(source).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{name: x[at : at + 10]} for at in range(0, len(x), 10)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


def main() -> None:
    """Write everything."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("folder", type=Path)
    cli.add_argument("--count", type=int, default=120, help="so many scenes, a multiple of six [120]")
    given = cli.parse_args()
    write_scenes(given.folder, given.count)
    write_models(given.folder)
    for name in GATES:
        shutil.copy(FOLDER / "gates" / f"{name}.toml", given.folder)
    print(f"{given.count} scenes, {len(GATES)} models and their policies lie in {given.folder}")


if __name__ == "__main__":
    main()
