"""One forward pass and one reverse sweep over a trace, whatever the rules are.

Belongs here: recording what each rule needs, handing relevance from node to node. Not here: how a rule hands it on
(``rules``), which node gets which rule (``tables``), sweeps that are nothing but a gradient (``gradient_sweep``).

Every node runs in the forward pass once. A node whose rule needs its operator's derivative is run on detached inputs with
autograd on; the operator's vector-Jacobian product is later taken by :meth:`Call.vjp`. No operator is run twice, nothing is
hooked, and the trace isn't changed.

What callers need beside these two, ``Plan``, ``active_nodes`` and ``evaluate``, can be had from here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from graph_rules import gradient_sweep, position, vjp
from graph_rules.execution import Values, execute, value_of
from graph_rules.execution import evaluate as evaluate
from graph_rules.kinds import active_nodes as active_nodes
from graph_rules.rule import Call, Needs, Rule
from graph_rules.rule import Plan as Plan


def ruled_nodes(output: fx.Node, sources: Iterable[fx.Node]) -> list[fx.Node]:
    """The nodes between sources and output that need a rule, in the order of execution."""
    sources = tuple(sources)
    active = active_nodes(sources, output)
    return [
        node
        for node in output.graph.nodes
        if node in active and node not in sources and node.op == "call_function" and node.target is not getitem
    ]


def plan(
    module: fx.GraphModule,
    sources: Sequence[fx.Node],
    output: fx.Node,
    rules: Mapping[fx.Node, Rule],
    cache: dict[tuple[Any, ...], Any] | None = None,
) -> Plan:
    """A plan of a trace's nodes between ``sources`` and ``output``.

    Parameters
    ----------
    rules
        A rule for each of :func:`ruled_nodes`, as a table's ``assign`` gives it.
    """
    active, cache = active_nodes(tuple(sources), output), {} if cache is None else cache
    return Plan(module, tuple(sources), output, active, {n: rules[n] for n in ruled_nodes(output, sources)}, cache)


@dataclass
class ForwardPass:
    """What one forward pass recorded for a reverse sweep.

    Attributes
    ----------
    value
        The output's.
    calls
        Node -> its call; empty after a joint pass.
    sources, values
        Values of the plan's sources, and of all nodes in ``keep`` too.
    edges
        Of a joint pass: the same nodes -> their edges in autograd's graph.
    """

    plan: Plan
    value: Tensor
    calls: dict[fx.Node, Call]
    sources: dict[fx.Node, Tensor]
    values: dict[fx.Node, Tensor]
    edges: dict[fx.Node, Any] | None = None


def forward(
    plan: Plan,
    inputs: Sequence[Tensor],
    overrides: Mapping[fx.Node, Tensor] | None = None,
    keep: Iterable[fx.Node] = (),
    together: bool = False,
) -> ForwardPass:
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
        Make a joint pass if all rules are the plain derivative (:mod:`graph_rules.gradient_sweep`). Its reverse sweep
        can't be watched, and gives relevance only at sources and at nodes in ``keep``.
    """
    wanted = {*keep, *plan.sources, plan.output}
    calls: dict[fx.Node, Call] = {}
    edges: dict[fx.Node, Any] | None = None
    with torch.no_grad():
        if together and gradient_sweep.possible(plan):
            values, edges = gradient_sweep.forward(plan, inputs, overrides or {}, wanted)
        else:
            values = execute(plan, inputs, overrides or {}, wanted, lambda node, known: _run(plan, node, known, calls))
    return ForwardPass(plan, values[plan.output], calls, {n: values[n] for n in plan.sources}, values, edges)


def _run(plan: Plan, node: fx.Node, values: Values, calls: dict[fx.Node, Call]) -> Any:
    """Run one node and record its call, if it has a rule."""
    rule = plan.rules.get(node)
    if rule is None:
        return value_of(plan, node, values)
    active = [a for a in node.all_input_nodes if a in plan.active]
    needs = Needs.VALUES if rule.needs is Needs.VJP_ONLY and plan.static else rule.needs
    enter = {Needs.NOTHING: Tensor.detach, Needs.VALUES: vjp.leaf, Needs.VJP_ONLY: vjp.start}[needs]
    with torch.enable_grad():
        entered = {a: enter(values[a]) for a in active}

    def read(argument: fx.Node) -> Any:
        return entered[argument] if argument in entered else values[argument]

    args, kwargs = map_arg(node.args, read), map_arg(node.kwargs, read)
    with torch.set_grad_enabled(needs is not Needs.NOTHING):
        output = node.target(*args, **kwargs)  # type: ignore[operator]
    inputs = list(entered.values())
    if needs is Needs.VJP_ONLY:
        calls[node] = Call(node, active, vjp.Edge.of(inputs), (), {}, vjp.Edge.of(output), plan)
    else:
        calls[node] = Call(node, active, inputs, args, kwargs, output, plan)
    if isinstance(output, Tensor):
        return output.detach()
    return tuple(o.detach() if isinstance(o, Tensor) else o for o in output)


def compare(run: ForwardPass, reference: ForwardPass) -> ForwardPass:
    """The first pass, each of its calls knowing the same node's of the second, for rules about differences."""
    for node, call in run.calls.items():
        call.reference, call.others = reference.calls[node], run.calls
    return run


Watch = Callable[[Call, Any, Sequence[Tensor | None]], None]


def backward(
    run: ForwardPass,
    relevance: Tensor,
    at: Iterable[fx.Node] = (),
    watch: Watch | None = None,
    retain_graph: bool = False,
) -> dict[fx.Node, Tensor]:
    """Walk from the output to the sources.

    Parameters
    ----------
    relevance
        Of the output; its shape.
    at
        Further nodes whose relevance is wanted.
    watch
        Called for every node with its call, the relevance that arrived and what its active inputs got.
    retain_graph
        Whether the pass will be walked once more, with other relevance; else what it holds is freed on the way.

    Returns
    -------
    dict
        Source or wanted node -> its relevance, shaped like its value. Zeros where none arrived.
    """
    plan, wanted = run.plan, {*at, *run.plan.sources}
    if run.edges is not None:
        if watch is not None:
            raise ValueError("a joint pass can't be watched node by node")
        return gradient_sweep.backward(plan.output, run.edges, relevance, wanted, run.values, retain_graph)
    calls = dict(run.calls) if retain_graph else run.calls
    found: dict[fx.Node, Tensor] = {}
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
            _add_part(arrived, calls, node, amount)
            continue
        call = calls.pop(node)
        call.retain_graph = retain_graph
        position.enter(node)
        shares = plan.rules[node].backward(call, amount)
        if watch is not None:
            watch(call, amount, shares)
        for argument, share in zip(call.active, shares, strict=True):
            if share is not None:
                arrived[argument] = share if argument not in arrived else arrived[argument] + share
    position.enter(None)
    return found | {node: _zeros(run, node, relevance.device) for node in wanted - found.keys()}


def _add_part(arrived: dict[fx.Node, Any], calls: Mapping[fx.Node, Call], node: fx.Node, amount: Tensor) -> None:
    """Relevance of one output of several, added to the list of its operator's."""
    parent, index = node.args
    assert isinstance(parent, fx.Node) and isinstance(index, int)
    parts = arrived.setdefault(parent, [None] * len(calls[parent].output))
    parts[index] = amount if parts[index] is None else parts[index] + amount


def _zeros(run: ForwardPass, node: fx.Node, device: torch.device) -> Tensor:
    value = run.values.get(node)
    if value is not None:
        return torch.zeros_like(value)
    return torch.zeros(node.meta["shape"], dtype=node.meta["dtype"], device=device)
