"""Importing a 25-million-parameter CNN: seconds and peak memory beside onnxruntime's session and onnx2torch.

Each case runs in a process of its own, the cases take turns, and figures are medians. Memory is the peak resident set above
what the process held before it opened the file, as a multiple of the file's size.

    python -m benchmarks.importing [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

_COMMON = """
import os, sys, time, resource, json
import numpy as np
path = sys.argv[1]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
"""
#: torch's own code pages and scratch memory belong to the base process: it runs a convolution once before the file.
_WARM = """
import torch
with torch.no_grad():
    torch.nn.functional.linear(torch.zeros(1, 2048), torch.zeros(1000, 2048))
    torch.nn.functional.max_pool2d(torch.conv2d(torch.zeros(1, 64, 56, 56), torch.zeros(64, 64, 3, 3)).relu(), 3)
"""
_OURS = """
import onnx, onnxruntime, analyzer, analyzer.model, analyzer.importer.trace
from analyzer.importer import table
table._load()
"""
_OTHERS = """
import onnx
from analyzer.importer import onnx2torch_fallback as second_source
second_source.available()
import onnx2torch
"""
_END = """
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "memory": peak() - before}))
"""
_START = "before, wall, cpu = resident(), time.perf_counter(), time.process_time()\n"
CASES = {
    "onnxplain: load": _WARM + _OURS + _START + "model = analyzer.load(path, 'cpu'); model.graph\n",
    "onnxplain: load and trace": _WARM + _OURS + _START
    + "model = analyzer.load(path, 'cpu'); model.trace(model.feed(x))\n",
    "onnxplain: load, trace and verify": _WARM + _OURS + _START
    + "model = analyzer.load(path, 'cpu'); assert model.verify(x).ok\n",
    "onnxruntime: session": "import onnxruntime\n" + _START
    + "session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])\n",
    "onnx2torch: convert": _WARM + _OTHERS + _START + "net = onnx2torch.convert(path)\n",
    "onnx2torch: convert and run": _WARM + _OTHERS + _START
    + "net = onnx2torch.convert(path)\nwith torch.no_grad(): net(torch.from_numpy(x))\n",
}  # fmt: skip


def main() -> None:
    """Measure and write ``results/importing.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=5)
    rounds = cli.parse_args().rounds
    from benchmarks.networks import export

    with tempfile.TemporaryDirectory() as folder:
        path, _ = export("resnet50", Path(folder), opset=13)
        size = path.stat().st_size
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
        for _ in range(rounds):
            for name, code in CASES.items():
                done = subprocess.run(
                    [sys.executable, "-c", _COMMON + code + _END, str(path)], capture_output=True, text=True, check=True
                )
                taken[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    rows = {
        name: {key: statistics.median(v[key] for v in values) for key in ("wall", "cpu", "memory")}
        for name, values in taken.items()
    }
    base = rows["onnxruntime: session"]["cpu"]
    lines = ["| case | CPU time, × onnxruntime's session | CPU s | peak memory, × file |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['cpu'] / base:.2f} | {row['cpu']:.2f} | {row['memory'] / size:.2f} |"
        for name, row in rows.items()
    ]
    text = f"ResNet-50's shape, older exporter, opset 13, file {size / 1e6:.1f} MB, {rounds} rounds, medians\n\n"
    text += "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "importing.json").write_text(
        json.dumps({"file": size, "rounds": rounds, "cases": rows}, indent=2) + "\n"
    )
    (RESULTS / "importing.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
