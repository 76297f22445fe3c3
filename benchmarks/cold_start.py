"""From the start of ``onnxplain explain`` to the first score: processor time of the whole process, and what it imported.

The command line runs in a process of its own that stops itself when the first perturbed evaluation has been scored.

    OMP_NUM_THREADS=1 python -m benchmarks.cold_start MODEL [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What a run is called -> its arguments.
RUNS = {
    "occlusion": ["-m", "occlusion"],
    "occlusion, whole runs": ["-m", "occlusion", "-p", "incremental=off"],
    "rise": ["-m", "rise"],
    "lime": ["-m", "lime"],
    "lime, segments=grid:16": ["-m", "lime", "-p", "segments=grid:16"],
    "kernel-shap": ["-m", "kernel-shap"],
    "kernel-shap, segments=grid:16": ["-m", "kernel-shap", "-p", "segments=grid:16"],
}
_HEAVY = ("torch", "sklearn", "skimage", "scipy", "matplotlib")
_RUN = f"""
import json, os, resource, sys
from analyzer.methods.context import Context

def first(self, done, total):
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = [name for name in {_HEAVY!r} if name in sys.modules]
    print(json.dumps({{"seconds": used.ru_utime + used.ru_stime, "imported": heavy}}), flush=True)
    os._exit(0)

Context.advance = first
from cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def once(model: Path, picture: Path, arguments: list[str], folder: Path) -> dict[str, Any]:
    """One run of the command line, up to its first score."""
    command = [sys.executable, "-c", _RUN, "explain", str(model), str(picture), *arguments, "--threads", "1"]
    done = subprocess.run(
        [*command, "-o", str(folder / "out"), "--force"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(model: Path, rounds: int) -> dict[str, Any]:
    """Run -> median CPU seconds and heavy imports; all runs take turns."""
    from PIL import Image

    from benchmarks.perturbation_inputs import picture

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / "picture.png"
        Image.fromarray((picture()[0].transpose(1, 2, 0) * 255).astype("uint8")).save(file)
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
        for _ in range(max(rounds, 3)):
            for name, arguments in RUNS.items():
                answers[name].append(once(model, file, arguments, folder))
    return {
        name: {"seconds": statistics.median(a["seconds"] for a in got), "imported": got[0]["imported"]}
        for name, got in answers.items()
    }


def main() -> None:
    """Print the figures."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("model", type=Path)
    cli.add_argument("--rounds", type=int, default=5)
    asked = cli.parse_args()
    print(json.dumps(measured(asked.model.resolve(), asked.rounds), indent=2))


if __name__ == "__main__":
    main()
