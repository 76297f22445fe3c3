"""``onnxplain explain``: from a model and files to explanations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.output import Options, common, document, inert, line, method_names, progress, table, warn

if TYPE_CHECKING:
    from analyzer.explaining import Item
    from analyzer.explanation import Explanation

#: How many samples of a batch are printed; the files hold all.
_MOST_SAMPLES = 8
_PRESETS = ("imagenet", "imagenet-caffe", "unit", "signed", "raw")


@click.command("explain")
@click.argument("model", type=click.Path())
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@click.option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    required=True,
    shell_complete=method_names,
    help="A method; may be repeated.",
)
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="Also METHOD.KEY=VALUE; repeatable.")
@click.option("-t", "--target", default="top1", help="top1, class, label, contrast:A,B, OUT[:,3].")
@click.option("--score", default="logit", help="logit or probability. [logit]")
@click.option("--preprocess", type=click.Path(), metavar="HOW", help=f"A TOML file or {', '.join(_PRESETS)}.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Class names, one per line.")
@click.option("-o", "--output", default="onnxplain-out", type=click.Path(), metavar="DIR", help="[onnxplain-out]")
@common
def command(
    model: str,
    inputs: tuple[str, ...],
    methods: tuple[str, ...],
    params: tuple[str, ...],
    target: str,
    score: str,
    preprocess: str | None,
    labels: str | None,
    output: str,
    options: Options,
) -> None:
    """Explain MODEL's predictions for INPUT files.

    INPUT is a picture, .npy, .npz, .csv or .wav; NAME=FILE for models with several inputs. Writes
    DIR/STEM.METHOD.{npz,json,png} and DIR/report.html.
    """
    from analyzer.explaining import Job, explain_files

    job = Job(model, inputs, methods, params, target, score, preprocess, labels, Path(output), options.seed,
              options.device, options.threads)  # fmt: skip
    with progress(options, "explaining") as advance:
        done = explain_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document(done.to_dict())
        return
    for item in done.items:
        _show(item, options)
    line(options, f"report: {inert(done.report)}")


def _show(item: Item, options: Options) -> None:
    """Every sample's prediction and, per method, what was explained."""
    first = item.explanations[0]
    prediction, count = first.record.get("prediction"), len(first.target)
    for index in range(min(count, _MOST_SAMPLES)):
        label = item.name if count == 1 else f"{item.name} [{index}]"
        if prediction:
            ranked = prediction["top"][index]
            top = ", ".join(f"{name if len(ranked) > 1 else 'value'} {value:.3f}" for _, name, value in ranked)
            line(options, f"{label}: {top}", "bold")
        elif count > 1:
            line(options, label, "bold")
        table(options, ("method", "target", "score", "sum of map", "time"), [_row(e, index) for e in item.explanations])
    if count > _MOST_SAMPLES:
        line(options, f"{item.name}: {_MOST_SAMPLES} of {count} samples shown; the .json files have all", "dim")


def _row(e: Explanation, index: int) -> tuple[str, ...]:
    complete, seconds = e.completeness, e.record["seconds"]["method"]
    sums = f"{complete.total[index]:.4g} of {complete.expected[index]:.4g}" if complete is not None else ""
    score = f"{e.score[index]:.4f} {e.score_kind}"
    return e.method, e.target[index], score, sums, f"{seconds:.2f} s" if index == 0 else ""
