"""Finding the layer that class activation maps are read at.

Belongs here: which node of a trace holds the last feature map, and whether only averaging and linear nodes follow it.
Not here: the maps (they are methods).
"""

from __future__ import annotations

from math import prod

from torch import fx

from graph_rules.kinds import active_nodes, kind
from graph_rules.operators import LINEAR, aten

_FEATURES = (
    "convolution",
    "relu",
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
_LINEAR_HEAD = ("linear", "average", "movement", "bias", "shift", "scale")


#: After these axis 1 needn't hold channels any more, until the next convolution.
_REARRANGING = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default,
    aten.select.int, aten.unbind.int, aten.stack.default, aten.unfold.default, aten.as_strided.default,
}  # fmt: skip


class NoFeatureMapError(LookupError):
    """No node has a feature map with a spatial extent."""


def last_feature_map(output: fx.Node, sources: tuple[fx.Node, ...]) -> fx.Node:
    """The last node with a spatial feature map that a convolution made, before pooling or flattening.

    A feature map is a floating-point value (batch, channels, *spatial) with more than one position, somewhere below a
    convolution, on the way to the output. Pooling nodes are passed over: maps are read before them, at their finer
    resolution.

    Raises
    ------
    NoFeatureMapError
        Where the model has none.
    """
    active = active_nodes(sources, output)
    below: set[fx.Node] = set()
    found: fx.Node | None = None
    node: fx.Node
    for node in output.graph.nodes:
        if node not in active or node.op != "call_function":
            continue
        what = kind(node, active)
        matrix = what == "matmul" or node.target in LINEAR
        carried = any(a in below for a in node.all_input_nodes) and not matrix
        if what == "convolution" or (carried and node.target not in _REARRANGING):
            below.add(node)
        shape = tuple(node.meta.get("shape", ()))
        spatial = len(shape) in (3, 4, 5) and prod(shape[2:]) > 1
        if node in below and spatial and what in _FEATURES and _keeps_positions(node, what, below):
            found = node
    if found is None:
        raise NoFeatureMapError("no convolution's feature map with a spatial extent lies between input and output")
    return found


def _keeps_positions(node: fx.Node, what: str, below: set[fx.Node]) -> bool:
    """Movements count only where they put feature maps side by side (concatenation), not where they rearrange."""
    if what != "movement":
        return True
    return str(node.target).startswith("aten.cat") and all(a in below for a in node.all_input_nodes)


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
