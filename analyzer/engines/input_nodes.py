"""Where explained inputs enter a trace: at the inputs themselves, or at the embeddings that integer tokens select.

Belongs here: finding those nodes. Not here: running the trace (``torch_engine``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from analyzer.engines.protocol import ExplainedInput
from analyzer.importer.trace import Trace

aten = torch.ops.aten
_LOOKUPS = (aten.embedding.default, aten.index.Tensor, aten.index_select.default, aten.gather.default)
_COPYING = (aten.clone.default, aten.alias.default, aten._to_copy.default)
_CARRYING = (
    *_COPYING, aten.expand.default, aten.unsqueeze.default, aten.slice.Tensor, aten.view.default,
    aten._unsafe_view.default, aten.permute.default,
)  # fmt: skip
_SCALING = (aten.mul.Tensor, aten.div.Tensor)


@dataclass(frozen=True)
class InputNode(ExplainedInput):
    """Where an explained input enters the trace.

    Attributes
    ----------
    node
        The input itself, or, for integer tokens, the embedding that they select.
    """

    node: fx.Node


def input_nodes(trace: Trace, output: fx.Node) -> tuple[InputNode, ...]:
    """Floating-point inputs as they are; for integer inputs the embeddings that they select."""
    needed: set[fx.Node] = set()
    stack = [output]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    found = []
    for node in trace.module.graph.find_nodes(op="placeholder"):
        name = node.meta["value"]
        if node not in needed:
            continue
        if node.meta["dtype"].is_floating_point:
            found.append(InputNode(name, False, node))
        else:
            entry = _embedding(node, needed)
            if entry is not None:
                found.append(InputNode(name, True, entry))
    return tuple(found)


def _embedding(tokens: fx.Node, needed: set[fx.Node]) -> fx.Node | None:
    """What the first layer reads of integer tokens: their embedding, with positions and the like added to it.

    The embedding is the first floating-point value with one more axis that integer values computed from the tokens
    select. Additions of constants and of what the same tokens select belong to it, for none of them is computed from
    the embedding: relevance of the sum is relevance of the token at its position.
    """
    rank, below = len(tokens.meta["shape"]), {tokens}
    node: fx.Node
    shape = tuple(tokens.meta["shape"])
    for node in tokens.graph.nodes:
        if node.op != "call_function" or not any(a in below for a in node.all_input_nodes):
            continue
        dtype = node.meta.get("dtype")
        if dtype is not None and not dtype.is_floating_point:
            below.add(node)
        elif (
            node in needed
            and dtype is not None
            and len(node.meta["shape"]) > rank
            and node.meta["shape"][:rank] == shape
        ):
            return _with_positions(node, tokens, needed)
    return None


def _with_positions(embedding: fx.Node, tokens: fx.Node, needed: set[fx.Node]) -> fx.Node:
    """The last of the sums that are an embedding's only users and in which it is the only computed summand."""
    here = found = embedding
    while True:
        users = [user for user in here.users if user in needed]
        if len(users) != 1 or tuple(users[0].meta.get("shape") or ()) != tuple(embedding.meta["shape"]):
            return found
        user = users[0]
        others = [argument for argument in user.all_input_nodes if argument is not here]
        if user.target is aten.add.Tensor and others and all(_selected(other, tokens) for other in others):
            here = found = user
        elif user.target in _COPYING or (user.target in _SCALING and all(a.op == "get_attr" for a in others)):
            here = user
        else:
            return found


def _selected(node: fx.Node, tokens: fx.Node) -> bool:
    """Whether a value is a constant, or constants that only the tokens select."""
    if node.op == "get_attr":
        return True
    if node.op != "call_function":
        return False
    if node.target in _LOOKUPS:
        table, *places = node.all_input_nodes
        return table.op == "get_attr" and all(_placeholders(place) <= {tokens} for place in places)
    if node.target in _CARRYING or node.target in _SCALING or node.target is aten.add.Tensor:
        return all(_selected(argument, tokens) for argument in node.all_input_nodes)
    return False


def _placeholders(node: fx.Node) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if here not in seen:
            seen.add(here)
            stack.extend(here.all_input_nodes)
    return {here for here in seen if here.op == "placeholder"}
