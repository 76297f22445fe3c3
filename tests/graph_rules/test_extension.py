"""A rule and an operator from outside the package: registered, then used by tables, sweeps and the ``lrp`` method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from analyzer.errors import UsageError
from graph_rules import rules as r
from graph_rules.applicability import LAYERS
from graph_rules.composites import CompositeParams, composite, parse_rule
from graph_rules.errors import RuleError
from graph_rules.kinds import active_nodes, kind
from graph_rules.operators import Operator, Sign, register_operator, unregister_operator
from graph_rules.rule import Call, Needs, Rule, ZeroInputs
from graph_rules.rule_format import RULES, NamedRule, register_rule
from graph_rules.sign_analysis import nonnegative
from graph_rules.zero_relevance import no_relevance_at_zero
from tests.graph_rules.graphs import aten, plan_of, record, swept, tensor
from tests.graph_rules.nets import VGGLike, exported, pictures, seeded

W = tensor(5, 4, seed=1)


@dataclass(frozen=True)
class Damped(NamedRule):
    """A share of the gradient: R_in = share J^T R."""

    share: float = 0.5
    name: ClassVar[str] = "damped"
    leading: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs.VJP_ONLY
    kinds: ClassVar[frozenset[str]] = LAYERS | {"relu"}
    wide_kinds: ClassVar[frozenset[str] | None] = LAYERS
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.NOTHING

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RuleError(f"share must be from 0 to 1, not {self.share:g}")

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        return [self.share * part for part in call.vjp(relevance)]


@pytest.fixture
def damped() -> Iterator[None]:
    register_rule()(Damped)
    yield
    del RULES["damped"]


@torch.library.custom_op("tests::bump", mutates_args=())
def bump(x: Tensor) -> Tensor:
    """exp(-x^2)."""
    return torch.exp(-(x**2))


@pytest.fixture
def operator() -> Iterator[Any]:
    target = torch.ops.tests.bump.default
    register_operator(target, Operator("activation", sign=Sign.NONNEGATIVE))
    yield target
    unregister_operator(target)


def layered(x: Tensor) -> Tensor:
    return torch.mm(torch.relu(torch.mm(x, W)), W.t())


@pytest.mark.usefixtures("damped")
def test_a_rule_is_read_written_and_used() -> None:
    assert parse_rule("damped:0.25") == Damped(0.25)
    assert str(Damped(0.25)) == "damped:0.25"
    with pytest.raises(RuleError, match=r"damped\[:SHARE\]"):
        parse_rule("damped:x")
    graph = record(layered, tensor(3, 5))
    table = composite("epsilon", CompositeParams(), {"linear": "damped:0.25", "relu": "gradient"})
    plain = swept(graph, r.Gradient())[0]
    torch.testing.assert_close(swept(graph, table)[0], plain / 16)


@pytest.mark.usefixtures("damped")
def test_what_a_rule_declares_is_what_tables_and_proofs_go_by() -> None:
    graph = record(layered, tensor(3, 5))
    plan = plan_of(graph, composite("epsilon", CompositeParams(), {"*": "damped"}))
    assert [rule.name for rule in plan.rules.values()] == ["damped", "pass", "damped"]
    assert no_relevance_at_zero(graph.of(aten.relu.default)[0], plan)
    with pytest.raises(RuleError, match="isn't for nodes of kind softmax"):
        plan_of(
            record(lambda x: x.softmax(1), tensor(3, 5)), composite("epsilon", CompositeParams(), {"softmax": "damped"})
        )


def test_a_rule_that_declares_nothing_is_for_no_node() -> None:
    class Undeclared(NamedRule):
        name = "undeclared"

    assert (Rule.kinds, Undeclared.kinds) == (frozenset(), frozenset())


def test_a_misspelt_kind_is_refused() -> None:
    class Misspelt(NamedRule):
        name = "misspelt"
        kinds = frozenset({"convolutoin"})

    with pytest.raises(ValueError, match="convolutoin"):
        register_rule()(Misspelt)
    assert "misspelt" not in RULES


@pytest.mark.usefixtures("damped")
def test_a_rule_is_used_by_the_method() -> None:
    x = pictures(2, 3, 12, 12, seed=5)
    model = exported(seeded(VGGLike), x)
    known = {"composite": "epsilon", "initial": "one"}
    plain = model.explain(x, method="lrp", **known).attribution
    half = model.explain(x, method="lrp", **known, rules={"last": "damped:1"}).attribution
    quarter = model.explain(x, method="lrp", **known, rules={"last": "damped:0.25"}).attribution
    assert np.abs(plain - half).max() > 0
    np.testing.assert_allclose(quarter, half / 4, rtol=1e-5, atol=1e-7 * np.abs(half).max())


def test_an_operator_gets_its_kind_and_its_sign(operator: Any) -> None:
    def net(x: Tensor) -> Tensor:
        return F.linear(torch.ops.tests.bump(x), W)

    x = tensor(2, 4)
    graph = record(net, x)
    (node,) = graph.of(operator)
    assert kind(node, active_nodes(tuple(graph.placeholders), graph.output)) == "activation"
    plan = plan_of(graph, composite("zplus", CompositeParams()))
    assert nonnegative(node, plan)
    a, relevance = bump(x), tensor(2, 5, seed=2)
    up = W.clamp(min=0).t()
    expected = a * ((relevance / (a @ up + 1e-6)) @ up.t())
    torch.testing.assert_close(swept(graph, composite("zplus", CompositeParams()), relevance)[0], expected)


def test_an_operator_without_a_row_is_unknown(operator: Any) -> None:
    with pytest.raises(ValueError, match="has a row already"):
        register_operator(operator, Operator("movement"))
    unregister_operator(operator)
    graph = record(torch.ops.tests.bump, tensor(3))
    assert kind(graph.output, active_nodes(tuple(graph.placeholders), graph.output)) == "other"
    register_operator(operator, Operator("activation"))


@pytest.mark.usefixtures("damped")
@pytest.mark.parametrize(("raised", "reported"), [(RuleError, UsageError), (ValueError, ValueError)])
def test_only_what_is_wrong_with_rules_is_blamed_on_parameters(
    raised: type[Exception], reported: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise raised("of the rule")

    x = pictures(1, 3, 12, 12, seed=5)
    model = exported(seeded(VGGLike), x)
    monkeypatch.setattr(Damped, "backward", fail)
    with pytest.raises(reported, match="of the rule") as caught:
        model.explain(x, method="lrp", rules={"last": "damped"})
    assert type(caught.value) is reported
