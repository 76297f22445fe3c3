"""Keys of rule tables: depth, what is more specific than what, which kinds a rule lands on, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules import rules as r
from graph_rules.composites import CompositeParams, composite, parse_rule
from graph_rules.errors import MissingRuleError
from graph_rules.kinds import KINDS
from graph_rules.node_info import node_infos
from graph_rules.rule_format import RULES
from graph_rules.selectors import Selector
from graph_rules.tables import SelectorTable
from tests.graph_rules.graphs import Recorded, plan_of, record, swept, tensor
from tests.graph_rules.test_tables import KIND

C = [tensor(4, 4, 3, 3, seed=seed) for seed in range(6)]
D = tensor(4, 4, 1, 1, seed=9)
L = tensor(4, 4, seed=8)


def conv(x: Tensor, place: int) -> Tensor:
    return F.conv2d(x, C[place], padding=1)


def chain(x: Tensor) -> Tensor:
    """Five layers in a row."""
    h = x * 2.0
    for place in range(4):
        h = conv(h, place).relu()
    return torch.mm(h.mean((2, 3)), L)


CHAIN = ["/scale", *(f"/block{place}/{name}" for place in range(4) for name in ("conv", "relu")), "/pool", "/fc"]


def residual(x: Tensor) -> Tensor:
    """A stem, a block with an identity, a block whose shortcut has a layer of its own, a linear layer: six in a row."""
    h = conv(x, 0).relu()
    h = (h + conv(conv(h, 1).relu(), 2)).relu()
    h = (F.conv2d(h, D) + conv(conv(h, 3).relu(), 4)).relu()
    return torch.mm(h.mean((2, 3)), L)


RESIDUAL = ["/stem", "/r0", "/a/conv1", "/a/r1", "/a/conv2", "/a/add", "/a/r2", "/b/down", "/b/conv1", "/b/r1",
            "/b/conv2", "/b/add", "/b/r2", "/pool", "/fc"]  # fmt: skip
OPERATORS = {"conv": "Conv", "relu": "Relu", "r": "Relu", "pool": "ReduceMean", "fc": "MatMul", "add": "Add",
             "scale": "Mul", "stem": "Conv", "down": "Conv"}  # fmt: skip


def labelled(function: Callable[[Tensor], Tensor], names: Sequence[str]) -> Recorded:
    graph = record(function, tensor(2, 4, 6, 6))
    calls = [node for node in graph.module.graph.nodes if node.op == "call_function"]
    for node, name in zip(calls, names, strict=True):
        node.meta.update(onnx=name, op=OPERATORS[name.rsplit("/", 1)[1].rstrip("012")])
    return graph


@pytest.fixture
def line() -> Recorded:
    return labelled(chain, CHAIN)


@pytest.fixture
def branched() -> Recorded:
    return labelled(residual, RESIDUAL)


def depths(graph: Recorded) -> dict[str, float]:
    return {info.name: info.depth for info in node_infos(graph.output, tuple(graph.placeholders)).values()}


def chosen(graph: Recorded, overrides: dict[str, str], base: str = "epsilon") -> dict[str, str]:
    """ONNX node name -> text of its rule."""
    table = composite(base, CompositeParams(), overrides)
    return {node.meta["onnx"]: str(rule) for node, rule in plan_of(graph, table).rules.items()}


def refusal(graph: Recorded, overrides: dict[str, str]) -> str:
    with pytest.raises(ValueError) as caught:
        chosen(graph, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- depth -------------------------------------------------------------------------------------------------------


def test_depth_in_a_chain_counts_layers(line: Recorded) -> None:
    found = depths(line)
    assert found["/scale"] == 0
    assert [found[f"/block{place}/conv"] for place in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert [found[f"/block{place}/relu"] for place in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert found["/pool"] == 0.8
    assert found["/fc"] == 1


def test_depth_past_a_skip_connection_follows_the_longest_path(branched: Recorded) -> None:
    found = {name: round(6 * depth) for name, depth in depths(branched).items()}
    assert found == {"/stem": 1, "/r0": 1, "/a/conv1": 2, "/a/r1": 2, "/a/conv2": 3, "/a/add": 3, "/a/r2": 3,
                     "/b/down": 4, "/b/conv1": 4, "/b/r1": 4, "/b/conv2": 5, "/b/add": 5, "/b/r2": 5, "/pool": 5,
                     "/fc": 6}  # fmt: skip


def test_depth_never_falls_on_the_way_to_the_output(branched: Recorded) -> None:
    found = node_infos(branched.output, tuple(branched.placeholders))
    for node, info in found.items():
        assert all(found[a].depth <= info.depth for a in node.all_input_nodes if a in found)


def test_depth_without_layers_counts_nodes() -> None:
    graph = record(lambda x: x.sin().cos().exp().tanh(), tensor(3))
    assert [info.depth for info in node_infos(graph.output, tuple(graph.placeholders)).values()] == [
        0.25,
        0.5,
        0.75,
        1.0,
    ]


@pytest.mark.parametrize(
    ("said", "fitting"),
    [("<0.4", [0]), ("<=0.4", [0, 1]), (">0.6", [3]), (">=0.6", [2, 3]), (":0.4-0.6", [1, 2]), (":0-1", [0, 1, 2, 3]),
     (" > .7", [3]), (":0.4-0.4", [1])],
)  # fmt: skip
@pytest.mark.parametrize("base", ["Conv", "convolution", "*/conv", "*"])
def test_depth_ranges(line: Recorded, base: str, said: str, fitting: list[int]) -> None:
    found = chosen(line, {f"{base}@depth{said}": "flat"})
    assert [place for place in range(4) if found[f"/block{place}/conv"] == "flat"] == fitting


def test_depth_of_an_exact_name_and_of_positions(line: Recorded) -> None:
    found = chosen(line, {"/block1/conv@depth<0.5": "flat", "last@depth>0.9": "w2"})
    assert (found["/block1/conv"], found["/fc"]) == ("flat", "w2")


@pytest.mark.parametrize("key", ["Conv@depth", "Conv@depth=0.5", "Conv@depth>", "Conv@depth>x", "Conv@depth:0.5",
                                 "Conv@depth:0.6-0.2", "Conv@depth>1", "Conv@depth<0", "Conv@depth>=1.5",
                                 "Conv@depth:0-2", "Conv@depth>-0.5", "Conv@depth>nan", "@depth>0.5"])  # fmt: skip
def test_depth_ranges_that_cannot_be_read(line: Recorded, key: str) -> None:
    said = refusal(line, {key: "flat"})
    assert repr(key)[1:-1] in said
    assert "write" in said


# --- precedence --------------------------------------------------------------------------------------------------

#: Every sort of key that fits /block0/conv of the chain, the most specific first, each with and without a depth range.
LADDER = ["/block0/conv", "/block0/*", "first", "Conv", "convolution", "*"]


@pytest.mark.parametrize("order", [1, -1], ids=["specific-first", "specific-last"])
def test_the_more_specific_key_wins_wherever_it_stands(line: Recorded, order: int) -> None:
    keys = [key for base in LADDER for key in (f"{base}@depth<0.5", base)]
    rules = [f"gamma:{place + 1}" for place in range(len(keys))]
    for start in range(len(keys)):
        given = dict(list(zip(keys, rules, strict=True))[start:][::order])
        assert chosen(line, given)["/block0/conv"] == rules[start], keys[start]


def test_of_equally_specific_keys_the_first_wins(line: Recorded) -> None:
    for first, second in (
        ("/block0/*", "*/conv"),
        ("*@depth<0.5", "*@depth:0-0.3"),
        ("Conv@depth<1", "Conv@depth<0.9"),
    ):
        assert chosen(line, {first: "flat", second: "w2"})["/block0/conv"] == "flat"
        assert chosen(line, {second: "w2", first: "flat"})["/block0/conv"] == "w2"


def test_an_override_of_any_kind_comes_before_the_composite(line: Recorded) -> None:
    assert chosen(line, {"*": "w2"}, "epsilon-plus-flat")["/block0/conv"] == "w2"


# --- which nodes a rule lands on ---------------------------------------------------------------------------------


def test_a_glob_gives_a_stabiliser_to_sums_only(branched: Recorded) -> None:
    """At every activation and movement in between, epsilon would swallow a share of the relevance."""
    found = chosen(branched, {"*": "epsilon:0.5"}, "epsilon-plus")
    assert {name for name, rule in found.items() if rule == "epsilon:0.5"} == {
        "/stem", "/a/conv1", "/a/conv2", "/a/add", "/b/down", "/b/conv1", "/b/conv2", "/b/add", "/pool", "/fc"
    }  # fmt: skip
    assert chosen(branched, {"Relu": "epsilon:0.5"})["/r0"] == "epsilon:0.5"


def test_an_operator_that_became_several_nodes_means_those_the_rule_is_for() -> None:
    """A MatMul of three axes is traced as views around a product: the views keep their rule."""
    graph = record(lambda x: (x.reshape(6, 4) @ L).reshape(2, 3, 4).tanh(), tensor(2, 3, 4))
    for node in graph.module.graph.nodes:
        node.meta.update(onnx="/layer/MatMul", op="MatMul")
    graph.output.meta.update(onnx="/act/Tanh", op="Tanh")
    for key in ("MatMul", "/layer/MatMul", "/layer/*"):
        plan = plan_of(graph, composite("epsilon", CompositeParams(), {key: "epsilon:0.5"}))
        assert [str(rule) for rule in plan.rules.values()] == ["gradient", "epsilon:0.5", "gradient", "pass"]


def test_epsilon_for_matmul_leaves_attention_to_its_rule() -> None:
    """z = A B of two computed matrices: epsilon would hand out the relevance twice."""
    graph = record(lambda x: (x @ L) @ x.t(), tensor(3, 4))
    for node in graph.module.graph.nodes:
        node.meta.update(onnx=f"/{node.name}", op="MatMul" if node.name.startswith("mm") else "Transpose")
    rules = plan_of(graph, composite("attn-lrp", CompositeParams(), {"MatMul": "epsilon:0.5"})).rules
    assert sorted(str(rule) for rule in rules.values()) == ["bilinear:1e-06", "epsilon:0.5", "gradient"]
    assert "isn't for nodes of kind matmul" in refusal(graph, {"matmul": "epsilon"})


MORE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "weighted": (lambda x: torch.bmm(x.softmax(2), x.transpose(1, 2)), "attention"),
    "normalised": (lambda x: F.layer_norm(x, (4,), tensor(4), tensor(4, seed=1)), "layer-norm"),
    "batch-norm": (lambda x: F.batch_norm(x, L[0, :3], L[1, :3].abs() + 1, L[2, :3], L[3, :3]), "batch-norm"),
    "relu6": (torch.nn.functional.relu6, "rectifier"),
    "silu": (lambda x: x * x.sigmoid(), "self-gate"),
    "product": (lambda x: x.prod(1), "reduced-product"),
    "variance": (lambda x: x.var(1), "reduced-product"),
    "norm": (lambda x: torch.linalg.vector_norm(x, 2, [1]), "norm"),
    "bias": (lambda x: torch.bmm(x, tensor(2, 4, 5)) + tensor(5), "bias"),
    "layers": (lambda x: torch.bmm(x, tensor(2, 4, 5)) + torch.bmm(x, tensor(2, 4, 5, seed=1)), "layer-sum"),
}


#: Every rule that is for some kinds and not for all.
FOR = {form.rule: form.rule.kinds for form in RULES.values() if form.rule.kinds != KINDS.keys()}


@pytest.mark.parametrize("rule", FOR, ids=lambda rule: rule.name)
def test_every_rule_runs_on_every_kind_that_it_is_for(rule: type) -> None:
    text = "z-box:-9,9" if rule is r.ZBox else rule.name  # type: ignore[attr-defined]
    tried = set()
    for function, what in (*KIND.values(), *MORE.values()):
        if what not in FOR[rule]:
            continue
        x = tensor(2, 3, 4)
        graph = record(function, x)
        table = composite("epsilon", CompositeParams(), {what: text})
        if what == "other":
            table = SelectorTable("other", {"*": r.Gradient()}, {what: parse_rule(text)})
        assert rule in {type(used) for used in plan_of(graph, table).rules.values()}
        (found,) = swept(graph, table)
        assert found.shape == x.shape
        assert torch.isfinite(found).all(), what
        tried.add(what)
    assert tried == FOR[rule]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "rule", "said"),
    [
        ("Cnov", "flat", "(did you mean Conv?)"),
        ("conv", "flat", "(did you mean Conv?)"),
        ("/block0/cnov", "flat", "(did you mean /block0/conv?)"),
        ("convolutoin@depth<0.5", "flat", "(did you mean convolution?)"),
        ("/blok0/*", "flat", "fits no node"),
        ("Conv@depth>0.9", "flat", "'Conv' is at depth 0.2 to 0.8"),
        ("/block1/conv@depth>0.5", "flat", "'/block1/conv' is at depth 0.4"),
        ("convolution@depth>0.9", "flat", "is at depth 0.2 to 0.8"),
        ("convolution@depth>0.9", "epsilon", "is at depth 0.2 to 0.8"),
        ("first@depth>0.5", "flat", "'first' is at depth 0.2"),
        ("Relu", "zplus", "zplus isn't for nodes of kind relu, it is for convolution, linear"),
        ("Conv", "softmax", "isn't for nodes of kind convolution, it is for softmax"),
        ("Relu", "block@x", "unknown rule"),
        ("*/relu", "epsilon:0.5", "to insist, give the kind"),
        ("softmax", "zplus", "fits no node"),
    ],
)
def test_a_key_that_fits_nothing_says_why(line: Recorded, key: str, rule: str, said: str) -> None:
    assert said in refusal(line, {key: rule})


def test_a_rule_for_a_kind_that_the_model_lacks_is_no_mistake(line: Recorded) -> None:
    """A table for many models names softmax and layer norms where some have none."""
    found = chosen(line, {"softmax": "pass", "layer-norm@depth>0.5": "pass", "attention": "values-take-all"})
    assert found == chosen(line, {})


def test_kinds_and_positions_are_no_globs() -> None:
    assert all(not Selector.of(name).wide for name in (*KINDS, "first", "last"))


def test_nodes_without_a_rule_are_listed_in_order(line: Recorded) -> None:
    table = SelectorTable("incomplete", {"convolution": r.Epsilon(), "relu@depth>0.5": r.Pass()})
    listing = table.listing(line.output, tuple(line.placeholders))
    assert [found.info.name for found in listing.values()] == CHAIN
    lacking = [found.info.name for found in listing.values() if found.rule is None]
    assert lacking == ["/scale", "/block0/relu", "/block1/relu", "/pool", "/fc"]
    with pytest.raises(MissingRuleError) as caught:
        table.assign(line.output, tuple(line.placeholders))
    assert [name for name, _, _ in caught.value.nodes] == lacking
