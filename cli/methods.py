"""``onnxplain methods``: the registry."""

from __future__ import annotations

from typing import Any

import click

from cli.output import Options, common, document, line, method_names, parameters, table


@click.command("methods")
@click.argument("name", required=False, shell_complete=method_names)
@common
def command(name: str | None, options: Options) -> None:
    """List the methods, or show one method's parameters with their defaults."""
    from analyzer.methods import registry

    if name is None:
        found = registry.methods()
        if options.json:
            document({key: _described(info) for key, info in found.items()})
            return
        rows = [(key, info.family, info.needs, info.summary) for key, info in found.items()]
        table(options, ("method", "family", "needs", "what it does"), rows)
        line(options, "needs: trace = gradients or rules on the traced model; runtime = any model that runs", "dim")
        return
    info = registry.get(name)
    if options.json:
        document(_described(info))
        return
    line(options, f"{info.name}: {info.summary}", "bold")
    line(options, f"family {info.family}, needs {info.needs}, for {', '.join(info.modalities)}")
    line(options, f"source: {info.source}")
    parameters(options, info.parameters, f"onnxplain explain MODEL FILE -m {name} -p ")


def _described(info: Any) -> dict[str, Any]:
    return {
        "family": info.family,
        "needs": info.needs,
        "modalities": list(info.modalities),
        "signed": info.signed,
        "complete": info.complete,
        "summary": info.summary,
        "source": info.source,
        "parameters": {
            p.name: {"type": p.type_name, "default": p.default, "doc": p.doc} for p in info.parameters.values()
        },
    }
