"""Which node made explanations drift: twelve int8 networks with one scale planted wrong, and whether it is found.

For each: the node that ``analyzer.compare(..., nodes=True)`` names, beside the one with the lowest signal to noise; and the rank
correlation of maps with the float network's: as quantised, with the fault, and quantised anew with the proposed nodes kept in
float (the fault planted again wherever its scale is still there).

    python -m benchmarks.drift [--inputs 16]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import analyzer
from analyzer.evaluation.comparison import compare
from benchmarks.drift_networks import FAULTS, Fault, Network, plant, workspace

RESULTS = Path(__file__).parent / "results"


def measured(fault: Fault, inputs: int, folder: Path) -> dict[str, Any]:
    """One fault: what is named, and what keeping the proposed nodes does."""
    network = Network.of(fault.network, folder, inputs)
    first = analyzer.load(network.path, "cpu")
    x = network.held_out
    sound = network.quantised(folder / "sound.onnx")
    before = _spearman(first, sound, x, fault)
    faulty = network.quantised(folder / "faulty.onnx")
    assert plant(faulty, fault), f"{fault.network} has no scale {fault.scales}"
    found = compare(first, analyzer.load(faulty, "cpu"), {network.input: x}, fault.method, nodes=True)
    drift = found.nodes
    assert drift is not None
    kept = network.quantised(folder / "kept.onnx", drift.nodes_to_exclude)
    still = plant(kept, fault)
    return {
        "network": fault.network, "method": fault.method, "scale": fault.scales[0], "factor": fault.factor,
        "to_blame": fault.node,
        "named": drift.nodes[0].node, "share": drift.nodes[0].share, "by_sqnr": drift.named_by_sqnr,
        "right": drift.nodes[0].node == fault.node, "sqnr_right": drift.named_by_sqnr == fault.node,
        "kept": list(drift.nodes_to_exclude), "nodes": len(first.proto.graph.node), "fault_still_there": still,
        "spearman_int8": before, "spearman_faulty": _mean(found), "spearman_kept": _spearman(first, kept, x, fault),
    }  # fmt: skip


def _spearman(first: analyzer.Model, path: Path, x: np.ndarray, fault: Fault) -> float:
    return _mean(compare(first, analyzer.load(path, "cpu"), x, fault.method))


def _mean(comparison: Any) -> float:
    """The mean over all inputs, also those whose class changes."""
    return float(np.nanmean([row.similarity["spearman"] for row in comparison.rows]))


def page(rows: list[dict[str, Any]], inputs: int) -> str:
    """The figures as Markdown."""
    lines = [
        f"Twelve int8 networks with one scale planted wrong, {inputs} inputs each (`python -m benchmarks.drift`). "
        f"The right node was named {sum(r['right'] for r in rows)} times of {len(rows)}; the lowest signal to noise names it "
        f"{sum(r['sqnr_right'] for r in rows)} times. Rank correlation of the maps with the float network's: int8 as it should "
        "be, with the fault, and quantised again with the proposed nodes kept in float.",
        "",
        "| network | wrong scale | node to blame | named (share) | lowest SQNR | int8 | with the fault | nodes kept | then |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [
            r["network"], f"{r['scale']} × {r['factor']:g}", r["to_blame"], f"{r['named']} ({r['share']:.2f})", r["by_sqnr"],
            f"{r['spearman_int8']:.3f}", f"{r['spearman_faulty']:.3f}", f"{len(r['kept'])} of {r['nodes']}",
            f"{r['spearman_kept']:.3f}",
        ]  # fmt: skip
        lines += [f"| {' | '.join(cells)} |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write ``results/drift.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--inputs", type=int, default=16)
    inputs = cli.parse_args().inputs
    rows = []
    for fault in FAULTS:
        with workspace() as folder:
            rows.append(measured(fault, inputs, Path(folder)))

    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "drift.json").write_text(json.dumps({"inputs": inputs, "faults": rows}, indent=2) + "\n")
    text = page(rows, inputs)
    (RESULTS / "drift.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
