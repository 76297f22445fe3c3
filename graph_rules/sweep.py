"""One forward pass and one reverse sweep over a trace, whatever the rules are.

Belongs here: running the graph, keeping what each rule needs, handing relevance from node to node. Not here: how a
rule hands it on (``rules``), which node gets which rule (``tables``).

Every node runs in the forward pass once. A node whose rule needs the derivative of its operator is run on detached
inputs with autograd on, so autograd keeps exactly what that operator's derivative needs; its local vector-Jacobian
product is later taken by :meth:`Call.vjp`. No operator is run twice, nothing is hooked, and the graph isn't changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from graph_rules import tape
from graph_rules.kinds import kind
from graph_rules.operators import INERT, schema_name


class Rule(Protocol):
    """How relevance flows through a node."""

    @property
    def tape(self) -> bool:
        """Whether the rule calls :meth:`Call.vjp`. One that reads nothing else of the call says so by ``bare = True``."""
        ...

    def backward(self, call: Call, relevance: Any) -> Sequence[Tensor | None]:
        """Relevance of the node's active inputs (``call.active``), given that of its output.

        ``relevance`` has the output's shape; for an operator with several outputs it is a list with None where
        no relevance arrived.
        """
        ...


@dataclass
class Call:
    """One executed node, as a rule sees it.

    Attributes
    ----------
    active
        The graph nodes whose values depend on the explained input, in the order of ``inputs``.
    inputs
        Their values (detached; leaves of the local tape where the rule has one; only their places on it where the rule
        is ``bare``, and then there are no ``args``).
    output
        The operator's result (on the tape where the rule has one; its place or places where the rule is ``bare``).
    reference
        The same node's call in a pass on other inputs, where two passes are compared (:func:`compare`).
    others
        All calls of the pass by node, where two passes are compared.
    """

    node: fx.Node
    active: list[fx.Node]
    inputs: list[Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    plan: Plan
    reference: Call | None = None
    others: Mapping[fx.Node, Call] = field(default_factory=dict)
    again: bool = False
    """Whether the call will be asked for products once more."""

    def vjp(self, relevance: Any) -> list[Tensor]:
        """The operator's vector-Jacobian product for every active input; zeros where it doesn't depend on one."""
        return tape.vjp(self.output, self.inputs, relevance, self.again)

    def argument(self, position: int) -> Any:
        """A positional argument's value, None where it isn't given."""
        return self.args[position] if position < len(self.args) else None


@dataclass
class Plan:
    """A trace with a rule for every node between the explained values and the explained output.

    Build one with :func:`plan`. ``cache`` holds what is derived from the trace's constants (modified weights, signs);
    its owner is whoever owns the trace, so that it outlives one explanation. ``static`` says that the sweep is being
    recorded as a graph: then no rule may look at the numbers of its input.
    """

    module: fx.GraphModule
    sources: tuple[fx.Node, ...]
    output: fx.Node
    active: frozenset[fx.Node]
    rules: Mapping[fx.Node, Rule]
    cache: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    static: bool = False

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any], parameters: tuple[Any, ...] = ()) -> Any:
        """A value derived from the model's constants, computed once; of several ``parameters`` the last one's is kept."""
        if key not in self.cache or self.cache[key][0] != parameters:
            self.cache[key] = (parameters, make())
        return self.cache[key][1]


def active_nodes(sources: Iterable[fx.Node], output: fx.Node) -> frozenset[fx.Node]:
    """Nodes through which the output depends on the sources by floating-point values, both ends included."""
    below: set[fx.Node] = set()
    for node in output.graph.nodes:
        if node in sources or (_carries(node) and any(a in below for a in node.all_input_nodes)):
            below.add(node)
    above, stack = set(), [output]
    while stack:
        node = stack.pop()
        if node in below and node not in above:
            above.add(node)
            if node not in sources:
                stack.extend(node.all_input_nodes)
    return frozenset(above)


def _carries(node: fx.Node) -> bool:
    """Whether relevance can flow through a node."""
    dtype = node.meta.get("dtype")
    return (dtype is None or dtype.is_floating_point) and schema_name(node.target) not in INERT


def plan(
    module: fx.GraphModule,
    sources: Sequence[fx.Node],
    output: fx.Node,
    choose: Callable[[fx.Node, str], Rule],
    cache: dict[tuple[Any, ...], Any] | None = None,
) -> Plan:
    """Give every node between ``sources`` and ``output`` its rule.

    Parameters
    ----------
    choose
        Called with a node and its kind; gives the rule or raises for a node that has none.
    """
    active = active_nodes(tuple(sources), output)
    rules = {
        node: choose(node, kind(node, active))
        for node in module.graph.nodes
        if node.op == "call_function" and node in active and node not in sources and node.target is not getitem
    }
    return Plan(module, tuple(sources), output, active, rules, {} if cache is None else cache)


@dataclass
class Pass:
    """What one forward pass left behind: the output's value and the calls for the reverse sweep.

    A pass on one tape has no calls but ``places``: those of the output and of all kept values on the tape.
    """

    plan: Plan
    value: Tensor
    calls: dict[fx.Node, Call]
    sources: dict[fx.Node, Tensor]
    kept: dict[fx.Node, Tensor]
    places: dict[fx.Node, Any] | None = None


def forward(
    plan: Plan,
    inputs: Sequence[Tensor],
    overrides: Mapping[fx.Node, Tensor] | None = None,
    keep: Iterable[fx.Node] = (),
    together: bool = False,
) -> Pass:
    """Run the trace up to the explained output.

    Parameters
    ----------
    inputs
        One tensor per placeholder, in order.
    overrides
        Values to put in place of what nodes compute (an embedding on a path from a baseline, say).
    keep
        Nodes whose values are wanted afterwards.
    together
        If all rules are the plain derivative, put the whole pass on one tape, which spares the bookkeeping node by node.
        Its reverse sweep can't be watched, and gives relevance at sources and kept nodes alone.
    """
    one_tape = together and not plan.static and all(getattr(rule, "bare", False) for rule in plan.rules.values())
    overrides, wanted = overrides or {}, {*keep, *plan.sources, plan.output}
    values: dict[fx.Node, Any] = {}
    calls: dict[fx.Node, Call] = {}
    kept: dict[fx.Node, Tensor] = {}
    places: dict[fx.Node, Any] = {}
    feed = iter(inputs)
    last = _last_reads(plan)
    with torch.no_grad():
        for node in plan.module.graph.nodes:
            if node.op == "output":
                break
            if node.op == "placeholder":
                values[node] = next(feed)
            elif node.op == "get_attr":
                values[node] = getattr(plan.module, str(node.target))
            elif node in last:
                values[node] = _on_tape(plan, node, values) if one_tape else _run(plan, node, values, calls)
            if node in overrides:
                values[node] = overrides[node].to(values[node].dtype)
            if one_tape and node in plan.sources:
                with torch.enable_grad():
                    values[node] = tape.start(values[node])
            if node in wanted:
                kept[node] = values[node].detach() if one_tape else values[node]
                places[node] = tape.Place.of(values[node]) if one_tape else None
            for name in last.get(node, ()):
                values.pop(name, None)
            if node is plan.output:
                break
    sources = {node: kept[node] for node in plan.sources}
    return Pass(plan, kept[plan.output], calls, sources, kept, places if one_tape else None)


def compare(run: Pass, reference: Pass) -> Pass:
    """The first pass, each of its calls knowing its twin of the second, for rules about differences."""
    for node, call in run.calls.items():
        call.reference, call.others = reference.calls[node], run.calls
    return run


def evaluate(plan: Plan, overrides: Mapping[fx.Node, Tensor], wanted: fx.Node) -> Tensor:
    """The value of one node where others are given; only what lies between is run, other inputs are zeros."""
    values: dict[fx.Node, Any] = dict(overrides)
    stack = [wanted]
    with torch.no_grad():
        while stack:
            node = stack[-1]
            if node not in values:
                todo = [a for a in node.all_input_nodes if a not in values]
                if todo:
                    stack.extend(todo)
                    continue
                values[node] = _value(plan, node, values, next(iter(overrides.values())).device)
            stack.pop()
    result: Tensor = values[wanted]
    return result


def _value(plan: Plan, node: fx.Node, values: Mapping[fx.Node, Any], device: torch.device | None = None) -> Any:
    if node.op == "get_attr":
        return getattr(plan.module, str(node.target))
    if node.op == "placeholder":
        return torch.zeros(node.meta["shape"], dtype=node.meta["dtype"], device=device)
    args, kwargs = map_arg(node.args, values.__getitem__), map_arg(node.kwargs, values.__getitem__)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _last_reads(plan: Plan) -> dict[fx.Node, list[fx.Node]]:
    """Node that must run -> nodes nobody reads after it. Nodes the output doesn't need are absent."""

    def compute() -> dict[fx.Node, list[fx.Node]]:
        needed, stack = set(), [plan.output]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(node.all_input_nodes)
        seen: set[fx.Node] = {plan.output}
        reads: dict[fx.Node, list[fx.Node]] = {}
        for node in reversed(plan.module.graph.nodes):
            if node in needed:
                fresh = [a for a in node.all_input_nodes if a not in seen and a.op == "call_function"]
                seen.update(fresh)
                reads[node] = fresh
        return reads

    found: dict[fx.Node, list[fx.Node]] = plan.cached(("last reads", plan.output), compute)
    return found


def _on_tape(plan: Plan, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    with torch.set_grad_enabled(node in plan.rules or node.target is getitem):
        return _value(plan, node, values)


def _run(plan: Plan, node: fx.Node, values: dict[fx.Node, Any], calls: dict[fx.Node, Call]) -> Any:
    rule = plan.rules.get(node)
    if rule is None:
        return _value(plan, node, values)
    active = [a for a in node.all_input_nodes if a in plan.active]
    bare = rule.tape and not plan.static and getattr(rule, "bare", False)
    with torch.enable_grad():
        enter = tape.start if bare else tape.leaf if rule.tape else torch.Tensor.detach
        leaves = {a: enter(values[a]) for a in active}

    def read(argument: fx.Node) -> Any:
        return leaves[argument] if argument in leaves else values[argument]

    args, kwargs = map_arg(node.args, read), map_arg(node.kwargs, read)
    with torch.set_grad_enabled(rule.tape):
        output = node.target(*args, **kwargs)  # type: ignore[operator]
    if bare:
        places = tape.Place.of(list(leaves.values()))
        calls[node] = Call(node, active, places, (), {}, tape.Place.of(output), plan)
    else:
        calls[node] = Call(node, active, list(leaves.values()), args, kwargs, output, plan)
    if isinstance(output, Tensor):
        return output.detach()
    return tuple(o.detach() if isinstance(o, Tensor) else o for o in output)


Watch = Callable[[Call, Any, Sequence[Tensor | None]], None]


def backward(
    run: Pass, relevance: Tensor, at: Iterable[fx.Node] = (), watch: Watch | None = None, again: bool = False
) -> dict[fx.Node, Tensor]:
    """Walk from the output to the sources.

    Parameters
    ----------
    relevance
        Of the output; its shape.
    at
        Further nodes whose relevance is wanted.
    watch
        Told for every call: the relevance that arrived and what its active inputs got.
    again
        Whether the pass will be walked once more, with other relevance; else what it holds is freed on the way.

    Returns
    -------
    dict
        Source or wanted node -> its relevance, shaped like its value. Zeros where none arrived.
    """
    plan, calls = run.plan, dict(run.calls) if again else run.calls
    wanted = {*at, *plan.sources}
    found: dict[fx.Node, Tensor] = {}
    if run.places is not None:
        if watch is not None:
            raise ValueError("a pass on one tape can't be watched node by node")
        reached = [node for node in wanted if run.places[node] is not None]
        grads = tape.vjp(run.places[plan.output], [run.places[node] for node in reached], relevance, again)
        found = dict(zip(reached, grads, strict=True))
        return found | {node: torch.zeros_like(run.kept[node]) for node in wanted - found.keys()}
    arrived: dict[fx.Node, Any] = {plan.output: relevance}
    for node in reversed(plan.module.graph.nodes):
        if node not in arrived:
            continue
        amount = arrived.pop(node)
        if node in wanted:
            found[node] = amount
        if node in plan.sources or node.op != "call_function":
            continue
        if node.target is getitem:
            parent, index = node.args
            assert isinstance(parent, fx.Node) and isinstance(index, int)
            parts = arrived.setdefault(parent, [None] * (len(calls[parent].output)))
            parts[index] = amount if parts[index] is None else parts[index] + amount
            continue
        call = calls.pop(node)
        call.again = again
        if isinstance(amount, list) and isinstance(call.output, Tensor):
            raise AssertionError(f"{node}: a list of relevances for one output")
        shares = plan.rules[node].backward(call, amount)
        if watch is not None:
            watch(call, amount, shares)
        for argument, share in zip(call.active, shares, strict=True):
            if share is not None:
                arrived[argument] = share if argument not in arrived else arrived[argument] + share
    for node in wanted:
        if node not in found:
            value = run.kept.get(node)
            empty = torch.zeros(node.meta["shape"], dtype=node.meta["dtype"], device=relevance.device)
            found[node] = empty if value is None else torch.zeros_like(value)
    return found
