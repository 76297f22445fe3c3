"""What a gate costs: a policy of eight checks on fresh scenes, beside the bare forward passes that it is made of.

    python -m benchmarks.gate_cost [--inputs 200]

Each check's wall time, model evaluations and explanations; beside them how long onnxruntime takes for as many evaluations of
the same model in batches of 32, and for one pass over the inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import analyzer
from models.shapes import scenes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
#: Scenes that no training or held-out set drew: those use small seeds.
SEED = 20_261_127
MODEL = ROOT / "models" / "shapes_cnn.onnx"
CHECKS: list[dict[str, Any]] = [
    {"id": "parity", "kind": "output_parity"},
    {"id": "determinism", "kind": "determinism"},
    {"id": "finite", "kind": "finite"},
    {"id": "conservation", "kind": "conservation"},
    {"id": "continuity", "kind": "continuity"},
    {"id": "faithfulness", "kind": "pixel_flipping"},
    {"id": "randomisation", "kind": "mprt"},
    {"id": "class-sensitivity", "kind": "random_logit"},
]


def bare(count: int) -> float:
    """Seconds that onnxruntime takes for so many evaluations, in batches of 32."""
    model = analyzer.load(MODEL, "cpu")
    x = np.random.default_rng(0).uniform(0, 1, (32, 3, 64, 64)).astype(np.float32)
    session = model.session()
    name = next(iter(model.inputs))
    session.run({name: x})
    began, rounds = time.perf_counter(), min(-(-count // 32), 400)
    for _ in range(rounds):
        session.run({name: x})
    return (time.perf_counter() - began) / (32 * rounds) * count


def main() -> None:
    """Run it and write ``results/gate_cost.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--inputs", type=int, default=200)
    count = cli.parse_args().inputs
    images, _, _ = scenes.dataset(count, SEED)
    with tempfile.TemporaryDirectory() as folder:
        for at, image in enumerate(images):
            Image.fromarray(image).save(Path(folder) / f"{at:04}.png")
        policy = {
            "schema": 1, "model": {"path": str(MODEL)}, "data": {"path": folder},
            "explain": {"method": "lrp", "preset": "epsilon-gamma-box"}, "check": CHECKS,
        }  # fmt: skip
        began = time.perf_counter()
        result = analyzer.run_gate(policy, device="cpu")
        wall = time.perf_counter() - began
    evaluations = sum(check.evaluations for check in result.checks)
    facts = {
        "inputs": count, "cores": os.cpu_count(), "status": result.status, "wall_s": wall, "evaluations": evaluations,
        "explanations": sum(check.explanations for check in result.checks), "bare_one_pass_s": bare(count),
        "bare_evaluations_s": bare(evaluations),
        "checks": [
            {"id": c.id, "status": c.status, "wall_s": c.seconds, "evaluations": c.evaluations,
             "explanations": c.explanations}
            for c in result.checks
        ],
    }  # fmt: skip
    lines = [
        f"{count} inputs, {len(CHECKS)} checks, {os.cpu_count()} cores: {wall:.1f} s, {evaluations:,} evaluations and "
        f"{facts['explanations']:,} explanations; so many bare evaluations take {facts['bare_evaluations_s']:.1f} s, one pass "
        f"over the inputs {facts['bare_one_pass_s']:.2f} s. The gate says: {result.status}.",
        "", "| check | says | wall s | evaluations | explanations |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {c.id} | {c.status} | {c.seconds:.1f} | {c.evaluations:,} | {c.explanations:,} |" for c in result.checks
    ]
    (RESULTS / "gate_cost.json").write_text(json.dumps(facts, indent=2) + "\n")
    (RESULTS / "gate_cost.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
