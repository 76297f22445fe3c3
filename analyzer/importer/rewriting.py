"""What a pass over a trace is, and what it reports: every node that it changed, and why it left others as they are.

Belongs here: the types of a pass and the helpers that passes share. Not here: any pass (``folding``, ``fusion``), their
order (``passes``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, fx


class Rewrite(NamedTuple):
    """A node that a pass has replaced, the node that computes its value now (it may be the same), and a line that says so."""

    replaced: fx.Node
    replacement: fx.Node
    change: str


@dataclass(frozen=True)
class Refusal:
    """Why a node that a pass is about stays as it is. Passes hand out constants, so that refusing costs nothing."""

    reason: str


@dataclass(frozen=True)
class Pass:
    """A rewrite tried on every node of some operators.

    Attributes
    ----------
    targets
        The ATen operators that it starts from; empty for one that starts from the graph's inputs.
    rewrite
        Changes the graph at a node, or says why it doesn't; None where the node only shares its operator with the pattern.
    """

    name: str
    targets: Collection[object]
    rewrite: Callable[[fx.GraphModule, fx.Node], Rewrite | Refusal | None]

    def starts_at(self, node: fx.Node) -> bool:
        """Whether it is tried on a node."""
        return node.target in self.targets if self.targets else node.op == "placeholder"


class Refused(NamedTuple):
    """A node that a pass left as it is, by its name in the ONNX model, and why."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node!r}: {self.reason}"


@dataclass(frozen=True)
class PassResult:
    """What one pass did to a trace.

    Attributes
    ----------
    changes
        One line per rewrite.
    refused
        The nodes that it is about and left as they are.
    """

    name: str
    changes: tuple[str, ...]
    refused: tuple[Refused, ...]

    @property
    def modified(self) -> bool:
        """Whether it changed anything."""
        return bool(self.changes)


def constant_of(module: fx.GraphModule, argument: object) -> Tensor | None:
    """The tensor of a constant argument; None for anything else."""
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        value: Tensor = getattr(module, str(argument.target))
        return value
    return None


def add_constant(module: fx.GraphModule, value: Tensor, like: fx.Node) -> fx.Node:
    """A new constant at the current insertion point, with the provenance of a node."""
    label = f"folded_{len(module._buffers)}"
    module.register_buffer(label, value.contiguous())
    node = module.graph.get_attr(label)
    node.meta.update(constant=like.meta.get("onnx", ""), shape=tuple(value.shape), dtype=value.dtype)
    return node


def erase_unread(module: fx.GraphModule, *nodes: fx.Node) -> None:
    """Remove nodes that nothing reads any more, so that later passes don't count them as readers."""
    for node in nodes:
        if not node.users:
            module.graph.erase_node(node)
