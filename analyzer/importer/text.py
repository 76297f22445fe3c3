"""Text in a graph: how far it goes, and which nodes turn it into numbers.

Belongs here: following inputs that hold text. Not here: running anything; torch.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import NodeProto

from analyzer.errors import UnsupportedError


def text_ends(nodes: Iterable[NodeProto], texts: Iterable[str]) -> list[int]:
    """Positions of the nodes that make something else of text: encoders and tokenizers.

    Nodes that only move text, or change its letters, hand it on.

    Parameters
    ----------
    nodes
        Of a graph, in an order they can run in.
    texts
        Inputs that hold text.
    """
    known, ends = set(texts), []
    for at, node in enumerate(nodes):
        positions = [position for position, name in enumerate(node.input) if name in known]
        if positions and _hands_on(node, positions[0]):
            known.update(node.output[:1])
        elif positions:
            ends.append(at)
    return ends


def _hands_on(node: NodeProto, position: int) -> bool:
    """Whether the first output is of the type of an input: then of text it is text."""
    try:
        schema = onnx.defs.get_schema(node.op_type, domain=node.domain)
    except onnx.defs.SchemaError:
        return False
    given = schema.inputs[min(position, len(schema.inputs) - 1)]
    return bool(given.type_str == schema.outputs[0].type_str)


def no_derivative(texts: list[str], ends: list[str]) -> UnsupportedError:
    """The error for a trace of a model that is given text, naming inputs and the nodes that turn their text into numbers."""
    more = f" and {len(ends) - 5} more" if len(ends) > 5 else ""
    into = f", which goes into {', '.join(ends[:5])}{more}" if ends else ""
    return UnsupportedError(
        "op.unsupported",
        f"text has no derivative: {', '.join(map(repr, texts))} {'holds' if len(texts) == 1 else 'hold'} text{into}",
        "perturbation methods such as feature-ablation, kernel-shap or lime work without a trace",
    )
