"""What commands that explain are given in common: the model, the inputs, the methods and how they are run.

Belongs here: these values, and loading the model as they say. Not here: what a command does then (``explain_files``,
``evaluate_files``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.jobs.arguments import parse_layout
from analyzer.model import Model, load


@dataclass(frozen=True)
class Asked:
    """All values as a command line gives them.

    Attributes
    ----------
    inputs
        Files, or ``NAME=FILE`` for models with several inputs.
    params
        ``KEY=VALUE`` for every method that has the parameter, ``METHOD.KEY=VALUE`` for one.
    rules
        ``KEY=RULE``, or a file of them, for every method that takes rules.
    targets
        Each input is explained for each of them.
    explained
        Names of the inputs that are explained; empty for those that are by default.
    layout
        ``NAME=LETTERS``, or letters for the first input.
    """

    model: str
    inputs: Sequence[str]
    methods: Sequence[str]
    params: Sequence[str] = ()
    targets: Sequence[str] = ("top1",)
    score: str = "logit"
    preprocess: str | None = None
    labels: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    decode: str | None = None
    backend: str = "auto"
    rules: Sequence[str] = ()
    explained: Sequence[str] = ()
    layout: Sequence[str] = ()
    tf32: bool = False

    def load(self) -> Model:
        """The model."""
        return load(
            self.model, self.device, preprocess=self.preprocess, labels=self.labels, threads=self.threads,
            decode=self.decode, layout=parse_layout(self.layout), tf32=self.tf32,
        )  # fmt: skip


def merged(notes: Sequence[tuple[str, str]]) -> list[str]:
    """(note, what it is about) pairs as messages, every note once."""
    owners_of: dict[str, list[str]] = {}
    for note, owner in notes:
        owners_of.setdefault(note, []).append(owner)
    texts = []
    for note, owners in owners_of.items():
        owners = list(dict.fromkeys(owners))
        more = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
        texts.append(f"{owners[0]}{more}: {note}")
    return texts


def command_line(
    name: str, asked: Asked, repeated: Iterable[tuple[str, Sequence[str]]], single: Iterable[tuple[str, str | None]]
) -> str:
    """The command that asks for the same again.

    Parameters
    ----------
    repeated, single
        The command's own options: flag and values, flag and value.
    """
    import shlex

    targets = asked.targets if list(asked.targets) != ["top1"] else ()
    words = ["onnxplain", name, asked.model, *asked.inputs]
    lists = (
        ("-m", asked.methods), ("-p", asked.params), ("--rule", asked.rules), ("-t", targets),
        ("--input", asked.explained), ("--layout", asked.layout), *repeated,
    )  # fmt: skip
    for flag, values in lists:
        words += [word for value in values for word in (flag, value)]
    options = (
        *single, ("--score", asked.score if asked.score != "logit" else None),
        ("--backend", asked.backend if asked.backend != "auto" else None), ("--preprocess", asked.preprocess),
        ("--labels", asked.labels), ("--decode", asked.decode), ("--seed", str(asked.seed) if asked.seed else None),
    )  # fmt: skip
    words += [word for flag, text in options if text is not None for word in (flag, text)]
    return shlex.join(words)
