"""The engine of a recording: a method's sweeps and its arithmetic written down as one graph of tensors.

Belongs here: answering a method with recorded tensors, and refusing what no graph holds. Not here: the recorder itself
(``recorder``), what is recorded (``sweep_model``, ``analyzer.export``), rules (``graph_rules``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from analyzer.engines import protocol
from analyzer.engines.input_nodes import InputNode
from analyzer.engines.protocol import FeatureMap, NotCompilableError, SweepResult, TableSpec
from analyzer.engines.torch_engine import TorchEngine
from analyzer.engines.traced_score import Weigh, compared, reverse
from analyzer.errors import UnsupportedError
from analyzer.importer.recorder import recorded, without_recording
from analyzer.inputs.resampling import Resampling
from graph_rules import sweep
from graph_rules.errors import RuleError
from graph_rules.sweep import ForwardPass, Plan

F = TypeVar("F", bound=Callable[..., Any])
#: So many variations of the batch are run at once: all of them.
_ALL = 2**30
_READING = {
    Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__float__, Tensor.__int__,
    Tensor.__index__, Tensor.__complex__, Tensor.__iter__, Tensor.__contains__,
}  # fmt: skip


class NumbersGuard(TorchFunctionMode):
    """While it is active, code that reads the numbers of a recorded tensor is refused: they would become constants."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if not self.paused and func in _READING and any(recorded(value) for value in args):
            raise NotCompilableError("it looks at numbers between its sweeps")
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Let numbers be read, for an engine's own work."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1


def _unguarded(method: F) -> F:
    """An engine's method whose own work isn't the guard's concern."""

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
    """Sweeps over recorded tensors; answers :class:`~analyzer.engines.protocol.Engine`.

    Attributes
    ----------
    example
        The torch engine on the example that is recorded along.
    inputs
        The trace's inputs by name, as they are recorded.
    given
        Explained values in place of the inputs' own.
    times
        How many variations of the batch the inputs are.
    """

    example: TorchEngine
    inputs: dict[str, Tensor]
    target: RecordedTarget
    given: Mapping[str, Tensor] = field(default_factory=dict)
    times: int = 1
    base: RecordingEngine | None = None

    @property
    def xp(self) -> Any:
        """torch in the terms of the array API."""
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
        """A sweep from given explained values as if they were the inputs' own: nothing of the inputs' is run."""
        nodes = list(self.example.traced.nodes.items())
        plan = self.example.traced.plan(table, tuple(node for _, node in nodes), static=True)
        run = self._forward(plan, values)
        self.target.scores, weights = run.value, self.target.weigh(run.value)
        found = reverse(run, lambda _: weights, nodes, initial)
        return self._result(found.relevance, found.values, run.value, weights)

    def gradient(self, values: Mapping[str, Any] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        return self.sweep(protocol.GRADIENT, values=values)

    @_unguarded
    def at_layer(self, layer: str) -> FeatureMap:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        traced = self.example.traced
        at = traced.feature_layer(layer)
        found = self._swept(protocol.GRADIENT, "one", [(at.name, at.node)], self.given)
        return traced.feature_map(at, found.values[at.name], found.relevance[at.name], found.score)

    @_unguarded
    def difference(self, table: TableSpec, baseline: Mapping[str, Any]) -> tuple[SweepResult, Any, list[str]]:
        """See :class:`~analyzer.engines.protocol.Engine`; which nodes choose otherwise isn't told."""
        result, at_baseline, _, _ = self.compared(table, baseline)
        return result, at_baseline, []

    def compared(
        self, table: TableSpec, baseline: Mapping[str, Any]
    ) -> tuple[SweepResult, Tensor, Tensor, ForwardPass]:
        """As :meth:`difference`: the sweep, the score and the scores at the baseline, and the compared pass.

        Raises
        ------
        UnsupportedError
            ``rule.failed``.
        """
        traced = self.example.traced
        nodes = traced.nodes
        plan = traced.plan(table, tuple(nodes.values()), static=True)
        keep = _computed(plan.output) if self._first else set()
        starts = {nodes[name]: value for name, value in baseline.items()}
        given = {nodes[name]: value for name, value in self.given.items()}
        run, at_baseline = compared(plan, self._feed(), given, starts, keep)
        weights = self._noted(run)
        try:
            found = reverse(run, lambda _: weights, list(nodes.items()))
        except RuleError as problem:
            raise UnsupportedError("rule.failed", f"{table.name}: {problem}", "use integrated-gradients") from None
        result = self._result(found.relevance, found.values, run.value, weights)
        return result, _score(at_baseline.value, weights), at_baseline.value, run

    def scores_with_layer(self, *_: Any) -> NoReturn:
        """Not recorded."""
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
        return _ALL

    @_unguarded
    def resample(self, map_: Any, size: Sequence[int], how: Resampling = "linear") -> Any:
        """As :func:`analyzer.inputs.resampling.resample`, by torch."""
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[map_.ndim - 2]
        return torch.nn.functional.interpolate(
            map_,
            list(size),
            mode="nearest" if how == "nearest" else linear,
            align_corners=None if how == "nearest" else how == "corners",
        )

    @_unguarded
    def numbers(self, value: Any) -> NDArray[Any]:
        """Those of the example."""
        if not isinstance(value, Tensor):
            return np.asarray(value)
        with without_recording():
            return np.asarray(value.detach().cpu().numpy())

    def record(self) -> dict[str, Any]:
        """Nothing: what is recorded has no record of its own."""
        return {}

    @property
    def _first(self) -> bool:
        """Whether the unchanged inputs haven't been run yet."""
        return self.base is None and not self.given and self.target.weights is None

    def _swept(
        self, table: TableSpec, initial: str, stops: Sequence[tuple[str, fx.Node]], values: Mapping[str, Any]
    ) -> SweepResult:
        plan = self.example.traced.plan(table, tuple(node for _, node in stops), static=True)
        run = self._forward(plan, values)
        weights = self._noted(run) if not values and self.base is None else self._weights()
        found = reverse(run, lambda _: weights, stops, initial)
        return self._result(found.relevance, found.values, run.value, weights)

    def _forward(self, plan: Plan, values: Mapping[str, Any]) -> ForwardPass:
        nodes = self.example.traced.nodes
        keep = _computed(plan.output) if self._first and not values else set()
        return sweep.forward(plan, self._feed(), {nodes[name]: value for name, value in values.items()}, keep)

    def _noted(self, run: ForwardPass) -> Tensor:
        """The target's weights; a pass on the unchanged inputs also tells them, the scores and the model's outputs."""
        if self._first:
            self.target.outputs = self._finished(run.values)
            self.target.scores = run.value
            self.target.weights = self.target.weigh(run.value)
        return self._weights()

    def _weights(self) -> Tensor:
        """Of the unchanged inputs' target, for every variation of the batch."""
        if self.target.weights is None:
            root = self.base or self
            nodes = tuple(root.example.traced.nodes.values())
            plain = replace(root, given={})
            plain._noted(plain._forward(root.example.traced.plan(protocol.GRADIENT, nodes, static=True), {}))
        weights = self.target.weights
        assert weights is not None
        return weights.repeat(self.times, *[1] * (weights.ndim - 1)) if self.times > 1 else weights

    def _result(
        self, relevance: Mapping[str, Tensor], values: Mapping[str, Tensor], scores: Tensor, weights: Tensor
    ) -> SweepResult:
        found: Any = (dict(relevance), dict(values), _score(scores, weights))
        return SweepResult(*found)

    def _feed(self) -> list[Tensor]:
        return [self.inputs[name] for name in self.example.traced.trace.inputs]

    def _times(self, values: Mapping[str, Any]) -> int:
        """How many variations of this engine's batch some values are."""
        return len(next(iter(values.values()))) // self.example.batch

    def _repeated(self, times: int) -> RecordingEngine:
        """The engine for the same batch, ``times`` over."""
        if times == 1:
            return self
        larger, inputs = self.example.repeated(times), {}
        for name, value in self.inputs.items():
            have, want = self.example.inputs[name].shape, larger.inputs[name].shape
            axis = next((axis for axis, (a, b) in enumerate(zip(have, want, strict=True)) if a != b), None)
            counts = [times if at == axis else 1 for at in range(value.ndim)]
            inputs[name] = value if axis is None else value.repeat(*counts)
        return RecordingEngine(larger, inputs, self.target, {}, times * self.times, self.base or self)

    def _finished(self, known: Mapping[fx.Node, Any]) -> dict[str, Tensor]:
        """The model's outputs: what the sweep's forward pass left is taken, the rest is run."""
        trace = self.example.traced.trace
        values = dict(known)
        for node, name in zip(trace.module.graph.find_nodes(op="placeholder"), trace.inputs, strict=True):
            values[node] = self.inputs[name]
        given = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
        missing = _lacking([node for node in given if isinstance(node, fx.Node)], values)
        with torch.no_grad():
            for node in trace.module.graph.nodes:
                if node.op == "get_attr":
                    values[node] = getattr(trace.module, str(node.target))
                elif node in missing:
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                    values[node] = node.target(*args, **kwargs)
            outputs = fx.node.map_arg(given, values.__getitem__)
            return {k: v for k, v in zip(trace.outputs, outputs, strict=True) if isinstance(v, Tensor)}


def _score(scores: Tensor, weights: Tensor) -> Tensor:
    """The explained score, (batch,), float64."""
    rows = max(1, len(weights) if weights.ndim else 1)
    return (weights.double() * scores.double()).reshape(rows, -1).sum(1)


def _computed(output: fx.Node) -> set[fx.Node]:
    """Calls with one tensor as result that a node depends on, itself included."""
    return {node for node in _lacking([output], ()) if "shape" in node.meta}


def _lacking(wanted: Sequence[fx.Node], known: Container[fx.Node]) -> set[fx.Node]:
    """Calls that must run for some nodes where others are known."""
    found: set[fx.Node] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if node not in found and node not in known and node.op == "call_function":
            found.add(node)
            stack.extend(node.all_input_nodes)
    return found
