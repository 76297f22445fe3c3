"""``onnxplain explain``: from a model and files to explanations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.explaining import explaining
from cli.output import (
    Options,
    common,
    detail,
    document,
    inert,
    keep_fonts_in_cache,
    line,
    progress,
    table,
    warn,
)

if TYPE_CHECKING:
    from analyzer.explanation import Explanation
    from analyzer.jobs.explain_files import Item

#: How many samples of a batch are printed; the files hold all.
_MOST_SAMPLES = 8


@click.command("explain")
@explaining()
@click.option("--at", metavar="NODE", help="Relevance at an inner node instead of the inputs.")
@click.option(
    "-o", "--output", type=click.Path(), metavar="DIR", help="For all files; --force: replace old ones. [a new one]"
)
@click.option("--force", is_flag=True, hidden=True)  # told beside --output: a screen holds no more
@common
def command(asked: dict[str, Any], at: str | None, output: str | None, force: bool, options: Options) -> None:
    """Explain MODEL on INPUTS: pictures, .npy, .npz, .csv, .wav; or NAME=FILE."""
    from analyzer.jobs.explain_files import Job, explain_files

    job = Job(**asked, **options.running, at=at, output=None if output is None else Path(output), force=force)
    keep_fonts_in_cache()
    with progress(options, "explaining") as advance:
        done = explain_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document(done.to_dict())
    else:
        for item in done.items:
            _show(item, options)
        line(options, f"report: {inert(done.report)}")
    for text in done.keep_compiled():
        detail(options, text)


def _show(item: Item, options: Options) -> None:
    """Every sample's prediction and, per method, what was explained."""
    first = item.explanations[0]
    prediction, boxes, count = first.record.get("prediction"), "detection" in first.record, len(first.target)
    for index in range(min(count, _MOST_SAMPLES)):
        label = item.name if count == 1 else f"{item.name} [{index}]"
        if prediction:
            ranked = prediction["top"][index]
            top = ", ".join(f"{name if len(ranked) > 1 or boxes else 'value'} {value:.3f}" for _, name, value in ranked)
            line(options, f"{label}: {top}", "bold")
        elif count > 1:
            line(options, label, "bold")
        table(options, ("method", "target", "score", "sum of map", "time"), [_row(e, index) for e in item.explanations])
    if count > _MOST_SAMPLES:
        line(options, f"{item.name}: {_MOST_SAMPLES} of {count} samples shown; the .json files have all", "dim")


def _row(e: Explanation, index: int) -> tuple[str, ...]:
    complete, seconds = e.completeness, e.record["seconds"]["method"]
    at = index if complete is not None and len(complete.total) > 1 else 0
    sums = f"{complete.total[at]:.4g} of {complete.expected[at]:.4g}" if complete is not None else ""
    score = f"{e.score[index]:.4f} {e.score_kind}"
    return e.method, e.target[index], score, sums, f"{seconds:.2f} s" if index == 0 else ""
