"""Local functions: none may call itself, and what they expand to must stay within the budget.

Belongs here: calls between functions. Not here: the bodies' names (``_load_graph``) and operators (``_load_ops``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from analyzer.errors import InputError
from analyzer.importer._load_limits import Limits
from analyzer.importer._load_text import quoted
from analyzer.importer.subgraphs import with_subgraphs

FunctionKey = tuple[str, str, str]


def plain_domain(domain: str) -> str:
    """The domain with ``ai.onnx`` written as the empty string it stands for."""
    return "" if domain == "ai.onnx" else domain


def called(node: NodeProto) -> FunctionKey:
    """The function that a node would call, were there one."""
    return plain_domain(node.domain), node.op_type, node.overload


def function_keys(model: ModelProto) -> list[FunctionKey]:
    """Domain, name and overload of each local function, in the model's order."""
    return [(plain_domain(f.domain), f.name, f.overload) for f in model.functions]


def check_functions(model: ModelProto, limits: Limits) -> None:
    """Check how local functions call each other.

    Raises
    ------
    InputError
        ``graph.ssa`` (two of one name), ``graph.recursive_function``, ``model.too_deep``, ``limit.graph_size``.
    """
    keys = function_keys(model)
    if not keys:
        return
    known = frozenset(keys)
    if len(known) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise InputError("graph.ssa", f"two functions are called {_shown(twice)}", "re-export the model")
    calls = {key: _count(f, known) for key, f in zip(keys, model.functions, strict=True)}
    size: dict[FunctionKey, int] = {}
    depth: dict[FunctionKey, int] = {}
    for key in _innermost_first({key: inner for key, (_, inner) in calls.items()}):
        own, inner = calls[key]
        size[key] = own + sum(size[callee] * times for callee, times in inner.items())
        depth[key] = 1 + max((depth[callee] for callee in inner), default=0)
        if depth[key] > limits.depth:
            raise InputError(
                "model.too_deep",
                f"function {_shown(key)} calls through more than {limits.depth} levels of functions",
                "inline the functions with onnx.inliner",
            )
    own, inner = _count(model.graph, known)
    expanded = own + sum(size[callee] * times for callee, times in inner.items())
    if expanded > limits.expanded_nodes:
        raise InputError(
            "limit.graph_size",
            f"its functions expand to {expanded:.3g} nodes, the budget is {limits.expanded_nodes}",
            "use a smaller model",
        )


def _count(body: GraphProto | FunctionProto, known: frozenset[FunctionKey]) -> tuple[int, Counter[FunctionKey]]:
    """Nodes in a body, subgraphs included, and how often it calls each function."""
    total = 0
    calls: Counter[FunctionKey] = Counter()
    for graph in with_subgraphs(body):
        total += len(graph.node)
        calls.update(key for key in map(called, graph.node) if key in known)
    return total, calls


def _innermost_first(calls: Mapping[FunctionKey, Iterable[FunctionKey]]) -> list[FunctionKey]:
    """Functions in an order in which each follows all it calls."""
    order: list[FunctionKey] = []
    done: set[FunctionKey] = set()
    for start in calls:
        path = [(start, iter(calls[start]))] if start not in done else []
        open_keys = {start}
        while path:
            key, rest = path[-1]
            callee = next((c for c in rest if c not in done), None)
            if callee is None:
                path.pop()
                open_keys.discard(key)
                done.add(key)
                order.append(key)
            elif callee in open_keys:
                names = [k for k, _ in path]
                circle = [*names[names.index(callee) :], callee]
                shown = " → ".join(_shown(k) for k in circle[:6])
                raise InputError(
                    "graph.recursive_function",
                    f"functions call themselves: {shown}{' → …' if len(circle) > 6 else ''}",
                    "ONNX functions must not be recursive; re-export the model",
                )
            else:
                path.append((callee, iter(calls[callee])))
                open_keys.add(callee)
    return order


def _shown(key: FunctionKey) -> str:
    return quoted(f"{key[0]}::{key[1]}" if key[0] else key[1])
