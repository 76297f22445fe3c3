"""The white-box engine: rule tables run on a model's trace, numpy in, numpy out.

Belongs here: the way from arrays to the reverse sweep and back. Not here: rules and tables (``graph_rules``), methods,
where inputs enter a trace (``sources``), finding layers (``layers``). Only these three modules import torch in this
package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from analyzer.engines import protocol as asking
from analyzer.engines.input_nodes import Source, sources_of
from analyzer.engines.layers import feature_layer, layer_named
from analyzer.engines.protocol import Asked, FeatureMap, Question, Swept, Table
from analyzer.errors import UnsupportedError, UsageError
from analyzer.importer.interpreter import as_tensor, to_numpy
from analyzer.importer.trace import Trace
from analyzer.inputs.layout import Resampling
from analyzer.model import Model
from analyzer.tensor_spec import batch_axis
from graph_rules import deeplift, sweep
from graph_rules.cam import in_the_way_of_cam
from graph_rules.composites import GRADIENT
from graph_rules.errors import MissingRuleError, RuleError
from graph_rules.sweep import ForwardPass, Plan
from graph_rules.tables import RuleTable
from graph_rules.totals import RelevanceTotals

Array = NDArray[Any]
_PRECISION = {"float32": None, "float64": torch.float64}


@dataclass
class Engine:
    """A trace with its explained output, on one batch of inputs."""

    model: Model
    inputs: dict[str, Array]
    trace: Trace
    output: fx.Node
    value: str
    weights: Array
    precision: str
    device: torch.device
    sources: tuple[Source, ...]
    plans: dict[Any, Plan] = field(default_factory=dict)
    larger: dict[int, Engine] = field(default_factory=dict)
    moved: Mapping[str, Array] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)
    inner: str | None = None
    tally: RelevanceTotals | None = None
    passes: dict[Any, ForwardPass] | None = None

    @classmethod
    def on(cls, model: Model, inputs: dict[str, Array], value: str, weights: Array, precision: str) -> Engine:
        """The engine for inputs, explaining ``sum(weights * value)``.

        Raises
        ------
        UnsupportedError
            ``op.unsupported`` naming the nodes that can't be traced, ``model.no_gradient`` where nothing that can be
            explained reaches the output.
        """
        trace = model.trace(inputs, _PRECISION[precision])
        output = trace.values.get(value)
        if output is None and value in trace.outputs:
            results = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
            output = results[trace.outputs.index(value)]
        if output is None or output.op == "get_attr":
            raise UnsupportedError(
                "model.no_gradient", f"{value!r} doesn't depend on the input in a way that can be traced", _INSTEAD
            )
        device = torch.device(model.device)
        if device.type == "cuda":
            trace.module.to(device)
        found = sources_of(trace, output)
        if not found:
            raise UnsupportedError(
                "model.no_gradient", f"no differentiable path leads from the inputs to {value!r}", _INSTEAD
            )
        return cls(model, inputs, trace, output, value, weights, precision, device, found)

    def values(self) -> dict[str, Array]:
        """The explained values (inputs, or embeddings of tokens) by input name."""
        if self.moved:
            return dict(self.moved)
        if not any(source.tokens for source in self.sources):
            wide = self.precision == "float64"
            values = {source.name: self.inputs[source.name] for source in self.sources}
            return {k: v.astype(np.float64) if wide and v.dtype == np.float32 else v for k, v in values.items()}
        return self.sweep(asking.GRADIENT).values

    def at(self, values: Mapping[str, Array]) -> Engine:
        """The engine at other explained values: one or more variations of the batch, one after the other."""
        times = len(next(iter(values.values()))) // len(next(iter(self.values().values())))
        return replace(self.repeated(times) if times > 1 else self, moved=dict(values))

    def sweep(
        self,
        table: RuleTable | Table,
        initial: str = "one",
        values: Mapping[str, Array] | None = None,
        at: Sequence[tuple[str, fx.Node]] | None = None,
    ) -> Swept:
        """Forward and reverse once.

        Parameters
        ----------
        initial
            Relevance put on the target: ``one`` (its weights) or ``logit`` (weights times output).
        values
            Explained values to put in place of the inputs; m times the batch is run as one larger batch.
        at
            (label, node) pairs to stop at in place of the inputs.
        """
        values = values or self.moved
        if isinstance(table, Table) and at is None:
            moved = bool(values) and any(source.tokens for source in self.sources)
            self.asked.questions[Question(table, initial, None, moved)] = None
        if values:
            self._follows()
        if self.inner is not None or self.tally is not None:
            self.asked.inside = True
        if values and len(next(iter(values.values()))) > self.batch:
            return self.repeated(len(next(iter(values.values()))) // self.batch).sweep(table, initial, values, at)
        stops = list(at) if at is not None else [(s.name, s.node) for s in self.sources]
        plan = self._plan(table, tuple(node for _, node in stops))
        by_name = {s.name: s.node for s in self.sources}
        overrides = {by_name[k]: self._tensor(v) for k, v in values.items()}
        if self.inner is not None and at is None:
            stops = [(self.inner, self.layer(self.inner))]
        inner = [node for _, node in stops]
        run = self._passed(plan, overrides, inner)
        weights = self._tensor(self.weights).to(run.value.dtype).reshape(run.value.shape)
        relevance = weights * run.value if initial == "logit" else weights
        watch = self.tally.watching() if self.tally is not None and not values else None
        found = sweep.backward(run, relevance, inner, watch, retain_graph=self.passes is not None)
        return Swept(
            {label: to_numpy(found[node]) for label, node in stops},
            {label: to_numpy(run.values[node]) for label, node in stops},
            self._score(run.value),
        )

    def _passed(self, plan: Plan, overrides: Mapping[fx.Node, torch.Tensor], keep: Sequence[fx.Node]) -> ForwardPass:
        """The forward pass; where passes are kept, one serves all sweeps of a plan."""
        key = (id(plan), self.tally is None, *keep)
        if self.passes is not None and not overrides and key in self.passes:
            return self.passes[key]
        feed = [self._tensor(self.inputs[name]) for name in self.trace.inputs]
        run = sweep.forward(plan, feed, overrides, keep, together=self.tally is None)
        if self.passes is not None and not overrides:
            self.passes[key] = run
        return run

    def aimed(self, weights: Array) -> Engine:
        """The engine with other weights on the explained value; forward passes are shared where they are kept."""
        return replace(self, weights=weights, larger={}, asked=Asked())

    def at_layer(self, layer: str) -> FeatureMap:
        """Gradients of the score at a layer's feature map; errors as in :meth:`feature_layer`."""
        name, node = self.feature_layer(layer)
        swept = self.sweep(asking.GRADIENT, at=[(name, node)])
        self.asked.questions[Question(asking.GRADIENT, "one", layer)] = None
        behind = in_the_way_of_cam(node, self.output)
        obstacles = (f"{o.meta.get('op', '')} node {o.meta.get('onnx', o.name)!r}" for o in behind)
        return FeatureMap(name, swept.values[name], swept.relevance[name], swept.score, tuple(dict.fromkeys(obstacles)))

    def difference(self, table: RuleTable | Table, starts: Mapping[str, Array]) -> tuple[Swept, Array, list[str]]:
        """Multipliers of the differences between the inputs and ``starts``, by a table of difference rules.

        Returns
        -------
        tuple
            The sweep, the score at ``starts``, and the ONNX nodes whose masks or indices differ between the two.

        Raises
        ------
        UnsupportedError
            ``rule.missing`` for operators without a rule, ``rule.failed`` for a node that isn't smooth.
        """
        if isinstance(table, Table):
            self.asked.questions[Question(table, difference=True)] = None
        self._follows()
        plan = self._plan(table, tuple(source.node for source in self.sources))
        by_name = {s.name: s.node for s in self.sources}
        feed = [self._tensor(self.inputs[name]) for name in self.trace.inputs]
        first, second = (
            sweep.forward(plan, feed, {by_name[k]: self._tensor(v) for k, v in values.items()})
            for values in (self.moved, starts)
        )
        run = sweep.compare(first, second)
        selecting = deeplift.selecting(run)
        weights = self._tensor(self.weights).to(run.value.dtype).reshape(run.value.shape)
        watch = None if self.tally is None else self.tally.watching()
        try:
            found = sweep.backward(run, weights, watch=watch)
        except RuleError as problem:
            raise UnsupportedError("rule.failed", f"{table.name}: {problem}", "use integrated-gradients") from None
        swept = Swept(
            {s.name: to_numpy(found[s.node]) for s in self.sources},
            {s.name: to_numpy(run.sources[s.node]) for s in self.sources},
            self._score(run.value),
        )
        return swept, self._score(second.value), selecting

    def score_with(self, layer: fx.Node, value: Array) -> Array:
        """The explained score, shape (batch,), float64, where a layer has another value; only what it needs is run.

        Parameters
        ----------
        value
            Of the layer's shape in this trace; :meth:`repeated` gives an engine for more variations of the batch.
        """
        self._follows()
        self.asked.inside = True
        plan = self._plan(GRADIENT, (layer,))
        placeholders = {node.meta["value"]: node for node in self.trace.module.graph.find_nodes(op="placeholder")}
        given = {placeholders[name]: self._tensor(self.inputs[name]) for name in self.trace.inputs}
        return self._score(sweep.evaluate(plan, {**given, layer: self._tensor(value)}, self.output))

    @property
    def batch(self) -> int:
        """Length of the explained values' first axis."""
        return int(self.sources[0].node.meta["shape"][0]) if self.sources[0].node.meta["shape"] else 1

    def gradient(self, values: Mapping[str, Array] | None = None) -> Swept:
        """Gradients of the explained score."""
        return self.sweep(asking.GRADIENT, values=values)

    def repeated(self, times: int) -> Engine:
        """The engine for the same batch, ``times`` over."""
        if times not in self.larger:
            specs, count = self.model.inputs, len(self.weights)
            first = specs[self.sources[0].name].shape[0] if self.sources[0].name in specs else None
            inputs = {}
            for name, value in self.inputs.items():
                axis = batch_axis(specs[name].shape if name in specs else (), first, value, count)
                inputs[name] = value if axis is None else np.concatenate([value] * times, axis)
            weights = np.concatenate([self.weights] * times)
            self.larger[times] = Engine.on(self.model, inputs, self.value, weights, self.precision)
            self.larger[times].asked = self.asked
        return self.larger[times]

    def chunk(self) -> int:
        """How many variations of the batch are best run at once."""
        if self.model.fixed_batch is not None or self.trace.data_dependent is not None:
            return 1
        bytes_each = sum(v.nbytes for v in self.inputs.values())
        return int(np.clip(2**22 // max(bytes_each, 1), 1, 16))

    def layer(self, name: str) -> fx.Node:
        """The node of a layer; errors as in :func:`analyzer.engines.layers.layer_named`."""
        return layer_named(self.trace, self.output, name)

    def feature_layer(self, layer: str) -> tuple[str, fx.Node]:
        """Name and node of a layer with a feature map; errors as in :func:`analyzer.engines.layers.feature_layer`."""
        return feature_layer(self.trace, self.output, self.sources, layer)

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """Maps (batch, channels, *spatial) resampled to another spatial size.

        Parameters
        ----------
        how
            ``linear`` between the places' centres, ``corners`` linear between the outermost centres put on the
            corners, ``nearest``.
        """
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[map_.ndim - 2]
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(map_)),
            tuple(size),
            mode="nearest" if how == "nearest" else linear,
            align_corners=None if how == "nearest" else how == "corners",
        )
        return to_numpy(resized)

    def _score(self, value: torch.Tensor) -> Array:
        weights = self._tensor(self.weights).double().reshape(value.shape)
        rows = max(1, len(weights) if weights.ndim else 1)
        return to_numpy((weights * value.double()).reshape(rows, -1).sum(1))

    def _follows(self) -> None:
        """Refuse other values where the trace only holds for the given input."""
        if self.trace.branches:
            raise UnsupportedError(
                "model.data_dependent",
                f"what {self.trace.data_dependent!r} does depends on the input's values: "
                "a method that needs gradients or scores at other values can't follow",
                _INSTEAD,
            )

    def _plan(self, table: RuleTable | Table, stops: tuple[fx.Node, ...]) -> Plan:
        """A table's rules on the nodes between ``stops`` and the explained output, made once.

        Raises
        ------
        UnsupportedError
            ``rule.missing``, ``model.no_gradient``.
        UsageError
            ``params.invalid`` where one of the user's rules fits no node.
        """
        key = (table, stops)
        if key not in self.plans:
            made = table.build() if isinstance(table, Table) else table
            try:
                rules = made.assign(self.output, stops)
            except MissingRuleError as problem:
                raise UnsupportedError(
                    "rule.missing", str(problem), "give a rule for it with rules={...}, or use a gradient method"
                ) from None
            except RuleError as problem:
                raise UsageError(
                    "params.invalid", str(problem), "`onnxplain inspect MODEL --rules` lists nodes, kinds and depths"
                ) from None
            plan = sweep.plan(self.trace.module, stops, self.output, rules, self.trace.cache)
            if plan.output not in plan.active:
                raise UnsupportedError(
                    "model.no_gradient", f"no differentiable path leads from the inputs to {self.value!r}", _INSTEAD
                )
            self.plans[key] = plan
        return self.plans[key]

    def _tensor(self, value: Array) -> torch.Tensor:
        tensor = as_tensor(np.asarray(value)).to(self.device)
        wanted = _PRECISION[self.precision]
        return tensor.to(wanted) if wanted is not None and tensor.dtype == torch.float32 else tensor


_INSTEAD = "perturbation methods such as occlusion work for every model"
