"""What is recorded: each compilable method as tensor code over a sweep.

Belongs here: methods whose arithmetic beyond the sweep is a few lines, in tensors. Not here: rules, tables and the
methods themselves; which table a method of one sweep uses is asked of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from analyzer.errors import UnsupportedError
from analyzer.methods import registry
from analyzer.methods.context import Context
from analyzer.methods.whitebox import Engine
from graph_rules import sweep
from graph_rules.composites import DECONVNET, GRADIENT, GUIDED_BACKPROP
from graph_rules.tables import RuleTable

Weigh = Callable[[Tensor], Tensor]


@dataclass
class Bench:
    """One recording in progress.

    Attributes
    ----------
    inputs
        The trace's inputs by name, as they are recorded.
    weigh
        Gives the target's weights on the scores.
    outputs
        The model's own outputs, filled in by the first sweep.
    """

    engine: Engine
    inputs: dict[str, Tensor]
    weigh: Weigh
    context: Context
    outputs: dict[str, Tensor] | None = None

    def sweep(
        self, table: RuleTable, initial: str = "one", at: Sequence[tuple[str, fx.Node]] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Relevance and values by source or layer, and the scores; as :meth:`Engine.sweep`, in tensors."""
        engine = self.engine
        stops = list(at) if at is not None else [(s.name, s.node) for s in engine.sources]
        plan = replace(engine._plan(table, tuple(node for _, node in stops)), static=True)
        keep = _computed(plan.output) if self.outputs is None else set()
        run = sweep.forward(plan, [self.inputs[name] for name in engine.trace.inputs], keep=keep)
        if self.outputs is None:
            self.outputs = self._finished(run.kept)
        weights = self.weigh(run.value)
        found = sweep.backward(run, weights * run.value if initial == "logit" else weights)
        return (
            {label: found[node] for label, node in stops},
            {label: run.sources[node] for label, node in stops},
            weights,
        )

    def _finished(self, kept: Mapping[fx.Node, Any]) -> dict[str, Tensor]:
        """The model's outputs: what the sweep's forward pass left is taken, the rest is run."""
        trace = self.engine.trace
        values = dict(kept)
        for node, name in zip(trace.module.graph.find_nodes(op="placeholder"), trace.inputs, strict=True):
            values[node] = self.inputs[name]
        given = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
        with torch.no_grad():
            for node in trace.module.graph.nodes:
                if node.op == "get_attr":
                    values[node] = getattr(trace.module, str(node.target))
                elif node.op == "call_function" and node not in values:
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                    values[node] = node.target(*args, **kwargs)
            return dict(zip(trace.outputs, fx.node.map_arg(given, values.__getitem__), strict=True))


def _computed(output: fx.Node) -> set[fx.Node]:
    """Calls that a node depends on, itself included."""
    found: set[fx.Node] = set()
    stack = [output]
    while stack:
        node = stack.pop()
        if node not in found and node.op == "call_function":
            found.add(node)
            stack.extend(node.all_input_nodes)
    return found


Recipe = Callable[[Bench, dict[str, Any]], dict[str, Tensor]]


class _AskedError(Exception):
    """Carries the sweep that a method asks for."""

    def __init__(self, table: RuleTable, initial: str) -> None:
        self.table, self.initial = table, initial


class _Asking:
    """Stands for the engine while a method is asked which sweep it wants."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def sweep(self, table: RuleTable, initial: str = "one", values: Any = None, at: Any = None) -> Any:
        raise _AskedError(table, initial)


def asked(context: Context, method: str, params: dict[str, Any]) -> tuple[RuleTable, str]:
    """The table and the initial relevance of a method that is one sweep."""
    asking = replace(context)
    asking.__dict__["engine"] = _Asking(context.engine)
    try:
        registry.get(method).function(asking, **params)
    except _AskedError as found:
        return found.table, found.initial
    raise UnsupportedError("compile.method", f"{method} is not one sweep with these parameters", HINT)


def _one_sweep(method: str) -> Recipe:
    def record(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
        table, initial = asked(bench.context, method, params)
        return bench.sweep(table, initial)[0]

    return record


def _gradient(change: Callable[[Tensor, Tensor, dict[str, Any]], Tensor], table: RuleTable = GRADIENT) -> Recipe:
    def record(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
        relevance, values, _ = bench.sweep(table)
        return {name: change(r, values[name], params) for name, r in relevance.items()}

    return record


def _cam(mean: bool) -> Recipe:
    def record(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
        from graph_rules.cam import last_feature_map

        engine, layer = bench.engine, params["layer"]
        sources = tuple(source.node for source in engine.sources)
        node = last_feature_map(engine.output, sources) if layer == "auto" else engine.layer(layer)
        relevance, values, _ = bench.sweep(GRADIENT, at=[("layer", node)])
        gradient, activation = relevance["layer"], values["layer"]
        axes = tuple(range(2, gradient.ndim))
        weights = gradient.mean(axes, keepdim=True) if mean else gradient.sum(axes, keepdim=True)
        raw = (weights * activation).sum(1, keepdim=True)
        return {engine.sources[0].name: raw.clamp(min=0) if params["relu"] else raw}

    return record


def _larger(bench: Bench, times: int, method: str) -> tuple[Bench, str]:
    """A bench for the batch several times over, with the target of the unchanged input."""
    engine = bench.engine
    if len(engine.sources) > 1 or engine.sources[0].tokens:
        raise UnsupportedError("compile.method", f"{method} can be compiled for one floating-point input only", HINT)
    if engine.model.fixed_batch is not None and times > 1:
        raise UnsupportedError("compile.method", f"{method} needs a free batch axis; the model's is fixed", HINT)
    weights = bench.sweep(GRADIENT)[2]  # of what this sweep records, only the forward pass is read
    count = len(bench.context.resolved.weights)

    def wide(value: Tensor) -> Tensor:
        return value.repeat(times, *[1] * (value.ndim - 1)) if value.ndim and len(value) == count else value

    repeated = wide(weights)
    inputs = {name: wide(value) for name, value in bench.inputs.items()}
    larger = Bench(engine.repeated(times) if times > 1 else engine, inputs, lambda _: repeated, bench.context, {})
    return larger, engine.sources[0].name


def _integrated(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
    from analyzer.methods.integrated_gradients import quadrature, start_of

    steps = params["steps"]
    points, weights = quadrature(params["rule"], steps)
    larger, name = _larger(bench, steps, "integrated-gradients")
    x = bench.inputs[name]
    with torch.no_grad():
        start = torch.from_numpy(np.array(start_of(params["baseline"], name, bench.context.inputs[name])))
        alphas = torch.tensor(points, dtype=x.dtype).reshape(-1, *[1] * x.ndim)
        path = start + alphas * (x - start)
        larger.inputs[name] = path.reshape(-1, *x.shape[1:])
    gradient = larger.sweep(GRADIENT)[0][name].reshape(steps, *x.shape)
    total = (gradient * torch.tensor(weights, dtype=x.dtype).reshape(alphas.shape)).sum(0)
    return {name: total * (x - start) if params["multiply_by_inputs"] else total}


def _smoothgrad(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
    samples, base = params["samples"], params["base"]
    if base not in _CHANGES:
        raise UnsupportedError("compile.method", f"smoothgrad of {base} can't be compiled", HINT)
    change, table = _CHANGES[base]
    larger, name = _larger(bench, samples, "smoothgrad")
    x = bench.inputs[name]
    axes = tuple(range(1, x.ndim))
    rng = np.random.default_rng(bench.context.seed)
    noise = torch.from_numpy(np.stack([rng.standard_normal((1, *x.shape[1:])) for _ in range(samples)])).to(x.dtype)
    sigma = params["noise"] * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    larger.inputs[name] = (x + sigma * noise).reshape(-1, *x.shape[1:])
    relevance, values, _ = larger.sweep(table)
    maps = change(relevance[name], values[name], registry.get(base).check({})).reshape(samples, *x.shape)
    mean, square = maps.mean(0), (maps * maps).mean(0)
    chosen = {"mean": mean, "square": square, "variance": (square - mean * mean).clamp(min=0)}
    return {name: chosen[params["reduce"]]}


#: Methods that change a gradient's numbers, and the table that they sweep with.
_CHANGES: dict[str, tuple[Callable[[Tensor, Tensor, dict[str, Any]], Tensor], RuleTable]] = {
    "gradient": (lambda r, x, p: r, GRADIENT),
    "saliency": (lambda r, x, p: r.abs(), GRADIENT),
    "sensitivity": (lambda r, x, p: r * r * x if p["times_input"] else r * r, GRADIENT),
    "gradient-x-input": (lambda r, x, p: r * x, GRADIENT),
    "guided-backprop": (lambda r, x, p: r, GUIDED_BACKPROP),
    "deconvnet": (lambda r, x, p: r, DECONVNET),
}
#: Every method that can be compiled.
RECIPES: dict[str, Recipe] = {name: _gradient(*how) for name, how in _CHANGES.items()} | {
    "lrp": _one_sweep("lrp"),
    "deep-taylor": _one_sweep("deep-taylor"),
    "cam": _cam(mean=False),
    "grad-cam": _cam(mean=True),
    "integrated-gradients": _integrated,
    "smoothgrad": _smoothgrad,
}
HINT = f"methods that can be compiled: {', '.join(sorted(RECIPES))}"
