"""What all commands share: common options, tables, progress, making foreign strings harmless.

Belongs here: how things are printed. Not here: what is printed (the commands).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from analyzer.methods.parameters import Parameter

F = TypeVar("F", bound=Callable[..., Any])

#: Columns of tables that don't go to a terminal.
_PIPE_WIDTH = 120
_Seed, _Threads = click.IntRange(0, 2**32 - 1), click.IntRange(0, 1024)


@dataclass(frozen=True)
class Options:
    """The options that every command has."""

    json: bool
    quiet: bool
    verbose: bool
    color: bool
    seed: int
    device: str
    threads: int
    tf32: bool = False

    @property
    def running(self) -> dict[str, Any]:
        """Those that say how a model is run."""
        return {"seed": self.seed, "device": self.device, "threads": self.threads, "tf32": self.tf32}


def common(function: F) -> F:
    """Add the common options; the command gets them as ``options``."""
    import functools

    @click.option("--json", "json_", is_flag=True, help="Print one JSON document.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings.")
    @click.option("-v", "--verbose", is_flag=True, help="More detail; a traceback for internal errors.")
    @click.option("--no-color", is_flag=True, hidden=True, help="As the variable NO_COLOR.")
    @click.option("--seed", default=0, type=_Seed, metavar="N", help="Of random choices. [0]")
    @click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N; --tf32: less exact. [auto]")
    @click.option("--tf32", is_flag=True, hidden=True)  # told beside --device: a screen holds no more
    @click.option("--threads", default=0, type=_Threads, metavar="N", help="In an operator. [by machine]")
    @functools.wraps(function)
    def wrapper(
        *args: Any, json_: bool, quiet: bool, verbose: bool, no_color: bool, seed: int, device: str, threads: int,
        tf32: bool, **kwargs: Any,
    ) -> Any:  # fmt: skip
        color = not no_color and not os.environ.get("NO_COLOR")
        return function(*args, options=Options(json_, quiet, verbose, color, seed, device, threads, tf32), **kwargs)

    return wrapper  # type: ignore[return-value]


def method_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of methods, for shell completion."""
    from analyzer.methods import registry

    return [name for name in registry.methods() if name.startswith(incomplete)]


def keep_fonts_in_cache() -> None:
    """Have matplotlib keep its list of fonts in our cache folder: else it makes folders of its own in the user's home.

    Without a cache that can be used it is a temporary folder, which goes when the process ends.
    """
    import atexit
    import shutil
    import tempfile

    from analyzer.cache_folder import UnusableError, cache_folder, make_private

    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        return
    with contextlib.suppress(UnusableError):
        folder = cache_folder()
        if folder is not None:
            make_private(folder)
            make_private(folder / "matplotlib")
            os.environ["MPLCONFIGDIR"] = str((folder / "matplotlib").absolute())
            return
    with contextlib.suppress(OSError):
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="onnxplain-")
        atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)


def metric_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of metrics, for shell completion."""
    from analyzer.evaluation import registry

    return [name for name in registry.metrics() if name.startswith(incomplete)]


def inert(text: object) -> str:
    """A string from a model or file as one harmless line: no control, bidirectional or escape characters."""
    return "".join(c if unicodedata.category(c)[0] != "C" else " " if c in "\t\n" else "�" for c in str(text))


def console(options: Options, err: bool = False) -> Console:
    """A rich console on stdout, or stderr; wide where that is no terminal."""
    from rich.console import Console

    rich_console = Console(stderr=err, no_color=not options.color, highlight=False)
    if not rich_console.is_terminal:
        rich_console.width = _PIPE_WIDTH
    return rich_console


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Turn a stdout that takes nothing more, as on a full disk, into one line.

    Raises
    ------
    AnalyzerError
        ``output.unwritable``, ``output.no_space``, ``output.read_only``.
    """
    from analyzer.files import write_error

    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        silence()
        raise write_error("standard output", problem, "redirect it elsewhere") from None


def silence() -> None:
    """Send what is still buffered for stdout to nowhere: closing it at exit must not fail."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _put(options: Options, what: Any, wrap: bool) -> None:
    """Print through rich, but leave writing to click: rich answers a broken pipe by exiting with 1."""
    rich_console = console(options)
    with _writing():
        with rich_console.capture() as captured:
            rich_console.print(what, soft_wrap=not wrap)
        text = "\n".join(row.rstrip() for row in captured.get().split("\n"))
        click.echo(text, nl=False, color=rich_console.is_terminal)


def table(options: Options, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table whose cells are foreign strings; its first column is never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        grid.add_column(column, overflow="fold", no_wrap=position == 0)
    for row in rows:
        grid.add_row(*[Text(inert(cell)) for cell in row])
    _put(options, grid, wrap=True)


def parameters(options: Options, found: Mapping[str, Parameter], example: str) -> None:
    """Print a table of parameters with their defaults, and how one is set; ``example`` goes before its name."""
    if not found:
        line(options, "no parameters")
        return
    rows = [(each.name, each.type_name, repr(each.default), each.doc) for each in found.values()]
    table(options, ("parameter", "type", "default", "meaning"), rows)
    line(options, f"set them with -p, as in: {example}{rows[0][0]}=...", "dim")


def line(options: Options, text: object, style: str = "") -> None:
    """Print one line of foreign text; only a terminal's width breaks it."""
    from rich.text import Text

    _put(options, Text(inert(text), style=style), wrap=sys.stdout is not None and sys.stdout.isatty())


def document(value: Any) -> None:
    """Print one JSON document."""
    from analyzer.explanation import jsonable

    with _writing():
        click.echo(json.dumps(jsonable(value), indent=2, ensure_ascii=True))


def warn(options: Options, text: object) -> None:
    """A warning on stderr."""
    if not options.quiet:
        click.echo(f"onnxplain: warning: {inert(text)}", err=True)


def detail(options: Options, text: object) -> None:
    """A line on stderr with ``-v``."""
    if options.verbose and not options.quiet:
        click.echo(f"onnxplain: {inert(text)}", err=True)


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, done: float, total: float, label: str = "") -> None:
        """So many of so many, of what ``label`` names where it changes."""


@contextlib.contextmanager
def progress(options: Options, label: str, unit: str = "evaluations, time left") -> Iterator[Advance]:
    """A progress bar on stderr where that is a terminal; gives a function (done, total), of model evaluations by default.

    It displays how many are done, the total, and the time left at the recent pace. The total may fall where a method
    stops early; fewer done than before means that another explanation has begun, which starts a new pace.
    """
    if options.quiet or not sys.stderr.isatty():
        yield lambda done, total, label="": None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    time_left = (TextColumn(unit), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), *time_left)
    with Progress(*columns, console=console(options, err=True), transient=True) as bar:
        task, before = bar.add_task(inert(label), total=None), 0.0

        def advance(done: float, total: float, label: str = label) -> None:
            nonlocal before
            if done < before:
                bar.reset(task, total=total, completed=0)
            bar.update(task, completed=done, total=total, description=inert(label))
            before = done

        yield advance
