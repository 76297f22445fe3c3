"""White-box explanations beside zennit and captum: time as multiples of one forward pass, and peak memory.

Time: all cases of a network take turns in one process on one thread; each figure is the median of the rounds' ratios of
process CPU time. Memory: every case of every library runs in a process of its own, which reads the model from a file; peak
resident memory of the whole process, and what the explanation itself adds once the model is loaded and has run forward.
Results are held against each other in float64, where no rounding flips a ReLU, and in float32.

    python -m benchmarks.rules [--rounds 5] [--batch 1] [--network vgg16]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import rule_cases as cases_of
from benchmarks.networks import export

RESULTS = Path(__file__).parent / "results"
PEERS = {cases_of.GRADIENT: "captum", cases_of.FORWARD: "captum"}
LABELS = (cases_of.FORWARD, cases_of.GRADIENT, cases_of.ZPLUS, cases_of.GAMMA, cases_of.ALPHA_BETA, cases_of.CAM)
Key = tuple[str, str]


def peer_of(label: str) -> str:
    """The library that a case is compared with; "" where none has it."""
    return "" if label == cases_of.CAM else PEERS.get(label, "zennit")


def every_case(path: Path, net: torch.nn.Module, x: np.ndarray, precision: str = "float32") -> dict[Key, cases_of.Case]:
    """(case, library) -> function."""
    theirs = copy.deepcopy(net).to(getattr(torch, precision))
    found = {(label, "ours"): case for label, case in cases_of.ours(path, x, precision).items()}
    found |= {(label, "captum"): case for label, case in cases_of.captum(theirs, x).items()}
    replaced = copy.deepcopy(theirs)  # zennit replaces the sums
    return found | {(label, "zennit"): case for label, case in cases_of.zennit(replaced, x).items()}


def differences(cases: dict[Key, cases_of.Case]) -> dict[str, float]:
    """Largest difference from the peer over the largest value; also the run that warms everything up."""
    found = {}
    for label in LABELS:
        mine = cases[label, "ours"]()
        if peer_of(label):
            reference = cases[label, peer_of(label)]()
            found[label] = float(np.abs(mine - reference).max() / np.abs(reference).max())
    return found


def timed(cases: dict[Key, cases_of.Case], rounds: int) -> dict[Key, list[float]]:
    """Ratios to our forward pass, round by round."""
    ratios: dict[Key, list[float]] = {key: [] for key in cases}
    order, draw = list(cases), random.Random(0)
    for _ in range(rounds):
        taken = {}
        draw.shuffle(order)  # what ran before leaves caches and memory warm or cold
        for key in order:
            function = cases[key]
            start = time.process_time()
            function()
            taken[key] = time.process_time() - start
        for key, seconds in taken.items():
            ratios[key].append(seconds / taken[cases_of.FORWARD, "ours"])
    return ratios


def measure(name: str, batch: int, rounds: int, folder: Path, memory: bool) -> list[dict[str, Any]]:
    """All cases of one network at one batch size."""
    path, net = export(name, folder)
    torch.save(net, folder / f"{name}.pt")
    x = cases_of.image(batch)
    exact = differences(every_case(path, net, x, "float64")) if batch == 1 else {}
    cases = every_case(path, net, x)
    rounded = differences(cases)
    ratios = timed(cases, rounds)
    rows = []
    for label in LABELS:
        peer = peer_of(label)
        row: dict[str, Any] = {"network": name, "batch": batch, "case": label, "rounds": rounds, "peer": peer}
        row["forwards"] = statistics.median(ratios[label, "ours"])
        if peer:
            pairs = zip(ratios[label, "ours"], ratios[label, peer], strict=True)
            row |= {"peer_forwards": statistics.median(ratios[label, peer])}
            row |= {"times_faster": statistics.median(theirs / mine for mine, theirs in pairs)}
            row |= {"difference_float32": rounded[label], "difference_float64": exact.get(label)}
        rows.append(row)
    del cases, net
    for row in rows if memory else []:
        for who in filter(None, ("ours", row["peer"])):
            row["peak_mib" if who == "ours" else "peer_peak_mib"] = in_process(name, batch, who, row["case"], folder)
    return rows


def in_process(name: str, batch: int, library: str, label: str, folder: Path) -> dict[str, float]:
    """Peak memory of one case in a process of its own, MiB."""
    command = [sys.executable, "-m", "benchmarks.rules", "--peak", name, str(batch), library, label, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def peak(name: str, batch: int, library: str, label: str, folder: Path) -> dict[str, float]:
    """Peak resident memory of this process, MiB: of all of it, and of the explanation beyond the loaded model."""
    x = cases_of.image(batch)
    if library == "ours":
        cases = cases_of.ours(export_path(name, folder), x)
        forward = cases[cases_of.FORWARD]
    else:
        with contextlib.suppress(RuntimeError):  # as second_source does, without this project's imports in the figure
            schemas = torch.library.Library("torchvision", "FRAGMENT")
            schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        net = torch.load(folder / f"{name}.pt", weights_only=False)
        forward = cases_of.captum(net, x)[cases_of.FORWARD]
        cases = getattr(cases_of, library)(net, x)
    forward()
    until_loaded, before = _status("VmHWM"), _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    cases[label]()
    explaining = _status("VmHWM")
    return {"process": max(until_loaded, explaining), "explanation": explaining - before}


def _status(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def export_path(name: str, folder: Path) -> Path:
    """Where :func:`measure` put the model."""
    return next(folder.glob(f"{name}_op*.onnx"))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| network | batch | case | forwards | peer | its forwards | times faster | difference float64 / float32 "
        "| peak MiB: process (explanation) | peer's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["network"], str(row["batch"]), row["case"], f"{row['forwards']:.2f}", row["peer"]]
        if row["peer"]:
            exact = row["difference_float64"]
            cells += [f"{row['peer_forwards']:.2f}", f"{row['times_faster']:.2f}"]
            cells += [f"{'' if exact is None else f'{exact:.0e}'} / {row['difference_float32']:.0e}"]
        else:
            cells += ["", "", ""]
        for key in ("peak_mib", "peer_peak_mib"):
            found = row.get(key)
            cells.append(f"{found['process']:.0f} ({found['explanation']:.0f})" if found else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write ``results/rules.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=7, help="at batch 1; a third of them at larger ones")
    cli.add_argument("--batch", type=int, action="append")
    cli.add_argument("--network", action="append")
    cli.add_argument("--no-memory", action="store_true")
    cli.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    args = cli.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.peak:
        name, batch, library, label, folder = args.peak
        print(json.dumps(peak(name, int(batch), library, label, Path(folder))))
        return
    from analyzer.importer import onnx2torch_fallback as second_source

    second_source.available()  # lets zennit import torchvision beside a CPU-only torch
    with tempfile.TemporaryDirectory() as folder:
        for name in args.network or ["resnet50", "vgg16"]:
            for batch in args.batch or [1, 8]:
                rounds = args.rounds if batch == 1 else max(2, args.rounds // 3)
                write(measure(name, batch, rounds, Path(folder), not args.no_memory))


def write(rows: list[dict[str, Any]]) -> None:
    """Put rows in the place of older ones of the same case in ``results/rules.{json,md}``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "rules.json"
    known = json.loads(path.read_text()) if path.exists() else []
    fresh = {(row["network"], row["batch"]) for row in rows}
    rows = [row for row in known if (row["network"], row["batch"]) not in fresh] + rows
    rows.sort(key=lambda row: (row["network"], row["batch"], LABELS.index(row["case"])))
    path.write_text(json.dumps(rows, indent=2) + "\n")
    text = (
        "Process CPU time on one thread in multiples of one forward pass of our trace, medians over rounds in random "
        "order; peak resident memory of a process per case\n\n"
    ) + table(rows)
    (RESULTS / "rules.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
