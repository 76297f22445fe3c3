"""Perturbation methods beside bare onnxruntime and beside peers: processor time at equal evaluations, and peak memory.

Time: one thread on both sides, process CPU time, rounds in which all cases of a network take turns; each figure is the median
of the rounds' ratios per evaluation of the model. Each side is a process in an environment of its own (``.venv-bench`` holds
the peers), which answers when it is asked. "Over bare" is an explanation by a model that has explained before, beside bare
runs of ready-made inputs at the batch size that costs least. Beside peers an explanation begins with the file: sessions are
made and the batch size is found within it; peers too begin with the file, but have run once before.
Memory: every case in a process of its own; its peak less the peak of a process that only runs the bare session.

    OMP_NUM_THREADS=1 python -m benchmarks.perturbation [--rounds 3] [--networks …] [--peers PYTHON] [--folder F]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import cold_start, shapley
from benchmarks.incremental import file_of
from benchmarks.perturbation_inputs import FEW
from benchmarks.perturbation_page import page
from benchmarks.perturbation_side import Side

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEERS = ROOT / ".venv-bench" / "bin" / "python"
SQUEEZENET = ROOT.parent / "shared" / "data" / "models" / "squeezenet1_0_fp32_cast.onnx"
#: Network -> evaluations of a call.
NETWORKS = {"mobilenet_v2": 400, "resnet18": 150, "vgg16": 40, "squeezenet": 200}
SIZES = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("occlusion", "occlusion, whole runs", "bubbles", "rise", "lime", "kernel-shap", "feature-ablation")
#: Peer -> our case, and by network how many times as costly it should be at least.
BESIDE: dict[str, tuple[str, dict[str, float]]] = {
    "DIANNA RISE": ("rise", {"mobilenet_v2": 3.0, "resnet18": 1.4}),
    "DIANNA LIME": ("lime", {"mobilenet_v2": 1.7}),
    "DIANNA KernelSHAP": ("kernel-shap", {"mobilenet_v2": 2.4}),
    "captum Occlusion": ("occlusion", {"mobilenet_v2": 2.5}),
    "lime package": ("lime", {"mobilenet_v2": 1.4}),
}
TARGET = 5
_ONE_CLASS = "DIANNA KernelSHAP"
_VERSIONS = ("onnxruntime", "onnxruntime-gpu", "numpy", "torch", "dianna", "captum", "lime", "shap", "scikit-image")


def one_class(path: Path, folder: Path) -> Path:
    """The model with only the target's score left, (batch, 1)."""
    import onnx
    from onnx import helper, numpy_helper

    made = folder / f"{path.stem}.one.onnx"
    proto = onnx.load(path)
    if not made.exists():
        import numpy as np

        graph, name = proto.graph, proto.graph.output[0].name
        graph.initializer.append(numpy_helper.from_array(np.array([TARGET], np.int64), "the_class"))
        graph.node.append(helper.make_node("Gather", [name, "the_class"], ["one_class"], axis=1))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("one_class", onnx.TensorProto.FLOAT, ["batch", 1]))
        onnx.save(proto, made)
    return made


def overhead(side: Side, path: Path, n: int, rounds: int) -> dict[str, Any]:
    """Every method over bare runs."""
    base = {"model": str(path), "n": n}
    sizes = {}
    for size in SIZES:
        short = {**base, "n": max(size, n // 4), "batch": size}
        answers = [side.ask("bare", **short) for _ in range(2)]
        if "error" in answers[1]:
            break
        sizes[size] = answers[1]["each"]
    best = min(sizes, key=sizes.__getitem__)
    warm = {case: side.ask(case, **base) for case in METHODS}
    able = [case for case in METHODS if "error" not in warm[case]]
    ratios: dict[str, list[float]] = {case: [] for case in able}
    costs: dict[str, list[float]] = {case: [] for case in able}
    for _ in range(rounds):
        before = side.ask("bare", **base, batch=best)["each"]
        for case in able:
            costs[case].append(side.ask(case, **base)["each"])
            after = side.ask("bare", **base, batch=best)["each"]
            ratios[case].append(2 * costs[case][-1] / (before + after))
            before = after
    return {
        "bare": {"batch": best, "each": sizes[best], "sizes": sizes},
        "over": {case: statistics.median(ratios[case]) - 1 for case in able},
        "each": {case: statistics.median(costs[case]) for case in able},
        "incremental": warm["occlusion"].get("incremental"),
        "errors": {case: warm[case]["error"] for case in METHODS if case not in able},
    }


def beside(
    our_side: Side, their_side: Side, name: str, path: Path, n: int, rounds: int, folder: Path
) -> dict[str, Any]:
    """Peers as multiples of ours."""
    found = {}
    for peer, (case, _) in BESIDE.items():
        model = one_class(path, folder) if peer == _ONE_CLASS else path
        base = {"model": str(model), "n": n, "network": name, "target": 0 if peer == _ONE_CLASS else TARGET}
        warm = their_side.ask(peer, **{**base, "n": max(10, n // 8)})
        if "error" in warm:
            found[peer] = {"error": warm["error"]}
            continue
        our_side.ask(case, **base, fresh=True)
        pairs = [(their_side.ask(peer, **base), our_side.ask(case, **base, fresh=True)) for _ in range(rounds)]
        ratios = [theirs["each"] / ours["each"] for theirs, ours in pairs]
        found[peer] = {
            "beside": case, "times": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
            "theirs": statistics.median(theirs["seconds"] for theirs, _ in pairs),
            "ours": statistics.median(ours["seconds"] for _, ours in pairs),
            "evaluations": [pairs[0][0]["evaluations"], pairs[0][1]["evaluations"]],
            "left_out": pairs[0][0].get("left_out", 0.0),
        }  # fmt: skip
    return found


def alone(python: str | Path, side: str, case: str, **asked: Any) -> float | None:
    """Peak resident MiB of a process that does one thing."""
    process = Side(python, side)
    got = process.ask(case, **asked)
    process.close()
    return None if "error" in got else float(got["peak_mib"])


def memory(path: Path, name: str, n: int, best: int, peers: Path | None) -> dict[str, Any]:
    """Peaks of every method and peer above the bare session's."""
    base = {"model": str(path), "n": n, "network": name, "target": TARGET}
    bare = alone(sys.executable, "ours", "bare", batch=best, **base)
    assert bare is not None
    cases = {case: alone(sys.executable, "ours", case, **base) for case in METHODS}
    for peer in BESIDE if peers is not None else ():
        if peer != _ONE_CLASS:
            cases[peer] = alone(peers or "", "peers", peer, **base)
    return {"bare": bare, "above": {case: peak - bare for case, peak in cases.items() if peak is not None}}


def measured(name: str, folder: Path, rounds: int, peers: Path | None) -> dict[str, Any]:
    """Everything about one network."""
    path, n = SQUEEZENET if name == "squeezenet" else file_of(name, folder), NETWORKS[name]
    side = Side(sys.executable, "ours")
    if n < FEW:
        rounds = 1
    found: dict[str, Any] = {"evaluations": n, "overhead": overhead(side, path, n, rounds)}
    against = peers if name in ("mobilenet_v2", "resnet18") else None
    if against is not None:
        their_side = Side(against, "peers")
        found["beside"] = beside(side, their_side, name, path, n, rounds, folder)
        their_side.close()
    side.close()
    found["memory"] = memory(path, name, n, found["overhead"]["bare"]["batch"], against)
    return found


def environment(peers: Path | None) -> dict[str, Any]:
    """The machine and the versions of both sides."""
    import platform

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    found: dict[str, Any] = {"processor": model, "cores": os.cpu_count(), "system": platform.system()}
    for name, python in (("ours", sys.executable), ("peers", peers)):
        if python is not None:
            side = Side(python, name)
            found[name] = side.ask("facts", names=_VERSIONS)["versions"]
            side.close()
    return found


def main() -> None:
    """Measure and write ``results/perturbation.{json,md}``, part by part; parts not measured stay as they were."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=3)
    cli.add_argument("--networks", nargs="*", default=list(NETWORKS))
    cli.add_argument("--peers", type=Path, default=PEERS)
    cli.add_argument("--folder", type=Path)
    cli.add_argument("--networks-only", action="store_true", help="neither the cold start nor the shap package")
    asked = cli.parse_args()
    peers = asked.peers if asked.peers.exists() else None
    names = [name for name in asked.networks if name != "squeezenet" or SQUEEZENET.exists()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        held = RESULTS / "perturbation.json"
        found = json.loads(held.read_text()) if held.exists() else {"networks": {}, "cold_start": {}, "shapley": []}
        found |= {"rounds": asked.rounds, "environment": environment(peers)}
        for name in names:
            found["networks"][name] = measured(name, folder, asked.rounds, peers)
            write(found)
        if not asked.networks_only:
            found["cold_start"] = cold_start.measured(file_of("mobilenet_v2", folder), asked.rounds)
            found["shapley"] = shapley.measured(folder, None if peers is None else Side(peers, "peers"))
            write(found)
    print((RESULTS / "perturbation.md").read_text())


def write(found: dict[str, Any]) -> None:
    """Put what is known into the results."""
    found["networks"] = {name: found["networks"][name] for name in NETWORKS if name in found["networks"]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "perturbation.json").write_text(json.dumps(found, indent=2) + "\n")
    text = page(found, {peer: least for peer, (_, least) in BESIDE.items()})
    (RESULTS / "perturbation.md").write_text(text)


if __name__ == "__main__":
    main()
