"""What activation maximization is asked for beside its goal, and what it finds.

Belongs here: the two values. Not here: the search (``search``), putting it together (``maximize``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from analyzer.data.dataset import Dataset
from analyzer.errors import UsageError
from analyzer.visualization.domain import Domain
from analyzer.visualization.objectives import Goal
from analyzer.visualization.parametrisation import Kind
from analyzer.visualization.regularisers import Regularisers
from analyzer.visualization.search import Steps

Array = NDArray[Any]
Start = Literal["noise", "mean", "best"] | Array | Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Maximized:
    """What was found, best first.

    Attributes
    ----------
    x
        (results, …) in the model's layout and type.
    scores
        (results,) float64: of those inputs, by onnxruntime.
    kind
        What the score is.
    goal
        What was maximised.
    traced
        (results,): the scores by the trace that gave the gradients.
    probabilities
        (results,): of the class, by onnxruntime; None where none is known.
    starts
        (results,): the scores at the start.
    history
        (steps, results): the score at each step, as the step saw the input.
    frames
        (step, input) pairs on the way of the best result.
    codes
        (results, …): what the generator made them from; None without one.
    domain
        Among which inputs.
    notes
        What a reader should know.
    record
        Everything that asks for the same again; JSON-ready.
    """

    x: Array
    scores: Array
    kind: str
    goal: Goal
    traced: Array
    probabilities: Array | None
    starts: Array
    history: Array
    frames: list[tuple[int, Array]]
    codes: Array | None
    domain: Domain
    notes: list[str]
    record: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"<Maximized {self.goal}: {self.kind} {self.scores[0]:.4g} of {len(self.x)} results>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: everything but the inputs."""
        return {
            **self.record, "kind": self.kind, "scores": self.scores.tolist(), "scores_by_trace": self.traced.tolist(),
            "probabilities": None if self.probabilities is None else self.probabilities.tolist(),
            "scores_at_start": self.starts.tolist(), "history": self.history.tolist(), "notes": self.notes,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Wish:
    """Everything that a search depends on beside the model and the goal.

    Attributes
    ----------
    start
        ``noise``; ``mean`` of the data, or the middle of the range without any; ``best`` of the data; an input.
    dataset
        Data to start from.
    results, restarts
        So many inputs, each the best of so many ascents.
    bounds
        The valid range; None for that of the preprocessing.
    input
        Name of the input that is changed; the others stay as in ``start``.
    """

    start: Start = "noise"
    dataset: Dataset | None = None
    results: int = 1
    restarts: int = 1
    parametrisation: Kind = "pixels"
    decorrelate: bool = False
    regularisers: Regularisers = field(default_factory=Regularisers)
    steps: Steps = field(default_factory=Steps)
    bounds: tuple[float, float] | None = None
    input: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("results", "restarts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256:
                raise UsageError("params.invalid", f"{name}={value!r} is no whole number from 1 to 256")
        if isinstance(self.start, str) and self.start not in ("noise", "mean", "best"):
            raise UsageError("params.invalid", f"unknown start {self.start!r}", "use noise, mean, best, or an input")
        if isinstance(self.start, str) and self.start == "best" and self.dataset is None:
            raise UsageError("maximize.no_data", "the best data point needs data", "give a data set")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; an input to start from by its shape."""
        given = self.start if isinstance(self.start, str) else "an input"
        return {
            "start": given, "data_digest": None if self.dataset is None else self.dataset.digest,
            "results": self.results, "restarts": self.restarts, "parametrisation": self.parametrisation,
            "decorrelate": self.decorrelate, "regularisers": self.regularisers.to_dict(),
            "steps": self.steps.steps, "rate": self.steps.rate, "optimizer": self.steps.optimizer,
            "patience": self.steps.patience, "bounds": None if self.bounds is None else list(self.bounds),
            "input": self.input, "seed": self.seed,
        }  # fmt: skip
