"""A process that runs one side of ``benchmarks.perturbation``: bare onnxruntime and onnxplain, or the peers.

Reads requests as JSON lines, answers each with a JSON line: what the call cost this process, and how many evaluations of the
model it made. Sides differ in their environments, so each needs a process of its own; they are asked in turns.

    python -c "from benchmarks.perturbation_worker import main; main()" ours|peers

Belongs here: answering, bare onnxruntime, onnxplain. Not here: asking (``perturbation_side``), the peers
(``perturbation_peers``), what both are given (``perturbation_inputs``), rounds and tables.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.perturbation_inputs import FEW, SEGMENTS, STRIDE, WIDE, WINDOW, bare_session, blocks, picture

Case = Callable[[dict[str, Any]], dict[str, Any]]


def bare(asked: dict[str, Any]) -> dict[str, Any]:
    """Runs of ready-made inputs in batches of ``batch``; outputs are thrown away."""
    session, size = bare_session(asked["model"]), asked["batch"]
    name, kind = session.get_inputs()[0].name, session.get_inputs()[0].type
    feed = {name: np.repeat(picture("float16" if "float16" in kind else "float32"), size, axis=0)}
    count = max(1, round(asked["n"] / size))
    began = time.process_time()
    for _ in range(count):
        session.run(None, feed)
    return {"seconds": time.process_time() - began, "evaluations": count * size}


def windows(n: int) -> dict[str, Any]:
    """Parameters of occlusion."""
    times = WIDE if n < FEW else 1
    return {"window": times * WINDOW, "stride": times * STRIDE}


#: Case -> method, parameters of n evaluations.
OURS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "occlusion": ("occlusion", lambda n: windows(n)),
    "occlusion, whole runs": ("occlusion", lambda n: {**windows(n), "incremental": "off"}),
    "bubbles": ("bubbles", lambda n: {"samples": n}),
    "rise": ("rise", lambda n: {"masks": n}),
    "lime": ("lime", lambda n: {"samples": n, "segments": blocks()}),
    "kernel-shap": ("kernel-shap", lambda n: {"samples": n, "segments": SEGMENTS}),
    "feature-ablation": ("feature-ablation", lambda n: {"segments": blocks()}),
}


@functools.cache
def loaded(path: str) -> Any:
    """A model that is kept from call to call."""
    import analyzer

    return analyzer.load(path, "cpu", threads=1)


def ours(asked: dict[str, Any]) -> dict[str, Any]:
    """One explanation; ``fresh`` loads the model and makes its sessions anew, as a first call does."""
    import analyzer

    method, params = OURS[asked["case"]]
    gc.collect()
    began = time.process_time()
    model = analyzer.load(asked["model"], "cpu", threads=1) if asked.get("fresh") else loaded(asked["model"])
    x = picture(next(iter(model.inputs.values())).dtype)
    made = model.explain(x, method, target=asked.get("target", "top1"), **params(asked["n"]))
    seconds = time.process_time() - began
    return {
        "seconds": seconds,
        "evaluations": made.record["evaluations"],
        "incremental": made.record.get("incremental"),
    }


def facts(asked: dict[str, Any]) -> dict[str, Any]:
    """Versions of what runs here."""
    import importlib.metadata
    import platform

    found = {"python": platform.python_version()}
    for name in asked["names"]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"versions": found}


def peak() -> float:
    """The largest resident MiB of this process; what getrusage says begins with the parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if kib is None else kib) / 1024


def cases(side: str) -> dict[str, Case]:
    """What a side can be asked."""
    if side == "ours":
        return {"bare": bare, "facts": facts, **dict.fromkeys(OURS, ours)}
    from benchmarks.perturbation_peers import PEERS

    return {"facts": facts, **PEERS}


def main() -> None:
    """Answer until there is nothing more to read; what libraries print goes to stderr."""
    known, answers = cases(sys.argv[1]), sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            try:
                got = known[asked["case"]](asked)
            except Exception as problem:  # a peer that can't do it is a result too
                got = {"error": f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"}
        got["peak_mib"] = peak()
        print(json.dumps(got), file=answers, flush=True)
