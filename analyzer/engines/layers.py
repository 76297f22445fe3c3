"""Layers of a trace by the names that users give them.

Belongs here: finding them and saying why one can't be had. Not here: what is computed there (``torch_engine``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from analyzer.errors import UnsupportedError, UsageError
from analyzer.importer.trace import Trace
from analyzer.nearest import did_you_mean
from graph_rules import sweep
from graph_rules.cam import NoFeatureMapError, last_feature_map, layout, own_maps
from graph_rules.feature_layout import FeatureLayout


@dataclass(frozen=True)
class FeatureLayer:
    """A layer that class activation maps are read at.

    Attributes
    ----------
    layout
        How its value lays out samples, channels and places.
    sources
        The nodes of the explained inputs that it depends on.
    """

    name: str
    node: fx.Node
    layout: FeatureLayout
    sources: tuple[fx.Node, ...]


def layer_named(trace: Trace, output: fx.Node, name: str) -> fx.Node:
    """The node of a layer given by its ONNX node, value or module name.

    Raises
    ------
    UsageError
        ``layer.unknown`` with the near name, ``layer.folded``, ``layer.unread``.
    """
    node = trace.find(name)
    folded = [n for n in trace.module.graph.nodes if n.meta.get("onnx") == name]
    if node is None and folded and folded[-1].meta.get("folded"):
        raise UsageError(
            "layer.folded",
            f"{name!r} was folded together with {folded[-1].meta['folded']!r}: its own value isn't computed",
            f"name {folded[-1].meta['folded']!r}",
        )
    if node is None:
        known = [*trace.nodes, *trace.values]
        raise UsageError(
            "layer.unknown",
            f"the model has no node or value {name!r} that depends on the input{did_you_mean(name, known)}",
            "`onnxplain inspect -v` lists the nodes",
        )
    if node not in sweep.active_nodes((node,), output):
        raise UsageError(
            "layer.unread", f"the explained score doesn't depend on {name!r}", "name a layer on the way to the output"
        )
    return node


def feature_layer(trace: Trace, output: fx.Node, inputs: tuple[fx.Node, ...], layer: str) -> FeatureLayer:
    """A layer that class activation maps are read at; ``auto``: the last feature map whose places are still mixed.

    Raises
    ------
    UnsupportedError
        ``layer.none`` where the model has no feature map.
    UsageError
        ``layer.not_spatial``, and as in :func:`layer_named`.
    """
    if layer == "auto":
        try:
            node = last_feature_map(output, inputs)
        except NoFeatureMapError as problem:
            raise UnsupportedError(
                "layer.none", str(problem), "name a layer, or use another family of methods"
            ) from None
    else:
        node = layer_named(trace, output, layer)
    return _feature_layer(node, output, inputs, layer)


def grid_layers(output: fx.Node, inputs: tuple[fx.Node, ...]) -> tuple[tuple[fx.Node, FeatureLayer], ...]:
    """Every grid that a detector puts one after the other, with its own last feature map; none for other models."""
    return tuple((grid, _feature_layer(node, output, inputs, "auto")) for grid, node in own_maps(output, inputs))


def _feature_layer(node: fx.Node, output: fx.Node, inputs: tuple[fx.Node, ...], layer: str) -> FeatureLayer:
    name = str(node.meta.get("folded") or node.meta.get("onnx", layer))
    found = layout(node, output, inputs)
    if found is None and len(node.meta["shape"]) < 3:
        raise UsageError(
            "layer.not_spatial",
            f"layer {name!r} has shape {list(node.meta['shape'])}: no feature map",
            "name a layer of shape [batch, channels, ...places]",
        )
    sources = tuple(source for source in inputs if node in sweep.active_nodes((source,), node))
    return FeatureLayer(name, node, found or FeatureLayout.plain(tuple(node.meta["shape"])), sources)
