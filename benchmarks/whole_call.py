"""What users call, `explain` from array to explanation, beside captum's whole call: on the CPU, one thread, process CPU time.

Every call gets another picture, as a loop over a data set does. Ours includes resolving the target, the proof that the trace
agrees with onnxruntime, checks and the record; captum's has none of these. The cases of a network take turns; figures are
medians of the rounds. The first call of a process, which imports and traces, is timed in a process of its own.

    python -m benchmarks.whole_call [--rounds 5] [--network mobilenet_v2] [--backend torch]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import analyzer
from benchmarks.networks import export

RESULTS = Path(__file__).parent / "results"
TARGET, POINTS, NOISE = 7, 50, 0.15
NETWORKS = ("mobilenet_v2", "resnet50", "vgg16")
METHODS: dict[str, dict[str, Any]] = {
    "gradient": {}, "grad-cam": {}, "integrated-gradients": {"steps": POINTS}, "smoothgrad": {"samples": POINTS},
}  # fmt: skip
Case = Callable[[], Any]


def pictures() -> Iterator[np.ndarray]:
    """Seeded noise, another picture each time."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.standard_normal((1, 3, 224, 224), np.float32)


def ours(path: Path, backend: str) -> dict[str, Case]:
    """This project's whole calls."""
    model, given = analyzer.load(path, "cpu", threads=1), pictures()

    def case(method: str, params: dict[str, Any]) -> Case:
        return lambda: model.explain(next(given), method, target=TARGET, backend=backend, **params)

    return {method: case(method, params) for method, params in METHODS.items()}


def captum(net: nn.Module) -> dict[str, Case]:
    """captum's whole calls, with its defaults; Grad-CAM's map brought to the picture's size as ours is."""
    from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Saliency

    given = pictures()
    saliency, points = Saliency(net), IntegratedGradients(net)
    noisy = NoiseTunnel(saliency)
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    cam = LayerGradCam(net, last)

    def picture() -> torch.Tensor:
        return torch.from_numpy(next(given))

    def grad_cam() -> torch.Tensor:
        low = cam.attribute(picture(), target=TARGET)
        return nn.functional.interpolate(low, (224, 224), mode="bilinear")

    return {
        "gradient": lambda: saliency.attribute(picture().requires_grad_(), target=TARGET, abs=False),
        "grad-cam": grad_cam,
        "integrated-gradients": lambda: points.attribute(picture(), target=TARGET, n_steps=POINTS),
        "smoothgrad": lambda: noisy.attribute(
            picture(), nt_type="smoothgrad", nt_samples=POINTS, stdevs=NOISE, target=TARGET, abs=False
        ),
    }


def measured(path: Path, net: nn.Module, rounds: int, backend: str) -> dict[str, dict[str, float]]:
    """Method -> median seconds of both, and the median of the rounds' ratios."""
    mine, theirs = ours(path, backend), captum(net)
    for case in itertools.chain(mine.values(), theirs.values()):
        case()
    taken: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for _ in range(rounds):
        for method in METHODS:
            taken[method].append((seconds(mine[method]), seconds(theirs[method])))
    return {
        method: {
            "ours": statistics.median(a for a, _ in pairs),
            "captum": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(a / b for a, b in pairs),
        }
        for method, pairs in taken.items()
    }


def seconds(case: Case) -> float:
    """Process CPU time of one call."""
    start = time.process_time()
    case()
    return time.process_time() - start


def first_call(path: Path) -> float:
    """CPU seconds of a process that loads the model and explains once, imports included."""
    code = (
        "import sys, time, numpy as np, analyzer\n"
        "model = analyzer.load(sys.argv[1], 'cpu', threads=1)\n"
        "model.explain(np.zeros((1, 3, 224, 224), np.float32), 'gradient', target=7, backend='torch')\n"
        "print(time.process_time())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return float(ran.stdout)


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        "# Whole calls beside captum", "", "`python -m benchmarks.whole_call`: see its docstring for what is measured.", "",
        f"Backend {results['backend']}, torch {torch.__version__}, one thread, milliseconds of process CPU time.", "",
        "| network | method | ours | captum | ratio |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in results["networks"].items():
        for method, row in found["methods"].items():
            ours, theirs = 1e3 * row["ours"], 1e3 * row["captum"]
            lines.append(f"| {name} | {method} | {ours:.1f} | {theirs:.1f} | {row['ratio']:.2f} |")
        lines.append(f"| {name} | a process's first gradient, imports included | {1e3 * found['first']:.0f} | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--backend", default="torch", choices=("torch", "onnxruntime"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "onnxplain-benchmarks")
    options = parser.parse_args()
    os.environ["ONNXPLAIN_CACHE"] = "off"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"backend": options.backend, "rounds": options.rounds, "networks": {}}
    for name in options.network or NETWORKS:
        path, net = export(name, options.folder)
        methods = measured(path, net, options.rounds, options.backend)
        results["networks"][name] = {"methods": methods, "first": first_call(path)}
    text = table(results)
    print(text)
    if options.network is None:
        (RESULTS / "whole_call.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "whole_call.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
