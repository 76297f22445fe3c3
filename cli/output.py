"""What all commands share: common options, tables, progress, making foreign strings inert.

Belongs here: printing. Not here: what is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


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


def common(function: F) -> F:
    """Add the common options; the command gets them as ``options``."""
    import functools

    @click.option("--json", "json_", is_flag=True, help="Print one JSON document.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings.")
    @click.option("-v", "--verbose", is_flag=True, help="More detail; a traceback for internal errors.")
    @click.option("--no-color", is_flag=True, help="No colours (also: the variable NO_COLOR).")
    @click.option("--seed", default=0, show_default=True, help="Of every random choice.")
    @click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    @click.option("--threads", default=0, type=click.IntRange(0, 1024), help="Threads in an operator; 0: by machine.")
    @functools.wraps(function)
    def wrapper(
        *args: Any, json_: bool, quiet: bool, verbose: bool, no_color: bool, seed: int, device: str, threads: int,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        color = not no_color and not os.environ.get("NO_COLOR")
        return function(*args, options=Options(json_, quiet, verbose, color, seed, device, threads), **kwargs)

    return wrapper  # type: ignore[return-value]


def inert(text: object) -> str:
    """A string from a model or file as one harmless line: no control, bidirectional or escape characters."""
    return "".join(c if unicodedata.category(c)[0] != "C" else " " if c in "\t\n" else "�" for c in str(text))


def console(options: Options, err: bool = False) -> Console:
    """A rich console on stdout, or stderr."""
    from rich.console import Console

    return Console(stderr=err, no_color=not options.color, highlight=False, soft_wrap=False)


def table(options: Options, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table whose cells are foreign strings."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*[Text(inert(cell)) for cell in row])
    console(options).print(grid)


def line(options: Options, text: object, style: str = "") -> None:
    """Print one line of foreign text."""
    from rich.text import Text

    console(options).print(Text(inert(text), style=style))


def document(value: Any) -> None:
    """Print one JSON document."""
    from analyzer.explanation import jsonable

    click.echo(json.dumps(jsonable(value), indent=2, ensure_ascii=True))


def warn(options: Options, text: object) -> None:
    """A warning on stderr."""
    if not options.quiet:
        click.echo(f"onnxplain: warning: {inert(text)}", err=True)


@contextlib.contextmanager
def progress(options: Options, label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr where that is a terminal; gives a function (done, total)."""
    if options.quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(options, err=True), transient=True) as bar:
        task = bar.add_task(inert(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
