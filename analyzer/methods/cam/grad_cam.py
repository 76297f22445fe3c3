"""Class activation maps: CAM and Grad-CAM, and what the family shares.

Belongs here: reading a layer's feature map, and mapping its positions to the input. Not here: finding the layer
(``graph_rules.cam``), other weightings (``weightings``, ``score_cam``, ``ablation_cam``, ``guided_grad_cam``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np

from analyzer.engines.protocol import FeatureMap
from analyzer.errors import UnsupportedError
from analyzer.methods.cam.at_input import at_input, mapped_inputs
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext

Layer = Annotated[str, "ONNX node or value name; auto: the last feature map whose places are still mixed"]
Rectify = Annotated[bool, "keep positive values only"]


def feature_map(context: Context, layer: str) -> FeatureMap:
    """A layer's activations and gradients; errors as in :meth:`Engine.at_layer`."""
    return context.engine.at_layer(layer)


def wide(context: Context, found: FeatureMap) -> tuple[Array, Array]:
    """Values and gradients in float64, for formulas with powers and quotients."""
    xp = context.xp
    return xp.astype(found.values, xp.float64), xp.astype(found.gradients, xp.float64)


def summed(context: Context, found: FeatureMap, weighted: Array) -> Array:
    """Contributions (batch, channels, *spatial) summed over the channels, (batch, 1, *spatial), in a map's precision."""
    xp = context.xp
    raw: Array = xp.sum(weighted, axis=1, keepdims=True)
    return raw if raw.dtype == found.values.dtype else xp.astype(raw, xp.result_type(found.values.dtype, xp.float32))


def as_result(context: Context, found: FeatureMap, raw: Array, relu: bool) -> Result:
    """A map (batch, 1, *spatial) as a method's result: of every input whose places the layer has."""
    raw = context.xp.clip(raw, 0, None) if relu else raw
    names, notes = mapped_inputs(context, found), []
    resized = {name: map_ for name in names if (map_ := at_input(context, name, raw)) is not None}
    if not names:
        first = found.inputs[0]
        notes.append(
            f"the map at {found.name!r} has other axes than input {first!r}: it is given at the layer's resolution"
        )
        resized, names = {first: raw}, [first]
    if len(names) > 1:
        notes.append(f"the layer {found.name!r} depends on {' and '.join(map(repr, names))}: its map is of both alike")
    notes += empty(context, found, raw, relu)
    return Result(resized, dict.fromkeys(names, raw), notes=notes, record={"layer": found.name})


def empty(context: Context, found: FeatureMap, raw: Array, relu: bool) -> list[str]:
    """A note that says of which samples the map is zero everywhere, and why; empty where none is."""
    numbers = context.numbers(raw)
    zero = [n for n, sample in enumerate(numbers) if not sample.any()]
    if not zero:
        return []
    which = "" if len(zero) == len(numbers) else f" of sample {', '.join(map(str, zero))}"
    still = not context.numbers(found.gradients)[zero].any()
    if still:
        why = f"the score's gradient is zero at layer {found.name!r}"
    elif relu:
        why = f"nothing at layer {found.name!r} speaks for the target; relu=False shows what speaks against it"
    else:
        why = f"the contributions at layer {found.name!r} cancel out or are zero"
    return [f"the map{which} is zero everywhere: {why}"]


def _no_linear_head(layer: str, obstacles: Sequence[str]) -> UnsupportedError:
    why = f"{', '.join(obstacles[:3])} in the way" if obstacles else "its positions don't count alike"
    return UnsupportedError(
        "method.unsuitable",
        f"cam needs only global average pooling and a linear layer after {layer!r}: {why}",
        "use grad-cam",
    )


def _has_linear_head(static: StaticContext) -> None:
    if static.layer.obstacles or not static.layer.pooled:
        raise _no_linear_head(static.layer.name, static.layer.obstacles)


@method(
    "cam",
    "CAM",
    compilable=True,
    fits=_has_linear_head,
    signed=True,
    modalities=("image", "series"),
    source="Zhou et al. 2016, Learning deep features, eq. 2",
)
def cam(context: Context, *, layer: Layer = "auto", relu: Rectify = False) -> Result:
    """Feature maps weighted by the class's weights; the network must end in global pooling and a linear layer."""
    found = feature_map(context, layer)
    gradient, axes = context.numbers(found.gradients), found.spatial
    even = np.ptp(gradient, axis=axes).max(initial=0) <= 1e-4 * np.abs(gradient).max(initial=0) + 1e-12
    if found.obstacles or not even:
        raise _no_linear_head(found.name, found.obstacles)
    weights = context.xp.sum(found.gradients, axis=axes, keepdims=True)  # of the pooled feature: w_k^c
    return as_result(context, found, summed(context, found, weights * found.values), relu)


@method(
    "grad-cam",
    "CAM",
    compilable=True,
    signed=False,
    modalities=("image", "series"),
    source="Selvaraju et al. 2017, Grad-CAM, eq. 1 and 2",
)
def grad_cam(context: Context, *, layer: Layer = "auto", relu: Rectify = True) -> Result:
    """Feature maps weighted by the mean gradient of the score."""
    found = feature_map(context, layer)
    return as_result(context, found, grad_cam_of(context, found), relu)


def grad_cam_of(context: Context, found: FeatureMap) -> Array:
    """The Grad-CAM map (batch, 1, *spatial), both signs."""
    weights = context.xp.mean(found.gradients, axis=found.spatial, keepdims=True)
    return summed(context, found, weights * found.values)
