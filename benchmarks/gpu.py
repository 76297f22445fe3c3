"""Whole calls on CUDA beside bare onnxruntime, torch and captum, in the same process on the same card: under six minutes.

Networks of the shapes of ResNet-50 and VGG-16 with random weights, and torchvision's ViT-B/16 where torchvision is there. All
times are wall-clock medians of calls that get another input each time, after two that warm up. One block computes in full
float32 (torch's switches off, ``use_tf32=0``), the other in TF32, everybody alike. captum has no LRP, so its gradient stands
beside ours. Equality is held on the project's own sample network: random weights leave many units within rounding of a kink.

    python -m benchmarks.gpu [--seconds 330] [--output FILE]

Where no CUDA device is usable it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path(__file__).parent.parent / "models" / "shapes_cnn.onnx"
LOW, HIGH, TARGET = -3.0, 3.0, 1
SWEEPS: dict[str, tuple[str, dict[str, Any], int]] = {
    "gradient": ("gradient", {}, 2),
    "z-plus": ("lrp", {"composite": "epsilon-plus"}, 3),
    "gamma + box": ("lrp", {"composite": "epsilon-gamma-box", "low": LOW, "high": HIGH}, 4),
}
PERTURBING: dict[str, tuple[dict[str, Any], int]] = {
    "rise": ({"masks": 4000}, 4000),
    "lime": ({"samples": 1000, "segments": "grid:14"}, 1000),
    "kernel-shap": ({"samples": 1000, "segments": "grid:14"}, 1000),
    "occlusion": ({"window": 16, "stride": 16}, 196),
}
EQUAL: dict[str, dict[str, Any]] = {
    "gradient": {}, "gradient-x-input": {}, "guided-backprop": {}, "deconvnet": {}, "integrated-gradients": {"steps": 16},
    "smoothgrad": {"samples": 8}, "gradient-shap": {"samples": 8}, "lrp": {}, "deep-taylor": {}, "deeplift": {},
    "layer-cam": {"relu": False}, "grad-cam": {"relu": False}, "score-cam": {"relu": False},
    "occlusion": {"window": 16, "stride": 16}, "rise": {"masks": 200}, "bubbles": {"samples": 100},
    "lime": {"samples": 200, "segments": "grid:8"}, "kernel-shap": {"samples": 200, "segments": "grid:8"},
    "feature-ablation": {"segments": "grid:8"}, "meaningful-perturbation": {"steps": 20},
}  # fmt: skip


class Clock:
    """The time that is left, and lines as they are measured."""

    def __init__(self, seconds: float) -> None:
        self.began, self.seconds = time.monotonic(), seconds

    @property
    def left(self) -> float:
        """Seconds until no further case is begun."""
        return self.seconds - (time.monotonic() - self.began)

    def say(self, text: str) -> None:
        """Progress on stderr."""
        print(f"[{self.seconds - self.left:4.0f} s] {text}", file=sys.stderr, flush=True)


def pictures(batch: int) -> Callable[[], np.ndarray]:
    """Four batches of seeded noise in turn."""
    rng, at = np.random.default_rng(0), 0
    some = [np.clip(rng.standard_normal((batch, 3, 224, 224), np.float32), LOW, HIGH) for _ in range(4)]

    def following() -> np.ndarray:
        nonlocal at
        at += 1
        return some[at % 4]

    return following


def median(call: Callable[[], Any], count: int = 3, warm: int = 2) -> float:
    """Seconds of a call whose result is on the host."""
    taken = []
    for number in range(warm + count):
        start = time.perf_counter()
        call()
        if number >= warm:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def networks(folder: Path) -> Iterator[tuple[str, Path, Any]]:
    """Name, ONNX file and torch module, made one after the other."""
    import torch

    from benchmarks.networks import export

    for name in ("resnet50", "vgg16"):
        yield (name, *export(name, folder))
    try:
        from torchvision.models import vit_b_16
    except (ImportError, RuntimeError):
        return
    torch.manual_seed(0)
    net, path = vit_b_16(weights=None).eval(), folder / "vit_b_16.onnx"
    torch.nn.init.normal_(net.heads[-1].weight, std=0.02)  # zeros by default: nothing would depend on the picture
    torch.onnx.export(
        net, (torch.zeros(2, 3, 224, 224),), str(path), opset_version=17, dynamo=False, input_names=["image"],
        output_names=["logits"], dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip
    yield "vit_b_16", path, net


def bare(path: Path, batch: int, tf32: bool) -> float:
    """Seconds of a forward pass by onnxruntime alone, the input on the device already."""
    import onnxruntime

    options = {"use_tf32": str(int(tf32))}
    session = onnxruntime.InferenceSession(
        str(path), providers=[("CUDAExecutionProvider", options), "CPUExecutionProvider"]
    )
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise SystemExit("onnxruntime fell back from CUDA")
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(pictures(batch)(), "cuda", 0)
    binding.bind_ortvalue_input("image", value)
    binding.bind_output("logits", "cpu")
    return median(lambda: session.run_with_iobinding(binding), 5)


def sweeps(model: Any, net: Any, batch: int) -> dict[str, float]:
    """Seconds of whole calls of white-box methods, ours and captum's."""
    import torch
    from captum.attr import IntegratedGradients, Saliency

    given = pictures(batch)
    cases = SWEEPS if net.__class__.__name__ != "VisionTransformer" else {"gradient": SWEEPS["gradient"]}
    found = {
        f"ours {name}": median(
            lambda method=method, params=params: model.explain(given(), method, target=TARGET, **params)
        )
        for name, (method, params, _) in cases.items()
    }
    saliency, points = Saliency(net), IntegratedGradients(net)

    def there() -> torch.Tensor:
        return torch.from_numpy(given()).cuda()

    found["captum gradient"] = median(lambda: saliency.attribute(there().requires_grad_(), target=TARGET).cpu())
    if batch == 1:
        found["ours integrated-gradients"] = median(
            lambda: model.explain(given(), "integrated-gradients", target=TARGET, steps=50)
        )
        found["captum integrated-gradients"] = median(
            lambda: points.attribute(there(), target=TARGET, n_steps=50, internal_batch_size=50).cpu()
        )
    return found


def perturbing(model: Any, net: Any, clock: Clock) -> dict[str, float]:
    """Seconds of whole calls of perturbation methods, and of captum's occlusion."""
    import torch
    from captum.attr import Occlusion

    given = pictures(1)
    found = {}
    for method, (params, _) in PERTURBING.items():
        if clock.left > 10:
            start = time.perf_counter()
            model.explain(given(), method, target=TARGET, **params)
            found[f"{method}, first call"] = time.perf_counter() - start
            found[method] = median(lambda m=method, p=params: model.explain(given(), m, target=TARGET, **p), 3, 1)
    windows = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16), "perturbations_per_eval": 64}
    occlusion = Occlusion(net)
    found["captum occlusion"] = median(
        lambda: occlusion.attribute(torch.from_numpy(given()).cuda(), target=TARGET, **windows).cpu(), 3, 1
    )
    return found


def measure(model: Any, path: Path, net: Any, head: dict[str, Any], results: dict[str, Any], clock: Clock) -> None:
    """One network in one precision, added to the results."""
    forward = {batch: bare(path, batch, model.tf32) for batch in (1, 16, 64, 128)}
    for batch in (1, 64):
        results["sweeps"].append({**head, "batch": batch, "forward": forward[batch], **sweeps(model, net, batch)})
    best = max(batch / seconds for batch, seconds in forward.items())
    results["perturbing"].append({**head, "best": best, **perturbing(model, net, clock)})


def _switch(tf32: bool) -> None:
    """torch's own precision, for the libraries that we compare with."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def equality() -> dict[str, float]:
    """Largest difference of CUDA's map from the CPU's over the largest value, by method."""
    import analyzer

    x = np.random.default_rng(0).random((2, 3, 64, 64)).astype(np.float32)
    here, there = analyzer.load(SAMPLE, "cpu"), analyzer.load(SAMPLE, "cuda")
    found = {}
    for method, params in EQUAL.items():
        a, b = (each.explain(x, method, target=TARGET, **params).attribution for each in (here, there))
        found[method] = float(np.abs(a - b).max() / np.abs(a).max())
    return found


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        f"# On {results['card']}", "", "`python -m benchmarks.gpu`: see its docstring for what is measured.", "",
        f"onnxruntime {results['onnxruntime']}, torch {results['torch']}. Times in milliseconds, whole calls.", "",
        "| network | precision | batch | case | ours | in forwards | of the floor | beside |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in results["sweeps"]:
        forward = row["forward"]
        for name, (_, _, floor) in SWEEPS.items():
            if f"ours {name}" in row:
                ours = row[f"ours {name}"]
                beside = f"captum {1e3 * row['captum gradient']:.1f}" if name == "gradient" else ""
                lines.append(
                    f"| {row['network']} | {row['precision']} | {row['batch']} | {name} | {1e3 * ours:.1f} "
                    f"| {ours / forward:.1f} | {floor * forward / ours:.0%} | {beside} |"
                )
        if "ours integrated-gradients" in row:
            ours, theirs = 1e3 * row["ours integrated-gradients"], 1e3 * row["captum integrated-gradients"]
            lines.append(
                f"| {row['network']} | {row['precision']} | 1 | integrated gradients, 50 | {ours:.1f} | | | captum {theirs:.1f} |"
            )
    lines += ["", "| network | precision | method | first call | evaluations/s | of bare onnxruntime | beside |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in results["perturbing"]:
        for method, (_, count) in PERTURBING.items():
            if method in row:
                rate = count / row[method]
                beside = (
                    f"{1e3 * row[method]:.0f} ms, captum {1e3 * row['captum occlusion']:.0f} ms"
                    if method == "occlusion"
                    else ""
                )
                lines.append(
                    f"| {row['network']} | {row['precision']} | {method} | {1e3 * row[f'{method}, first call']:.0f} "
                    f"| {rate:.0f} | {rate / row['best']:.0%} | {beside} |"
                )
    lines += ["", "| method | CUDA beside the CPU, largest difference |", "|---|---|"]
    lines += [f"| {method} | {found:.0e} |" for method, found in results["equality"].items()]
    lines += ["", *[f"Failed: {each}" for each in results["failed"]]] if results["failed"] else []
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=330.0, help="begin nothing new after so long")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    options = parser.parse_args()
    from analyzer.executor import devices

    if devices.cuda_devices() == 0:
        print("no CUDA device is usable here")
        return
    os.environ["ONNXPLAIN_CACHE"] = "off"
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import onnxruntime
    import torch

    import analyzer

    devices.prepare("cuda:0")
    clock = Clock(options.seconds)
    results: dict[str, Any] = {
        "card": torch.cuda.get_device_name(0), "onnxruntime": onnxruntime.__version__, "torch": torch.__version__,
        "equality": equality(), "sweeps": [], "perturbing": [], "failed": [],
    }  # fmt: skip
    clock.say("equality")

    def write() -> None:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(table(results), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNXPLAIN_CACHE"] = folder
        for name, path, net in networks(Path(folder)):
            net.cuda()
            for tf32 in (False, True):
                if clock.left < 25:
                    continue
                _switch(tf32)
                head = {"network": name, "precision": "TF32" if tf32 else "float32"}
                try:
                    with analyzer.load(path, "cuda", tf32=tf32) as model:
                        measure(model, path, net, head, results, clock)
                except (analyzer.AnalyzerError, torch.OutOfMemoryError) as problem:
                    results["failed"].append(f"{name} {head['precision']}: {problem}")
                clock.say(f"{name} {head['precision']}")
                torch.cuda.empty_cache()
                write()
            del net
    write()
    print(table(results))


if __name__ == "__main__":
    main()
