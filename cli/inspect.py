"""``onnxplain inspect``: what a model is."""

from __future__ import annotations

from typing import Any

import click

from cli.output import Options, common, document, line, table, warn
from cli.rules import show_rules


@click.command("inspect")
@click.argument("model", type=click.Path())
@click.option("--try-methods", is_flag=True, help="Run every method on a made-up input instead of looking.")
@click.option("--no-methods", is_flag=True, help="Leave out which methods work.")
@click.option("--rules", is_flag=True, help="Show instead which lrp rule each node gets.")
@click.option("--composite", metavar="NAME", help="... with another composite.")
@click.option("--rule", multiple=True, metavar="KEY=RULE", help="... with a rule, or a TOML file; repeatable.")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="... with a parameter of lrp.")
@click.option("--input", "inputs", multiple=True, type=click.Path(), metavar="FILE", help="... on this input.")
@common
def command(
    model: str, try_methods: bool, no_methods: bool, rules: bool, composite: str | None, rule: tuple[str, ...],
    params: tuple[str, ...], inputs: tuple[str, ...], options: Options,
) -> None:  # fmt: skip
    """Show what MODEL takes, gives and contains, and which methods work on it.

    For methods that don't work it names the nodes in the way. Nothing is run but
    with --try-methods. -v also lists all nodes.
    """
    if rules or composite is not None or rule or params or inputs:
        named = () if composite is None else (f"composite={composite}",)
        show_rules(model, (*params, *named), rule, inputs, options)
        return
    import analyzer
    from analyzer.jobs.inspection import inspect

    loaded = analyzer.load(model, options.device, threads=options.threads, tf32=options.tf32)
    facts = inspect(loaded, "none" if no_methods else "try" if try_methods else "look", options.verbose)
    if options.json:
        document(facts)
        return
    for text in facts["warnings"]:
        warn(options, text)
    _show(facts, options)


def _show(facts: dict[str, Any], options: Options) -> None:
    from analyzer.report.text import bytes_text

    file = facts["file"]
    line(options, f"{file['path']}  {bytes_text(file['bytes'])}  sha256 {file['sha256'][:16]}", "bold")
    opsets = ", ".join(f"{domain} {version}" for domain, version in file["opsets"].items())
    line(options, f"producer {file['producer'] or 'unknown'}, IR {file['ir_version']}, opsets {opsets}")
    rows = [("input", name, _spec(spec)) for name, spec in facts["inputs"].items()]
    rows += [("output", name, _spec(spec)) for name, spec in facts["outputs"].items()]
    table(options, ("", "name", "type and shape"), rows)
    line(options, f"{facts['parameters']:,} parameters, {bytes_text(facts['weight_bytes'])} of weights")
    counts = ", ".join(f"{op} {count}" for op, count in facts["operators"].items())
    line(options, f"{facts['nodes']} nodes: {counts}")
    explained = facts["explained"]
    if "error" in explained:
        line(options, explained["error"])
    else:
        off = f", its final {explained['taken_off']} taken off" if explained["taken_off"] else ""
        line(options, f"explained by default: {explained['output']}{off} ({explained['kind']})")
    if facts["labels"]:
        line(options, f"{facts['labels']} class names in the file")
    if facts["detector"]:
        usual = "usual outputs are recognised, for others give a decode spec, see docs/detectors.md"
        how = "there is a decode spec" if facts["decode"] else usual
        line(options, f"a detector, by its outputs: -t detection:0 explains a detection; {how}")
    for key, value in file["metadata"].items():
        line(options, f"metadata {key}: {value[:100]}")
    if "methods" in facts:
        parity = facts["parity"]
        if parity:
            line(options, f"trace equals onnxruntime to {parity['error']:.1e} (relative)")
        if facts["cam_layer"]:
            line(options, f"class activation maps are read at {facts['cam_layer']!r}")
        _verdicts(facts["methods"], options)
    for node in facts.get("node_list", ()):
        name = f"{node['graph']}: {node['name']}" if node["graph"] else node["name"]
        line(options, f"{node['operator']:24} {name}  ({', '.join(node['inputs'])}) -> {', '.join(node['outputs'])}")


def _verdicts(methods: dict[str, dict[str, Any]], options: Options) -> None:
    """The methods that work on one line, then those that don't, grouped by reason."""
    reasons: dict[tuple[bool | None, str], list[str]] = {}
    for name, verdict in methods.items():
        reasons.setdefault((verdict["works"], verdict["reason"]), []).append(name)
    verbs = {True: "works", False: "doesn't work", None: "unknown"}
    for (works, reason), names in sorted(reasons.items(), key=lambda item: item[0][0] is not True):
        line(options, f"{verbs[works]}: {', '.join(names)}", "" if works else "bold")
        if reason:
            line(options, f"    {reason}")


def _spec(spec: dict[str, Any]) -> str:
    return f"{spec['dtype']} [{', '.join('?' if d is None else str(d) for d in spec['shape'])}]"
