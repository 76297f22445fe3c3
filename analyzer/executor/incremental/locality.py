"""Local operators: how a node is computed in part, or why it can't be.

An operator is local where an output position depends only on input positions near it. A windowed one (convolution, pooling,
padding, enlargement) has a receptive field; a pointwise one reads the position itself. Run on a crop, a windowed operator has
no padding of its own: the crop is cut from the map as the operator would pad it.

Belongs here: the result's type and checks that all operators share. Not here: the operators (``pointwise``, ``windowed``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, helper

from analyzer.executor.incremental.graph import Graph
from analyzer.executor.incremental.reach import Reach

Array = NDArray[Any]
#: Spatial axis -> axis of a value.
Layout = tuple[int, ...]


class NotLocal(Exception):  # noqa: N818 -- an answer, not a fault
    """Why a node can't be computed in part."""


@dataclass(frozen=True)
class Local:
    """A node that can be computed in part.

    Attributes
    ----------
    nodes
        What it becomes on crops.
    layout
        Spatial axis -> axis of its outputs.
    maps
        The inputs that are cut to the crop.
    non_spatial
        The inputs without spatial axes that aren't constants.
    reach
        Per spatial axis, for a windowed operator; it is about the first of ``maps``. None for a pointwise one.
    fill
        What lies outside the map that a windowed operator reads.
    extra
        Maps of constants that ``nodes`` read, by name, one sample.
    """

    nodes: tuple[NodeProto, ...]
    layout: Layout
    maps: tuple[str, ...]
    non_spatial: tuple[str, ...] = ()
    reach: tuple[Reach, ...] | None = None
    fill: float = 0.0
    extra: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What is known where a node is looked at: the graph, the layouts of changed values, samples in the shapes."""

    graph: Graph
    layouts: Mapping[str, Layout]
    batch: int

    def shape(self, name: str) -> tuple[int, ...]:
        """A value's shape."""
        if name not in self.graph.shapes:
            raise NotLocal(f"the shape of {name!r} is unknown")
        return self.graph.shapes[name]


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """A node's attribute."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def require_constant(name: str, node: NodeProto, look: Look) -> None:
    """Refuses parameters that depend on an input."""
    if name not in look.graph.constant:
        raise NotLocal(f"{node.op_type} has computed parameters")


def only_data(node: NodeProto, look: Look) -> None:
    """Only the first input may be changed."""
    if any(name in look.layouts for name in node.input[1:]):
        raise NotLocal(f"{node.op_type} has changed parameters")
