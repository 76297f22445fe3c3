"""A method, a rule and an operator of somebody else's: registered by the public means, used everywhere without more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

import analyzer
from analyzer.compiler.lowering import table as lowerings
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import lowers
from analyzer.errors import UnsupportedError
from analyzer.explanation import Result
from analyzer.importer import table as operators
from analyzer.importer.table import operator
from analyzer.methods import registry
from analyzer.methods.context import Context
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method
from graph_rules.applicability import LAYERS
from graph_rules.operators import Operator, register_operator, unregister_operator
from graph_rules.rule import Call, Needs
from graph_rules.rule_format import RULES, NamedRule, register_rule
from tests.common.checks import load
from tests.common.models import assemble, cases, cnn

CASES = {case.name: case for case in cases()}


@pytest.fixture
def toy_method() -> Iterator[None]:
    """The mean of the gradient at the input and at half of it, times the input."""

    @method("toy", "gradient", compilable=True, source="nowhere")
    def toy(context: Context, *, share: Annotated[float, "where the second gradient is taken"] = 0.5) -> Result:
        """Mean of two gradients times the input."""
        values, xp = context.engine.values(), context.xp
        here = context.engine.gradient().relevance
        there = context.engine.gradient({name: value * share for name, value in values.items()}).relevance
        return per_input(
            context, {name: xp.astype((here[name] + there[name]) / 2 * v, v.dtype) for name, v in values.items()}
        )

    yield
    del registry._METHODS["toy"]


@pytest.fixture
def dishonest_method() -> Iterator[None]:
    """Says that it can be compiled, and makes its map of numbers that it reads."""

    @method("dishonest", "gradient", compilable=True, source="nowhere")
    def dishonest(context: Context) -> Result:
        """The gradient, clipped in numpy."""
        found = context.engine.gradient().relevance
        return per_input(context, {name: np.clip(np.asarray(value), 0, None) for name, value in found.items()})

    yield
    del registry._METHODS["dishonest"]


def run(compiled: analyzer.Compiled, x: Any) -> Any:
    session = onnxruntime.InferenceSession(compiled.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["relevance"], {"x": x})[0]


@pytest.mark.usefixtures("toy_method")
def test_a_method_is_explained_with_and_compiled() -> None:
    x, model = CASES["cnn"].x, load(cnn())
    expected = np.mean([model.explain(x * share, "gradient", 1).attribution for share in (1, 0.5)], axis=0) * x
    for backend in ("torch", "onnxruntime", "auto"):
        found = model.explain(x, "toy", 1, backend=backend)
        np.testing.assert_allclose(found.attribution, expected, atol=1e-6)
    np.testing.assert_allclose(run(analyzer.compile(model, "toy", 1), x), expected, atol=1e-6)
    assert "toy" in analyzer.methods()
    assert model.explain(x, "smoothgrad", 1, base="toy", samples=2).attribution.shape == x.shape


@pytest.mark.usefixtures("dishonest_method")
def test_a_method_that_reads_numbers_is_not_compiled() -> None:
    model = load(cnn())
    assert model.explain(CASES["cnn"].x, "dishonest", 1).attribution.min() == 0
    with pytest.raises(UnsupportedError, match="looks at numbers between its sweeps") as caught:
        analyzer.compile(model, "dishonest", 1)
    assert caught.value.code == "compile.method"


@torch.library.custom_op("tests::same", mutates_args=())
def same(x: Tensor) -> Tensor:
    """A copy."""
    return x.clone()


same.register_autograd(lambda context, grad: grad)


@pytest.fixture
def toy_operator() -> Iterator[None]:
    """An ONNX operator that has no trace, given a function, an ATen operator of its own, its row and its ONNX form."""
    target = torch.ops.tests.same.default

    @operator("SampleOp", domain="com.microsoft")
    def sample_op(node: Any, x: Tensor) -> Tensor:
        return torch.ops.tests.same(x)  # type: ignore[no-any-return]

    @lowers(target)
    def identity(w: Emitter, result: Any, x: Any) -> str:
        return w.op("Identity", x.name)

    register_operator(target, Operator("activation", keeps_zero=True))
    yield
    unregister_operator(target)
    del lowerings.LOWERINGS[target]
    del operators._TABLE["com.microsoft", "SampleOp"]


def sampled() -> Any:
    """A linear layer, the operator, another linear layer."""
    draw = np.random.default_rng(3)
    weights = {n: draw.standard_normal(s).astype(np.float32) for n, s in {"w1": (6, 5), "w2": (5, 3)}.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["z"], name="first"),
        helper.make_node("SampleOp", ["z"], ["same"], name="strange", domain="com.microsoft"),
        helper.make_node("MatMul", ["same", "w2"], ["scores"], name="second"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    outputs: Any = {"scores": (TensorProto.FLOAT, ["n", 3])}
    return assemble(nodes, shapes, outputs, weights, domains={"com.microsoft": 1})


@dataclass(frozen=True)
class Tripled(NamedRule):
    """Three times the gradient."""

    name: ClassVar[str] = "tripled"
    needs: ClassVar[Needs] = Needs.VJP_ONLY
    kinds: ClassVar[frozenset[str]] = LAYERS

    def backward(self, call: Call, relevance: Any) -> Sequence[Any]:
        return [3 * part for part in call.vjp(relevance)]


@pytest.fixture
def toy_rule() -> Iterator[None]:
    register_rule()(Tripled)
    yield
    del RULES["tripled"]


@pytest.mark.usefixtures("toy_operator", "toy_rule")
def test_an_operator_and_a_rule_are_explained_with_and_compiled() -> None:
    x, model = CASES["mlp"].x, load(sampled())
    assert model.verify(x).ok
    plain = model.explain(x, "lrp", 1, composite="epsilon", initial="one")
    options: dict[str, Any] = {"composite": "epsilon", "initial": "one", "rules": {"second": "tripled"}}
    w1, w2 = (np.asarray(value) for value in (weights_of("w1"), weights_of("w2")))
    np.testing.assert_allclose(model.explain(x, "gradient", 1).attribution, np.tile(w1 @ w2[:, 1], (3, 1)), rtol=1e-5)
    found = model.explain(x, "lrp", 1, **options)
    assert found.score == pytest.approx(plain.score)
    expected = x * ((3 * w2[:, 1] / (x @ w1)) @ w1.T)
    np.testing.assert_allclose(found.attribution, expected, rtol=1e-3, atol=1e-3)
    compiled = analyzer.compile(model, "lrp", 1, **options)
    np.testing.assert_allclose(run(compiled, x), found.raw, rtol=1e-4, atol=1e-4)


def weights_of(name: str) -> Any:
    from onnx import numpy_helper

    return next(numpy_helper.to_array(t) for t in sampled().graph.initializer if t.name == name)
