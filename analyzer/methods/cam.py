"""Class activation maps: CAM and Grad-CAM, and what the whole family shares.

Belongs here: reading a layer's feature map, and bringing a map of its places to the input. Not here: finding the layer
(``graph_rules.cam``), other weightings (``cam_variants``, ``score_cam``, ``ablation_cam``, ``guided_grad_cam``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.maps import at_input
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from torch import fx

    from analyzer.methods.whitebox import Engine

Layer = Annotated[str, "ONNX node or value name; auto: the last feature map before pooling"]
Rectify = Annotated[bool, "keep positive values only"]


@dataclass(frozen=True)
class FeatureMap:
    """What a layer holds.

    Attributes
    ----------
    name
        The layer's ONNX node.
    values, gradients
        Its activations and the score's derivatives by them, both (batch, channels, *spatial).
    score
        The explained score, shape (batch,), float64.
    """

    name: str
    node: fx.Node
    values: Array
    gradients: Array
    score: Array

    @property
    def places(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(2, self.values.ndim))

    def wide(self) -> tuple[Array, Array]:
        """Values and gradients in float64, for formulas with powers and quotients."""
        return self.values.astype(np.float64), self.gradients.astype(np.float64)


def feature_node(engine: Engine, layer: str) -> tuple[str, fx.Node]:
    """A layer's name and node in an engine's trace.

    Raises
    ------
    UnsupportedError
        ``layer.none`` where the model has no feature map.
    UsageError
        ``layer.unknown``, ``layer.not_spatial``.
    """
    from graph_rules.cam import NoFeatureMapError, last_feature_map

    if layer == "auto":
        try:
            node = last_feature_map(engine.output, tuple(source.node for source in engine.sources))
        except NoFeatureMapError as problem:
            raise UnsupportedError(
                "layer.none", str(problem), "name a layer, or use another family of methods"
            ) from None
    else:
        node = engine.layer(layer)
    name = str(node.meta.get("folded") or node.meta.get("onnx", layer))
    if len(node.meta["shape"]) < 3:
        raise UsageError(
            "layer.not_spatial",
            f"layer {name!r} has shape {list(node.meta['shape'])}: no feature map",
            "name a layer of shape [batch, channels, ...places]",
        )
    return name, node


def feature_map(context: Context, layer: str) -> FeatureMap:
    """A layer's activations and gradients; errors as in :func:`feature_node`."""
    from graph_rules.composites import GRADIENT

    name, node = feature_node(context.engine, layer)
    swept = context.engine.sweep(GRADIENT, at=[(name, node)])
    return FeatureMap(name, node, swept.values[name], swept.relevance[name], swept.score)


def as_result(context: Context, raw: Array, layer: str, relu: bool) -> Result:
    """A map (batch, 1, *spatial) as a method's result."""
    raw = np.maximum(raw, 0) if relu else raw
    first = context.engine.sources[0].name
    resized = at_input(context, first, raw)
    notes = []
    if resized is None:
        notes.append(f"the map at {layer!r} has other axes than the input: it is given at the layer's resolution")
        resized = raw
    return Result({first: resized}, {first: raw}, notes=notes, record={"layer": layer})


@method(
    "cam", "CAM", signed=True, modalities=("image", "series"), source="Zhou et al. 2016, Learning deep features, eq. 2"
)
def cam(context: Context, *, layer: Layer = "auto", relu: Rectify = False) -> Result:
    """Feature maps weighted by the class's weights; the network must end in global pooling and a linear layer."""
    from graph_rules.cam import in_the_way_of_cam

    found = feature_map(context, layer)
    gradient, axes = found.gradients, found.places
    weights = gradient.sum(axis=axes, keepdims=True)  # of the pooled feature: w_k^c
    even = np.ptp(gradient, axis=axes).max(initial=0) <= 1e-4 * np.abs(gradient).max(initial=0) + 1e-12
    obstacles = in_the_way_of_cam(found.node, context.engine.output)
    if obstacles or not even:
        named = ", ".join(
            dict.fromkeys(f"{o.meta.get('op', '')} node {o.meta.get('onnx', o.name)!r}" for o in obstacles[:3])
        )
        why = f"{named} in the way" if obstacles else "its positions don't count alike"
        raise UnsupportedError(
            "method.unsuitable",
            f"cam needs only global average pooling and a linear layer after {found.name!r}: {why}",
            "use grad-cam",
        )
    return as_result(context, (weights * found.values).sum(axis=1, keepdims=True), found.name, relu)


@method(
    "grad-cam",
    "CAM",
    signed=False,
    modalities=("image", "series"),
    source="Selvaraju et al. 2017, Grad-CAM, eq. 1 and 2",
)
def grad_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps weighted by the mean gradient of the score."""
    found = feature_map(context, layer)
    return as_result(context, grad_cam_of(found), found.name, relu)


def grad_cam_of(found: FeatureMap) -> Array:
    """The Grad-CAM map (batch, 1, *spatial), both signs."""
    weights: Array = found.gradients.mean(axis=found.places, keepdims=True)
    return np.asarray((weights * found.values).sum(axis=1, keepdims=True))
