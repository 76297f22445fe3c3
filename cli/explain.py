"""``onnxplain explain``: from a model and files to explanations."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import Options, common, document, inert, line, progress, table, warn


@click.command("explain")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True)
@click.option("-m", "--method", "methods", multiple=True, required=True, help="A method; may be repeated.")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE or METHOD.KEY=VALUE.")
@click.option("-t", "--target", default="top1", show_default=True, help="top1, class, label, contrast:A,B, OUT[:,3].")
@click.option("--score", default="logit", show_default=True, help="logit or probability.")
@click.option("--preprocess", help="A preset (imagenet, imagenet-caffe, unit, signed, raw) or a TOML file.")
@click.option("--labels", help="A file of class names, one per line.")
@click.option("-o", "--output", default="onnxplain-out", show_default=True, help="Folder for what is written.")
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
        prediction = item.explanations[0].record.get("prediction")
        if prediction:
            top = ", ".join(f"{name} {value:.3f}" for _, name, value in prediction["top"][0])
            line(options, f"{item.name}: {top}", "bold")
        rows = []
        for e in item.explanations:
            complete = e.completeness
            sums = f"{complete.total[0]:.4g} of {complete.expected[0]:.4g}" if complete is not None else ""
            rows.append((e.method, e.target[0], f"{e.score[0]:.4f} {e.score_kind}", sums,
                         f"{e.record['seconds']['method']:.2f} s"))  # fmt: skip
        table(options, ("method", "target", "score", "sum of map", "time"), rows)
    line(options, f"report: {inert(done.report)}")
