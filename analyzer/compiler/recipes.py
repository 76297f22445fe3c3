"""What is recorded: each compilable method as tensor code over a sweep.

Belongs here: methods whose arithmetic beyond the sweep is a few lines, in tensors. Not here: rules, tables and the
methods themselves; which table a method of one sweep uses is asked of the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyzer.compiler.recipes_cam import CAMS
from analyzer.compiler.recorded_sweep import SweepBench
from analyzer.engines.protocol import Table
from analyzer.engines.torch_engine import Engine
from analyzer.errors import UnsupportedError
from analyzer.methods import registry
from analyzer.methods.context import Context
from graph_rules.composites import DECONVNET, GRADIENT, GUIDED_BACKPROP
from graph_rules.tables import RuleTable


@dataclass
class Bench(SweepBench):
    """A bench with the method's context."""

    context: Context = field(kw_only=True)


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

    def sweep(self, table: RuleTable | Table, initial: str = "one", values: Any = None, at: Any = None) -> Any:
        raise _AskedError(table.build() if isinstance(table, Table) else table, initial)


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
    larger = Bench(
        engine.repeated(times) if times > 1 else engine, inputs, lambda _: repeated, {}, context=bench.context
    )
    return larger, engine.sources[0].name


def _integrated(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
    from analyzer.methods.gradient.integrated_gradients import quadrature, start_of

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


def _gradient_shap(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
    """All draws are constants of the graph: every sample has the same ones, as in the method."""
    from analyzer.methods.gradient.gradient_shap import pool_of

    samples, noise = params["samples"], params["noise"]
    larger, name = _larger(bench, samples, "gradient-shap")
    x = bench.inputs[name]
    pool = pool_of(params["baselines"], name, bench.context.inputs[name])
    rng = np.random.default_rng(bench.context.seed)
    places, lows, noises = [], [], []
    for _ in range(samples):
        places.append(rng.uniform())
        lows.append(np.broadcast_to(pool[rng.integers(len(pool))], x.shape[1:]))
        noises.append(rng.standard_normal(x.shape[1:]) if noise else np.zeros(()))
    wide = x.double()
    alphas, low = torch.tensor(places).double().reshape(-1, *[1] * x.ndim), torch.from_numpy(np.stack(lows)[:, None])
    high = wide[None]
    if noise:
        axes = tuple(range(1, x.ndim))
        spread = wide.amax(axes, keepdim=True) - wide.amin(axes, keepdim=True)
        high = high + noise * spread * torch.from_numpy(np.stack(noises)[:, None])
    difference = high - low
    larger.inputs[name] = (low + alphas * difference).to(x.dtype).reshape(-1, *x.shape[1:])
    gradient = larger.sweep(GRADIENT)[0][name].reshape(samples, *x.shape)
    return {name: (gradient.double() * difference).mean(0).to(x.dtype)}


def _deeplift(bench: Bench, params: dict[str, Any]) -> dict[str, Tensor]:
    from analyzer.methods.gradient.integrated_gradients import start_of
    from graph_rules.deeplift import TABLES

    with torch.no_grad():
        ends = bench.engine.values()
        starts = {k: torch.from_numpy(np.array(start_of(params["baseline"], k, v))) for k, v in ends.items()}
        relevance, values, _, _ = bench.difference(TABLES[params["variant"], params["pooling"]], starts)
    if not params["multiply_by_inputs"]:
        return relevance
    return {k: (m.double() * (values[k].double() - starts[k].double())).to(m.dtype) for k, m in relevance.items()}


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
    "deeplift": _deeplift,
    "integrated-gradients": _integrated,
    "gradient-shap": _gradient_shap,
    "smoothgrad": _smoothgrad,
    **CAMS,
}
HINT = f"methods that can be compiled: {', '.join(sorted(RECIPES))}"
