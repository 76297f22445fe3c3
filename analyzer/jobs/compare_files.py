"""Comparing two model files on a data set, and writing what was found. The job of ``onnxplain compare``.

Belongs here: from paths to a comparison, its tables as text, and a folder of results. Not here: comparing
(``analyzer.evaluation.comparison``), reading data (``analyzer.data``), the page (``analyzer.report.comparison_page``).

Everything is checked and computed before anything is written; an error leaves no file behind.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.data.dataset import open_dataset
from analyzer.evaluation.agreement import Comparison, Shown, Summary
from analyzer.evaluation.comparison import compare
from analyzer.jobs.arguments import parse_params
from analyzer.jobs.rule_options import with_rules
from analyzer.methods import registry
from analyzer.model import load
from analyzer.output_folder import OutputFolder
from analyzer.report.comparison_page import FigureTable, render_comparison
from analyzer.report.explained import created, panel, sample

#: Figure -> what it is called in tables.
NAMES = {
    "difference": "largest difference of outputs", "relative": "… in units of the largest output", "spearman": "rank correlation",
    "spearman_absolute": "… of absolute values", "top_k_overlap": "overlap of the top", "ndcg": "nDCG", "cosine": "cosine",
    "ssim": "structural similarity",
}  # fmt: skip
#: Figures that are small where models agree.
_DIFFERENCES = ("difference", "relative")
#: What is written.
_FILES = ("comparison.json", "report.html")
#: How many of the nodes, and inputs, are listed.
_MOST = 10


@dataclass(frozen=True)
class CompareJob:
    """What to compare; all values as a command line gives them.

    Attributes
    ----------
    data
        A folder, manifest, archive, table or file for the first model.
    samples
        How many are drawn; None for all.
    output
        Folder that is written to; None writes nothing.
    """

    first: str
    second: str
    data: str
    method: str
    params: Sequence[str] = ()
    rules: Sequence[str] = ()
    target: str = "top1"
    score: str = "logit"
    samples: int | None = None
    nodes: bool = False
    preprocess: str | None = None
    labels: str | None = None
    backend: str = "auto"
    output: Path | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    tf32: bool = False
    force: bool = False


@dataclass(frozen=True)
class Compared:
    """What a job found, and the files that it wrote."""

    comparison: Comparison
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**self.comparison.to_dict(), "files": [str(path) for path in self.files]}


def compare_files(job: CompareJob, progress: Callable[[int, int], None] | None = None) -> Compared:
    """Compare two files on data; write ``comparison.json`` and ``report.html`` where an output folder is given.

    Raises
    ------
    AnalyzerError
        Any error in the models, the data, the method or a parameter; then nothing has been written.
    """
    params = with_rules(parse_params(job.params, [job.method]), job.rules)[job.method]
    registry.get(job.method).check(params)
    if job.output is not None:
        OutputFolder(job.output, job.force).require_free(_FILES)
    first, second = (
        load(path, job.device, preprocess=job.preprocess, labels=job.labels, threads=job.threads, tf32=job.tf32)
        for path in (job.first, job.second)
    )
    data = open_dataset(first, job.data, samples=job.samples, seed=job.seed)
    found = compare(
        first, second, data, job.method, nodes=job.nodes, target=job.target, score=job.score, seed=job.seed,
        backend=job.backend, progress=progress, **params,
    )  # fmt: skip
    warnings = [*first.loaded.warnings, *second.loaded.warnings]
    found = replace(found, notes=(*dict.fromkeys(warnings), *found.notes))
    return Compared(found, _write(job, found, data.digest) if job.output is not None else ())


def tables_of(found: Comparison) -> list[FigureTable]:
    """The figures as tables: all inputs, those whose class changes, by class, the worst inputs, the nodes to blame."""
    percent = f"{found.confidence:.0%} interval"
    columns = ("figure", "mean", percent, "median", "worst", "inputs")
    alike = "Inputs on which both models give the same class" if found.changed else ""
    tables = [FigureTable("Agreement", columns, _figure_rows(found.overall.figures), alike)]
    if found.changed:
        about = "What is explained is the first model's class; the second model gives another"
        tables.append(FigureTable("Where the class changes", columns, _figure_rows(found.where_changed.figures), about))
    if len(found.per_class) > 1:
        rows = [_class_row(part.name, part.inputs, part.class_changed, part.figures) for part in found.per_class]
        by_class = ("class", "inputs", "class changes", "rank correlation", percent, "lowest", "overlap of the top")
        tables.append(FigureTable("By class", by_class, rows, "Means over the inputs whose class stays"))
    tables.append(_worst(found))
    return [*tables, *([_nodes(found)] if found.nodes is not None else [])]


def same_class_text(found: Comparison) -> str:
    """On how many inputs the class stays, as a sentence; empty where there are no classes."""
    same = found.same_class
    if same is None:
        return ""
    kept = same.count - len(found.changed)
    return f"same class on {kept} of {same.count} inputs ({found.confidence:.0%} interval {same.low:.2f} to {same.high:.2f})"


def keep_text(found: Comparison) -> str:
    """The nodes to keep, as they are given to onnxruntime's quantiser; empty where there are none."""
    if found.nodes is None or not found.nodes.nodes_to_exclude:
        return ""
    return f"to keep as they are: nodes_to_exclude={list(found.nodes.nodes_to_exclude)}"


def _figure_rows(figures: Mapping[str, Summary]) -> list[list[str]]:
    rows = []
    for name, each in figures.items():
        worst = each.highest if name in _DIFFERENCES else each.lowest
        counted = f"{each.count}" if not each.missing else f"{each.count}, {each.missing} without"
        rows.append(
            [NAMES.get(name, name), _number(each.mean), _interval(each), _number(each.median), _number(worst), counted]
        )
    return rows


def _class_row(name: str, inputs: int, changed: int, figures: Mapping[str, Summary]) -> list[str]:
    rank, top = figures.get("spearman"), figures.get("top_k_overlap")
    if rank is None or top is None:
        return [name, str(inputs), str(changed), "", "", "", ""]
    return [
        name, str(inputs), str(changed), _number(rank.mean), _interval(rank), _number(rank.lowest), _number(top.mean),
    ]  # fmt: skip


def _worst(found: Comparison) -> FigureTable:
    rows = []
    for row in sorted(found.rows, key=lambda each: -each.drift)[:_MOST]:
        kept, other = found.class_name(row.first_class), found.class_name(row.second_class)
        text = f"{kept} → {other}" if row.class_changed else kept or row.target
        figures = [row.similarity.get(name, np.nan) for name in ("spearman", "top_k_overlap")]
        rows.append([row.id, text, *map(_number, figures), _number(row.relative)])
    columns = ("input", "class", "rank correlation", "overlap of the top", "outputs differ by")
    return FigureTable("Inputs that drift most", columns, rows)


def _nodes(found: Comparison) -> FigureTable:
    assert found.nodes is not None
    rows = [
        [
            each.node, each.op, f"{each.share:.0%}", each.sites[0].part, f"{each.score:.3g}", _decibel(each.sites[0].sqnr),
            _decibel(each.sqnr),
        ]
        for each in found.nodes.nodes[:_MOST]
    ]  # fmt: skip
    columns = ("node", "operator", "relevance moved", "mostly by", "score moved", "own error, dB", "error so far, dB")
    about = (
        "The error that each node brings in alone, weighted by the derivative of the score; signal to noise, which adds up "
        f"from layer to layer, is lowest at {found.nodes.named_by_sqnr or 'no node'}"
    )
    return FigureTable("Nodes that make explanations move", columns, rows, about)


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "none" if np.isnan(value) else "infinite"


def _interval(each: Summary) -> str:
    return f"{each.low:.3g} to {each.high:.3g}" if np.isfinite(each.low) else "too few"


def _decibel(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "" if np.isnan(value) else "none"


def _write(job: CompareJob, found: Comparison, data_digest: str) -> tuple[Path, ...]:
    assert job.output is not None
    text = json.dumps({**found.to_dict(), "data_sha256": data_digest}, indent=2, ensure_ascii=False) + "\n"
    lead = ", ".join(
        part for part in (f"{len(found.rows)} inputs explained by {found.method}", same_class_text(found)) if part
    )
    provenance = [
        ("first", f"sha256 {found.sha256[0]}"), ("second", f"sha256 {found.sha256[1]}"), ("data", f"sha256 {data_digest}"),
        ("command", _command(job)),
    ]  # fmt: skip
    notes = [*found.notes, *(found.nodes.notes if found.nodes is not None else ())]
    samples = [_side_by_side(found, shown) for shown in found.shown]
    tables = tables_of(found)
    if kept := keep_text(found):
        tables[-1] = replace(tables[-1], about=f"{tables[-1].about}. {kept[0].upper()}{kept[1:]}")
    page = render_comparison(found.first, found.second, lead, tables, samples, notes, provenance, created()).encode()
    with OutputFolder(job.output, job.force).drafts() as (folder, drafts):
        for name, content in zip(_FILES, (text.encode(), page), strict=True):
            (drafts / name).write_bytes(content)
    return tuple(folder / name for name in _FILES)


def _side_by_side(found: Comparison, shown: Shown) -> tuple[Any, list[Any]]:
    """An input with both models' maps."""
    row = shown.row
    panels = [
        replace(
            panel(each, 0), method=f"{each.method} of {name}", notes=(), seconds=None
        )  # both are of the whole batch
        for each, name in ((shown.first, found.first), (shown.second, found.second))
    ]
    alike = [f"{NAMES.get(name, name)} {_number(row.similarity[name])}" for name in ("spearman", "top_k_overlap")]
    if row.class_changed:
        alike.append(f"this model's class: {found.class_name(row.second_class)}")
    panels[1] = replace(panels[1], notes=(", ".join(alike),))
    return sample(shown.first, 0, row.id, shown.source), panels


def _command(job: CompareJob) -> str:
    words = ["onnxplain", "compare", job.first, job.second, job.data, "-m", job.method]
    words += [
        word for flag, texts in (("-p", job.params), ("--rule", job.rules)) for text in texts for word in (flag, text)
    ]
    options = {
        "-t": job.target if job.target != "top1" else None,
        "--score": job.score if job.score != "logit" else None,
        "--samples": None if job.samples is None else str(job.samples),
        "--preprocess": job.preprocess,
        "--labels": job.labels,
        "--backend": job.backend if job.backend != "auto" else None,
        "--seed": str(job.seed) if job.seed else None,
    }
    words += [word for flag, text in options.items() if text is not None for word in (flag, text)]
    return shlex.join([*words, *(["--nodes"] if job.nodes else [])])
