"""``onnxplain gate``: run a policy, look it over, derive its thresholds, renew its baselines, verify its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import Advance, Options, common, detail, document, keep_fonts_in_cache, line, progress, table, warn

if TYPE_CHECKING:
    from analyzer.gate.outcome import GateResult
    from analyzer.gate.policy import Policy

_Path = click.Path()


@click.group("gate")
def command() -> None:
    """Whether a model passes what a policy demands of its explanations, on evidence.

    Exit codes: 0 passed, 1 failed, 2 the policy is wrong, 3 model or data rejected, 4 inconclusive or nothing checked,
    5 internal error, 130 and 143 interrupted.
    """


@command.command("run")
@click.argument("policy", metavar="GATE.toml", type=_Path)
@click.option("-o", "--output", type=_Path, metavar="DIR", help="Where reports and evidence go. [report.dir]")
@click.option("--only", multiple=True, metavar="ID", help="Run this check alone; repeatable. Its evidence says so.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever the verdict: to report only.")
@click.option("--force", is_flag=True, help="Replace files in DIR that no gate wrote.")
@common
def run(
    policy: str, output: str | None, only: tuple[str, ...], exit_zero: bool, force: bool, options: Options
) -> int:  # fmt: skip
    """Run the checks of GATE.toml; print them and the verdict, and write reports and evidence."""
    from analyzer.gate.evidence import run_recorded
    from analyzer.gate.policy import load_policy

    _refuse_unused(options)
    demanded = chosen(load_policy(policy), only)
    keep_fonts_in_cache()
    with progress(options, "gate", "inputs, time left") as advance:
        result, folder = run_recorded(
            policy, folder=output, policy=demanded, force=force, progress=_steps(advance), device=options.device,
            threads=options.threads,
        )  # fmt: skip
    _print(result, options)
    if not options.json:
        line(options, f"reports and evidence: {folder}")
    return 0 if exit_zero and result.exit_code in (1, 4) else result.exit_code


@command.command("lint")
@click.argument("policy", metavar="[GATE.toml]", type=_Path, required=False)
@click.option("--schema", is_flag=True, help="Print the JSON schema of policies instead.")
@common
def lint(policy: str | None, schema: bool, options: Options) -> int:
    """Look GATE.toml over without running it: keys, values, paths, and what its checks need."""
    if schema:
        from analyzer.gate.policy import schema as schema_of

        document(schema_of())
        return 0
    if policy is None:
        raise click.UsageError("Missing argument 'GATE.toml'.")
    from analyzer.gate.lint import lint as look_over

    found = look_over(policy)
    for text in found.warnings:
        warn(options, text)
    if options.json:
        document(
            {"policy": policy, "sha256": found.digest, "checks": list(found.checks), "inputs": found.inputs,
             "warnings": list(found.warnings)}
        )  # fmt: skip
    else:
        line(options, f"{policy}: {len(found.checks)} checks on {found.inputs} inputs, sha256 {found.digest}")
    return 0


@command.command("calibrate")
@click.argument("policy", metavar="GATE.toml", type=_Path)
@click.option("--good", multiple=True, type=_Path, metavar="MODEL", help="A known-good model; repeatable. [model.path]")
@click.option("--seeds", default=3, type=click.IntRange(2, 100), metavar="N", help="Draws of data and chance. [3]")
@click.option("--factor", default=2.0, type=click.FloatRange(0, 1000), metavar="X", help="Times the noise. [2]")
@click.option("-o", "--output", type=_Path, metavar="FILE", help="Write the policy there. [print it]")
@click.option("--force", is_flag=True, help="Replace the file.")
@common
def calibrate(
    policy: str, good: tuple[str, ...], seeds: int, factor: float, output: str | None, force: bool, options: Options
) -> None:
    """Derive the thresholds of GATE.toml from known-good models: what they reach, less FACTOR times its noise."""
    from analyzer.errors import UsageError
    from analyzer.gate.calibrate import calibrate as derive

    _refuse_unused(options)
    if output is not None and Path(output).exists() and not force:
        raise UsageError("output.exists", f"{output} exists", "choose another file, or --force")
    if output is not None and Path(output).absolute().parent != Path(policy).absolute().parent:
        message = f"{output}: the paths in a policy are relative to its folder"
        raise UsageError("output.elsewhere", message, f"write it beside {policy}")
    with progress(options, "calibrating", "inputs, time left") as advance:
        found = derive(
            policy, good, seeds=seeds, factor=factor, progress=_steps(advance), device=options.device,
            threads=options.threads,
        )  # fmt: skip
    for text in found.notes:
        warn(options, text)
    if output is not None:
        from analyzer.files import write_atomically

        write_atomically(Path(output), lambda draft: draft.write_text(found.toml, encoding="utf-8"))
    if options.json:
        document(
            {"policy": output, "thresholds": [vars(each) for each in found.thresholds], "notes": list(found.notes)}
        )
    elif output is None:
        click.echo(found.toml, nl=False)
    else:
        line(options, f"{output}: {len(found.thresholds)} thresholds from {found.runs} runs")


@command.command("update")
@click.argument("policy", metavar="GATE.toml", type=_Path)
@click.option("--only", multiple=True, metavar="ID", help="Renew the baseline of this check alone; repeatable.")
@click.option("--force", is_flag=True, help="Also where the variable CI is set.")
@common
def update(policy: str, only: tuple[str, ...], force: bool, options: Options) -> None:
    """Write the baselines that the snapshot checks of GATE.toml compare with. Refuses in CI, and while the gate fails."""
    from analyzer.gate.update import update as renew

    _refuse_unused(options)
    with progress(options, "gate", "inputs, time left") as advance:
        written = renew(
            policy, only=only, force=force, progress=_steps(advance), device=options.device, threads=options.threads
        )
    if options.json:
        document({"written": {name: str(path) for name, path in written.items()}})
        return
    for name, path in written.items():
        line(options, f"{name}: {path}")


@command.command("verify")
@click.argument("folder", metavar="DIR", type=_Path)
@click.option("--policy", type=_Path, metavar="GATE.toml", help="The policy that it is said to come from.")
@click.option("--model", type=_Path, metavar="MODEL", help="The model that it is said to be about.")
@common
def verify(folder: str, policy: str | None, model: str | None, options: Options) -> int:
    """Whether the evidence in DIR agrees with itself, and with a policy and a model: exit 1 with what differs."""
    from analyzer.gate.verify import verify as hold

    found = hold(folder, policy, model)
    differing = [each for each in found if not each.agrees]
    if options.json:
        document({"agrees": not differing, "findings": [vars(each) for each in found]})
        return int(bool(differing))
    for each in found:
        if each.agrees:
            detail(options, f"agrees: {each.what}")
        else:
            line(options, f"differs: {each.what}: {each.message}", "bold")
    if not differing:
        line(options, f"{folder}: the evidence agrees in {len(found)} points")
    return int(bool(differing))


def chosen(policy: Policy, only: tuple[str, ...]) -> Policy:
    """A policy with some of its checks alone.

    Raises
    ------
    UsageError
        ``gate.no_such_check``.
    """
    from analyzer.errors import UsageError
    from analyzer.nearest import did_you_mean

    known = [check.id for check in policy.check]
    for name in only:
        if name not in known:
            hint = f"its checks: {', '.join(known)}"
            raise UsageError("gate.no_such_check", f"no check is called {name!r}{did_you_mean(name, known)}", hint)
    return policy.model_copy(update={"check": [c for c in policy.check if c.id in only]}) if only else policy


def _print(result: GateResult, options: Options) -> None:
    from analyzer.gate.formats.wording import verdict_line

    if options.json:
        document(result.to_dict())
        return
    rows = [(check.id, check.status, check.message) for check in result.checks]
    table(options, ("check", "status", "why"), rows)
    line(options, verdict_line(result), "bold")


def _steps(advance: Advance) -> Any:
    return lambda check, done, total: advance(done, total, check)


def _refuse_unused(options: Options) -> None:
    """The policy names the seed, and nothing of a gate takes less exact arithmetic."""
    from analyzer.errors import UsageError

    if options.seed:
        raise UsageError("usage.seed", "the seed of a gate is its policy's", "set data.seed in the policy")
    if options.tf32:
        raise UsageError("usage.tf32", "a gate takes no --tf32", "leave it away")
