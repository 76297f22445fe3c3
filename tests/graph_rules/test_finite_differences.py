"""Gradients equal central differences in float64, for every differentiable operator of the importer's table.

Models are the onnx package's own node tests, with their numbers moved off kinks, and the forms of ``operator_cases``. Every
floating-point output of a model is explained with respect to all its floating-point inputs together, along random directions,
and element by element where there are few.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from analyzer import load
from analyzer.engines.protocol import GRADIENT
from analyzer.engines.torch_engine import TorchEngine
from analyzer.errors import UnsupportedError
from analyzer.importer import table
from graph_rules import sweep
from tests.analyzer.importer import test_backend_nodes as backend
from tests.common.engines import torch_engine
from tests.graph_rules.operator_cases import FORMS, WITHOUT, Feed, Form

Point = dict[str, torch.Tensor]
STEP, TOLERANCE = 1e-6, 1e-6
#: Node tests per operator: the first ones by name, the last, and some between.
MOST = 6
FEW = 12

#: Node tests with numbers that leave nothing to differ.
SKIPPED = frozenset(
    f"test_attention_4d_with_past_and_present_qk_matmul_bias_{rank}d_mask_causal" for rank in (3, 4)
)  # scores of minus the largest float


def reasons() -> dict[tuple[str, str], str]:
    """Operator -> why it isn't checked."""
    return {
        (domain, name): why
        for domain, groups in WITHOUT.items()
        for why, names in groups.items()
        for name in names.split()
    }


OPERATORS = [(domain, name) for domain, name, _ in table.entries()]
CHECKED = [key for key in OPERATORS if key not in reasons()]


@functools.cache
def node_tests() -> dict[str, list[backend.Case]]:
    """The onnx package's cases of one operator with ordinary floats, by operator."""
    found: dict[str, list[backend.Case]] = {}
    for case in backend.cases().values():
        floats = [v for v in case.feed.values() if v.dtype in (np.float32, np.float64)]
        plain = all(np.dtype(v.dtype).isbuiltin == 1 for v in case.feed.values())
        finite = all(v.size and np.isfinite(v).all() for v in floats)
        if case.op and floats and plain and finite and case.name not in SKIPPED:
            found.setdefault(case.op, []).append(case)
    return found


def forms(domain: str, name: str) -> Iterator[tuple[str, Form]]:
    """The models of an operator, by label."""
    for index, form in enumerate(FORMS.get((domain, name), ())):
        yield f"form {index}", form
    if not domain:
        mine = node_tests().get(name, [])
        for index in sorted({round(i) for i in np.linspace(0, len(mine) - 1, MOST)}) if mine else ():
            yield mine[index].name, (mine[index].model, moved(name, mine[index].feed))


def moved(name: str, feed: Feed) -> Feed:
    """Floats a little larger, each by another amount: off kinks, within domains; smaller where the domain ends at one."""
    sign = -1 if name in ("Acos", "Asin", "Atanh") else 1
    draw = np.random.default_rng(5)
    return {
        k: (v + draw.uniform(0.02, 0.05, v.shape) * (sign + np.abs(v) * sign)).astype(v.dtype)
        if v.dtype.kind == "f"
        else v
        for k, v in feed.items()
    }


def engines(form: Form) -> Iterator[tuple[str, TorchEngine]]:
    """An engine for each floating-point output that depends on the floating-point inputs, weighing its elements apart."""
    blob, feed = form
    model = load(blob.SerializeToString(), device="cpu")
    trace = model.trace(feed, torch.float64)
    results = next(node for node in trace.module.graph.nodes if node.op == "output").args[0]
    for value, node in zip(trace.outputs, results, strict=True):
        if not isinstance(node, torch.fx.Node) or not node.meta["dtype"].is_floating_point:
            continue
        draw, shape = np.random.default_rng(1), tuple(node.meta["shape"])
        weights = np.asarray(draw.uniform(0.5, 1.5, shape) * draw.choice([-1.0, 1.0], shape))
        try:
            engine = torch_engine(model, feed, value, weights, "float64")
            engine.sweep(GRADIENT)
        except UnsupportedError as problem:
            assert problem.code == "model.no_gradient", value
        else:
            yield value, engine


def scored(engine: TorchEngine, plan: sweep.Plan, point: Point) -> float:
    """The explained score where the sources have other values."""
    feed = [engine._tensor(engine.inputs[name]) for name in engine.traced.trace.inputs]
    places = engine.traced.nodes
    run = sweep.forward(plan, feed, {places[name]: value for name, value in point.items()})
    return float((torch.from_numpy(engine.weights) * run.value.double().reshape(engine.weights.shape)).sum())


def compare(engine: TorchEngine, label: str) -> int:
    """Assert that derivatives and differences agree; gives how many directions were tried."""
    found = engine.sweep(GRADIENT)
    plan = next(iter(engine.traced._plans.values()))
    point = {k: torch.from_numpy(np.asarray(v)).double() for k, v in found.values.items()}
    gradient = {k: torch.from_numpy(np.asarray(v)).double() for k, v in found.relevance.items()}
    draw = torch.Generator().manual_seed(0)
    directions = [
        {k: torch.randn(v.shape, generator=draw, dtype=torch.float64) for k, v in point.items()} for _ in range(3)
    ]
    if sum(v.numel() for v in point.values()) <= FEW:
        directions += [
            {k: (torch.arange(v.numel()) == i).double().reshape(v.shape) * (k == name) for k, v in point.items()}
            for name in point
            for i in range(point[name].numel())
        ]
    whole = sum(float(v.square().sum()) for v in gradient.values()) ** 0.5
    for index, direction in enumerate(directions):
        up, down = (
            scored(engine, plan, {k: v + sign * STEP * direction[k] for k, v in point.items()}) for sign in (1, -1)
        )
        slope = (up - down) / (2 * STEP)
        derivative = sum(float((gradient[k] * direction[k]).sum()) for k in point)
        size = sum(float((gradient[k] * direction[k]).square().sum()) for k in point) ** 0.5
        noise = 4 * np.finfo(np.float64).eps * (abs(up) + float(np.abs(engine.weights).sum())) / STEP
        assert abs(slope - derivative) <= TOLERANCE * max(size, whole / FEW) + noise, (
            label,
            index,
            slope,
            derivative,
        )
    return len(directions)


@pytest.mark.parametrize(("domain", "name"), CHECKED, ids=lambda text: text or "onnx")
def test_gradients_equal_differences(domain: str, name: str) -> None:
    tried = 0
    for label, form in forms(domain, name):
        for output, engine in engines(form):
            tried += compare(engine, f"{label}: {output}")
    assert tried, "no form of the operator has a floating-point output that depends on its floating-point inputs"


def test_every_operator_is_checked_or_has_a_reason() -> None:
    left = reasons()
    assert set(left) <= set(OPERATORS)
    assert set(FORMS) <= set(OPERATORS)
    assert not set(left) & set(FORMS)
    without = {key for key in CHECKED if key not in FORMS and (key[0] or key[1] not in node_tests())}
    assert not without


@pytest.mark.parametrize(("domain", "name"), sorted(reasons()), ids=lambda text: text or "onnx")
def test_what_has_no_derivative_gives_none(domain: str, name: str) -> None:
    """Of operators left out for what comes out of them, no float output depends on a float input; steps are flat."""
    why = reasons()[domain, name]
    if "straight through" in why or "sequences" in why or "bits" in why:
        pytest.skip(why)
    for _, form in forms(domain, name):
        for _, engine in engines(form):
            found = engine.sweep(GRADIENT)
            assert all(not np.any(value) for value in found.relevance.values())


def test_a_wrong_derivative_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: an error of one in ten thousand in one element of eighty fails."""
    (_, engine), *_ = engines(FORMS["com.microsoft", "Gelu"][0])
    assert compare(engine, "right") == 3
    right = engine.sweep(GRADIENT)
    (name,) = right.relevance
    right.relevance[name][0, 1, 2] *= 1 + 1e-4
    monkeypatch.setattr(TorchEngine, "sweep", lambda *_, **__: right)
    with pytest.raises(AssertionError):
        compare(engine, "wrong")
