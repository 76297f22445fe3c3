"""Receptive fields: which part of an input each unit of a layer can see, from the graph alone.

Belongs here: going through the graph once, layer by layer. Not here: which positions an operator reads (``reads``), arithmetic of
one axis (``fields``).

Source of the arithmetic: Araujo, Norris, Sim 2019, Computing receptive fields of convolutional neural networks, Distill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from analyzer.errors import UnsupportedError, UsageError
from analyzer.executor.incremental import Graph, Source
from analyzer.executor.incremental.locality import Look
from analyzer.importer.subgraphs import subgraphs
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.fields import Field, hull
from analyzer.visualization.layers import Layer, chosen, layers
from analyzer.visualization.reads import MIXED, Reads, positions_read


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What a layer's units can see of the input.

    Attributes
    ----------
    input
        The input's name.
    places
        The input's axes that are looked at.
    layout
        For each of them, the axis of the layer's value that runs along it; empty where units have no places.
    fields
        For each of them, what the positions see; one position that stands for all units where ``layout`` is empty.
    sides
        The input's sizes along them.
    why
        Which operator ended the places, where one did.
    """

    layer: Layer
    input: str
    places: tuple[int, ...]
    layout: tuple[int, ...]
    fields: tuple[Field, ...]
    sides: tuple[int, ...]
    why: str = ""

    @property
    def whole(self) -> bool:
        """Whether every unit sees the whole input."""
        pairs = zip(self.fields, self.sides, strict=True)
        return all(bool((field.low <= 0).all() and (field.high >= side).all()) for field, side in pairs)

    def box(self, position: Sequence[int] = ()) -> tuple[slice, ...]:
        """What one unit sees: a slice for each of ``places``, cut to the input; empty where it reads padding only.

        Parameters
        ----------
        position
            One for each axis of ``layout``.
        """
        at = tuple(position) if self.layout else (0,) * len(self.fields)
        return tuple(slice(int(field.low[i]), int(field.high[i])) for field, i in zip(self.fields, at, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: sizes, strides and offsets along the input's axes."""
        return {
            "value": self.layer.value, "node": self.layer.node, "operator": self.layer.operator, "input": self.input,
            "whole_input": self.whole, "size": [field.size for field in self.fields],
            "stride": [field.stride for field in self.fields] if self.layout else None,
            "offset": [field.offset for field in self.fields] if self.layout else None, "why": self.why,
        }  # fmt: skip


def receptive_fields(
    model: OnnxModel,
    shapes: Mapping[str, Sequence[int]],
    names: str | Sequence[str] | None = None,
    input: str | None = None,  # noqa: A002 -- as elsewhere in the API
) -> dict[str, ReceptiveField]:
    """Value name -> what its units can see of an input; values that don't depend on it are left out.

    Parameters
    ----------
    shapes
        Input name -> shape of a batch.
    names
        As :func:`analyzer.visualization.layers.chosen` takes them; None for all layers.
    input
        The input; None for the first that has places.

    Raises
    ------
    UsageError
        ``layer.*``, ``data.unknown_input``.
    UnsupportedError
        ``input.no_places`` where no input has axes of places.
    """
    wanted = layers(model) if names is None else chosen(model, names)
    name, places = _looked_at(model, shapes, input)
    states = _walked(model, shapes, name, places)
    sides = tuple(int(shapes[name][axis]) for axis in places)
    return {
        layer.value: ReceptiveField(layer, name, places, state.layout, state.fields, sides, state.why)
        for layer in wanted
        if (state := states.get(layer.value)) is not None
    }


def declared_shapes(model: OnnxModel) -> dict[str, tuple[int, ...]]:
    """Input name -> its declared shape, with one sample where the batch is free.

    Raises
    ------
    UsageError
        ``input.size_unknown`` where another size is free.
    """
    found = {}
    for name, spec in model.inputs.items():
        batch = model.layouts[name].batch if name in model.layouts else 0
        shape = [1 if axis == batch and not isinstance(size, int) else size for axis, size in enumerate(spec.shape)]
        if not all(isinstance(size, int) for size in shape) or not spec.ranked:
            raise UsageError("input.size_unknown", f"input {name!r} is of any size: {spec}", "give an input")
        found[name] = tuple(int(size) for size in shape if size is not None)
    return found


def _looked_at(model: OnnxModel, shapes: Mapping[str, Sequence[int]], name: str | None) -> tuple[str, tuple[int, ...]]:
    if name is not None and name not in model.inputs:
        message = f"the model has no input {name!r}{did_you_mean(name, model.inputs)}"
        raise UsageError("data.unknown_input", message, f"its inputs: {', '.join(model.inputs)}")
    for each in model.inputs if name is None else [name]:
        axes = model.axes(each, shapes[each])
        places = tuple(axis for axis in axes.places if axis != axes.channels and axis != (axes.batch or 0))
        if places and len(shapes[each]) > 2:
            return each, places
    raise UnsupportedError(
        "input.no_places", "the input has no axes of places", "receptive fields are of pictures, series and volumes"
    )


@dataclass(frozen=True, eq=False)
class _State:
    """What is known of a value: as in :class:`ReceptiveField`."""

    layout: tuple[int, ...]
    fields: tuple[Field, ...]
    why: str = ""

    def without_places(self, why: str) -> _State:
        """Any unit may see what any position does."""
        return self if not self.layout else _State((), tuple(field.everywhere() for field in self.fields), why)


def _walked(
    model: OnnxModel, shapes: Mapping[str, Sequence[int]], name: str, places: tuple[int, ...]
) -> dict[str, _State]:
    graph = Graph(Source(model.proto, model.files), {each: tuple(shapes[each]) for each in model.inputs})
    start = tuple(Field.identity(int(shapes[name][axis])) for axis in places)
    states = {name: _State(places, start)}
    batch = int(shapes[name][0])
    for node in graph.nodes:
        read = [states[each] for each in dict.fromkeys(_read(node)) if each in states]
        if read and node.op_type not in ("Shape", "Size"):
            state = _through(node, graph, states, read, batch)
            states.update(dict.fromkeys((each for each in node.output if each), state))
    return states


def _read(node: NodeProto) -> list[str]:
    inner = [name for graph in subgraphs(node) for own in graph.node for name in _read(own)]
    outer = [value.name for graph in subgraphs(node) for value in graph.output]
    return [*(name for name in node.input if name), *inner, *outer]


def _through(node: NodeProto, graph: Graph, states: dict[str, _State], read: list[_State], batch: int) -> _State:
    """What a node's outputs see."""
    spatial = {each: state.layout for each, state in states.items() if state.layout}
    mapped = [state for state in read if state.layout]
    found: Reads | str = MIXED
    if mapped:
        found = positions_read(node, Look(graph, spatial, batch))
    if isinstance(found, str):
        why = next((state.why for state in read if state.why), "") or f"{node.op_type} {node.name!r}: {found}"
        boxes = [state.without_places(why) for state in read]
        return _State((), tuple(hull([box.fields[at] for box in boxes]) for at in range(len(boxes[0].fields))), why)
    sizes = found.sizes
    fields = []
    for at, size in enumerate(sizes):
        own = [state.fields[at].along(found.first[at], found.last[at], found.stretch[at]) for state in mapped]
        own += [state.fields[at].repeated(size) for state in read if not state.layout]
        fields.append(hull(own))
    return _State(found.layout, tuple(fields), next((state.why for state in read if state.why), ""))
