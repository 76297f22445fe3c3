"""Explains exports one after the other; each outcome is a line of JSON on stdout.

Belongs here: exporting, and trying every method. Not here: the architectures (``new_export_networks``,
``new_export_tables``), counting (``new_exports``).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import analyzer
from analyzer.importer import onnx2torch_fallback
from benchmarks.architecture import Architecture
from benchmarks.new_export_networks import architectures
from tests.analyzer.compiler.compiling import METHODS as COMPILED
from tests.analyzer.compiler.compiling import Feed, outcome, run

_ANY: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": ("gradient", {}), "guided-backprop": ("guided-backprop", {}),
    "integrated-gradients": ("integrated-gradients", {"steps": 4}), "lrp epsilon-plus": ("lrp", {}),
    "lrp attn-lrp": ("lrp", {"composite": "attn-lrp"}), "deep-taylor": ("deep-taylor", {}), "deeplift": ("deeplift", {}),
    "occlusion": ("occlusion", {}), "kernel-shap": ("kernel-shap", {"samples": 24}),
}  # fmt: skip
_PICTURE: dict[str, tuple[str, dict[str, Any]]] = {
    "occlusion": ("occlusion", {"window": 16, "stride": 16}), "rise": ("rise", {"masks": 16}), "grad-cam": ("grad-cam", {}),
    "kernel-shap": ("kernel-shap", {"samples": 24, "segments": 9}),
}  # fmt: skip
#: Seconds of processor time that one export may take with everything.
LONGEST = 300
AS_NEAR = "ill-conditioned: about as near to double precision as torch"
#: Kind of architecture -> label -> method and parameters.
METHODS = {
    "picture": _ANY | _PICTURE, "words": _ANY, "table": _ANY, "several": _ANY,
    "sound": _ANY | {"occlusion": ("occlusion", {"window": 100, "stride": 100})},
}  # fmt: skip


def export(each: Architecture, how: str, folder: Path) -> tuple[Path, Feed]:
    """The file and its inputs."""
    import torch

    made, feed = each.make()
    path = folder / "model.onnx"
    if isinstance(made, bytes):
        path.write_bytes(made)
        return path, feed
    more: dict[str, Any] = {"external_data": False, "verbose": False} if how == "dynamo" else {"opset_version": 17}
    if how == "legacy":
        more["dynamic_axes"] = {name: {0: "batch"} for name in [*feed, "scores"]}
    with torch.no_grad():
        torch.onnx.export(
            made,
            tuple(feed.values()),
            path,
            dynamo=how == "dynamo",
            input_names=list(feed),
            output_names=["scores"],
            **more,
        )
    return path, {name: value.numpy() for name, value in feed.items()}


def rows(each: Architecture, how: str, label: str) -> Any:
    """One row per method, and per method that is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path, feed = export(each, how, Path(folder))
        except Exception as problem:
            yield {"export": label, "method": "", "kind": "not exported", "says": _said(problem)}
            return
        try:
            model = analyzer.load(path, device="cpu", threads=1)
        except analyzer.AnalyzerError as problem:
            yield {"export": label, "method": "load", "kind": "refused", "says": str(problem)}
            return
        feed = {name: feed[name] for name in model.inputs}
        for name, (method, params) in METHODS[each.kind].items():
            kind, says = tried(model, feed, method, params)
            yield {"export": label, "method": name, "kind": kind, "says": says}
        for method in COMPILED:
            found = outcome(label, model, feed, method)
            if found.kind == "failed" and _as_near(model, feed, method):
                found = replace(found, kind="ok", says=f"{AS_NEAR}; {found.says}")
            if found.kind != "unexplained":
                yield {"export": label, "method": f"compiled {method}", "kind": found.kind, "says": found.says}


def _as_near(model: analyzer.Model, feed: Feed, method: str) -> bool:
    """Whether the compiled explanation is about as near to the one in double precision as torch's in single precision is."""
    params = COMPILED[method]
    try:
        got = run(analyzer.compile(model, method, example=feed, verify=False, **params), feed)
        single, double = (
            model.explain(feed, method, backend="torch", precision=kind, **params).raws
            for kind in ("float32", "float64")
        )
    except Exception:
        return False
    theirs, ours = (
        max(float(np.abs(maps[name] - double[name]).max() / np.abs(double[name]).max()) for name in double)
        for maps in (single, got)
    )
    return ours <= 3 * theirs and ours < 0.1


def tried(model: analyzer.Model, feed: Feed, method: str, params: dict[str, Any]) -> tuple[str, str]:
    """What became of one method."""
    try:
        found = model.explain(feed, method=method, **params)
    except analyzer.ParityError as problem:
        return "failed", str(problem)
    except analyzer.AnalyzerError as problem:
        return "refused", str(problem)
    except Exception as problem:
        return "failed", _said(problem)
    maps = [*found.attributions.values(), *found.raws.values()]
    if not all(np.isfinite(value).all() for value in maps):
        return "failed", "the map isn't finite"
    return "ok", "" if any(value.any() for value in maps) else "zero everywhere"


def _said(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"


def main() -> None:
    """Explain the exports named on the command line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    np.seterr(all="ignore")
    onnx2torch_fallback.available()  # declares what torchvision, which timm imports, lacks beside a CPU-only torch
    import torch

    torch.set_num_threads(1)
    known, stdout = {each.label: each for each in architectures()}, sys.stdout
    for label in sys.argv[1:]:
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + LONGEST, resource.RLIM_INFINITY))
        name, _, how = label.partition(":")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for row in rows(known[name], how, label):
                print(json.dumps(row), file=stdout, flush=True)
        print(json.dumps({"done": label}), file=stdout, flush=True)


if __name__ == "__main__":
    main()
