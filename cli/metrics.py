"""``onnxplain metrics``: the registry of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.output import Options, common, document, line, metric_names, parameters, table

if TYPE_CHECKING:
    from analyzer.evaluation.registry import MetricInfo


@click.command("metrics")
@click.argument("name", required=False, shell_complete=metric_names)
@common
def command(name: str | None, options: Options) -> None:
    """List the metrics, or show one: what it can't tell, parameters, source."""
    from analyzer.evaluation import registry

    if name is None:
        found = registry.metrics()
        if options.json:
            document({key: _described(info) for key, info in found.items()})
            return
        rows = [(key, info.category, info.direction, info.cost, info.summary) for key, info in found.items()]
        table(options, ("metric", "category", "direction", "cost of an input", "what it measures"), rows)
        return
    info = registry.get(name)
    if options.json:
        document(_described(info))
        return
    line(options, f"{info.name}: {info.summary}", "bold")
    line(options, f"{info.category}, {info.direction}, range {info.range}")
    line(options, f"needs the {info.needs}, costs {info.cost}")
    line(options, f"what it can't tell: {info.blind_spot}")
    line(options, f"source: {info.source}")
    parameters(options, info.parameters, f"onnxplain evaluate MODEL DATA -m METHOD --metric {name} -p {name}.")


def _described(info: MetricInfo) -> dict[str, Any]:
    return {
        "category": info.category,
        "needs": info.needs,
        "higher_is_better": info.higher_is_better,
        "direction": info.direction,
        "range": info.range,
        "cost": info.cost,
        "blind_spot": info.blind_spot,
        "summary": info.summary,
        "source": info.source,
        "parameters": {
            p.name: {"type": p.type_name, "default": p.default, "doc": p.doc} for p in info.parameters.values()
        },
    }
