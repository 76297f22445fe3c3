"""``onnxplain compare``: how far two models' outputs and explanations agree, and which nodes make them drift."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import Options, common, document, line, method_names, progress, table, warn
from cli.rules import rule_options


@click.command("compare")
@click.argument("first", metavar="MODEL_A", type=click.Path())
@click.argument("second", metavar="MODEL_B", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("-m", "--method", default="lrp", shell_complete=method_names, help="How they are explained. [lrp]")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of it; repeatable.")
@rule_options
@click.option("-t", "--target", default="top1", help="What is explained in both, by model A. [top1]")
@click.option("--nodes", is_flag=True, help="Find the nodes that make explanations drift.")
@click.option("--samples", type=click.IntRange(1), metavar="N", help="Draw so many of the inputs. [all]")
@click.option("--score", default="logit", hidden=True, help="logit or probability. [logit]")
@click.option("--preprocess", type=click.Path(), metavar="HOW", help="As of explain.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Class names, one per line.")
@click.option("--backend", default="auto", hidden=True, metavar="NAME", help="auto, torch or onnxruntime. [auto]")
@click.option(
    "-o", "--output", type=click.Path(), metavar="DIR", help="For comparison.json, report.html; --force: replace."
)
@click.option("--force", is_flag=True, hidden=True)  # told beside --output, as explain does
@common
def command(
    first: str,
    second: str,
    data: str,
    method: str,
    params: tuple[str, ...],
    rule: tuple[str, ...],
    target: str,
    nodes: bool,
    samples: int | None,
    score: str,
    preprocess: str | None,
    labels: str | None,
    backend: str,
    output: str | None,
    force: bool,
    options: Options,
) -> None:
    """Compare two models on DATA: a folder, .csv, .npz or file for both."""
    from analyzer.jobs.compare_files import CompareJob, compare_files, keep_text, same_class_text, tables_of

    job = CompareJob(
        first, second, data, method, params, rule, target, score, samples, nodes, preprocess, labels, backend,
        None if output is None else Path(output), options.seed, options.device, options.threads, options.tf32, force,
    )  # fmt: skip
    with progress(options, "comparing") as advance:
        done = compare_files(job, advance)
    found = done.comparison
    for note in [*found.notes, *(found.nodes.notes if found.nodes is not None else ())]:
        warn(options, note)
    if options.json:
        document(done.to_dict())
        return
    line(options, f"{found.first} and {found.second}: {len(found.rows)} inputs explained by {found.method}", "bold")
    if text := same_class_text(found):
        line(options, text)
    for each in tables_of(found):
        line(options, each.title, "bold")
        if each.about:
            line(options, each.about, "dim")
        table(options, each.columns, each.rows)
    if text := keep_text(found):
        line(options, text)
    for path in done.files:
        line(options, f"written: {path}")
