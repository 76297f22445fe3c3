"""The engine of a recording: a method's sweeps and its arithmetic become one graph of tensor operators.

Belongs here: the engine protocol on recorded tensors, refusing what no graph can express. Not here: the recorder itself
(``recorder``), what is recorded (``sweep_model``, ``analyzer.export``), rules (``graph_rules``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from analyzer.compiler.numbers_guard import NumbersGuard
from analyzer.engines import protocol
from analyzer.engines.input_nodes import InputNode
from analyzer.engines.protocol import FeatureMap, NotCompilableError, SweepResult, TableSpec
from analyzer.engines.remaining import computed, outputs_after
from analyzer.engines.torch_engine import TorchEngine
from analyzer.engines.traced_score import Weigh, compared, reverse
from analyzer.errors import UnsupportedError
from analyzer.importer.recorder import without_recording
from analyzer.inputs.resampling import Resampling
from graph_rules import sweep
from graph_rules.errors import RuleError
from graph_rules.sweep import ForwardPass, Plan
from graph_rules.totals import Absorption

F = TypeVar("F", bound=Callable[..., Any])
#: How many variations of the batch are run at once: all of them.
_NO_LIMIT = 2**30


def _unguarded(method: F) -> F:
    """A method of the engine that may itself read numbers of recorded tensors."""

    @functools.wraps(method)
    def run(self: RecordingEngine, *args: Any, **kwargs: Any) -> Any:
        with self.target.guard.pause():
            return method(self, *args, **kwargs)

    return run  # type: ignore[return-value]


@dataclass
class RecordedTarget:
    """What all engines of a recording share: the target on the unchanged inputs.

    Attributes
    ----------
    weigh
        Gives the target's weights on the scores.
    scores, weights, outputs
        The scores of the unchanged inputs, the weights on them, and the model's own outputs; filled in by the first
        forward pass.
    """

    weigh: Weigh
    guard: NumbersGuard = field(default_factory=NumbersGuard)
    scores: Tensor | None = None
    weights: Tensor | None = None
    outputs: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class RecordingEngine:
    """Sweeps over recorded tensors; implements :class:`~analyzer.engines.protocol.Engine`.

    Attributes
    ----------
    example
        The torch engine on the example with which the recording is made.
    inputs
        The trace's inputs by name, as recorded tensors.
    given
        Values for the explained inputs that replace the example's own.
    times
        How many copies of the example's batch the inputs hold.
    base
        The engine on the unchanged inputs, where this one was made from another.
    absorption
        Adds up where a sweep's relevance is kept, where that is wanted.
    """

    example: TorchEngine
    inputs: dict[str, Tensor]
    target: RecordedTarget
    given: Mapping[str, Tensor] = field(default_factory=dict)
    times: int = 1
    base: RecordingEngine | None = None
    absorption: Absorption | None = None

    @property
    def xp(self) -> Any:
        """torch behind the array API."""
        from array_api_compat import torch as namespace

        return namespace

    @property
    def explained(self) -> tuple[InputNode, ...]:
        """The inputs that are explained."""
        return self.example.explained

    @_unguarded
    def values(self) -> dict[str, Any]:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        if self.given:
            return dict(self.given)
        if any(entry.tokens for entry in self.explained):
            nodes = self.example.traced.nodes
            plan = self.example.traced.plan(protocol.GRADIENT, tuple(nodes.values()), static=True)
            run = self._forward(plan, {})
            return {name: run.sources[node] for name, node in nodes.items()}
        return {entry.name: self.inputs[entry.name] for entry in self.explained}

    @_unguarded
    def at(self, values: Mapping[str, Any]) -> RecordingEngine:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return replace(self._repeated(self._times(values)), given=dict(values))

    @_unguarded
    def sweep(self, table: TableSpec, initial: str = "one", values: Mapping[str, Any] | None = None) -> SweepResult:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        values = values or self.given
        times = self._times(values) if values else 1
        if times > 1:
            return self._repeated(times).sweep(table, initial, values)
        return self._swept(table, initial, list(self.example.traced.nodes.items()), values)

    @_unguarded
    def sweep_from(self, table: TableSpec, initial: str, values: Mapping[str, Any]) -> SweepResult:
        """A sweep from given explained values as if they were the inputs' own; nothing before them is run."""
        nodes = list(self.example.traced.nodes.items())
        plan = self.example.traced.plan(table, tuple(node for _, node in nodes), static=True)
        run = self._forward(plan, values)
        self.target.scores, weights = run.value, self.target.weigh(run.value)
        swept = reverse(run, lambda _: weights, nodes, initial)
        return self._result(swept.relevance, swept.values, run.value, weights)

    def gradient(self, values: Mapping[str, Any] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        return self.sweep(protocol.GRADIENT, values=values)

    @_unguarded
    def at_layer(self, layer: str) -> FeatureMap:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        traced = self.example.traced
        if layer == "auto" and traced.grids:
            raise NotCompilableError("which of a detector's grids is looked at depends on the target: name a layer")
        at = traced.feature_layer(layer)
        swept = self._swept(protocol.GRADIENT, "one", [(at.name, at.node)], self.given)
        return traced.feature_map(at, swept.values[at.name], swept.relevance[at.name], swept.score)

    @_unguarded
    def difference(self, table: TableSpec, baseline: Mapping[str, Any]) -> tuple[SweepResult, Any, list[str]]:
        """See :class:`~analyzer.engines.protocol.Engine`; which nodes choose otherwise isn't known."""
        result, at_baseline, _, _ = self.compared(table, baseline)
        return result, at_baseline, []

    def compared(
        self, table: TableSpec, baseline: Mapping[str, Any]
    ) -> tuple[SweepResult, Tensor, Tensor, ForwardPass]:
        """As :meth:`difference`: the sweep, the score and the scores at the baseline, and the pass that compared both.

        Raises
        ------
        UnsupportedError
            ``rule.failed``.
        """
        traced = self.example.traced
        nodes = traced.nodes
        plan = traced.plan(table, tuple(nodes.values()), static=True)
        keep = computed(plan.output) if self._is_first_pass else set()
        starts = {nodes[name]: value for name, value in baseline.items()}
        given = {nodes[name]: value for name, value in self.given.items()}
        run, at_baseline = compared(plan, self._feed(), given, starts, keep)
        weights = self._weights_of_pass(run)
        try:
            swept = reverse(run, lambda _: weights, list(nodes.items()))
        except RuleError as problem:
            raise UnsupportedError("rule.failed", f"{table.name}: {problem}", "use integrated-gradients") from None
        result = self._result(swept.relevance, swept.values, run.value, weights)
        return result, _score(at_baseline.value, weights), at_baseline.value, run

    def scores_with_layer(self, *_: Any) -> NoReturn:
        """Can't be recorded."""
        raise NotCompilableError("it runs parts of the model")

    scores_with_inputs = scores_with_layer

    def chunk(self) -> int:
        """All variations at once.

        Raises
        ------
        UnsupportedError
            ``compile.method`` for a model of a fixed batch.
        """
        if self.example.model.fixed_batch is not None:
            raise UnsupportedError(
                "compile.method",
                "the method runs the model at many points at once, which needs a free batch axis; the model's is fixed",
                "export the model with a free batch axis, or explain with the torch backend",
            )
        return _NO_LIMIT

    @_unguarded
    def resample(self, map_: Any, size: Sequence[int], how: Resampling = "linear") -> Any:
        """See :func:`analyzer.inputs.resampling.resample`; computed by torch."""
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[map_.ndim - 2]
        return torch.nn.functional.interpolate(
            map_,
            list(size),
            mode="nearest" if how == "nearest" else linear,
            align_corners=None if how == "nearest" else how == "corners",
        )

    @_unguarded
    def numbers(self, value: Any) -> NDArray[Any]:
        """The numbers that the example has for a value."""
        if not isinstance(value, Tensor):
            return np.asarray(value)
        with without_recording():
            return np.asarray(value.detach().cpu().numpy())

    def record(self) -> dict[str, Any]:
        """Empty: a recording adds nothing to an explanation's record."""
        return {}

    @property
    def _is_first_pass(self) -> bool:
        """Whether no pass on the unchanged inputs has been run yet."""
        return self.base is None and not self.given and self.target.weights is None

    def _swept(
        self, table: TableSpec, initial: str, at_nodes: Sequence[tuple[str, fx.Node]], values: Mapping[str, Any]
    ) -> SweepResult:
        plan = self.example.traced.plan(table, tuple(node for _, node in at_nodes), static=True)
        run = self._forward(plan, values)
        weights = self._weights_of_pass(run) if not values and self.base is None else self._weights()
        watch = None if self.absorption is None else self.absorption.watch
        swept = reverse(run, lambda _: weights, at_nodes, initial, watch)
        return self._result(swept.relevance, swept.values, run.value, weights)

    def _forward(self, plan: Plan, values: Mapping[str, Any]) -> ForwardPass:
        nodes = self.example.traced.nodes
        keep = computed(plan.output) if self._is_first_pass and not values else set()
        return sweep.forward(plan, self._feed(), {nodes[name]: value for name, value in values.items()}, keep)

    def _weights_of_pass(self, run: ForwardPass) -> Tensor:
        """The target's weights; the first pass on the unchanged inputs determines them, the scores and the model's outputs."""
        if self._is_first_pass:
            self.target.outputs = outputs_after(self.example.traced.trace, self.inputs, run.values)
            self.target.scores = run.value
            self.target.weights = self.target.weigh(run.value)
        return self._weights()

    def _weights(self) -> Tensor:
        """The target's weights on the unchanged inputs, for every copy of the batch."""
        if self.target.weights is None:
            unchanged = replace(self.base or self, given={})
            traced = unchanged.example.traced
            plan = traced.plan(protocol.GRADIENT, tuple(traced.nodes.values()), static=True)
            unchanged._weights_of_pass(unchanged._forward(plan, {}))
        weights = self.target.weights
        assert weights is not None
        return weights.repeat(self.times, *[1] * (weights.ndim - 1)) if self.times > 1 else weights

    def _result(
        self, relevance: Mapping[str, Tensor], values: Mapping[str, Tensor], scores: Tensor, weights: Tensor
    ) -> SweepResult:
        parts: Any = (dict(relevance), dict(values), _score(scores, weights))
        return SweepResult(*parts)

    def _feed(self) -> list[Tensor]:
        return [self.inputs[name] for name in self.example.traced.trace.inputs]

    def _times(self, values: Mapping[str, Any]) -> int:
        """How many copies of the example's batch the given values hold."""
        return len(next(iter(values.values()))) // self.example.batch

    def _repeated(self, times: int) -> RecordingEngine:
        """The engine for the batch repeated ``times`` times."""
        if times == 1:
            return self
        names, model = [entry.name for entry in self.explained], self.example.model
        if not model.stackable(names, self.example.inputs, len(self.example.weights)):
            why = "input's first axis isn't the batch" if model.couples_rows is None else "rows depend on each other"
            raise NotCompilableError(f"it runs the model at many points, and the {why}")
        larger, inputs = self.example.repeated(times), {}
        for name, value in self.inputs.items():
            have, want = self.example.inputs[name].shape, larger.inputs[name].shape
            axis = next((axis for axis, (a, b) in enumerate(zip(have, want, strict=True)) if a != b), None)
            counts = [times if position == axis else 1 for position in range(value.ndim)]
            inputs[name] = value if axis is None else value.repeat(*counts)
        return RecordingEngine(larger, inputs, self.target, {}, times * self.times, self.base or self)


def _score(scores: Tensor, weights: Tensor) -> Tensor:
    """The explained score, (batch,), float64."""
    rows = max(1, len(weights) if weights.ndim else 1)
    return (weights.double() * scores.double()).reshape(rows, -1).sum(1)
