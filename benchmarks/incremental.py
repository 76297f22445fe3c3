"""Occlusion by incremental inference beside whole runs: the gain that the cost model predicts, the gain that is reached.

Whole and incremental explanations of one picture take turns; figures are medians of process CPU time, and a gain is the median of
their ratios. "Reached" is with a model that has explained a picture with such windows before; the first call also makes sessions
and verifies more windows. Differences and drops are those of the map, as a part of the explained score.

    OMP_NUM_THREADS=1 python -m benchmarks.incremental [--rounds 3] [--folder /tmp/networks]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import analyzer
from benchmarks.networks import export

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("resnet18", "vgg16", "resnet50", "mobilenet_v2")
WINDOWS = (16, 32)
COLUMNS = {
    "network": "network", "window": "window and stride", "windows": "windows", "stages": "stages computed in part",
    "predicted": "predicted gain", "again": "reached gain", "first": "reached, first call",
    "difference": "largest difference", "drop": "largest drop", "rounds": "rounds",
}  # fmt: skip


def file_of(name: str, folder: Path) -> Path:
    """A network as a file; without batch normalisation its weights are enlarged so that activations keep their size."""
    path, _ = export(name, folder)
    lively = folder / f"{name}_lively.onnx"
    if name != "vgg16":
        return path
    if not lively.exists():
        import onnx
        from onnx import numpy_helper

        proto = onnx.load(path)
        for tensor in proto.graph.initializer:
            if len(tensor.dims) > 1:  # drawn with a variance of 1 / (3 fan); He's is 2 / fan
                tensor.CopyFrom(
                    numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(6**0.5), tensor.name)
                )
        onnx.save(proto, lively)
    return lively


def measured(model: analyzer.Model, x: np.ndarray, window: int, how: str) -> tuple[float, analyzer.Explanation]:
    """CPU seconds of an explanation, and the explanation."""
    start = time.process_time()
    made = model.explain(x, "occlusion", window=window, stride=window, incremental=how)
    return time.process_time() - start, made


def row(path: Path, name: str, window: int, rounds: int) -> dict[str, Any]:
    """One line of the table."""
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    models = {how: analyzer.load(path, "cpu", threads=1) for how in ("off", "auto")}
    cold = {how: measured(model, x, window, how) for how, model in models.items()}
    taken: dict[str, list[float]] = {how: [] for how in cold}
    for _ in range(rounds):
        for how, times in taken.items():
            times.append(measured(models[how], x, window, how)[0])
    whole, part = cold["off"][1], cold["auto"][1]
    score, record = abs(float(whole.score[0])), part.record["incremental"]
    said = record if isinstance(record, dict) else {"stages": record, "predicted": None}
    return {
        "network": name, "window": window, "windows": whole.record["windows"], "stages": said["stages"],
        "predicted": said["predicted"],
        "again": statistics.median(a / b for a, b in zip(taken["off"], taken["auto"], strict=True)),
        "first": cold["off"][0] / cold["auto"][0],
        "difference": float(np.abs(whole.attribution - part.attribution).max()) / score,
        "drop": float(np.abs(whole.attribution).max()) / score,
        "rounds": rounds, "seconds": {how: statistics.median(times) for how, times in taken.items()},
    }  # fmt: skip


def main() -> None:
    """Measure and write ``results/incremental.{json,md}``; rows of networks that weren't asked for stay."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=3)
    cli.add_argument("--folder", type=Path)
    cli.add_argument("--networks", nargs="*", default=NETWORKS)
    cli.add_argument("--windows", nargs="*", type=int, default=WINDOWS)
    asked = cli.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.networks:
            path = file_of(name, asked.folder or Path(temporary))
            for window in asked.windows:
                write(row(path, name, window, asked.rounds))
    print((RESULTS / "incremental.md").read_text())


def write(new: dict[str, Any]) -> None:
    """Put a row into the results."""
    held = RESULTS / "incremental.json"
    RESULTS.mkdir(exist_ok=True)
    rows = json.loads(held.read_text())["rows"] if held.exists() else []
    rows = [r for r in rows if (r["network"], r["window"]) != (new["network"], new["window"])] + [new]
    rows.sort(key=lambda r: (NETWORKS.index(r["network"]), r["window"]))
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|" + "---|" * len(COLUMNS)]
    for each in rows:
        shown = dict(each) | {key: f"{each[key]:.1e}" for key in ("difference", "drop")}
        shown |= {key: f"{each[key]:.2f}" for key in ("predicted", "again", "first") if each[key] is not None}
        lines.append(f"| {' | '.join(str(shown[key]) for key in COLUMNS)} |")
    text = "Shapes of well-known networks, random weights, 224 × 224, one thread, process CPU time, median of the rounds\n\n"
    held.write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    held.with_suffix(".md").write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
