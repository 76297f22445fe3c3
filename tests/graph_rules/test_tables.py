"""Tables: which node gets which rule, what is refused, and what composites conserve."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules import rules as r
from graph_rules import sweep
from graph_rules.composites import COMPOSITES, RULES, CompositeParams, composite, names, parse_rule
from graph_rules.kinds import KINDS, active_nodes, kind
from graph_rules.rule import Rule
from graph_rules.tables import MissingRuleError, SelectorTable, describe
from tests.graph_rules.graphs import Recorded, aten, plan_of, record, swept, tensor

W1, W2, B = tensor(4, 3, 3, 3, seed=11), tensor(4, 4, 3, 3, seed=12), tensor(4, seed=13)
L1, L2 = tensor(4, 6, seed=16), tensor(6, 5, seed=17)
BOX = {"low": -3.0, "high": 3.0}


def net(x: Tensor) -> Tensor:
    """conv, relu, conv, relu, mean, linear, relu, linear."""
    h = F.relu(F.conv2d(F.relu(F.conv2d(x, W1)), W2))
    return torch.mm(F.relu(torch.mm(h.mean((2, 3)), L1)), L2)


LABELS = {
    "/a/Conv": "Conv", "/a/Relu": "Relu", "/b/Conv": "Conv", "/b/Relu": "Relu", "/pool/ReduceMean": "ReduceMean",
    "/c/MatMul": "MatMul", "/c/Relu": "Relu", "/d/MatMul": "MatMul",
}  # fmt: skip


@pytest.fixture
def graph() -> Recorded:
    made = record(net, tensor(2, 3, 6, 6))
    calls = [node for node in made.module.graph.nodes if node.op == "call_function"]
    for node, (name, op) in zip(calls, LABELS.items(), strict=True):
        node.meta.update(onnx=name, op=op)
    return made


def chosen(graph: Recorded, table: SelectorTable) -> dict[str, Rule]:
    """ONNX node name -> its rule."""
    return {node.meta["onnx"]: rule for node, rule in plan_of(graph, table).rules.items()}


# --- which rule --------------------------------------------------------------------------------------------------


def test_kinds_and_positions(graph: Recorded) -> None:
    table = SelectorTable("t", {"first": r.Flat(), "last": r.WSquare(), "convolution": r.Gamma(), "linear": r.Epsilon(),
                            "relu": r.Pass(), "average": r.Epsilon(0.5)})  # fmt: skip
    assert chosen(graph, table) == {
        "/a/Conv": r.Flat(), "/a/Relu": r.Pass(), "/b/Conv": r.Gamma(), "/b/Relu": r.Pass(),
        "/pool/ReduceMean": r.Epsilon(0.5), "/c/MatMul": r.Epsilon(), "/c/Relu": r.Pass(), "/d/MatMul": r.WSquare(),
    }  # fmt: skip


def test_overrides_go_from_name_to_operator_to_position_to_kind(graph: Recorded) -> None:
    overrides = {"convolution": "gamma:1", "linear": "flat", "first": "w2", "MatMul": "epsilon:0.5", "/d/*": "zplus"}
    found = chosen(graph, composite("epsilon-plus", CompositeParams(), overrides))
    assert found["/a/Conv"] == r.WSquare()
    assert found["/b/Conv"] == r.Gamma(1.0)
    assert found["/c/MatMul"] == r.Epsilon(0.5)
    assert found["/d/MatMul"] == r.AlphaBeta(1.0, 0.0)
    assert found["/a/Relu"] == r.Pass()


def test_overrides_come_before_the_composite(graph: Recorded) -> None:
    plain = chosen(graph, composite("epsilon-plus-flat", CompositeParams()))
    assert plain["/a/Conv"] == r.Flat()
    assert (
        chosen(graph, composite("epsilon-plus-flat", CompositeParams(), {"Conv": "epsilon"}))["/a/Conv"] == r.Epsilon()
    )
    assert (
        chosen(graph, composite("epsilon-plus-flat", CompositeParams(), {"convolution": "epsilon"}))["/a/Conv"]
        == r.Epsilon()
    )


def test_a_weighted_rule_for_a_name_leaves_nodes_without_weights_alone(graph: Recorded) -> None:
    found = chosen(graph, composite("epsilon", CompositeParams(), {"/a/*": "zplus"}))
    assert found["/a/Conv"] == r.AlphaBeta(1.0, 0.0)
    assert found["/a/Relu"] == r.Pass()


@pytest.mark.parametrize("key", ["Relu", "relu", "average", "/pool/*"])
def test_a_weighted_rule_never_lands_on_a_node_without_weights(graph: Recorded, key: str) -> None:
    """It is refused, or the node keeps its own rule: it must not fail in the middle of the sweep."""
    try:
        found = chosen(graph, composite("epsilon", CompositeParams(), {key: "zplus"}))
    except ValueError:
        return
    assert isinstance(found["/a/Relu"], r.Pass)
    assert isinstance(found["/pool/ReduceMean"], r.Epsilon)


@pytest.mark.parametrize("key", ["MatMul", "matmul", "/attention"])
@pytest.mark.parametrize("rule", ["zplus", "gamma", "w2", "flat", "z-box:0,1"])
def test_a_weighted_rule_never_lands_on_a_product_of_two_computed_matrices(key: str, rule: str) -> None:
    graph = record(lambda x: torch.mm(x, x.t()), tensor(3, 4))
    graph.output.meta.update(onnx="/attention", op="MatMul")
    base = {"movement": r.Gradient(), "matmul": r.Shared()}
    table = SelectorTable("t", base, {key: parse_rule(rule, CompositeParams())})
    try:
        rules = plan_of(graph, table).rules
    except (ValueError, MissingRuleError):
        return
    assert rules[graph.output] == r.Shared()


def test_the_first_of_several_fitting_globs_wins(graph: Recorded) -> None:
    found = chosen(graph, composite("epsilon", CompositeParams(), {"/a/*": "flat", "/*/Conv": "w2"}))
    assert found["/a/Conv"] == r.Flat()
    assert found["/b/Conv"] == r.WSquare()


def test_a_name_with_brackets_is_found_as_it_is_written() -> None:
    """Exporters write names such as /layers[0]/MatMul; the exact name fits, though brackets mean something in globs."""
    graph = record(lambda x: torch.mm(x, L1), tensor(2, 4))
    graph.output.meta.update(onnx="/layers[0]/MatMul", op="MatMul")
    assert chosen(graph, composite("epsilon", CompositeParams(), {"/layers[0]/MatMul": "flat"})) == {
        "/layers[0]/MatMul": r.Flat()
    }


def test_globs_respect_case(graph: Recorded) -> None:
    assert chosen(graph, composite("epsilon", CompositeParams(), {"/a/*": "w2"}))["/a/Conv"] == r.WSquare()
    with pytest.raises((ValueError, LookupError)):  # fits nothing
        chosen(graph, composite("epsilon", CompositeParams(), {"/A/*": "w2"}))


# --- positions ---------------------------------------------------------------------------------------------------


def first_and_last(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[list[int], list[int]]:
    """Which of the weighted layers, in order, are first and last."""
    graph = record(function, *inputs)
    table = SelectorTable("t", {"first": r.Flat(), "*": r.Gradient()})
    other = SelectorTable("t", {"last": r.Flat(), "*": r.Gradient()})
    weighted = [
        n for n in graph.module.graph.nodes if n.target in (aten.convolution.default, aten.mm.default, aten.bmm.default)
    ]
    first, last = plan_of(graph, table).rules, plan_of(graph, other).rules
    return (
        [i for i, n in enumerate(weighted) if first.get(n) == r.Flat()],
        [i for i, n in enumerate(weighted) if last.get(n) == r.Flat()],
    )


def test_first_is_every_layer_that_no_other_one_comes_before() -> None:
    def branches(x: Tensor) -> Tensor:
        left = torch.mm(torch.mm(x, L2), L2.t())
        right = torch.mm(x.relu(), L2) @ L2.t()
        return torch.mm(left + right + x, L2)

    assert first_and_last(branches, tensor(2, 6)) == ([0, 2], [4])


def test_a_layer_that_also_reads_the_input_is_not_first_below_another() -> None:
    assert first_and_last(lambda x: torch.mm(torch.cat([x, torch.mm(x, L2)], 1), tensor(11, 3)), tensor(2, 6)) == (
        [0],
        [1],
    )


def test_first_follows_the_order_of_execution_and_every_input() -> None:
    def two(x: Tensor, y: Tensor) -> Tensor:
        return torch.mm(torch.mm(x, L2), L2.t()) * torch.mm(y, L1)

    assert first_and_last(two, tensor(2, 6), tensor(2, 4)) == ([0, 2], [2])


def test_a_layer_of_an_unexplained_input_does_not_count() -> None:
    graph = record(lambda x, y: torch.mm(x, L2) + torch.mm(torch.mm(y, L1), L2), tensor(2, 6), tensor(2, 4))
    table = SelectorTable("t", {"first": r.Flat(), "*": r.Gradient()})
    plan = plan_of(graph, table, graph.placeholders[:1])
    assert [rule for node, rule in plan.rules.items() if node.target is aten.mm.default] == [r.Flat()]


def test_attention_products_are_no_layers() -> None:
    assert first_and_last(lambda x: torch.mm(torch.mm(x, x.t()), tensor(2, 3)), tensor(2, 6)) == ([1], [1])


# --- kinds -------------------------------------------------------------------------------------------------------

KIND: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "conv": (lambda x: F.conv1d(x, tensor(2, 3, 2)), "convolution"),
    "mm": (lambda x: torch.bmm(x, tensor(2, 4, 3)), "linear"),
    "mm-left": (lambda x: torch.bmm(tensor(2, 4, 3), x), "linear"),
    "attention": (lambda x: torch.bmm(x, x.transpose(1, 2)), "matmul"),
    "computed-weights": (lambda x: F.conv1d(x, x.relu()[..., :2]), "matmul"),
    "computed-addend": (lambda x: torch.baddbmm(x.mean(2, keepdim=True), x, tensor(2, 4, 5)), "matmul"),
    "computed-bias": (lambda x: F.conv1d(x, tensor(3, 3, 2), x.mean((0, 2))), "matmul"),
    "relu": (torch.relu, "relu"),
    "gelu": (F.gelu, "activation"),
    "add": (lambda x: x + x.relu(), "add"),
    "shift": (lambda x: x + 1.0, "shift"),
    "shift-tensor": (lambda x: tensor(4) - x, "shift"),
    "rsub": (lambda x: torch.rsub(x, 1.0), "shift"),
    "scale": (lambda x: x * 2.0, "scale"),
    "over-constant": (lambda x: x / tensor(4), "scale"),
    "reciprocal": (torch.reciprocal, "activation"),
    "constant-over": (lambda x: tensor(4) / x, "activation"),
    "product": (lambda x: x * x.flip(2), "product"),
    "square": (lambda x: x * x, "product"),
    "ratio": (lambda x: x / x.exp(), "quotient"),
    "gate": (lambda x: x * x.flip(2).sigmoid(), "gate"),
    "gate-left": (lambda x: x.flip(2).sigmoid() * x, "gate"),
    "gate-moved": (lambda x: x * x.flip(2).mean(2, keepdim=True).sigmoid().expand(2, 3, 4), "gate"),
    "gate-beside-signal": (lambda x: x * torch.cat([x[:, :1].sigmoid(), x[:, 1:]], 1), "product"),
    "two-gates": (lambda x: x.sigmoid() * x.sigmoid(), "product"),
    "mean": (lambda x: x.mean(1), "average"),
    "max": (lambda x: x.amax(1), "maximum"),
    "softmax": (lambda x: x.softmax(1), "softmax"),
    "view": (lambda x: x.reshape(6, 4), "movement"),
    "pad": (lambda x: F.pad(x, (1, 1)), "movement"),
    "sin": (torch.sin, "activation"),
    "cross": (lambda x: torch.linalg.cross(x, x.flip(0), dim=1), "other"),
}


@pytest.mark.parametrize("name", KIND)
def test_kinds(name: str) -> None:
    function, expected = KIND[name]
    graph = record(function, tensor(2, 3, 4))
    found = kind(graph.output, active_nodes(tuple(graph.placeholders), graph.output))
    assert found == expected
    assert found in KINDS


def test_a_gate_is_one_only_where_it_is_computed_from_the_input() -> None:
    graph = record(lambda x, y: x * y.sigmoid(), tensor(3), tensor(3, seed=1))
    both = active_nodes(tuple(graph.placeholders), graph.output)
    one = active_nodes(tuple(graph.placeholders[:1]), graph.output)
    assert (kind(graph.output, both), kind(graph.output, one)) == ("gate", "scale")


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_missing_rule_names_every_node_once() -> None:
    graph = record(lambda x: torch.softmax(torch.sin(x) @ x.t(), -1), tensor(3, 4))
    for node, (name, op) in zip(
        [n for n in graph.module.graph.nodes if n.op == "call_function"],
        [("/s", "Sin"), ("/t", "Transpose"), ("/mm", "MatMul"), ("/soft", "Softmax")],
        strict=True,
    ):
        node.meta.update(onnx=name, op=op)
    table = SelectorTable("mine", {"movement": r.Gradient(), "matmul": r.Gradient()})
    with pytest.raises(MissingRuleError) as caught:
        plan_of(graph, table)
    assert caught.value.nodes == [("/s", "Sin", "activation"), ("/soft", "Softmax", "softmax")]
    assert str(caught.value) == "mine has no rule for Sin node '/s' (activation), Softmax node '/soft' (softmax)"


def test_a_long_list_of_missing_rules_is_cut() -> None:
    graph = record(lambda x: x.sin().cos().sin().cos().sin().cos().sin(), tensor(3))
    with pytest.raises(MissingRuleError, match=r"and 2 more$") as caught:
        plan_of(graph, SelectorTable("t", {}))
    assert len(caught.value.nodes) == 7


def test_a_star_fits_what_has_no_rule() -> None:
    graph = record(lambda x: x.sin() + x, tensor(3))
    plan = plan_of(graph, SelectorTable("t", {"*": r.Gradient(), "add": r.Epsilon()}))
    assert list(plan.rules.values()) == [r.Gradient(), r.Epsilon()]


@pytest.mark.parametrize(
    ("text", "rule"),
    [("epsilon", r.Epsilon(0.3)), ("epsilon:0.01", r.Epsilon(0.01)), ("gamma", r.Gamma(0.7)),
        ("gamma:0.5", r.Gamma(0.5)),
     ("zplus", r.AlphaBeta(1.0, 0.0)), ("alpha-beta:3,2", r.AlphaBeta(3.0, 2.0)), ("alpha-beta", r.AlphaBeta(1.5, 0.5)),
     ("z-box", r.ZBox(-3.0, 3.0)), ("z-box:-1,2", r.ZBox(-1.0, 2.0)), ("w2", r.WSquare()), ("flat", r.Flat()),
     ("norm", r.Epsilon(1e-6)), ("pass", r.Pass()), ("gradient", r.Gradient()), ("block", r.Block())],
)  # fmt: skip
def test_rules_are_read_from_text(text: str, rule: Rule) -> None:
    """What the text leaves open comes from the parameters."""
    assert parse_rule(text, CompositeParams(epsilon=0.3, gamma=0.7, alpha=1.5, beta=0.5, **BOX)) == rule


@pytest.mark.parametrize(
    "text",
    ["", "gama", "Epsilon", "epsilon:x", "epsilon:0.1,0.2", "epsilon:-1", "epsilon:nan", "gamma:-0.5",
     "alpha-beta:1,1", "alpha-beta:3", "zplus:1", "flat:1", "z-box:1", "z-box:2,1", "z-box:1,2,3", "pass:1", "block:0"],
)  # fmt: skip
def test_rules_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_rule(text, CompositeParams(**BOX))


def test_an_unknown_rule_names_those_there_are() -> None:
    with pytest.raises(ValueError) as caught:
        parse_rule("gama:0.5", CompositeParams())
    assert all(name in str(caught.value) for name in RULES)


@pytest.mark.parametrize(
    "params", [CompositeParams(epsilon=-1.0), CompositeParams(gamma=-0.5), CompositeParams(alpha=1.0, beta=1.0)]
)
def test_parameters_out_of_range_are_refused(params: CompositeParams) -> None:
    name = "epsilon" if params.epsilon < 0 else "gamma" if params.gamma < 0 else "alpha-beta"
    with pytest.raises(ValueError, match=r"\w"):
        composite(name, params)


def test_the_z_box_needs_its_bounds() -> None:
    with pytest.raises(ValueError, match="low and high"):
        composite("epsilon-gamma-box", CompositeParams())
    with pytest.raises(ValueError, match="low and high"):
        composite("epsilon", CompositeParams(), {"first": "z-box"})


def test_an_unknown_composite() -> None:
    with pytest.raises(KeyError):
        composite("epsilon-minus", CompositeParams())
    assert set(names()) == set(COMPOSITES)


def test_a_table_describes_the_rules_that_are_used(graph: Recorded) -> None:
    """Where an override replaces a rule, the override is what is reported."""
    table = composite("epsilon-plus", CompositeParams(), {"convolution": "gamma:0.5", "/a/*": "flat"})
    text = describe(table)
    assert text["convolution"] == str(r.Gamma(0.5))
    assert text["/a/*"] == str(r.Flat())
    assert text["linear"] == str(r.Epsilon())


# --- conservation ------------------------------------------------------------------------------------------------


def relu_net(x: Tensor) -> Tensor:
    return torch.mm(F.max_pool2d(F.relu(F.conv2d(F.relu(F.conv2d(x, W1, B)), W2, B)), 2).flatten(1), L1.abs())


def skip_net(x: Tensor) -> Tensor:
    h = F.relu(F.conv2d(x, W1, B, padding=1))
    h = h + F.relu(F.conv2d(h, W2, B, padding=1))
    return torch.mm(F.avg_pool2d(h, 2).mean((2, 3)), L1.abs())


@pytest.mark.parametrize("function", [relu_net, skip_net])
@pytest.mark.parametrize(
    "name", ["zplus", "epsilon-plus", "flat", "w2", "epsilon-plus-flat", "alpha1-beta0", "excitation-backprop"]
)
def test_relevance_is_conserved_without_biases(function: Callable[[Tensor], Tensor], name: str) -> None:
    """Every output unit of a ReLU network has a positive part: what is put in comes out, but for the stabiliser."""
    x = tensor(2, 3, 6, 6, seed=7)
    graph = record(function, x)
    table = composite(name, CompositeParams(epsilon=0.0, zero_bias=True, stabilizer=1e-12))
    relevance = torch.zeros(2, 6, dtype=torch.float64)
    relevance[0, 2] = relevance[1, 5] = 1.0
    (found,) = swept(graph, table, relevance)
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_zplus_relevance_is_not_negative() -> None:
    graph = record(relu_net, tensor(2, 3, 6, 6, seed=7))
    (found,) = swept(graph, composite("zplus", CompositeParams()))
    assert (found >= 0).all()
    assert found.max() > 0


def test_epsilon_of_a_net_without_biases_is_gradient_times_input() -> None:
    def bare(x: Tensor) -> Tensor:
        return torch.mm(F.max_pool2d(F.relu(F.conv2d(F.relu(F.conv2d(x, W1)), W2)), 2).flatten(1), L1)

    x = tensor(2, 3, 6, 6, seed=7)
    leaf = x.clone().requires_grad_()
    out = bare(leaf)
    (gradient,) = torch.autograd.grad(out[:, 3].sum(), leaf)
    graph = record(bare, x)
    relevance = torch.zeros_like(out)
    relevance[:, 3] = out[:, 3].detach()
    (found,) = swept(graph, composite("epsilon", CompositeParams(epsilon=1e-12)), relevance)
    torch.testing.assert_close(found, gradient * x, rtol=1e-6, atol=1e-8)


def test_lrp_0_of_dead_units_is_finite() -> None:
    """epsilon = 0 where a unit's input, output and relevance are all zero: nothing is shared, not NaN."""
    graph = record(lambda x: torch.mm(torch.relu(torch.mm(x.relu(), L1)), L2), -tensor(2, 4).abs())
    (found,) = swept(graph, composite("epsilon", CompositeParams(epsilon=0.0)), torch.zeros(2, 5, dtype=torch.float64))
    assert torch.equal(found, torch.zeros(2, 4, dtype=torch.float64))


# --- every rule a user may give a node -----------------------------------------------------------------------------

PLAIN = ["epsilon", "norm", "pass", "gradient", "block"]
NODES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "MaxPool": (lambda x: torch.max_pool2d(x, 2), "maximum"),
    "BatchNormalization": (lambda x: F.batch_norm(x, B[:3], B[:3].abs() + 1, B[:3], B[:3]), "batch-norm"),
    "Split": (lambda x: x.split([1, 2], 1)[1], "movement"),
    "Reshape": (lambda x: x.reshape(2, -1), "movement"),
    "Transpose": (lambda x: x.permute(0, 3, 2, 1), "movement"),
    "Concat": (lambda x: torch.cat([x, x.relu()], 1), "movement"),
    "ReduceMean": (lambda x: x.mean((2, 3)), "average"),
    "ReduceMax": (lambda x: x.amax((2, 3)), "maximum"),
    "Flatten": (lambda x: x.flatten(1), "movement"),
    "Sigmoid": (torch.sigmoid, "activation"),
    "Add": (lambda x: x + x.relu(), "add"),
    "Mul": (lambda x: x * x.sigmoid(), "gate"),
}


@pytest.mark.parametrize("rule", PLAIN)
@pytest.mark.parametrize("op", NODES)
def test_a_rule_that_fits_a_node_runs_and_one_that_does_not_is_refused(op: str, rule: str) -> None:
    """A rule without need of weights can be given to any node: it gives finite relevance of the input's shape, or a
    ValueError that says why not; never another error from the middle of a sweep."""
    function, _ = NODES[op]
    x = tensor(2, 3, 4, 4, seed=1)
    graph = record(function, x)
    for node in graph.module.graph.nodes:
        if node.op == "call_function":
            node.meta.update(onnx=f"/{op}", op=op)
    for key in (op, f"/{op}"):
        table = composite("epsilon", CompositeParams(), {key: rule})
        try:
            (found,) = swept(graph, table)
        except ValueError:
            continue
        assert found.shape == x.shape
        assert torch.isfinite(found).all()


def test_unused_overrides_are_not_silent(graph: Recorded) -> None:
    """A misspelt node or operator name must not pass for a choice that was made."""
    with pytest.raises((ValueError, LookupError)):
        plan_of(graph, composite("epsilon", CompositeParams(), {"Cnov": "gamma"}))


def test_nodes_are_named_in_the_order_of_execution(graph: Recorded) -> None:
    nodes = sweep.ruled_nodes(graph.output, graph.placeholders)
    assert [node.meta["onnx"] for node in nodes] == list(LABELS)
