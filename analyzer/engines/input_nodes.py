"""Where explained inputs enter a trace: at the inputs themselves, or at the embeddings that integer tokens select.

Belongs here: finding those nodes. Not here: running the trace (``torch_engine``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from analyzer.engines.protocol import ExplainedInput
from analyzer.importer.column_embeddings import MARK
from analyzer.importer.trace import Trace
from analyzer.inputs.graph_selection import auxiliary
from graph_rules.kinds import computed_from
from graph_rules.operators import LAYER_NORMS, RMS_NORMS

aten = torch.ops.aten
_LOOKUPS = (aten.embedding.default, aten.index.Tensor, aten.index_select.default, aten.gather.default)
_COPYING = (aten.clone.default, aten.alias.default, aten._to_copy.default)
_CARRYING = (
    *_COPYING, aten.expand.default, aten.unsqueeze.default, aten.slice.Tensor, aten.view.default,
    aten._unsafe_view.default, aten.permute.default,
)  # fmt: skip
_SCALING = (aten.mul.Tensor, aten.div.Tensor)
_NORMALISATIONS = LAYER_NORMS | RMS_NORMS


@dataclass(frozen=True)
class InputNode(ExplainedInput):
    """Where an explained input enters the trace.

    Attributes
    ----------
    node
        The input itself, or, for integer tokens, the embedding that they select.
    """

    node: fx.Node


def input_nodes(trace: Trace, output: fx.Node, chosen: Sequence[str] | None = None) -> tuple[InputNode, ...]:
    """Floating-point inputs as they are; for integer inputs the embeddings that they select.

    Parameters
    ----------
    chosen
        Names of the inputs that are explained, in order; those of them that can't be are left out. None takes all that can
        be; masks, token types and positions, known by their names, only where there is nothing else.
    """
    needed, found = computed_from([output]), []
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
    if chosen is not None:
        by_name = {entry.name: entry for entry in found}
        return tuple(by_name[name] for name in chosen if name in by_name)
    return tuple([entry for entry in found if not auxiliary(entry.name, entry.tokens)] or found)


def _embedding(tokens: fx.Node, needed: set[fx.Node]) -> fx.Node | None:
    """What the first layer reads of integer tokens: their embedding, with positions and the like added to it.

    Additions of constants and of what the same tokens select belong to the embedding, for none of them is computed from
    it: relevance of the sum is relevance of the token at its position. Where the sum is normalised at once, its size means
    nothing, and gradient times sum is zero: there the words' own embedding is explained, what is added is held fixed. Tokens
    that are categories in columns of their own have a joined embedding.
    """
    words = _selected_by(tokens, needed)
    if words is None:
        return next((node for node in needed if node.meta.get(MARK) is tokens), None)
    total = _with_positions(words, tokens, needed)
    return words if _normalised(total, needed) else total


def _selected_by(tokens: fx.Node, needed: set[fx.Node]) -> fx.Node | None:
    """The floating-point value with one more axis that the tokens select.

    Where they select several, the one that they index themselves: positions may be indexed by what is computed from them
    (how many tokens that aren't padding come before).
    """
    rank, shape = len(tokens.meta["shape"]), tuple(tokens.meta["shape"])
    below, themselves = {tokens}, {tokens}
    computed: fx.Node | None = None
    node: fx.Node
    for node in tokens.graph.nodes:
        read = [argument for argument in node.all_input_nodes if argument in below]
        if node.op != "call_function" or not read:
            continue
        dtype = node.meta.get("dtype")
        if dtype is not None and not dtype.is_floating_point:
            below.add(node)
            if node.target in _CARRYING and all(argument in themselves for argument in read):
                themselves.add(node)
        elif (
            node in needed
            and dtype is not None
            and len(node.meta["shape"]) > rank
            and node.meta["shape"][:rank] == shape
        ):
            if all(argument in themselves for argument in read):
                return node
            computed = computed or node
    return computed


def _normalised(value: fx.Node, needed: set[fx.Node]) -> bool:
    """Whether nothing but normalisations over its features reads a value, whose results don't depend on its size."""
    users = [user for user in value.users if user in needed]
    while len(users) == 1 and users[0].target in _COPYING:
        users = [user for user in users[0].users if user in needed]
    return bool(users) and all(user.target in _NORMALISATIONS for user in users)


def _with_positions(embedding: fx.Node, tokens: fx.Node, needed: set[fx.Node]) -> fx.Node:
    """The last of the sums through which alone an embedding is read and to which it is the only computed summand."""
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
    return {here for here in computed_from([node]) if here.op == "placeholder"}
