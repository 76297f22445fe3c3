"""Finding the layer that class activation maps are read at.

Belongs here: which node of a trace holds the last feature map, and whether only averaging and linear nodes follow it.
Not here: what a node's axes count (``axis_flow``), the maps (they are methods).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from math import prod
from operator import getitem

from torch import fx

from graph_rules.axis_flow import AxisFlow
from graph_rules.feature_layout import FeatureLayout
from graph_rules.kinds import active_arguments, active_nodes, computed_from, kind
from graph_rules.operators import LAYER_NORMS, LINEAR, aten

_FEATURES = (
    "convolution",
    "relu",
    "rectifier",
    "activation",
    "add",
    "layer-sum",
    "bias",
    "batch-norm",
    "layer-norm",
    "movement",
    "gate",
    "self-gate",
    "attention",
    "quotient",
    "product",
    "scale",
    "shift",
)
#: Made without bending: an output's own scores, or a projection that only attention reads.
_STRAIGHT = ("convolution", "linear", "layer-sum", "bias", "scale", "shift", "movement")
_SQUASHING = ("activation", "rectifier")
_WHOLE_AXES = (aten.mean.dim, aten.sum.dim_IntList)
_LINEAR_HEAD = ("linear", "average", "movement", "bias", "shift", "scale")


class NoFeatureMapError(LookupError):
    """No node has a feature map with a spatial extent."""


def layout(node: fx.Node, output: fx.Node, sources: tuple[fx.Node, ...]) -> FeatureLayout | None:
    """How a node's value lays out channels and places; None where it has none that are known."""
    shape = tuple(int(size) for size in node.meta["shape"])
    return FeatureLayout.of(AxisFlow.through(output, sources).axes.get(node), shape)


def last_feature_map(output: fx.Node, sources: tuple[fx.Node, ...]) -> fx.Node:
    """The last feature map whose places are still mixed on the way to the output.

    A feature map is a floating-point value with samples, channels and more than one place, below a convolution or a
    product with patches. Mixed are places by convolutions, pooling, matrix products over them (attention), flattening:
    behind a global pooling, or where only the class token is read on, nothing is left to see. An output's own scores,
    projections inside attention and several grids put one after the other are passed over; where a detector does the
    latter, the map is the last one that all its grids depend on. Where nothing mixes places, the last feature map.

    Raises
    ------
    NoFeatureMapError
        Where the model has none.
    """
    flow = AxisFlow.through(output, sources)
    kinds: dict[fx.Node, str] = {}
    for node in output.graph.nodes:
        if node in flow.active and node.op == "call_function":
            kinds[node] = kind(node, flow.active)
    found = [node for node in kinds if "shape" in node.meta and flow.placed(node) and _is_feature(node, kinds, flow)]
    found = [node for node in found if FeatureLayout.of(flow.axes[node], tuple(node.meta["shape"])) is not None]
    if not found:
        raise NoFeatureMapError("no convolution's feature map with a spatial extent lies between input and output")
    mixed = _above(flow.mixing | _readers(output, kinds, flow), flow)
    inner = _inner(kinds, flow)
    read_off = _read_off(output, kinds, flow)
    shared = _shared(flow)
    demands: list[Callable[[fx.Node], bool]] = [
        lambda node: node not in inner,
        lambda node: node not in read_off,
        lambda node: node in mixed,
        lambda node: node in shared,
    ]
    for demand in demands:
        found = [node for node in found if demand(node)] or found
    return found[-1]


def _is_feature(node: fx.Node, kinds: dict[fx.Node, str], flow: AxisFlow) -> bool:
    """Movements count only where they put channels side by side, not where they rearrange."""
    if node.target is getitem:
        call = node.all_input_nodes[0].target
        return call in LAYER_NORMS and call is not aten.native_group_norm.default and node.args[1:] == (0,)
    if kinds[node] != "movement":
        return kinds[node] in _FEATURES
    return node.target is aten.cat.default and all(flow.placed(value) for value in node.all_input_nodes)


def _above(nodes: Iterable[fx.Node], flow: AxisFlow) -> set[fx.Node]:
    """What some nodes depend on, themselves left out."""
    return computed_from([value for node in nodes for value in node.all_input_nodes], flow.active.__contains__)


def _readers(output: fx.Node, kinds: dict[fx.Node, str], flow: AxisFlow) -> set[fx.Node]:
    """The matrix products that read convolved places one by one into an output with places, as for a series' steps."""
    if not flow.placed(output) or any(node.target in LINEAR for node in flow.mixing):
        return set()
    return {node for node, what in kinds.items() if what == "linear" and flow.placed(node)}


def _inner(kinds: dict[fx.Node, str], flow: AxisFlow) -> set[fx.Node]:
    """Projections that only attention reads: queries, keys, values."""
    found: set[fx.Node] = set()
    for node in reversed(list(kinds)):
        if kinds[node] in (*_STRAIGHT, "add", "layer-norm"):
            users = [user for user in node.users if user in kinds]
            projected = any(kinds[user] in ("linear", "convolution") for user in users)
            attended = all(user in found or kinds[user] in ("matmul", "attention", "softmax") for user in users)
            if users and attended and not projected:
                found.add(node)
    return found


def _read_off(output: fx.Node, kinds: dict[fx.Node, str], flow: AxisFlow) -> set[fx.Node]:
    """Scores of an output with places, and what they are made into by sums, resampling and a last softmax."""
    if not (flow.placed(output) or flow.joining):
        return set()
    found: set[fx.Node] = set()
    for node in reversed(list(kinds)):
        users = [user for user in node.users if user in kinds]
        if not all(user in found for user in users):
            continue
        summed = [value for value in node.all_input_nodes if value in kinds]
        scores = kinds[node] == "add" and all(kinds[value] in ("convolution", "movement") for value in summed)
        if kinds[node] in (*_STRAIGHT, "average", "softmax") or scores or (not users and kinds[node] in _SQUASHING):
            found.add(node)
    return found


def own_maps(output: fx.Node, sources: tuple[fx.Node, ...]) -> list[tuple[fx.Node, fx.Node]]:
    """Every grid that a detector puts one after the other, with the last feature map on the way to it alone.

    None where there are no several grids, or where all have the same map.
    """
    flow, found = AxisFlow.through(output, sources), dict[fx.Node, fx.Node]()
    for join in flow.joining:
        for value in active_arguments(join, flow.active):
            if flow.placed(value):
                with contextlib.suppress(NoFeatureMapError):
                    found[value] = last_feature_map(value, sources)
    return list(found.items()) if len(set(found.values())) > 1 else []


def _shared(flow: AxisFlow) -> set[fx.Node]:
    """What all grids depend on that are put one after the other."""
    found = set(flow.active)
    for join in flow.joining:
        for value in active_arguments(join, flow.active):
            if flow.placed(value):
                found &= _above([value], flow) | {value}
    return found


def in_the_way_of_cam(layer: fx.Node, output: fx.Node) -> list[fx.Node]:
    """Nodes between a feature map and the score that are not averaging or linear; class activation maps need none."""
    active = active_nodes((layer,), output)
    return [
        node
        for node in output.graph.nodes
        if node in active
        and node is not layer
        and node.op == "call_function"
        and kind(node, active) not in _LINEAR_HEAD
    ]


def pooled_at_once(layer: fx.Node, output: fx.Node) -> bool:
    """Whether every path from a feature map to the score averages over all of its places before anything mixes them."""
    active, waiting = active_nodes((layer,), output), [layer]
    count = prod(int(size) for size in layer.meta["shape"][:2])
    while waiting:
        for user in (user for user in waiting.pop().users if user in active):
            what, size = kind(user, active), prod(int(size) for size in user.meta.get("shape", ()))
            if what in ("movement", "scale", "shift", "bias") or (what == "average" and user.target in _WHOLE_AXES):
                waiting.extend([user] if what != "average" or size > count else [])
            elif what != "average" or size > count:
                return False
    return layer is not output
