"""``onnxplain compile``: from a model and a method to a model that explains itself."""

from __future__ import annotations

import click

from cli.output import Options, common, document, inert, line, method_names, warn
from cli.rules import rule_options


@click.command("compile")
@click.argument("model", type=click.Path())
@click.option("-m", "--method", required=True, shell_complete=method_names, help="A method.")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of it; repeatable.")
@rule_options
@click.option("-t", "--target", default="top1", help="As in explain; input makes it an input. [top1]")
@click.option("--score", default="logit", help="logit or probability. [logit]")
@click.option("--batch", default=1, type=click.IntRange(1, 65536), metavar="N", help="Where it can't stay free. [1]")
@click.option("--example", type=click.Path(), metavar="FILE", help="An input (.npy, .npz) in the sizes wanted.")
@click.option("--input", "inputs", multiple=True, metavar="NAME", help="An input to explain, instead of all that suit.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Class names, one per line.")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="OUT.onnx", help="File to write.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@common
def command(
    model: str, method: str, params: tuple[str, ...], rule: tuple[str, ...], target: str, score: str, batch: int,
    example: str | None, inputs: tuple[str, ...], labels: str | None, output: str, force: bool, options: Options,
) -> None:  # fmt: skip
    """Write METHOD on MODEL as an ONNX model, which takes MODEL's inputs, gives its outputs and "relevance", and
    needs nothing but onnxruntime.
    """
    import analyzer
    from analyzer.inputs.arrays import read_arrays
    from analyzer.jobs.arguments import parse_params
    from analyzer.jobs.rule_options import with_rules

    given = with_rules(parse_params(params, [method]), rule)[method]
    loaded = analyzer.load(model, options.device, labels=labels, threads=options.threads, tf32=options.tf32)
    done = analyzer.compile(
        loaded, method, target, output=output, batch=batch, score=score, seed=options.seed,
        example=read_arrays(example) if example is not None else None, inputs=inputs or None, overwrite=force, **given,
    )  # fmt: skip
    if done.reason and not done.reason.startswith("the model's own"):
        warn(options, f"the batch is fixed at {done.batch}: {done.reason}")
    if options.json:
        document(
            {
                "output": str(done.path), "bytes": done.size, "method": method, "target": done.target,
                "batch": done.batch, "relevance": dict(done.relevances), "difference": done.difference,
            }
        )  # fmt: skip
        return
    size = f"{done.size / 2**20:.1f} MiB, batch {done.batch or 'free'}"
    agreement = f", within {done.difference:.1e} of torch" if done.difference is not None else ""
    line(options, f"{inert(done.path)}: {method} of {inert(done.target)}, {size}{agreement}")
