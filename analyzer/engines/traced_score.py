"""A trace with the value whose scores are explained: what every sweep over it shares.

Belongs here: where inputs enter, layers, plans of sweeps, one sweep in tensors. Not here: numbers of one input
(``torch_engine``), recording a sweep (``analyzer.compiler.recording_engine``), rules and walks (``graph_rules``).
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from analyzer.engines.input_nodes import InputNode, input_nodes
from analyzer.engines.layers import FeatureLayer, feature_layer, grid_layers, layer_named
from analyzer.engines.protocol import FeatureMap, TableSpec
from analyzer.engines.remaining import frontier, outputs_after
from analyzer.errors import UnsupportedError, UsageError
from analyzer.importer.interpreter import unsupported
from analyzer.importer.trace import Trace
from graph_rules import deeplift, sweep
from graph_rules.cam import in_the_way_of_cam
from graph_rules.errors import MissingRuleError, RuleError
from graph_rules.sweep import ForwardPass, Plan, Watch

#: Precisions of white-box methods; None leaves the model's own.
PRECISION = {"float32": torch.float32, "float64": torch.float64}
#: Begins the name of a layer that is one of a detector's grids.
GRID = "auto: "
#: Number of plans of one trace that are cached.
_KEPT = 32
#: Gives the target's weights on the scores.
Weigh = Callable[[Tensor], Tensor]
_INSTEAD = "perturbation methods such as occlusion work for every model"


@dataclass(frozen=True)
class TracedScore:
    """A trace up to an explained value.

    Attributes
    ----------
    value
        The ONNX value that holds the scores.
    output
        Its node.
    explained
        The inputs that are explained, with the nodes where they enter.
    chosen
        Their names where they were chosen, else None.
    """

    trace: Trace
    value: str
    output: fx.Node
    precision: str
    device: torch.device
    explained: tuple[InputNode, ...]
    chosen: tuple[str, ...] | None = None
    _plans: OrderedDict[Any, Plan] = field(default_factory=OrderedDict, repr=False)
    _layers: dict[str, FeatureLayer] = field(default_factory=dict, repr=False)
    _obstacles: dict[fx.Node, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def on(
        cls, trace: Trace, value: str, precision: str, device: str, chosen: tuple[str, ...] | None = None
    ) -> TracedScore:
        """As :meth:`analyzer.engines.tracer.Tracer.score`, for a trace that is there."""
        output = trace.values.get(value)
        if output is None and value in trace.outputs:
            results = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
            output = results[trace.outputs.index(value)]
        if output is None and trace.lacking:
            raise unsupported(trace.lacking)
        if output is None or output.op == "get_attr":
            raise UnsupportedError(
                "model.no_gradient", f"{value!r} doesn't depend on the input in a way that can be traced", _INSTEAD
            )
        found = input_nodes(trace, output, chosen)
        missing = [name for name in chosen or () if name not in {entry.name for entry in found}]
        if missing or not found:
            raise no_path(value, missing)
        return cls(trace, value, output, precision, torch.device(device), found, chosen)

    @functools.cached_property
    def frontier(self) -> list[fx.Node] | None:
        """The values of a pass from which the model's outputs follow; None where they can't be had from one.

        Nor in a finer type than the model's: outputs are compared in its own precision.
        """
        return frontier(self.trace, self.output) if self.trace.precision is None else None

    def outputs_after(self, run: ForwardPass, feed: Sequence[Tensor]) -> dict[str, Tensor]:
        """The model's outputs by name, from a pass on ``feed`` that kept :attr:`frontier`."""
        return outputs_after(self.trace, dict(zip(self.trace.inputs, feed, strict=True)), run.values)

    @property
    def nodes(self) -> dict[str, fx.Node]:
        """Explained input -> the node where it enters."""
        return {entry.name: entry.node for entry in self.explained}

    @property
    def batch(self) -> int:
        """Length of the explained values' first axis."""
        shape = self.explained[0].node.meta["shape"]
        return int(shape[0]) if shape else 1

    def layer(self, name: str) -> fx.Node:
        """The node of a layer; errors as in :func:`analyzer.engines.layers.layer_named`."""
        return layer_named(self.trace, self.output, name)

    def feature_layer(self, layer: str) -> FeatureLayer:
        """A layer with a feature map; errors as in :func:`analyzer.engines.layers.feature_layer`."""
        if layer.startswith(GRID):
            return next(found for _, found in self.grids if found.name == layer.removeprefix(GRID))
        if layer not in self._layers:
            self._layers[layer] = feature_layer(self.trace, self.output, tuple(self.nodes.values()), layer)
        return self._layers[layer]

    @functools.cached_property
    def grids(self) -> tuple[tuple[fx.Node, FeatureLayer], ...]:
        """Every grid of a detector that puts several one after the other, with its own last feature map."""
        return grid_layers(self.output, tuple(self.nodes.values()))

    def feature_map(self, found: FeatureLayer, values: Any, gradients: Any, score: Any) -> FeatureMap:
        """What a sweep down to a layer gives, as (batch, channels, *spatial); arrays or tensors."""
        layout = found.layout
        inputs = tuple(entry.name for entry in self.explained if entry.node in found.sources)
        values, gradients = layout.split(values)[0], layout.split(gradients)[0]
        return FeatureMap(found.name, values, gradients, score, inputs, self.obstacles(found.node))

    def obstacles(self, layer: fx.Node) -> tuple[str, ...]:
        """Nodes after a layer that are neither averaging nor linear, as text."""
        if layer not in self._obstacles:
            behind = in_the_way_of_cam(layer, self.output)
            texts = (f"{o.meta.get('op', '')} node {o.meta.get('onnx', o.name)!r}" for o in behind)
            self._obstacles[layer] = tuple(dict.fromkeys(texts))
        return self._obstacles[layer]

    def require_other_values(self) -> None:
        """Refuse other values where the trace only holds for the given input.

        Raises
        ------
        UnsupportedError
            ``model.data_dependent``.
        """
        if self.trace.branches:
            raise UnsupportedError(
                "model.data_dependent",
                f"what {self.trace.data_dependent!r} does depends on the input's values: "
                "a method that needs gradients or scores at other values can't follow",
                _INSTEAD,
            )

    def plan(self, table: TableSpec, stops: tuple[fx.Node, ...], *, static: bool = False) -> Plan:
        """A table's rules on the nodes between ``stops`` and the explained value, made once.

        Parameters
        ----------
        static
            Whether the sweep is recorded: then no rule may look at the numbers of its input.

        Raises
        ------
        UnsupportedError
            ``rule.missing``, ``model.no_gradient``.
        UsageError
            ``params.invalid`` where one of the user's rules fits no node.
        """
        key = (table, stops)
        if key not in self._plans:
            self._plans[key] = self._made(table, stops)
            while len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        plan = self._plans[key]
        return replace(plan, static=True) if static else plan

    def _made(self, table: TableSpec, stops: tuple[fx.Node, ...]) -> Plan:
        try:
            rules = table.build().assign(self.output, stops)
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
            raise no_path(self.value)
        return plan


def no_path(value: str, missing: Sequence[str] = ()) -> UnsupportedError:
    """The refusal of a value that no explained input reaches, or that some of those which were chosen don't."""
    which = f"input {', '.join(map(repr, missing))}" if missing else "the inputs"
    return UnsupportedError("model.no_gradient", f"no differentiable path leads from {which} to {value!r}", _INSTEAD)


@dataclass(frozen=True)
class TensorSweep:
    """One sweep in tensors.

    Attributes
    ----------
    run
        The forward pass; its ``value`` are the scores.
    relevance, values
        By the labels of the stops.
    """

    run: ForwardPass
    relevance: dict[str, Tensor]
    values: dict[str, Tensor]


def reverse(
    run: ForwardPass,
    weigh: Weigh,
    stops: Sequence[tuple[str, fx.Node]],
    initial: str = "one",
    watch: Watch | None = None,
    retain_graph: bool = False,
) -> TensorSweep:
    """The reverse sweep of a forward pass.

    Parameters
    ----------
    weigh
        Gives the target's weights on the scores.
    stops
        (label, node) pairs whose relevance is wanted.
    initial
        ``one`` puts the weights on the target, ``logit`` weights times scores.
    watch, retain_graph
        As :func:`graph_rules.sweep.backward`.
    """
    weights = weigh(run.value)
    nodes = [node for _, node in stops]
    found = sweep.backward(run, weights * run.value if initial == "logit" else weights, nodes, watch, retain_graph)
    return TensorSweep(
        run, {label: found[node] for label, node in stops}, {label: run.values[node] for label, node in stops}
    )


def compared(
    plan: Plan,
    feed: Sequence[Tensor],
    values: Mapping[fx.Node, Tensor],
    baseline: Mapping[fx.Node, Tensor],
    keep: Sequence[fx.Node] | set[fx.Node] = (),
) -> tuple[ForwardPass, ForwardPass]:
    """Forward passes at the inputs and at a baseline, the calls of the first knowing their twins of the second."""
    first = sweep.forward(plan, feed, values, keep=keep)
    second = sweep.forward(plan, feed, baseline)
    return sweep.compare(first, second), second


selecting = deeplift.selecting
selections = deeplift.selections
