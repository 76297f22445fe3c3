"""Module paths: which part of the network an ONNX node came from, as PyTorch's exporters write it down.

Belongs here: reading a node's module path and finding nodes by it. Not here: names of nodes and values (``trace``).

The TorchScript exporter puts the path into the node's name (``/layer1/layer1.0/conv1/Conv``), the dynamo exporter into
the node's metadata (``['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']``). Both are read as ``layer1.0.conv1``,
so that one name finds the same layer in every export of a network.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analyzer.importer.graph import Node

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Origin:
    """Where a node came from: its module path (``layer1.0.conv1``) and its operator type."""

    module: str
    op_type: str


def origins_of(nodes: Sequence[Node]) -> dict[str, Origin]:
    """Node name -> its origin, for nodes whose exporter says it; in the nodes' order."""
    found = {}
    for node in nodes:
        module = _from_metadata(node) or _from_path(node.name.split("/")[1:-1])
        if module:
            found[node.name] = Origin(module, node.op_type)
    return found


def locate(name: str, origins: Mapping[str, Origin]) -> str | None:
    """The last node of a module, or the node that another exporter calls ``/MODULE/…/OpType_i``.

    Parameters
    ----------
    name
        ``layer1.0.conv1``, or a node name of the TorchScript exporter.
    """
    if not name.startswith("/"):
        inside = [
            node for node, origin in origins.items() if origin.module == name or origin.module.startswith(f"{name}.")
        ]
        return inside[-1] if inside else None
    *path, last = name.split("/")[1:]
    module = _from_path(path)
    here = [(node, origin.op_type) for node, origin in origins.items() if module and origin.module == module]
    op_type, _, number = last.partition("_")
    same = [node for node, op in here if op == op_type]
    index = int(number) if number.isdigit() else 0
    return same[index] if index < len(same) else None


def _from_metadata(node: Node) -> str:
    props = node.proto.metadata_props if node.proto is not None else ()
    text = next((prop.value for prop in props if prop.key == _SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _from_path(parts: Sequence[str]) -> str:
    """``['layer1', 'layer1.0', 'conv1']`` as ``layer1.0.conv1``: a child of a list repeats its parent's name."""
    module, parent = "", ""
    for part in parts:
        repeated = parent and re.match(rf"{re.escape(parent)}\.\d", part)
        module = module + part[len(parent) :] if repeated else f"{module}.{part}" if module else part
        parent = part
    return module
