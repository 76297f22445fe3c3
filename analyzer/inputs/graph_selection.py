"""Which inputs a model is asked about: its values and its words or categories, not what says where those stand.

Belongs here: an input's role by its name, its type and the first nodes that read it. Not here: which axes an input has
(``graph_channels``), where an input enters a trace (``analyzer.engines.input_nodes``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnx import GraphProto, NodeProto

from analyzer.inputs.graph_readers import GraphReaders
from analyzer.tensor_spec import TensorSpec

#: Names of inputs that say which tokens there are, and of what is remembered of earlier ones.
_AUXILIARY = re.compile(r"(?i)(?:^|[^a-z])(?:\w*mask\w*|past_key\w*|past\.\d+)(?:$|[^a-z])")
#: The same of whole numbers: where tokens stand and of what type they are.
_AUXILIARY_NUMBERS = re.compile(
    r"(?i)(?:^|[^a-z])(?:token_?types?\w*|segment_?ids?|positions?(?:_?ids?)?)(?:$|[^a-z])|^segments?$"
)
#: Operator -> the input by which it selects rows of a table.
_SELECTS = {
    "Gather": 1, "GatherElements": 1, "GatherND": 1, "GatherBlockQuantized": 1, "OneHot": 0, "OneHotEncoder": 0,
    "LabelEncoder": 0, "CategoryMapper": 0, "EmbedLayerNormalization": 0, "Equal": 0,
}  # fmt: skip
#: Operators whose result still says which: they move whole numbers about, or shift them.
_KEEPS_NUMBERS = frozenset(
    (
        "Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Slice", "Split", "Concat", "Expand",
        "Clip", "Min", "Max", "Add", "Sub", "Mul", "Mod", "Where", "ArrayFeatureExtractor", "FeatureVectorizer",
    )
)  # fmt: skip
#: Bits of whole numbers that are values of their own: grey levels.
_LEVELS = ("uint8",)


def auxiliary(name: str, whole_numbers: bool) -> bool:
    """Whether an input's name says that it is held fixed unless it is named: a mask, positions, types, a cache."""
    return _AUXILIARY.search(name) is not None or (whole_numbers and _AUXILIARY_NUMBERS.search(name) is not None)


def explained_by_default(inputs: Mapping[str, TensorSpec], selecting: frozenset[str]) -> list[str]:
    """The inputs that are changed or explained where none are named.

    Those of floating-point numbers, of grey levels, and of whole numbers that select words or categories; without any of
    these, every input of numbers.

    Parameters
    ----------
    inputs
        All of the model's inputs.
    selecting
        As :func:`selecting_inputs`.
    """
    whole = {name for name, spec in inputs.items() if spec.dtype.startswith(("int", "uint"))}
    numeric = [name for name, spec in inputs.items() if name in whole or spec.dtype.startswith(("float", "bfloat"))]
    values = [n for n in numeric if n not in whole or inputs[n].dtype in _LEVELS or n in selecting]
    return [name for name in values if not auxiliary(name, name in whole)] or values or numeric


def selecting_inputs(graph: GraphProto) -> frozenset[str]:
    """The inputs that select rows of a table (words, categories), as a whole or column by column."""
    reading = GraphReaders.of(graph)
    return frozenset(value.name for value in graph.input if _selects(value.name, reading))


def _selects(name: str, reading: GraphReaders) -> bool:
    waiting, seen = [name], {name}
    while waiting:
        here = waiting.pop()
        for node in reading.of_value(here):
            if _selects_at(node, here, reading):
                return True
            if node.op_type in _KEEPS_NUMBERS or (node.op_type == "Gather" and node.input[0] == here):
                more = [output for output in node.output if output not in seen]
                seen.update(more)
                waiting += more
    return False


def _selects_at(node: NodeProto, name: str, reading: GraphReaders) -> bool:
    position = _SELECTS.get(node.op_type)
    if position is None or len(node.input) <= position or node.input[position] != name:
        return False
    if position == 1 and node.input[0] in reading.computed:
        return False  # an address in another input, as an edge between nodes
    if node.op_type == "Equal":  # a one-hot code written out: held against several constants
        constants = [reading.constants[other] for other in node.input if other in reading.constants]
        return any(max(constant.dims, default=1) > 1 for constant in constants)
    return True
