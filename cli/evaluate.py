"""``onnxplain evaluate``: how good explanations are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.explaining import explaining
from cli.output import Options, common, document, inert, keep_fonts_in_cache, line, metric_names, progress, table, warn

if TYPE_CHECKING:
    from analyzer.evaluation.selection import Selection
    from analyzer.evaluation.statistics import Interval
    from analyzer.jobs.evaluate_files import Evaluated

#: Options that work as in ``explain``, told in its help.
_AS_IN_EXPLAIN = ("--rule", "--input", "--score", "--decode", "--backend")


@click.command("evaluate")
@explaining(method_required=False, hidden=_AS_IN_EXPLAIN)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    required=True,
    shell_complete=metric_names,
    help="See onnxplain metrics; repeatable.",
)
@click.option("--mask", type=click.Path(), metavar="PATH", help="Where the truth lies: one file, or a folder.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Draw so many; in proportion: --stratify.")
@click.option("--stratify", metavar="COLUMN", hidden=True, help="label, or a column of the data.")
@click.option("--grid", multiple=True, metavar="KEY=V,V,…", help="Choose the best: gamma=0,0.25,1 or method=A,B.")
@click.option("--held-out", default=0.5, hidden=True, metavar="SHARE", help="Of the inputs, to confirm a choice. [0.5]")
@click.option(
    "-o", "--output", type=click.Path(), metavar="DIR", help="For evaluation.json, .html, curves; --force replaces."
)
@click.option("--force", is_flag=True, hidden=True)  # told beside --output: a screen holds no more
@common
def command(asked: dict[str, Any], output: str | None, options: Options, **given: Any) -> None:
    """Judge explanations of MODEL on INPUTS: files, a folder, an .npz, a .csv.

    -p METRIC.KEY=VALUE is a metric's. Other options of explain work too.
    """
    from analyzer.jobs.evaluate_files import EvaluateJob, evaluate_files
    from analyzer.jobs.evaluation_report import write

    job = EvaluateJob(**asked, **options.running, **given, output=Path(output) if output is not None else None)
    keep_fonts_in_cache()
    with progress(options, "judging", "inputs under a method or metric, time left") as advance:
        done = evaluate_files(job, advance)
        files = write(done, job.output) if job.output is not None else []
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document({**done.to_dict(), "files": [str(file) for file in files]})
        return
    for metric in done.judgement.metrics:
        _show_metric(done, metric, options)
    if done.selection is not None:
        _show_selection(done.selection, options)
    for file in files:
        line(options, f"written: {inert(file)}")


def _show_metric(done: Evaluated, metric: str, options: Options) -> None:
    """One metric's table: a row for each method."""
    from analyzer.evaluation.registry import get

    info, judgement = get(metric), done.judgement
    held_in = " on the inputs that are chosen on" if done.selection is not None else ""
    line(options, f"{metric} ({info.direction}){held_in}: {info.summary}", "bold")
    rows: list[tuple[object, ...]] = []
    for number, candidate in enumerate(judgement.candidates):
        if number in judgement.refused:
            rows.append((candidate.name, "refused", "", "", "", "", ""))
            continue
        cell = judgement.cells[number, metric]
        known = done.interval(cell)
        without = len(cell.values) - known.count
        cost = (cell.evaluations, cell.explanations)
        rows.append((candidate.name, _number(known.mean), _interval(known), known.count, without or "", *cost))
    columns = ("method", "mean", "95 % interval", "n", "none", "evaluations", "explanations")
    table(options, columns, rows)
    for number, problem in judgement.refused.items():
        line(options, f"{judgement.candidates[number].name}: refused: {problem.message}")
    for number, candidate in enumerate(judgement.candidates):
        for reason, count in judgement.cells[number, metric].why_none.items():
            line(options, f"{candidate.name}: no value for {count} of {len(judgement.ids)}: {reason}", "dim")


def _show_selection(selection: Selection, options: Options) -> None:
    """The ranking, the confirmation, and the winner as options."""
    from analyzer.jobs.evaluate_files import ready

    candidates, names = selection.judgement.candidates, list(selection.ranking[0].ranks)
    several = len(names) > 1
    columns = ["method", "mean rank" if several else "rank"]
    columns += [f"{of} {name}" for name in names for of in (("rank by",) if several else ()) + ("less the best's",)]
    rows = []
    for place, ranked in enumerate(selection.ranking):
        row = [candidates[ranked.number].name, f"{ranked.rank:g}"]
        for name in names:
            row += [f"{ranked.ranks[name]:g}"] if several else []
            row += [f"{_number(ranked.to_best[name].mean)} {_interval(ranked.to_best[name])}" if place else ""]
        rows.append(row)
    line(options, "ranking, with the difference from the best on the same inputs and its 95 % interval", "bold")
    table(options, columns, rows)
    for number, why in selection.unranked.items():
        line(options, f"{candidates[number].name} has no rank: {why}", "dim")
    for each in selection.confirmations:
        verdict = {True: "confirmed", False: "not confirmed", None: "too few values to tell"}[each.better]
        line(
            options,
            f"held out, {each.difference.count} inputs: {each.metric} {_number(each.winner.mean)} beside "
            f"{_number(each.other.mean)} of the {each.role} ({each.against.name}), difference "
            f"{_number(each.difference.mean)} {_interval(each.difference)}: {verdict}",
        )
    line(options, f"best: {ready(selection.winner)}", "bold")


def _number(value: float) -> str:
    return f"{value:.4g}" if value == value else "none"


def _interval(known: Interval) -> str:
    return f"[{known.low:.4g}, {known.high:.4g}]" if known.low == known.low else ""
