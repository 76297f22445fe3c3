"""``onnxplain doctor``: what this installation can do."""

from __future__ import annotations

import click

from cli.output import Options, common, document, line, table


@click.command("doctor")
@common
def command(options: Options) -> int:
    """Show versions, onnxruntime's providers and devices, and whether the white-box part works."""
    from analyzer.jobs.doctor import diagnose

    found = diagnose()
    if options.json:
        document(found)
    else:
        table(options, ("package", "version"), list(found["versions"].items()))
        line(options, f"python {found['python']} on {found['platform']}, {found['cpus']} CPUs")
        line(options, f"onnxruntime providers: {', '.join(found['providers'])}")
        cuda = f"CUDA devices seen by the driver: {found['cuda_devices']}"
        line(options, f"{cuda}; --device auto means {found['device']}")
        for name, state in found["checks"].items():
            line(options, f"{'ok  ' if state == 'ok' else 'FAIL'} {name}{'' if state == 'ok' else ': ' + state}")
    return 0 if all(state == "ok" for state in found["checks"].values()) else 5
