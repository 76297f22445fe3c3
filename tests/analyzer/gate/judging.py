"""What the tests of checks share: judging a model on arrays by one check, without files. Not here: any test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import analyzer
from analyzer.explanation import Result
from analyzer.gate.context import GateContext
from analyzer.gate.decide import decided
from analyzer.gate.outcome import Outcome
from analyzer.gate.policy import parse_policy
from analyzer.methods import registry
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method

Array = np.ndarray[Any, Any]


class Rows:
    """Rows of arrays as a data set."""

    digest = "0" * 64

    def __init__(
        self, feed: Mapping[str, Array], labels: Sequence[int] | None = None, groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:  # fmt: skip
        self.feed = feed
        count = len(next(iter(feed.values())))
        self.ids = tuple(f"input{at}" for at in range(count))
        self.labels = (None,) * count if labels is None else tuple(int(label) for label in labels)
        self.groups = groups or {}

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, at: int) -> Any:
        return SimpleNamespace(
            id=self.ids[at], feed={name: value[at : at + 1] for name, value in self.feed.items()}, mask=None
        )


def gate_of(
    model: analyzer.Model, x: Array | Mapping[str, Array], check: Mapping[str, Any], *, labels: Any = None,
    reference: analyzer.Model | None = None, min_n: int = 4, explain: Mapping[str, Any] | None = None, seed: int = 0,
) -> GateContext:  # fmt: skip
    """A run of a gate with one check on arrays."""
    feed = x if isinstance(x, Mapping) else {next(iter(model.inputs)): x}
    given = {
        "schema": 1, "model": {"path": "model.onnx"}, "data": {"path": "data", "seed": seed}, "policy": {"min_n": min_n},
        "explain": dict(explain or {}), "check": [{"id": check["kind"], **check}],
    }  # fmt: skip
    if reference is not None:
        given["reference"] = {"path": "reference.onnx"}
    data: Any = Rows(feed, labels)
    gate = GateContext(parse_policy(given), Path(), model, reference, data, tuple(range(len(data))))
    gate.check = gate.policy.check[0].id
    return gate


def judged(
    model: analyzer.Model, x: Array | Mapping[str, Array], check: Mapping[str, Any], **how: Any
) -> tuple[str, str, Outcome]:
    """Status, message and outcome of one check."""
    gate = gate_of(model, x, check, **how)
    outcome = gate.policy.check[0].run(gate)
    [(status, message, _)] = decided([outcome], gate.policy)
    return status, message, outcome


@contextmanager
def toy(
    name: str, maps: Callable[[Any], dict[str, Array]], promised: Callable[[Any, Any], Any] | None = None
) -> Iterator[None]:  # fmt: skip
    """A method that is registered for a while: from its context to a map for each input, and to the sum that it promises."""

    def run(context: Any) -> Result:
        """A toy."""
        found = maps(context)
        return per_input(context, found, completeness=None if promised is None else promised(context, found))

    run.__annotations__ = {}
    method(name, "gradient", source="nowhere", complete=promised is not None)(run)
    try:
        yield
    finally:
        del registry._METHODS[name]
