"""A model cut at inner values: whoever reads one reads an input of its own instead, so that errors don't add up.

Belongs here: the ONNX model that results, and running it. Not here: which values are worth cutting at
(``analyzer.evaluation.counterparts``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from analyzer.executor.session import Session

Array = NDArray[Any]
_PREFIX = "onnxplain_cut/"


def run_cut(
    proto: onnx.ModelProto, values: Mapping[str, Array], feed: Mapping[str, Array], folder: Path | None = None
) -> dict[str, Array]:
    """Every value as its own node gives it where the others are given.

    Parameters
    ----------
    values
        Graph inputs and inner values by name; each is given to the nodes that read it, of the type that they read.
    feed
        The model's inputs by name.
    folder
        Where external data lies.

    Returns
    -------
    dict
        Name -> array, for the values that a node gives; sequences and dictionaries are left out.

    Raises
    ------
    InputError
        ``runtime.*``.
    """
    cut = cut_model(proto, values)
    made = [name for node in cut.graph.node for name in node.output if name in values]
    declared = {each.name for each in cut.graph.output}
    session = Session(
        cut.SerializeToString(), expose=[n for n in made if n not in declared], folder=folder, optimize=False
    )
    given = {**feed, **{_PREFIX + name: np.ascontiguousarray(value) for name, value in values.items()}}
    got = session.run({name: value for name, value in given.items() if name in session.inputs}, made)
    return {name: value for name, value in got.items() if isinstance(value, np.ndarray)}


def cut_model(proto: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """The model whose nodes read ``values`` from inputs of their own; branches and loop bodies read them as they were."""
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    read: set[str] = set()
    for node in cut.graph.node:
        for at, name in enumerate(node.input):
            if name in values:
                node.input[at] = _PREFIX + name
                read.add(name)
    for name in sorted(read):
        kind = helper.np_dtype_to_tensor_dtype(values[name].dtype)
        cut.graph.input.append(helper.make_tensor_value_info(_PREFIX + name, kind, values[name].shape))
    return cut
