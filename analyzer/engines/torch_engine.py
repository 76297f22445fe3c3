"""The torch engine: rule tables run on a model's trace, numpy in, numpy out.

Belongs here: the way from arrays to sweeps and back. Not here: sweeps in tensors (``traced_score``), rules and tables
(``graph_rules``), methods, choosing an engine (``analyzer.explain.backends``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, fx

from analyzer.engines import protocol
from analyzer.engines.input_nodes import InputNode
from analyzer.engines.parity import Verification
from analyzer.engines.precision import float32_products
from analyzer.engines.protocol import Absorbed, Array, FeatureMap, SweepLog, SweepResult, SweepSpec, TableSpec
from analyzer.engines.traced_score import GRID, PRECISION, TracedScore, compared, reverse, selecting
from analyzer.engines.tracer import Tracer
from analyzer.errors import AnalyzerError, UnsupportedError
from analyzer.importer.conversion import as_tensor, to_numpy
from analyzer.importer.precision import raised
from analyzer.inputs.resampling import Resampling, resample
from analyzer.onnx_model import OnnxModel
from graph_rules import sweep
from graph_rules.errors import RuleError
from graph_rules.rectifiers import plain_units
from graph_rules.sweep import ForwardPass, Plan
from graph_rules.totals import Absorption, RelevanceTotals

if TYPE_CHECKING:
    from analyzer.importer.parity import Parity


@dataclass
class TorchEngine:
    """Sweeps over a model's trace on one batch of inputs; implements :class:`~analyzer.engines.protocol.Engine`.

    Attributes
    ----------
    weights
        The target's weights on the explained value.
    given
        Values for the explained inputs that replace their own.
    at_value
        The inner value at which relevance is computed instead of the inputs.
    totals
        Sums relevance by node, where that is requested.
    passes
        Forward passes that several targets share; None where each sweep makes its own.
    verification
        Whether the trace agrees with onnxruntime on these inputs; None where that isn't wanted.
    _beside
        Layers' tokens beside their spatial positions, by layer.
    _placed
        The inputs on the device, once they are there.
    """

    model: OnnxModel
    tracer: Tracer
    traced: TracedScore
    inputs: dict[str, Array]
    weights: Array
    at_value: str | None = None
    totals: RelevanceTotals | None = None
    passes: dict[Any, ForwardPass] | None = None
    verification: Verification | None = None
    given: Mapping[str, Array] = field(default_factory=dict)
    log: SweepLog = field(default_factory=SweepLog)
    _one_by_one: bool = False
    _larger: dict[int, TorchEngine] = field(default_factory=dict)
    _beside: dict[str, Any] = field(default_factory=dict)
    _placed: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def on(
        cls, model: OnnxModel, tracer: Tracer, inputs: dict[str, Array], value: str, weights: Array, precision: str,
        chosen: tuple[str, ...] | None = None,
    ) -> TorchEngine:  # fmt: skip
        """The engine for inputs, explaining ``sum(weights * value)``; parameters and errors as of :meth:`Tracer.score`."""
        return cls(model, tracer, tracer.score(inputs, value, precision, chosen), inputs, weights)

    @property
    def xp(self) -> Any:
        """numpy."""
        return np

    @property
    def explained(self) -> tuple[InputNode, ...]:
        """The inputs that are explained."""
        return self.traced.explained

    @property
    def batch(self) -> int:
        """Length of the explained values' first axis."""
        return self.traced.batch

    def values(self) -> dict[str, Array]:
        """See :meth:`Engine.values <analyzer.engines.protocol.Engine.values>`."""
        if self.given:
            return dict(self.given)
        if any(entry.tokens for entry in self.explained):
            return self.sweep(protocol.GRADIENT).values
        values = {entry.name: protocol.at_least_single(self.inputs[entry.name]) for entry in self.explained}
        wide = self.traced.precision == "float64"
        return {k: v.astype(np.float64) if wide and v.dtype == np.float32 else v for k, v in values.items()}

    def at(self, values: Mapping[str, Array]) -> TorchEngine:
        """See :meth:`Engine.at <analyzer.engines.protocol.Engine.at>`."""
        larger = self._larger_batch(len(_first(values)) // len(_first(self.values()))) or self
        return replace(larger, given=dict(values), _beside={})

    def sweep(self, table: TableSpec, initial: str = "one", values: Mapping[str, Array] | None = None) -> SweepResult:
        """See :meth:`Engine.sweep <analyzer.engines.protocol.Engine.sweep>`."""
        values = values or self.given
        embedded = bool(values) and any(entry.tokens for entry in self.explained)
        self.log.specs[SweepSpec(table, initial, None, embedded)] = None
        if values:
            self.traced.require_other_values()
            self.verify()
        if self.at_value is not None or self.totals is not None:
            self.log.not_compilable = True
        times = len(_first(values)) // self.batch if values else 1
        if times > 1:
            larger = self._larger_batch(times)
            if larger is not None:
                return larger.sweep(table, initial, values)
            return SweepResult.joined([self.sweep(table, initial, part) for part in _parts(values, times)])
        ends = list(self.traced.nodes.items())
        plan = self.traced.plan(table, tuple(node for _, node in ends))
        if self.at_value is not None:
            ends = [(self.at_value, self.traced.layer(self.at_value))]
        found = self._swept(plan, initial, ends, values, watched=table.conserving)
        return replace(found, units=plain_units(plan)) if table.rectifying else found

    def gradient(self, values: Mapping[str, Array] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        return self.sweep(protocol.GRADIENT, values=values)

    def at_layer(self, layer: str) -> FeatureMap:
        """See :meth:`Engine.at_layer <analyzer.engines.protocol.Engine.at_layer>`."""
        self.log.specs[SweepSpec(protocol.GRADIENT, "one", layer)] = None
        layer = self._own_grid(layer)
        at = self.traced.feature_layer(layer)
        if self.given:
            self.traced.require_other_values()
        found = self._swept(self.traced.plan(protocol.GRADIENT, (at.node,)), "one", [(at.name, at.node)], self.given)
        self._beside[layer] = at.layout.split(found.values[at.name])[1]
        return self.traced.feature_map(at, found.values[at.name], found.relevance[at.name], found.score)

    def _own_grid(self, layer: str) -> str:
        """For ``auto`` on a detector of several grids the map of the one that the target lies on; else ``layer``.

        A target lies on the grids at which its score has a gradient.
        """
        grids = self.traced.grids if layer == "auto" else ()
        if not grids:
            return layer
        self.log.not_compilable = True  # another target may lie on another grid
        plan = self.traced.plan(protocol.GRADIENT, tuple(grid for grid, _ in grids))
        found = self._swept(plan, "one", [(grid.name, grid) for grid, _ in grids], self.given).relevance
        own = [at.name for grid, at in grids if np.any(found[grid.name])]
        return GRID + own[0] if len(own) == 1 else layer

    def difference(self, table: TableSpec, baseline: Mapping[str, Array]) -> tuple[SweepResult, Array, list[str]]:
        """See :meth:`Engine.difference <analyzer.engines.protocol.Engine.difference>`."""
        self.log.specs[SweepSpec(table, difference=True)] = None
        self.traced.require_other_values()
        plan = self.traced.plan(table, tuple(self.traced.nodes.values()))
        given = self._overrides(self.given)
        watch = None if self.totals is None else self.totals.watching()
        with self._running():
            run, at_baseline = compared(
                plan, self.feed_tensors(), given, self._overrides(baseline), self._kept_to_verify(given)
            )
            self._verify(run, given)
            differing = selecting(run)
            try:
                found = reverse(run, self._weigh, list(self.traced.nodes.items()), watch=watch)
            except RuleError as problem:
                raise UnsupportedError("rule.failed", f"{table.name}: {problem}", "use integrated-gradients") from None
        result = SweepResult(_arrays(found.relevance), _arrays(found.values), self._score(run.value))
        return result, self._score(at_baseline.value), differing

    def scores_with_layer(self, layer: str, values: Array) -> Array:
        """See :meth:`Engine.scores_with_layer <analyzer.engines.protocol.Engine.scores_with_layer>`."""
        self.log.not_compilable = True
        layer = self._own_grid(layer)
        at = self.traced.feature_layer(layer)
        if layer not in self._beside:
            self.at_layer(layer)
        times = len(values) // at.layout.batch
        if times > 1:
            larger = self.repeated(times)
            larger._beside[layer] = self._beside[layer]
            follows = larger.traced.feature_layer(layer).layout.batch == len(values)
            if follows and larger.weights.size == math.prod(larger.traced.output.meta["shape"]):
                return larger.scores_with_layer(layer, values)
            # every text is held against every picture: a larger batch isn't the batch several times over
            return np.concatenate([self.scores_with_layer(layer, part) for part in np.split(values, times)])
        return self._scores({at.node: self._tensor(at.layout.joined(values, self._beside[layer]))}, at.node)

    def scores_with_inputs(self, values: Mapping[str, Array]) -> Array:
        """See :meth:`Engine.scores_with_inputs <analyzer.engines.protocol.Engine.scores_with_inputs>`."""
        self.log.not_compilable = True
        self.verify()
        times = len(_first(values)) // self.batch
        if times > 1:
            larger = self._larger_batch(times)
            if larger is not None:
                return larger.scores_with_inputs(values)
            return np.concatenate([self.scores_with_inputs(part) for part in _parts(values, times)])
        overrides = self._overrides(values)
        return self._scores(overrides, *overrides)

    def chunk(self) -> int:
        """See :meth:`Engine.chunk <analyzer.engines.protocol.Engine.chunk>`."""
        return self.model.variations_at_once(self.inputs)

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """See :func:`analyzer.inputs.resampling.resample`."""
        return resample(map_, size, how)

    def numbers(self, value: Array) -> Array:
        """The array itself."""
        return np.asarray(value)

    def record(self) -> dict[str, Any]:
        """Backend and parity."""
        parity = self.verify()
        return {"backend": "torch", **({} if parity is None else {"parity": parity.to_dict()})}

    def verify(self) -> Parity | None:
        """Whether the trace agrees with onnxruntime on the unchanged inputs; None where that isn't wanted.

        Raises
        ------
        ParityError
            ``parity.mismatch`` where it doesn't.
        """
        return None if self.verification is None else self.verification.require()

    def aimed(self, weights: Array) -> TorchEngine:
        """The engine with other weights on the explained value; cached forward passes are shared."""
        return replace(self, weights=weights, log=SweepLog(), _larger={}, _beside={})

    def repeated(self, times: int) -> TorchEngine:
        """The engine for the same batch, ``times`` over."""
        if times == 1:
            return self
        if times not in self._larger:
            axes = self.model.batch_axes(self.inputs, len(self.weights))
            inputs = {
                name: value if axes[name] is None else np.concatenate([value] * times, axes[name])
                for name, value in self.inputs.items()
            }
            weights = np.concatenate([self.weights] * times)
            traced = self.tracer.score(inputs, self.traced.value, self.traced.precision, self.traced.chosen)
            self._larger[times] = TorchEngine(self.model, self.tracer, traced, inputs, weights, log=self.log)
        return self._larger[times]

    def _larger_batch(self, times: int) -> TorchEngine | None:
        """The engine that runs variations as one larger batch; None where they must be run one by one.

        So they must where an explained input's samples aren't counted by its first axis (sequence-first networks, nodes of a
        graph, one picture beside several texts), where rows depend on each other, or where a larger batch isn't the batch
        several times over.
        """
        names = [entry.name for entry in self.explained]
        if self._one_by_one or not self.model.stackable(names, self.inputs, len(self.weights)):
            return None
        try:
            larger = self.repeated(times)
            if larger.weights.size == math.prod(larger.traced.output.meta["shape"]):
                return larger
        except AnalyzerError:  # it can't even be traced
            pass
        self._one_by_one = times > 1
        return None

    def _swept(
        self,
        plan: Plan,
        initial: str,
        stops: Sequence[tuple[str, fx.Node]],
        values: Mapping[str, Array],
        watched: bool = False,
    ) -> SweepResult:
        watch = self.totals.watching() if self.totals is not None and not values else None
        absorption = Absorption() if watched and watch is None else None
        watch = watch if absorption is None else absorption.watch
        with self._running():
            run = self._forward(plan, self._overrides(values), [node for _, node in stops], node_by_node=watched)
            found = reverse(run, self._weigh, stops, initial, watch, retain_graph=self.passes is not None)
            absorbed = None if absorption is None else _absorbed(absorption)
        there = {name: self._on_host(name, node, found.values[name], values) for name, node in stops}
        return SweepResult(_arrays(found.relevance), there, self._score(run.value), absorbed)

    def _on_host(self, name: str, stop: fx.Node, found: Tensor, given: Mapping[str, Array]) -> Array:
        """The value where a sweep stopped; an explained input's is on the host already."""
        own = {entry.name: self.inputs[entry.name] for entry in self.explained if not entry.tokens}
        known = {**own, **given}.get(name) if self.traced.nodes.get(name) is stop else None
        return known if known is not None and _is(found, known) else to_numpy(found)

    def _forward(
        self, plan: Plan, overrides: Mapping[fx.Node, Tensor], keep: Sequence[fx.Node], node_by_node: bool = False
    ) -> ForwardPass:
        """The forward pass; where passes are cached, one serves all sweeps of a plan. It also shows what the trace gives."""
        keep = [*keep, *self._kept_to_verify(overrides)]
        together = self.totals is None and not node_by_node
        key = (id(plan), together, *keep)
        if self.passes is not None and not overrides and key in self.passes:
            return self.passes[key]
        run = sweep.forward(plan, self.feed_tensors(), overrides, keep, together=together)
        if self.passes is not None and not overrides:
            self.passes[key] = run
        self._verify(run, overrides)
        return run

    def _kept_to_verify(self, overrides: Mapping[fx.Node, Tensor]) -> list[fx.Node]:
        """The values of a pass that :meth:`_verify` needs."""
        wanted = self.verification is not None and not overrides
        return list(self.traced.frontier or ()) if wanted else []

    def _verify(self, run: ForwardPass, overrides: Mapping[fx.Node, Tensor]) -> None:
        """Verify the trace by a pass on the unchanged inputs, which needs no run of its own; else by a run."""
        if self.verification is None or overrides or self.traced.frontier is None:
            self.verify()
        else:
            self.verification.require(lambda: _arrays(self.traced.outputs_after(run, self.feed_tensors())))

    def _running(self) -> AbstractContextManager[None]:
        return float32_products(self.traced.device, self.model.tf32)

    def _scores(self, values: Mapping[fx.Node, Tensor], *stops: fx.Node) -> Array:
        """The score where nodes have other values; only what it needs is run."""
        self.traced.require_other_values()
        plan = self.traced.plan(protocol.GRADIENT, stops)
        placeholders = self.traced.trace.module.graph.find_nodes(op="placeholder")
        given = dict(zip(placeholders, self.feed_tensors(), strict=True))
        with self._running():
            return self._score(sweep.evaluate(plan, {**given, **values}, self.traced.output))

    def feed_tensors(self) -> list[Tensor]:
        """The inputs on the device, in the order of the trace."""
        for name in self.traced.trace.inputs:
            if name not in self._placed:
                self._placed[name] = self._tensor(self.inputs[name])
        return [self._placed[name] for name in self.traced.trace.inputs]

    def _overrides(self, values: Mapping[str, Array]) -> dict[fx.Node, Tensor]:
        nodes = self.traced.nodes
        return {nodes[name]: self._tensor(value) for name, value in values.items()}

    def _weigh(self, scores: Tensor) -> Tensor:
        return self._tensor(self.weights).to(scores.dtype).reshape(scores.shape)

    def _score(self, value: Tensor) -> Array:
        weights = self._tensor(self.weights).double().reshape(value.shape)
        rows = max(1, len(weights) if weights.ndim else 1)
        return to_numpy((weights * value.double()).reshape(rows, -1).sum(1))

    def _tensor(self, value: Array) -> Tensor:
        tensor = as_tensor(np.asarray(value)).to(self.traced.device)
        return tensor.to(raised(tensor.dtype, PRECISION[self.traced.precision]))


def _is(tensor: Tensor, array: Array) -> bool:
    """Whether an array has the type and shape of the tensor that was made of it."""
    return tuple(tensor.shape) == array.shape and str(tensor.dtype) == f"torch.{array.dtype.name}"


def _first(values: Mapping[str, Array]) -> Array:
    return next(iter(values.values()))


def _parts(values: Mapping[str, Array], times: int) -> list[dict[str, Array]]:
    """Variations of a batch, apart."""
    return [{name: np.split(value, times)[at] for name, value in values.items()} for at in range(times)]


def _absorbed(absorption: Absorption) -> Absorbed:
    labels, amounts = absorption.labelled()
    return Absorbed.of(labels, amounts.tolist())


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: to_numpy(value) for name, value in tensors.items()}
