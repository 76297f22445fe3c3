"""Options of the commands that explain: which methods, of what, and how.

Belongs here: what ``explain`` and ``evaluate`` share. Not here: what every command has (``output``), rules (``rules``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from cli.output import method_names
from cli.rules import rule_options

F = TypeVar("F", bound=Callable[..., Any])
_PRESETS = ("imagenet", "imagenet-caffe", "unit", "signed", "raw")
#: The options that become fields of :class:`analyzer.jobs.asked.Asked`.
_FIELDS = ("model", "inputs", "methods", "params", "targets", "score", "preprocess", "labels", "decode", "backend",
           "rule", "explained", "layout")  # fmt: skip


def explaining(method_required: bool = True, hidden: Collection[str] = ()) -> Callable[[F], F]:
    """Add the arguments and options; the command gets them as ``asked``: what ``Asked`` takes beside the common ones.

    Parameters
    ----------
    hidden
        Options that the help leaves out.
    """

    def option(*names: str, **how: Any) -> Callable[[F], F]:
        return click.option(*names, hidden=how.pop("hidden", False) or bool(set(names) & set(hidden)), **how)

    def decorate(function: F) -> F:
        decorators = (
            click.argument("model", type=click.Path()),
            click.argument("inputs", nargs=-1, required=True, type=click.Path()),
            option("-m", "--method", "methods", multiple=True, required=method_required, shell_complete=method_names,
                   help="As -p, -t repeatable." if method_required else "As -p repeatable."),
            option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE",
                   help="A parameter, also METHOD.KEY=VALUE."),
            functools.partial(rule_options, hidden="--rule" in hidden),
            option("-t", "--target", "targets", multiple=True, default=["top1"], metavar="TARGET",
                   help="top1, a class, contrast:A,B, OUT[:,3], region:2, …"),
            option("--input", "explained", multiple=True, metavar="NAME",
                   help="An input to explain, instead of all that suit."),
            option("--layout", multiple=True, hidden=True, metavar="[NAME=]NTC", help="What an input's axes count."),
            option("--score", default="logit", help="logit or probability. [logit]"),
            option("--preprocess", type=click.Path(), metavar="HOW", help=f"TOML, or {', '.join(_PRESETS)}."),
            option("--labels", type=click.Path(), metavar="FILE", help="Class names, one per line."),
            option("--decode", type=click.Path(), metavar="HOW", help="TOML file or preset: how to read detections."),
            option("--backend", default="auto", metavar="NAME", help="auto, torch or onnxruntime. [auto]"),
        )  # fmt: skip

        @functools.wraps(function)
        def wrapper(*args: Any, **given: Any) -> Any:
            asked = {name: given.pop(name) for name in _FIELDS}
            asked |= {"rules": asked.pop("rule"), "targets": list(dict.fromkeys(asked["targets"]))}
            return function(*args, asked=asked, **given)

        command: Any = wrapper
        for decorator in reversed(decorators):
            command = decorator(command)
        return command  # type: ignore[no-any-return]

    return decorate
