"""Where relevance lies: share of positive relevance on the object that decides the class.

Fresh scenes of ``models/shapes`` come with the object's mask. For each method: the positive part of the map, summed over
channels, and how much of it lies inside the mask. Beside it the mask's share of the area, which a map that knows nothing
reaches on average, and a random map.

    python -m benchmarks.localisation [--scenes 200]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import analyzer
from models.shapes import scenes

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent
#: Scenes that no training or held-out set drew: those use small seeds.
SEED = 20_261_121

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient (absolute)": ("saliency", {}),
    "gradient-x-input": ("gradient-x-input", {}),
    "guided-backprop": ("guided-backprop", {}),
    "deconvnet": ("deconvnet", {}),
    "integrated-gradients": ("integrated-gradients", {"steps": 32, "baseline": 0.5}),
    "smoothgrad (square)": ("smoothgrad", {"samples": 25, "noise": 0.15, "reduce": "square"}),
    "lrp epsilon": ("lrp", {"composite": "epsilon"}),
    "lrp epsilon-plus": ("lrp", {"composite": "epsilon-plus"}),
    "lrp epsilon-alpha2-beta1": ("lrp", {"composite": "epsilon-alpha2-beta1"}),
    "lrp epsilon-gamma-box": ("lrp", {"composite": "epsilon-gamma-box"}),
    "deep-taylor": ("deep-taylor", {"low": 0.0, "high": 1.0}),
    "deeplift": ("deeplift", {"baseline": 0.5}),
    "cam": ("cam", {}),
    "grad-cam": ("grad-cam", {}),
    "occlusion": ("occlusion", {"window": 12, "stride": 4, "fill": "mean"}),
    "layer-cam": ("layer-cam", {}),
    "kernel-shap": ("kernel-shap", {"samples": 300, "segments": 50}),
    "rise": ("rise", {"masks": 500, "fill": "mean"}),
    "lime": ("lime", {"samples": 300, "segments": 50}),
}


def share_inside(map_: np.ndarray, mask: np.ndarray) -> float:
    """Positive relevance inside the mask over all positive relevance; NaN where there is none."""
    positive = np.maximum(map_.sum(axis=0), 0.0)
    return float(positive[mask].sum() / positive.sum()) if positive.sum() > 0 else float("nan")


def main() -> None:
    """Measure and write ``results/localisation.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--scenes", type=int, default=200)
    count = cli.parse_args().scenes
    model = analyzer.load(ROOT / "models" / "shapes_cnn.onnx", "cpu")
    images, masks, labels = scenes.dataset(count, SEED)
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    name = next(iter(model.inputs))
    right = model.predict({name: x})[next(iter(model.outputs))].argmax(axis=1) == labels
    rng = np.random.default_rng(0)
    shares = {"random map": [share_inside(rng.standard_normal((1, 64, 64)), mask) for mask in masks]}
    shares["share of the area"] = [float(mask.mean()) for mask in masks]
    for label, (method, params) in METHODS.items():
        found = []
        for start in range(0, count, 20):
            part = slice(start, start + 20)
            e = model.explain({name: x[part]}, method=method, target=[int(v) for v in labels[part]], **params)
            found += [
                share_inside(np.asarray(a, np.float64), m) for a, m in zip(e.attribution, masks[part], strict=True)
            ]
        shares[label] = found
        print(f"{label:28s} {np.nanmean(found):.3f}")
    rows = {
        label: {"mean": float(np.nanmean(v)), "standard_error": float(np.nanstd(v) / np.sqrt(np.isfinite(v).sum())),
                "empty": int(np.isnan(v).sum())}
        for label, v in shares.items()
    }  # fmt: skip
    facts = {"scenes": count, "seed": SEED, "model": model.sha256, "accuracy": float(right.mean()), "share": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "localisation.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = ["| map | share of positive relevance on the object |", "|---|---|"]
    lines += [f"| {label} | {row['mean']:.2f} ± {row['standard_error']:.2f} |" for label, row in
              sorted(rows.items(), key=lambda item: -item[1]["mean"])]  # fmt: skip
    text = f"{count} fresh scenes, accuracy {right.mean():.3f}\n\n" + "\n".join(lines) + "\n"
    (RESULTS / "localisation.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
