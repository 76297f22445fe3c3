"""``onnxplain dataset``: what a model makes of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import Options, common, document, inert, keep_fonts_in_cache, line, method_names, progress, table, warn

if TYPE_CHECKING:
    from analyzer.visualization.top_inputs import Found


@click.group("dataset", subcommand_metavar="WHAT ...")
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.pass_context
def command(context: click.Context, model: str, data: str) -> None:
    """Ask what MODEL makes of DATA: a folder, a manifest .csv, an .npz, a table.

    `onnxplain dataset MODEL DATA WHAT --help` tells more.
    """
    context.obj = model, data


@command.command("top-inputs")
@click.option("--layer", metavar="NAME", help="Node, value or module; alone: its mean.")
@click.option("--channel", type=click.IntRange(min=0), metavar="N", help="A channel; --reduce max or mean.")
@click.option("--reduce", type=click.Choice(["max", "mean"]), default="max", hidden=True)  # told beside --channel
@click.option("--unit", metavar="N", help="One element of its value, as 5 or 3,7,7.")
@click.option("--class", "of_class", metavar="C", help="A class instead of a layer.")
@click.option("-k", type=click.IntRange(1, 1000), default=9, metavar="N", help="So many of each end. [9]")
@click.option("-m", "--method", default="gradient-x-input", metavar="NAME", shell_complete=method_names,
              help="Of relevance; -p KEY=VALUE. [gradient-x-input]")  # fmt: skip
@click.option("-p", "--param", "params", multiple=True, hidden=True)  # told beside --method
@click.option("--preprocess", type=click.Path(), metavar="HOW", help="How pictures become inputs.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Class names, one per line.")
@click.option("--layout", multiple=True, hidden=True, metavar="[NAME=]NTC", help="What an input's axes count.")
@click.option("-o", "--output", type=click.Path(), metavar="DIR", help="For .json, page, ledger; --force replaces.")
@click.option("--force", is_flag=True, hidden=True)  # told beside --output
@common
@click.pass_context
def top_inputs(context: click.Context, /, output: str | None, options: Options, **given: Any) -> None:
    """The inputs that drive a unit, channel, layer or class most and least.

    A run with -o that is cut off goes on when it is started again.
    """
    from analyzer.jobs.top_inputs_files import TopInputsJob, top_inputs_files

    model, data = context.obj
    folder = Path(output) if output is not None else None
    job = TopInputsJob(model=model, data=data, **given, **options.running, output=folder)
    keep_fonts_in_cache()
    with progress(options, "looking", "inputs, time left") as advance:
        done = top_inputs_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document({**done.to_dict(), "files": [str(file) for file in done.files]})
        return
    line(options, f"{done.found.unit}, over {done.found.count} inputs", "bold")
    rows = [
        (name, *_row(each)) for name, side in (("most", done.found.top), ("least", done.found.bottom)) for each in side
    ]
    table(options, ("", "input", "score", "class", "at", "sees"), rows)
    line(options, "These are samples of this data set, not the feature itself.", "dim")
    for file in done.files:
        line(options, f"written: {inert(file)}")


def _row(found: Found) -> tuple[str, ...]:
    label = "" if found.label is None else str(found.label)
    index = ",".join(":" if at is None else str(at) for at in found.index)
    box = "everything" if found.box is None else " × ".join(f"{part.start}-{part.stop - 1}" for part in found.box)
    return found.id, f"{found.score:.5g}", label, index, box
