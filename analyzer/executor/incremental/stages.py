"""The local part of a graph as stages, each of which runs on crops.

A stage is one windowed operator, its head, and the pointwise operators behind it; all of its values have the same region.
So no position is computed that a change can't reach, and no padding is met inside a stage: crops are cut from the map as
the head would pad it. Stages are in running order: any first few of them are a part that can be computed incrementally, the
others and all that isn't local follow on full maps.

Belongs here: which node goes to which stage, the ONNX models of the stages. Not here: regions and costs (``plan``), running
(``runner``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, ValueInfoProto, helper

from analyzer.executor.incremental.graph import Graph, reads
from analyzer.executor.incremental.locality import Layout, Local, Look, NotLocal
from analyzer.executor.incremental.operators import local
from analyzer.executor.incremental.reach import Reach

Array = NDArray[Any]
HEAD = "::window"


@dataclass
class Stage:
    """Nodes that run on the same crops.

    Attributes
    ----------
    parts
        The nodes, in running order.
    indices
        Their positions in the graph.
    sides
        Size of the stage's maps along each spatial axis.
    """

    parts: list[Local] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    sides: tuple[int, ...] = ()

    @property
    def reach(self) -> tuple[Reach, ...] | None:
        """The head's reach; None for a stage without a windowed operator."""
        return self.parts[0].reach

    @property
    def made(self) -> list[str]:
        """Values that the stage computes."""
        return [name for part in self.parts for node in part.nodes for name in node.output if name]

    @property
    def source(self) -> str | None:
        """The value whose map the head reads."""
        return self.parts[0].maps[0] if self.reach is not None else None

    @property
    def maps(self) -> list[str]:
        """Values of other stages, constants and original values that are cut to the stage's own region."""
        own, head = set(self.made), self.reach is not None
        found = [n for part in self.parts[1 if head else 0 :] for n in part.maps] + self.constants
        return [name for name in dict.fromkeys(found) if name not in own]

    @property
    def constants(self) -> list[str]:
        """Maps that aren't of the graph."""
        return [name for part in self.parts for name in part.extra]

    @property
    def layouts(self) -> dict[str, Layout]:
        """Map -> the spatial axes of the part that reads it."""
        return {name: part.layout for part in self.parts for name in [*part.maps, *part.extra]}

    @property
    def non_spatial(self) -> list[str]:
        """Original values without spatial axes."""
        return list(dict.fromkeys(name for part in self.parts for name in part.non_spatial))

    @property
    def closed(self) -> bool:
        """Whether its region must stay as the head needs it."""
        return self.reach is not None and any(axis.repeat > 1 for axis in self.reach)


@dataclass
class Chain:
    """All stages of a graph.

    Attributes
    ----------
    root
        The changed input.
    layouts
        Value -> spatial axis -> its axis, for the changed input and all values of stages.
    owner
        Value -> position of the stage that computes it; -1 for the changed input.
    ends
        Node -> why it isn't local, in running order; nodes behind it are left out.
    nodes
        Positions of all nodes that are needed and depend on the changed input.
    """

    graph: Graph
    root: str
    wanted: tuple[str, ...]
    batch: int
    stages: list[Stage]
    layouts: dict[str, Layout]
    owner: dict[str, int]
    ends: dict[str, str]
    nodes: list[int]

    def sides(self, name: str) -> tuple[int, ...]:
        """A value's size along each spatial axis."""
        return tuple(self.graph.shapes[name][axis] for axis in self.layouts[name])

    def channels(self, name: str) -> int:
        """Elements of a value at one position."""
        if name not in self.graph.shapes:
            return 1
        size = math.prod(self.graph.shapes[name][1:])
        return max(1, size // math.prod(self.sides(name))) if name in self.layouts else 1

    def weights(self, position: int) -> int:
        """How many constants a stage reads."""
        names = {name for part in self.stages[position].parts for node in part.nodes for name in node.input}
        return sum(math.prod(self.graph.shapes.get(name, (0,))) for name in names & self.graph.constant)

    def frontier(self, cut: int) -> list[str]:
        """Values of the input and of the first ``cut`` stages that are read behind them or wanted."""
        inside = {index for stage in self.stages[:cut] for index in stage.indices}
        behind = {name for index in self.nodes if index not in inside for name in reads(self.graph.nodes[index])}
        return [n for n, stage in self.owner.items() if stage < cut and (n in behind or n in self.wanted)]

    def exported(self, position: int, cut: int) -> list[str]:
        """Values of a stage that other stages or the rest read."""
        taken = set(self.frontier(cut))
        for stage in self.stages[position + 1 : cut]:
            taken.update([*stage.maps, stage.source or ""])
        return [name for name in self.stages[position].made if name in taken]

    def model(self, position: int, cut: int) -> tuple[bytes, dict[str, str], list[str]]:
        """A stage as an ONNX model.

        Returns
        -------
        tuple
            The model, its inputs as name -> value (the head's own has :data:`HEAD` behind its name), its outputs.
        """
        stage, inputs = self.stages[position], {}
        nodes: list[NodeProto] = []
        given: dict[str, ValueInfoProto] = {}
        for part in stage.parts:
            nodes.extend(part.nodes)
        if stage.source is not None:
            renamed = []
            for node in stage.parts[0].nodes:
                made = NodeProto()
                made.CopyFrom(node)
                made.input[:] = [name + HEAD if name == stage.source else name for name in node.input]
                renamed.append(made)
            nodes[: len(renamed)] = renamed
            inputs[stage.source + HEAD] = stage.source
        inputs |= {name: name for name in [*stage.maps, *stage.non_spatial]}
        extra = {name: value for part in stage.parts for name, value in part.extra.items()}
        for name, value in inputs.items():
            held = extra.get(value)
            kind = self.graph.kinds[value] if held is None else helper.np_dtype_to_tensor_dtype(held.dtype)
            given[name] = helper.make_tensor_value_info(name, kind, [None] * len(self.graph.shapes[stage.made[-1]]))
        outputs = self.exported(position, cut)
        return self.graph.part(nodes, given, outputs), inputs, outputs


def chain(graph: Graph, root: str, layout: Layout, wanted: Iterable[str]) -> Chain:
    """The stages of a graph, for changes of one input.

    Parameters
    ----------
    layout
        The input's spatial axes.
    """
    wanted, batch = tuple(wanted), graph.shapes[root][0]
    changed = graph.dependent(root)
    needed = [i for i in graph.needed(wanted, graph.given) if any(n in changed for n in graph.nodes[i].output)]
    made = Chain(graph, root, wanted, batch, [], {root: layout}, {root: -1}, {}, needed)
    for index in needed:
        node = graph.nodes[index]
        sources = [name for name in reads(node) if name in changed]
        if any(name not in made.layouts for name in sources):
            continue
        try:
            part = _fitting(local(node, Look(graph, made.layouts, batch)), made)
        except NotLocal as why:
            made.ends[node.name or node.output[0]] = str(why)
            continue
        _add(made, part, index)
    return made


def _fitting(part: Local, made: Chain) -> Local:
    """Refuses what the runner can't cut: shapes that aren't known or lack the spatial axes."""
    for node in part.nodes[-1:]:
        for name in node.output:
            shape = made.graph.shapes.get(name)
            if name and (shape is None or max(part.layout) >= len(shape) or shape[0] != made.batch):
                raise NotLocal(f"the shape of {name!r} is unknown")
    return part


def _add(made: Chain, part: Local, index: int) -> None:
    outputs = [name for name in part.nodes[-1].output if name]
    position = max(made.owner.get(name, -1) for name in part.maps)
    if part.reach is not None or position < 0 or made.stages[position].closed:
        sides = tuple(made.graph.shapes[outputs[0]][axis] for axis in part.layout)
        made.stages.append(Stage(sides=sides))
        position = len(made.stages) - 1
    made.stages[position].parts.append(part)
    made.stages[position].indices.append(index)
    for name in outputs:
        made.layouts[name], made.owner[name] = part.layout, position


def at_rank(value: Array, rank: int) -> Array:
    """A constant with ones before its shape."""
    return np.reshape(value, (1,) * (rank - value.ndim) + value.shape)
