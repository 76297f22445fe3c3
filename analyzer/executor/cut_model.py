"""A model cut at inner values: whoever reads one reads an input of its own instead, so that errors don't add up.

Belongs here: the ONNX model that results, and running it. Not here: which values are worth cutting at
(``analyzer.evaluation.counterparts``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from analyzer.executor.session import Session
from analyzer.importer.checked_files import CheckedFiles

Array = NDArray[Any]
_PREFIX = "onnxplain_cut/"


class CutModel:
    """A model cut at values, ready to be run.

    Parameters
    ----------
    values
        Graph inputs and inner values by name -> (element type, rank), as the nodes that read them take them.
    files
        What external data is read from, as it was checked.

    Raises
    ------
    InputError
        ``runtime.load_failed``.
    """

    def __init__(
        self, proto: onnx.ModelProto, values: Mapping[str, tuple[np.dtype[Any], int]], files: CheckedFiles | None = None
    ) -> None:
        cut = cut_model(proto, values)
        self._made = [name for node in cut.graph.node for name in node.output if name in values]
        declared = {each.name for each in cut.graph.output}
        inner = [name for name in self._made if name not in declared]
        self._session = Session(cut.SerializeToString(), expose=inner, files=files, optimize=False)

    def run(self, values: Mapping[str, Array], feed: Mapping[str, Array]) -> dict[str, Array]:
        """Every value as its own node gives it where all are given.

        Parameters
        ----------
        values
            Each value that the model is cut at.
        feed
            The model's inputs by name.

        Returns
        -------
        dict
            Name -> array, for the values that a node gives; sequences and dictionaries are left out.

        Raises
        ------
        InputError
            ``runtime.*``.
        """
        given = {**feed, **{_PREFIX + name: np.ascontiguousarray(value) for name, value in values.items()}}
        read = self._session.inputs
        got = self._session.run({name: value for name, value in given.items() if name in read}, self._made)
        return {name: value for name, value in got.items() if isinstance(value, np.ndarray)}


def cut_model(proto: onnx.ModelProto, values: Mapping[str, tuple[np.dtype[Any], int]]) -> onnx.ModelProto:
    """The model whose nodes read ``values`` from inputs of their own; branches and loop bodies read them as they were.

    Parameters
    ----------
    values
        Name -> (element type, rank).
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    read: set[str] = set()
    for node in cut.graph.node:
        for at, name in enumerate(node.input):
            if name in values:
                node.input[at] = _PREFIX + name
                read.add(name)
    for name in sorted(read):
        kind, rank = values[name]
        code = helper.np_dtype_to_tensor_dtype(kind)
        cut.graph.input.append(helper.make_tensor_value_info(_PREFIX + name, code, [None] * rank))
    return cut
