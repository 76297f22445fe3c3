"""The files of a judgement: ``evaluation.json``, the page ``evaluation.html``, a picture of each metric's curves, and
pixel-flipping as an animation.

Belongs here: from values to tables, curves and files. Not here: judging (``evaluate_files``), drawing (``analyzer.report``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analyzer.data.batches import batches
from analyzer.errors import UnsupportedError
from analyzer.evaluation import registry
from analyzer.evaluation.flipping_frames import flipping_frames
from analyzer.evaluation.measure import Array, Curve
from analyzer.explanation import jsonable
from analyzer.jobs.evaluate_files import CONFIDENCE, Evaluated
from analyzer.output_folder import OutputFolder
from analyzer.report.animation import Flipping, save_animation
from analyzer.report.evaluation_page import Chart, MetricTable, Row, render_evaluation
from analyzer.report.explained import created
from analyzer.report.picture_curves import Line, draw_curves
from analyzer.report.pictures import png

#: So many curves are told apart in a picture, and points of those whose inputs have points of their own.
_LINES, _POINTS = 8, 65
#: The metric that is animated, for so many candidates and in so many steps at most, and the file.
_FLIPPING, _FLIPS, _STEPS, _ANIMATION = "pixel-flipping", 2, 16, "pixel-flipping.webp"


def write(done: Evaluated, folder: Path) -> list[Path]:
    """Write all files, or none.

    Raises
    ------
    UsageError
        ``output.unwritable``, ``output.exists``.
    """
    tables = [_table(done, metric) for metric in done.judgement.metrics]
    flips = _flips(done)
    contents = {
        "evaluation.json": json.dumps(jsonable(done.to_dict()), indent=1).encode(),
        "evaluation.html": _page(done, tables, flips).encode(),
    }
    for metric, one in zip(done.judgement.metrics, tables, strict=True):
        for name, chart in zip(_curve_names(done, metric), one.charts, strict=True):
            pixels = draw_curves(chart.title, chart.lines, chart.x_label, chart.y_label)
            contents[f"{metric}.{re.sub(r'[^A-Za-z0-9_+-]+', '-', name)}.png"] = png(pixels)
    with OutputFolder(folder, done.job.force).drafts() as (_, drafts):
        for file, content in contents.items():
            (drafts / file).write_bytes(content)
        if flips:
            save_animation(flips[0], drafts / _ANIMATION)
    return [folder / file for file in (*contents, *((_ANIMATION,) if flips else ()))]


def _page(done: Evaluated, tables: Sequence[MetricTable], flips: Sequence[Flipping]) -> str:
    count, model = len(done.judgement.ids), done.model
    held = "" if done.selection is None else ", on which the best combination was chosen"
    lead = f"{count} {'input' if count == 1 else 'inputs'}{held}; target {done.job.targets[0]}."
    title = model.path.name if model.path is not None else "model"
    return render_evaluation(
        title, lead, tables, flips, done.warnings, created(), done.job.command, CONFIDENCE
    )  # fmt: skip


def _flips(done: Evaluated) -> list[Flipping]:
    """The first picture losing its pixels, under the best candidates; nothing where that isn't judged, or there is no picture."""
    if _FLIPPING not in done.judgement.metrics:
        return []
    first = next(row for row in range(len(done.judgement.ids)) if row not in done.judgement.unreadable)
    batch = next(iter(batches(done.model, done.dataset, {}, [done.dataset.ids.index(done.judgement.ids[first])])))
    found = []
    for number in _order(done)[:_FLIPS]:
        candidate = done.judgement.candidates[number]
        params = done.judgement.cells[number, _FLIPPING].params
        explanation = done.model.explain(batch.feed, candidate.method, **done.job.options, **candidate.params)
        try:
            flip = flipping_frames(
                done.model,
                batch.feed,
                explanation,
                0,
                **{**params, "steps": min(params["steps"], _STEPS)},
                seed=done.job.seed,
            )
        except UnsupportedError:
            return []
        found.append(replace(flip, title=f"{candidate.name}, {explanation.target[0]}"))
    return found


def _order(done: Evaluated) -> list[int]:
    """Numbers of the candidates that could be used, the best first where they are ranked."""
    usable = done.judgement.usable
    if done.selection is None:
        return usable
    ranked = [each.number for each in done.selection.ranking]
    return [*ranked, *(number for number in usable if number not in ranked)]


def _table(done: Evaluated, metric: str) -> MetricTable:
    info, judgement = registry.get(metric), done.judgement
    rows = []
    for number in _order(done):
        cell = judgement.cells[number, metric]
        known = done.interval(cell)
        missing = len(cell.values) - known.count
        reason = next(iter(cell.why_none), "")
        name = judgement.candidates[number].name
        rows.append(Row(name, known.mean, known.low, known.high, known.count, missing, reason))
    charts = [_chart(done, metric, name) for name in _curve_names(done, metric)]
    return MetricTable(metric, info.summary, info.direction, info.blind_spot, rows, charts)


def _curve_names(done: Evaluated, metric: str) -> list[str]:
    """Names of the curves that any candidate has under a metric."""
    cells = (done.judgement.cells[number, metric] for number in done.judgement.usable)
    return list(dict.fromkeys(name for cell in cells for name in cell.curves))


def _chart(done: Evaluated, metric: str, name: str) -> Chart:
    """The mean curve of every candidate."""
    judgement = done.judgement
    having = [number for number in _order(done) if name in judgement.cells[number, metric].curves]
    curves = [judgement.cells[number, metric].curves[name] for number in having[:_LINES]]
    lines = [
        _line(judgement.candidates[number].name, curve) for number, curve in zip(having, curves, strict=False)
    ]  # fmt: skip
    return Chart(f"{metric}, {name}", lines, curves[0].x_label, curves[0].y_label)


def _line(name: str, curve: Curve) -> Line:
    """The mean of the inputs' curves, and twice its standard error on either side."""
    x, y = curve.x, np.asarray(curve.y, np.float64)
    if x.ndim > 1:
        x = np.linspace(float(curve.x.min()), float(curve.x.max()), _POINTS)
        y = np.stack([np.interp(x, own, values) for own, values in zip(curve.x, y, strict=True)])
    count = np.maximum(np.isfinite(y).sum(axis=0), 1)
    known = np.isfinite(y)
    middle: Array = np.where(known, y, 0).sum(axis=0) / count
    if len(y) < 2:
        return Line(name, x, middle)
    spread = np.sqrt(np.where(known, (y - middle) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1) / count)
    return Line(name, x, middle, middle - 2 * spread, middle + 2 * spread)
