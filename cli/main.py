"""The ``onnxplain`` command: the group, and where all errors become messages and exit codes.

Belongs here: the list of commands and the entry point. Not here: any command.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import sys
from typing import Any

import click

#: Command -> (module, one line for the list). Modules load when a command runs, so that ``--help`` is quick.
COMMANDS = {
    "inspect": ("cli.inspect", "What a model takes and contains, which methods work on it."),
    "methods": ("cli.methods", "The methods there are; one method's parameters."),
    "explain": ("cli.explain", "Explain a model's predictions for files."),
    "compare": ("cli.compare", "How far two models' outputs and explanations agree; where they drift."),
    "evaluate": ("cli.evaluate", "Judge explanations by metrics; choose the best method or parameters."),
    "metrics": ("cli.metrics", "The metrics there are; what one can't tell."),
    "visualize": ("cli.visualize", "What a network holds inside: activations, filters, receptive fields."),
    "dataset": ("cli.dataset", "What a model makes of a data set: the inputs that a unit likes."),
    "compile": ("cli.compile", "Write an explanation as an ONNX model that onnxruntime runs alone."),
    "gate": ("cli.gate", "Whether a model passes what a policy demands of its explanations, on evidence."),
    "doctor": ("cli.doctor", "Versions, providers and devices."),
}


#: The variable through which a shell requests completions.
_COMPLETE = "_ONNXPLAIN_COMPLETE"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from analyzer.nearest import nearest

            near = nearest(args[0], COMMANDS)
            hint = f" Did you mean {near!r}?" if near else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from analyzer import __version__

        click.echo(f"onnxplain {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def group() -> None:
    """Explain any model that can be exported to ONNX.

    The result goes to stdout, progress and warnings go to stderr. Exit codes: 0 done or gate passed, 1 gate failed,
    2 wrong usage, 3 input rejected, 4 inconclusive, or nothing came of it (no input has a value; the disk is full or
    read-only), 5 internal error.
    """


class _Terminated(KeyboardInterrupt):
    """SIGTERM: stops the work as Ctrl-C does."""


def _terminate(*_: object) -> None:
    raise _Terminated


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the locale can't encode
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; gives the exit code. No traceback reaches the user."""
    try:
        return _run_command(arguments)
    except OSError as problem:  # stdout was closed by its reader, as in `| head`, or its disk is full
        from analyzer.files import write_error
        from cli.output import silence

        silence()
        return 0 if isinstance(problem, BrokenPipeError) else write_error("standard output", problem).exit_code


def _run_command(arguments: list[str]) -> int:
    """Run a command; an error becomes one line, and with ``--json`` a JSON document too."""
    from analyzer.errors import AnalyzerError

    as_json = "--json" in arguments
    try:
        result = _invoke(arguments)
        return result if isinstance(result, int) else 0
    except AnalyzerError as problem:
        return _fail(as_json, problem.exit_code, problem.to_dict())
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.format_message(), err=True)
        return 2
    except click.ClickException as problem:
        where = problem.ctx.command_path if isinstance(problem, click.UsageError) and problem.ctx else "onnxplain"
        error = {"code": "usage", "message": problem.format_message(), "hint": f"see `{where} --help`"}
        return _fail(as_json, 2, error)
    except KeyboardInterrupt as problem:
        code, word = (143, "terminated") if isinstance(problem, _Terminated) else (130, "interrupted")
        return _fail(as_json, code, {"code": f"signal.{word}", "message": word, "hint": ""})
    except BrokenPipeError:
        raise
    except MemoryError:
        error = {"code": "limit.memory", "message": "out of memory", "hint": "give a smaller input or fewer files"}
        return _fail(as_json, 3, error)
    except Exception as problem:
        if "-v" in arguments or "--verbose" in arguments:
            import traceback

            click.echo(traceback.format_exc(), err=True)
        message = f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        hint = "this is a fault of onnxplain: please report it with what -v shows"
        return _fail(as_json, 5, {"code": "internal", "message": message, "hint": hint})


def _invoke(arguments: list[str]) -> object:
    """What ``group.main`` does, without its own handling of Ctrl-C and broken pipes."""
    if wanted := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "onnxplain", _COMPLETE, wanted)
    try:
        with group.make_context("onnxplain", list(arguments)) as context:
            return group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code


def _fail(as_json: bool, code: int, error: dict[str, Any]) -> int:
    from cli.output import inert

    if as_json:
        click.echo(json.dumps({"error": error | {"exit_code": code}}, ensure_ascii=True))
    hint = f" ({error['hint']})" if error.get("hint") else ""
    click.echo(f"onnxplain: {inert(error['message'])}{inert(hint)} [{error['code']}]", err=True)
    return code


if __name__ == "__main__":
    main()
