"""Every method on exports of many current architectures: how many are explained, refused in words, or fail.

Small configurations with random weights of what timm, transformers, torchvision, scikit-learn, LightGBM and XGBoost define
(``new_export_networks``, ``new_export_tables``; what isn't installed is left out), by both of torch's exporters. One process
explains one export after the other; it is started again where one crashes or takes too long.

*ok*: a finite map. *refused*: an error for users, in words. *failed*: another exception, a trace that disagrees with
onnxruntime, numbers that aren't finite, a crash, a time-out. For some methods the explanation is compiled too and held against
the torch backend: equal within 1e-4 of the largest value, or differing by rounding as proved (``tests.kinks``). Where rounding
moves so much that neither can be told, it must be about as near to the explanation in double precision as torch's is.

    OMP_NUM_THREADS=1 python -m benchmarks.new_exports [--only TEXT] [--exporter legacy|dynamo|both|turns] [--every N]

needs ``pip install timm transformers lightgbm xgboost onnxmltools`` beside the project; torch's version is the project's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent
#: Seconds without a word after which a process counts as hanging; its processor time is limited by the worker itself.
LONGEST = 3600


def main() -> None:
    """Run and write ``results/new_exports.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--only", default="", help="architectures whose package/name has this regular expression in it")
    cli.add_argument("--exporter", choices=["legacy", "dynamo", "both", "turns"], default="both")
    cli.add_argument("--every", type=int, default=1, help="every n-th architecture")
    cli.add_argument("--resume", action="store_true", help="go on where the results file ends")
    cli.add_argument("--results", type=Path, default=RESULTS / "new_exports")
    given = cli.parse_args()
    rows: list[dict[str, Any]] = []
    commands: list[str] = []
    stored = given.results.with_suffix(".json")
    if given.resume and stored.exists():
        before = json.loads(stored.read_text())
        rows, commands = before["rows"], before["commands"]
    done = {row["export"] for row in rows}
    commands.append(" ".join(["python -m benchmarks.new_exports", *sys.argv[1:]]))
    about = {"commands": commands, "versions": _versions()}
    labels = _labels(given.only, given.exporter, given.every)
    for row in outcomes([label for label in labels if label not in done]):
        if rows and row["export"] != rows[-1]["export"]:
            print(rows[-1]["export"], flush=True)
            _write(given.results, rows, about)
        rows.append(row)
        if row["kind"] in ("failed", "not exported"):
            print(row, flush=True)
    _write(given.results, rows, about)
    print(table(rows, about))


def _write(results: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    results.with_suffix(".json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    results.with_suffix(".md").write_text(table(rows, about))


def outcomes(labels: list[str]) -> Iterator[dict[str, Any]]:
    """All rows, from worker processes that are started again after a crash."""
    waiting = list(labels)
    while waiting:
        command = [sys.executable, "-m", "benchmarks.new_exports_worker", *waiting]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=_environment()) as worker:
            for line in _lines(worker):
                row = json.loads(line)
                if "done" in row:
                    waiting.remove(row["done"])
                else:
                    yield row
            late = worker.poll() is None and bool(waiting)
            worker.kill()
        if waiting:
            says = (
                "took too long" if late or worker.returncode == -signal.SIGXCPU else f"crashed with {worker.returncode}"
            )
            yield {"export": waiting.pop(0), "method": "", "kind": "failed", "says": says}


def _lines(worker: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What a worker prints, until it ends or an export takes too long."""
    assert worker.stdout is not None
    pending, last = b"", time.monotonic()
    while select.select([worker.stdout], [], [], max(0.0, last + LONGEST - time.monotonic()))[0]:
        found = os.read(worker.stdout.fileno(), 1 << 16)
        *lines, pending = (pending + found).split(b"\n")
        if any(b'"done"' in line for line in lines):
            last = time.monotonic()
        yield from (line for line in lines if line.startswith(b"{"))  # packages print what they like
        if not found:
            worker.wait()
            return


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _labels(only: str, exporter: str, every: int) -> list[str]:
    """Names of exports: ``package/name:exporter``; of tables, whose converters are their own, without exporter."""
    from benchmarks.new_export_networks import architectures

    labels = []
    for number, each in enumerate([each for each in architectures() if re.search(only, each.label)][::every]):
        if each.kind == "table":
            labels.append(each.label)
            continue
        turns = {"both": ["legacy", "dynamo"], "turns": [("legacy", "dynamo")[number % 2]]}
        labels += [f"{each.label}:{how}" for how in turns.get(exporter, [exporter])]
    return labels


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in (
        "torch",
        "timm",
        "transformers",
        "torchvision",
        "scikit-learn",
        "lightgbm",
        "xgboost",
        "onnxruntime-gpu",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def table(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The page."""
    tried = [row for row in rows if row["kind"] != "not exported"]
    exports = {row["export"] for row in tried}
    lines = [
        "# New exports", "", *(f"    {command}" for command in about["commands"]), "",
        f"{len(exports)} exports of {len({label.partition(':')[0] for label in exports})} architectures.",
        "", ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + ".", "",
        "| method | ok | refused | failed |", "|---|---|---|---|",
    ]  # fmt: skip
    for method in dict.fromkeys(row["method"] for row in tried):
        counts = Counter(row["kind"] for row in tried if row["method"] == method)
        lines.append(
            f"| {method or 'the export as a whole'} | {counts['ok']} | {counts['refused']} | {counts['failed']} |"
        )
    compiled = [row for row in tried if row["method"].startswith("compiled")]
    if compiled:
        good = sum(row["kind"] == "ok" for row in compiled)
        near = sum(row["says"].startswith("ill-conditioned") for row in compiled)
        lines += [
            "", f"Of {len(compiled)} explanations that were to be compiled, {good} are: {good / len(compiled):.1%};",
            f"{near} of them can't be told from torch's but by double precision: rounding moves too much.",
        ]  # fmt: skip
    for kind in ("failed", "refused", "not exported"):
        said = Counter((row["method"], _short(row["says"])) for row in rows if row["kind"] == kind)
        if said:
            lines += ["", f"## {kind.capitalize()}", ""]
            first = {(r["method"], _short(r["says"])): r["export"] for r in reversed(rows) if r["kind"] == kind}
            lines += [f"- {n} × {m or 'all'}: {s} ({first[m, s]})" for (m, s), n in said.most_common()]
    return "\n".join(lines) + "\n"


def _short(says: str) -> str:
    """The words without what differs from model to model: quoted names and numbers."""
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "…", re.sub(r"'[^']*'", "'…'", says))[:200]


if __name__ == "__main__":
    main()
