"""The operator table: (domain, operator, since version) -> a short function of tensors and attributes.

Belongs here: registering and looking up operators. Not here: any operator (they live in ``analyzer/importer/ops``)
and the walk over the graph (``interpreter``).

An operator function takes the :class:`~analyzer.importer.graph.Node` and its input tensors in ONNX order, with
``None`` for an omitted optional input, and returns one tensor or a tuple of tensors in ONNX output order::

    @operator("Relu")
    def relu(node: Node, x: Tensor) -> Tensor:
        return torch.relu(x)

It must not change a tensor in place, and where it needs concrete numbers (a shape, axes, a repeat count) it reads them
through :func:`analyzer.importer.recorder.concrete`, which says so to the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

OperatorFunction = Callable[..., Any]

#: Domains that mean the standard operator set.
STANDARD = ("", "ai.onnx")

#: Operators that draw at random: they have no function, for no trace of them could be held against onnxruntime.
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")

_TABLE: dict[tuple[str, str], list[tuple[int, OperatorFunction]]] = {}
_CONTROL: set[tuple[str, str]] = set()


def canonical_domain(domain: str) -> str:
    """The domain's one spelling: ``ai.onnx`` is the empty domain."""
    return "" if domain in STANDARD else domain


def operator(
    op_type: str, since: int = 1, domain: str = "", *, control: bool = False
) -> Callable[[OperatorFunction], OperatorFunction]:
    """Register a function for an operator from opset ``since`` on, until a newer entry takes over.

    ``control=True`` marks control flow: the function also receives the interpreter's scope as keyword ``scope``.
    """

    def register(function: OperatorFunction) -> OperatorFunction:
        key = (canonical_domain(domain), op_type)
        versions = _TABLE.setdefault(key, [])
        if any(version == since for version, _ in versions):
            raise ValueError(f"operator {domain}::{op_type} since {since} is registered twice")
        versions.append((since, function))
        versions.sort(key=lambda entry: entry[0])
        if control:
            _CONTROL.add(key)
        return function

    return register


def lookup(domain: str, op_type: str, version: int) -> OperatorFunction | None:
    """The function for an operator at an opset version, or None where the table has none."""
    _load()
    found = None
    for since, function in _TABLE.get((canonical_domain(domain), op_type), ()):
        if since <= version:
            found = function
    return found


def is_control(domain: str, op_type: str) -> bool:
    """Whether the operator walks subgraphs itself (If, Loop, Scan)."""
    _load()
    return (canonical_domain(domain), op_type) in _CONTROL


def entries() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """All registered operators: (domain, operator, since versions), sorted."""
    _load()
    for (domain, op_type), versions in sorted(_TABLE.items()):
        yield domain, op_type, tuple(since for since, _ in versions)


def _load() -> None:
    """Import the operator modules once; each registers its functions."""
    from analyzer.importer import ops

    ops.load()
