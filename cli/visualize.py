"""``onnxplain visualize``: what a network holds inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import Options, common, document, inert, keep_fonts_in_cache, line, progress, table, warn

if TYPE_CHECKING:
    from analyzer.visualization.statistics import LayerFigures


@click.group("visualize", subcommand_metavar="WHAT ...")
@click.argument("model", type=click.Path())
@click.pass_context
def command(context: click.Context, model: str) -> None:
    """Show what MODEL holds inside. `onnxplain visualize MODEL WHAT --help` tells more."""
    context.obj = model


@command.command("activations")
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@click.option("--layer", "layers", multiple=True, metavar="NAME",
              help="Node, value, module, operator as Conv, or a pattern as 'layer1*'; repeatable. [all]")  # fmt: skip
@click.option("--dump", type=click.Path(), metavar="DIR", help="For the values as .npz and pictures; --force replaces.")
@click.option("--force", is_flag=True, hidden=True)  # told beside --dump
@click.option("--preprocess", type=click.Path(), metavar="HOW", help="How pictures become inputs: TOML or preset.")
@click.option("--layout", multiple=True, hidden=True, metavar="[NAME=]NTC", help="What an input's axes count.")
@common
@click.pass_obj
def activations(model: str, /, dump: str | None, options: Options, **given: Any) -> None:
    """Values of layers for INPUTS: pictures, .npy, .npz, .csv, .wav; or NAME=FILE.

    Prints figures of each layer over all samples of an input.
    """
    from analyzer.jobs.activation_files import ActivationsJob, activation_files

    job = ActivationsJob(model, **given, **options.running, dump=Path(dump) if dump is not None else None)
    keep_fonts_in_cache()
    with progress(options, "running", "inputs, time left") as advance:
        done = activation_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document(done.to_dict())
        return
    columns = ("value", "operator", "shape", "mean", "std", "min", "max", "zeros", "dead channels")
    for item in done.items:
        samples = f" ({item.samples} samples)" if item.samples > 1 else ""
        line(options, f"{item.name}{samples}", "bold")
        table(options, columns, [_row(figures) for figures in item.figures])
        for file in item.files:
            line(options, f"written: {inert(file)}")


@command.command("filters")
@click.option("--layer", "layers", multiple=True, metavar="NAME",
              help="Node, value, module, operator as Conv, or a pattern as 'layer1*'; repeatable. [all]")  # fmt: skip
@click.option("--preprocess", type=click.Path(), metavar="HOW", help="Which colour comes first: TOML or preset.")
@click.option("-o", "--output", type=click.Path(), metavar="DIR",
              help="For filters.npz and pictures; --force replaces. [a new one]")  # fmt: skip
@click.option("--force", is_flag=True, hidden=True)  # told beside --output
@common
@click.pass_obj
def filters(model: str, /, output: str | None, options: Options, **given: Any) -> None:
    """Weights of convolutions and products, as numbers and pictures."""
    from analyzer.jobs.filter_files import FiltersJob, filter_files

    keep_fonts_in_cache()
    done = filter_files(
        FiltersJob(model, **given, **options.running, output=Path(output) if output is not None else None)
    )
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document(done.to_dict())
        return
    rows = []
    for each in done.layers:
        facts, layer = each.to_dict(), each.filter.layer
        numbers = [_number(facts[name]) for name in ("mean", "std", "min", "max")]
        rows.append((layer.value, layer.operator, "×".join(map(str, facts["shape"])), *numbers, each.shows))
    table(options, ("value", "operator", "outputs × inputs", "mean", "std", "min", "max", "picture"), rows)
    line(options, f"written: {inert(done.archive)}, {sum(each.file is not None for each in done.layers)} pictures")


@command.command("maximize")
@click.option("-t", "--target", "targets", multiple=True, metavar="T", help="Class or other target; repeatable.")
@click.option("--layer", metavar="NAME", help="Node, value or module; alone: its mean square.")
@click.option("--channel", type=click.IntRange(min=0), metavar="N", help="Of it; or --unit 3,5,5, --direction FILE.")
@click.option("--unit", hidden=True)  # told beside --channel
@click.option("--direction", type=click.Path(), hidden=True)  # told beside --channel
@click.option("--start", default="noise", metavar="S", help="noise, a file, mean or best of --data DATA. [noise]")
@click.option("--data", type=click.Path(), hidden=True)  # told beside --start
@click.option("--generator", type=click.Path(), metavar="GEN", help="ONNX model: search among its codes.")
@click.option("-k", "results", type=click.IntRange(1, 256), default=1, metavar="N", help="So many results. [1]")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V",
              help="l2, tv, linf, blur, jitter, rotate, scale, diversity, steps, rate, optimizer, patience, restarts, "
                   "parametrisation, decorrelate, bounds, score, input.")  # fmt: skip
@click.option("--animate", type=click.Choice(["gif", "webp"]), help="Write the way there too.")
@click.option("--preprocess", type=click.Path(), hidden=True)
@click.option("--labels", type=click.Path(), hidden=True)
@click.option("--layout", multiple=True, hidden=True)
@click.option("-o", "--output", type=click.Path(), metavar="DIR", help="--force replaces. [a new one]")
@click.option("--force", is_flag=True, hidden=True)  # told beside --output
@common
@click.pass_obj
def maximize(model: str, /, output: str | None, options: Options, **given: Any) -> None:
    """Make an input that drives a class, unit or layer most; Ctrl-C keeps the best."""
    from analyzer.jobs.maximize_files import MaximizeJob, maximize_files

    job = MaximizeJob(model, **given, **options.running, output=Path(output) if output is not None else None)
    keep_fonts_in_cache()
    with progress(options, "maximising", "steps, time left") as advance:
        done = maximize_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document({**done.to_dict(), "files": [str(file) for file in done.files]})
        return
    rows = []
    for found in done.found:
        for at, score in enumerate(found.scores):
            chance = "" if found.probabilities is None else f"{found.probabilities[at]:.4f}"
            rows.append((str(found.goal), found.kind, _number(found.starts[at]), _number(score), chance))
    table(options, ("maximised", "score", "at the start", "by onnxruntime", "probability"), rows)
    for file in done.files:
        line(options, f"written: {inert(file)}")


@command.command("dream")
@click.argument("photo", type=click.Path())
@click.option("-t", "--target", metavar="T", help="A class or other target instead of a layer.")
@click.option("--layer", metavar="NAME", help="Node, value or module; its mean square.")
@click.option("--channel", type=click.IntRange(min=0), metavar="N", help="One channel of it.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V",
              help="octaves, octave_scale, steps, rate, tile, jitter.")  # fmt: skip
@click.option("--largest", type=click.IntRange(16, 4096), default=512, metavar="N",
              help="The photo's larger side is reduced to this. [512]")  # fmt: skip
@click.option("--animate", type=click.Choice(["gif", "webp"]), help="Write the way there too.")
@click.option("--preprocess", type=click.Path(), metavar="HOW", help="How pictures become inputs: TOML or preset.")
@click.option("-o", "--output", type=click.Path(), metavar="DIR", help="--force replaces. [a new one]")
@click.option("--force", is_flag=True, hidden=True)  # told beside --output
@common
@click.pass_obj
def dream(model: str, /, output: str | None, options: Options, **given: Any) -> None:
    """Make stronger what a layer sees in a PHOTO of any size: DeepDream."""
    from analyzer.jobs.dream_files import DreamJob, dream_files

    job = DreamJob(model, **given, **options.running, output=Path(output) if output is not None else None)
    keep_fonts_in_cache()
    with progress(options, "dreaming", "steps, time left") as advance:
        done = dream_files(job, advance)
    for text in done.warnings:
        warn(options, text)
    if options.json:
        document({**done.to_dict(), "files": [str(file) for file in done.files]})
        return
    for file in done.files:
        line(options, f"written: {inert(file)}")


@command.command("receptive-fields")
@click.argument("inputs", nargs=-1, type=click.Path())
@click.option("--layer", "layers", multiple=True, metavar="NAME",
              help="Node, value, module, operator as Conv, or a pattern as 'layer1*'; repeatable. [all]")  # fmt: skip
@click.option("--input", "looked_at", metavar="NAME", help="The input. [the first with places]")
@common
@click.pass_obj
def receptive_fields(
    model: str, inputs: tuple[str, ...], layers: tuple[str, ...], looked_at: str | None, options: Options
) -> None:
    """What units of layers can see of an input: size, stride, where the first begins.

    INPUTS is a file, needed only where the model takes any size.
    """
    import analyzer
    from analyzer.data.reading import read_one

    loaded = analyzer.load(model, options.device, threads=options.threads, tf32=options.tf32)
    feed = read_one(loaded, inputs) if inputs else None
    found = [each.to_dict() for each in loaded.receptive_fields(feed, layers or None, looked_at).values()]
    if options.json:
        document({"layers": found})
        return
    rows = []
    for each in found:
        sees = "whole input" if each["whole_input"] else _sides(each["size"])
        rows.append(
            (each["value"], each["operator"], sees, _sides(each["stride"]), _sides(each["offset"]), each["why"])
        )
    table(options, ("value", "operator", "size", "stride", "offset", "no places since"), rows)


def _sides(numbers: list[float] | None) -> str:
    return "" if numbers is None else " × ".join(f"{number:g}" for number in numbers)


def _row(figures: LayerFigures) -> tuple[str, ...]:
    shape = "×".join(map(str, figures.shape)) or "scalar"
    shape += "" if figures.dtype == "float32" else f" {figures.dtype}"
    shape += f", {figures.nonfinite} not finite" if figures.nonfinite else ""
    numbers = [_number(value) for value in (figures.mean, figures.std, figures.low, figures.high)]
    zeros = f"{figures.zeros:.1%}" if figures.zeros is not None else ""
    dead = f"{figures.dead} of {figures.channels}" if figures.dead is not None else ""
    return figures.layer.value, figures.layer.operator, shape, *numbers, zeros, dead


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
