"""Compiled explanations in onnxruntime beside the torch backend's sweep: process CPU time, and equality.

Time: one thread on both sides, the two take turns in one process in random order, each figure is the median of the rounds'
ratios. The torch side is the sweep alone, on a ready trace and plan; the onnxruntime side is one run of the session.
Equality: every architecture of ``tests/analyzer/compiler/test_architectures.py``, run by a process without torch. The last
column is how far the torch backend's own explanation moves when it is computed in double precision.

    OMP_NUM_THREADS=1 python -m benchmarks.compiled [--rounds 7] [--network vgg16] [--batch 1] [--only time|equality] [--folder F]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import analyzer
from benchmarks import rule_cases
from benchmarks.networks import export

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent
BOX = {"low": rule_cases.LOW, "high": rule_cases.HIGH}
#: Case -> method and parameters that give the same relevance.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    rule_cases.GRADIENT: ("gradient", {}),
    rule_cases.ZPLUS: ("lrp", {"composite": "epsilon-plus", "initial": "one"}),
    rule_cases.GAMMA: ("lrp", {"composite": "epsilon-gamma-box", "initial": "one", **BOX}),
    rule_cases.CAM: ("grad-cam", {}),
}
#: How often the onnxruntime backend must be faster.
WANTED = 1.2


def compiled(network: Path, case: str, folder: Path) -> Path:
    """The explanation as a file; made once per folder."""
    method, params = CASES[case]
    path = folder / f"{network.stem}.{method}.{params.get('composite', '')}.onnx"
    if not path.exists():
        model = analyzer.load(network, "cpu", threads=1)
        analyzer.compile(model, method, target=rule_cases.TARGET, output=path, verify=False, **params)
    return path


def session(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    """One run of a file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ready = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: ready.run(["relevance"], {"image": x})[0]


def timed(network: str, batches: list[int], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """All cases of one network."""
    path, _ = export(network, folder)
    files = {case: compiled(path, case, folder) for case in CASES}
    rows, draw = [], random.Random(0)
    for batch in batches:
        x = rule_cases.image(batch)
        torchs = rule_cases.ours(path, x)
        for case, file in files.items():
            both = {"torch": torchs[case], "onnxruntime": session(file, x)}
            want, got = both["torch"](), both["onnxruntime"]()
            taken: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
            for _ in range(rounds if batch == 1 else max(2, rounds // 2)):
                for side in draw.sample(list(both), 2):
                    start = time.process_time()
                    both[side]()
                    taken[side].append(time.process_time() - start)
            gap = np.abs(got - want)
            ratio = statistics.median(a / b for a, b in zip(taken["torch"], taken["onnxruntime"], strict=True))
            row: dict[str, Any] = {"network": network, "batch": batch, "case": case, "times_faster": ratio}
            row |= {f"{side}_seconds": statistics.median(seconds) for side, seconds in taken.items()}
            row |= {"largest_difference": float(gap.max() / np.abs(want).max())}
            rows.append(row | {"moved": float(gap.sum() / np.abs(want).sum())})
            print(row, flush=True)
            del both
            gc.collect()
    return rows


def equality() -> list[dict[str, Any]]:
    """Largest differences over all architectures, each proved to be rounding where it isn't small."""
    from tests.analyzer.compiler import test_architectures as held

    shared = ROOT.parent / "shared"
    groups: list[Callable[[Path], list[held.Case]]] = [lambda folder: held.own(ROOT / "models", folder)]
    if (shared / "DESIGN.md").exists():
        groups += [lambda _: held.references(shared), lambda _: held.exports(shared, 0, 1)]
        groups += [lambda _, name=name: held.real(shared, name) for name in held.REAL]  # type: ignore[misc]
    rows = []
    for group in groups:
        with tempfile.TemporaryDirectory() as folder:
            given = group(Path(folder))
            gots = held.outcomes(given, Path(folder))
        for case, got in zip(given, gots, strict=True):
            proof = held.equal(case, got)
            batch = "free" if case.compiled.batch is None else str(case.compiled.batch)
            rows.append({
                "architecture": case.name, "method": case.method, "batch": batch, "difference": proof.gap,
                "reason": str(proof) if proof.gap > held.TOLERANCE else "",
            })  # fmt: skip
            print(rows[-1], flush=True)
        del given
        gc.collect()
    return rows


def _time_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | batch | case | torch, s | onnxruntime, s | times faster | largest difference | relevance moved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {r['network']} | {r['batch']} | {r['case']} | {r['torch_seconds']:.3f} | {r['onnxruntime_seconds']:.3f} "
        f"| {r['times_faster']:.2f} | {r['largest_difference']:.0e} | {r['moved']:.0e} |"
        for r in rows
    ]


def _equality_table(rows: list[dict[str, Any]]) -> list[str]:
    methods = list(dict.fromkeys(r["method"] for r in rows))
    lines = [
        f"| architecture | batch | {' | '.join(methods)} |",
        "|---|---|" + "---|" * len(methods),
    ]
    for name in dict.fromkeys(r["architecture"] for r in rows):
        own = {r["method"]: r for r in rows if r["architecture"] == name}
        cells = [f"{own[m]['difference']:.0e}" if m in own else "no feature map" for m in methods]
        lines.append(f"| {name} | {next(iter(own.values()))['batch']} | {' | '.join(cells)} |")
    noted = [r for r in rows if r["reason"]]
    lines += ["", "Proved to be rounding:", ""] if noted else []
    return lines + [f"- {r['architecture']}, {r['method']}: {r['reason']}" for r in noted]


def main() -> None:
    """Measure and write ``results/compiled.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=7)
    cli.add_argument("--batch", type=int, action="append")
    cli.add_argument("--network", action="append")
    cli.add_argument("--folder", type=Path, help="keep networks and compiled files here")
    cli.add_argument("--only", choices=["time", "equality"])
    args = cli.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    file = RESULTS / "compiled.json"
    found: dict[str, Any] = json.loads(file.read_text()) if args.only and file.exists() else {}
    if args.only != "equality":
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.folder or Path(temporary)
            found["rounds"] = args.rounds
            found["time"] = [
                row
                for name in args.network or ["vgg16", "resnet50"]
                for row in timed(name, args.batch or [1, 8], args.rounds, folder)
            ]
    if args.only != "time":
        found["equality"] = equality()
    lines: list[str] = []
    if "time" in found:
        lines += [
            f"Process CPU time on one thread, medians of {found['rounds']} rounds (batch 8: half as many); {WANTED} times faster "
            "is wanted. Random weights leave many units within rounding of a kink, so single places differ.",
            "",
            *_time_table(found["time"]),
        ]
    if "equality" in found:
        lines += ["", "Largest difference to the torch backend, relative to the largest relevance", ""]
        lines += _equality_table(found["equality"])
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")
    file.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
