"""The white-box engine: rule tables run on a model's trace, numpy in, numpy out.

Belongs here: the way from arrays to the reverse sweep and back, and where explained inputs enter a trace. Not here:
rules and tables (``graph_rules``), methods. The only module of this package that imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from analyzer.errors import UnsupportedError, UsageError
from analyzer.importer.interpreter import as_tensor
from analyzer.importer.trace import Trace
from analyzer.methods.maps import Resampling
from analyzer.methods.registry import near
from analyzer.model import Model, to_numpy
from analyzer.specs import batch_axis
from graph_rules import sweep
from graph_rules.composites import GRADIENT
from graph_rules.sweep import Plan
from graph_rules.tables import MissingRuleError, RuleTable

Array = NDArray[Any]
_PRECISION = {"float32": None, "float64": torch.float64}


@dataclass(frozen=True)
class Source:
    """Where an explained input enters the trace.

    Attributes
    ----------
    node
        The input itself, or, for integer tokens, the embedding that they select.
    tokens
        Whether it is an embedding.
    """

    name: str
    node: fx.Node
    tokens: bool


@dataclass(frozen=True)
class Swept:
    """One sweep's result.

    Attributes
    ----------
    relevance
        Input or layer name -> relevance.
    values
        The same names -> values there.
    score
        The explained score, shape (batch,), float64.
    """

    relevance: dict[str, Array]
    values: dict[str, Array]
    score: Array


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
        found = _sources(trace, output)
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
        return self.sweep(GRADIENT).values

    def at(self, values: Mapping[str, Array]) -> Engine:
        """The engine at other explained values: one or more variations of the batch, one after the other."""
        times = len(next(iter(values.values()))) // len(next(iter(self.values().values())))
        return replace(self.repeated(times) if times > 1 else self, moved=dict(values))

    def sweep(
        self,
        table: RuleTable,
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
        if values:
            self._follows()
        if values and len(next(iter(values.values()))) > self.batch:
            return self.repeated(len(next(iter(values.values()))) // self.batch).sweep(table, initial, values, at)
        stops = list(at) if at is not None else [(s.name, s.node) for s in self.sources]
        plan = self._plan(table, tuple(node for _, node in stops))
        by_name = {s.name: s.node for s in self.sources}
        overrides = {by_name[k]: self._tensor(v) for k, v in values.items()}
        feed = [self._tensor(self.inputs[name]) for name in self.trace.inputs]
        run = sweep.forward(plan, feed, overrides)
        weights = self._tensor(self.weights).to(run.value.dtype).reshape(run.value.shape)
        relevance = weights * run.value if initial == "logit" else weights
        found = sweep.backward(run, relevance)
        return Swept(
            {label: to_numpy(found[node]) for label, node in stops},
            {label: to_numpy(run.sources[node]) for label, node in stops},
            self._score(run.value),
        )

    def score_with(self, layer: fx.Node, value: Array) -> Array:
        """The explained score, shape (batch,), float64, where a layer has another value; only what it needs is run.

        Parameters
        ----------
        value
            Of the layer's shape in this trace; :meth:`repeated` gives an engine for more variations of the batch.
        """
        self._follows()
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
        return self.sweep(GRADIENT, values=values)

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
        return self.larger[times]

    def chunk(self) -> int:
        """How many variations of the batch are best run at once."""
        if self.model.fixed_batch is not None or self.trace.data_dependent is not None:
            return 1
        bytes_each = sum(v.nbytes for v in self.inputs.values())
        return int(np.clip(2**22 // max(bytes_each, 1), 1, 16))

    def layer(self, name: str) -> fx.Node:
        """The node of a layer given by its ONNX node or value name.

        Raises
        ------
        UsageError
            ``layer.unknown`` with the near name.
        """
        node = self.trace.find(name)
        folded = [n for n in self.trace.module.graph.nodes if n.meta.get("onnx") == name]
        if node is None and folded and folded[-1].meta.get("folded"):
            raise UsageError(
                "layer.folded",
                f"{name!r} was folded together with {folded[-1].meta['folded']!r}: its own value isn't computed",
                f"name {folded[-1].meta['folded']!r}",
            )
        if node is None:
            known = [*self.trace.nodes, *self.trace.values]
            raise UsageError(
                "layer.unknown",
                f"the model has no node or value {name!r} that depends on the input{near(name, known)}",
                "`onnxplain inspect -v` lists the nodes",
            )
        if node not in sweep.active_nodes((node,), self.output):
            raise UsageError(
                "layer.unread",
                f"the explained score doesn't depend on {name!r}",
                "name a layer on the way to the output",
            )
        return node

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

    def _plan(self, table: RuleTable, stops: tuple[fx.Node, ...]) -> Plan:
        key = (table, stops)
        if key not in self.plans:
            try:
                choose = table.assign(self.output, stops)
            except MissingRuleError as problem:
                raise UnsupportedError(
                    "rule.missing", str(problem), "give a rule for it with rules={...}, or use a gradient method"
                ) from None
            plan = sweep.plan(self.trace.module, stops, self.output, choose, self.trace.cache)
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


def _sources(trace: Trace, output: fx.Node) -> tuple[Source, ...]:
    """Floating-point inputs as they are; for integer inputs the embeddings that they select."""
    needed: set[fx.Node] = set()
    stack = [output]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    found = []
    for node in trace.module.graph.find_nodes(op="placeholder"):
        name = node.meta["value"]
        if node not in needed:
            continue
        if node.meta["dtype"].is_floating_point:
            found.append(Source(name, node, False))
        else:
            entry = _embedding(node, needed)
            if entry is not None:
                found.append(Source(name, entry, True))
    return tuple(found)


def _embedding(tokens: fx.Node, needed: set[fx.Node]) -> fx.Node | None:
    """What the first layer reads of integer tokens: their embedding, with positions and the like added to it.

    The embedding is the first floating-point value with one more axis that integer values computed from the tokens
    select. Additions of constants and of what the same tokens select belong to it, for none of them is computed from
    the embedding: relevance of the sum is relevance of the token at its place.
    """
    rank, below = len(tokens.meta["shape"]), {tokens}
    node: fx.Node
    shape = tuple(tokens.meta["shape"])
    for node in tokens.graph.nodes:
        if node.op != "call_function" or not any(a in below for a in node.all_input_nodes):
            continue
        dtype = node.meta.get("dtype")
        if dtype is not None and not dtype.is_floating_point:
            below.add(node)
        elif (
            node in needed
            and dtype is not None
            and len(node.meta["shape"]) > rank
            and node.meta["shape"][:rank] == shape
        ):
            return _with_positions(node, tokens, needed)
    return None


def _with_positions(embedding: fx.Node, tokens: fx.Node, needed: set[fx.Node]) -> fx.Node:
    """The last of the sums through which alone an embedding is read and to which it is the only computed summand."""
    here = found = embedding
    while True:
        users = [user for user in here.users if user in needed]
        if len(users) != 1 or tuple(users[0].meta.get("shape") or ()) != tuple(embedding.meta["shape"]):
            return found
        user = users[0]
        others = [argument for argument in user.all_input_nodes if argument is not here]
        if user.target is aten.add.Tensor and others and all(_selected(other, tokens) for other in others):
            here = found = user
        elif user.target in _CARRYING or (user.target in _SCALING and all(a.op == "get_attr" for a in others)):
            here = user
        else:
            return found


def _selected(node: fx.Node, tokens: fx.Node) -> bool:
    """Whether a value is a constant, or constants that only the tokens select."""
    if node.op == "get_attr":
        return True
    if node.op != "call_function":
        return False
    if node.target in _LOOKUPS:
        table, *places = node.all_input_nodes
        return table.op == "get_attr" and all(_placeholders(place) <= {tokens} for place in places)
    if node.target in _CARRYING or node.target in _SCALING or node.target is aten.add.Tensor:
        return all(_selected(argument, tokens) for argument in node.all_input_nodes)
    return False


def _placeholders(node: fx.Node) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if here not in seen:
            seen.add(here)
            stack.extend(here.all_input_nodes)
    return {here for here in seen if here.op == "placeholder"}


aten = torch.ops.aten
_LOOKUPS = (aten.embedding.default, aten.index.Tensor, aten.index_select.default, aten.gather.default)
_CARRYING = (
    aten.clone.default, aten.alias.default, aten._to_copy.default, aten.expand.default, aten.unsqueeze.default,
    aten.slice.Tensor, aten.view.default, aten._unsafe_view.default, aten.permute.default,
)  # fmt: skip
_SCALING = (aten.mul.Tensor, aten.div.Tensor)
