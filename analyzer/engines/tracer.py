"""A model's traces, one per input signature, and whether they agree with onnxruntime.

Belongs here: keeping them. Not here: making a trace (``importer.trace``), comparing (``verification``).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ParityError

if TYPE_CHECKING:
    import torch

    from analyzer.importer.parity import Parity
    from analyzer.importer.trace import Trace
    from analyzer.model import Model

Array = NDArray[Any]
Feed = Mapping[str, Array]
#: How many traces, and how many verdicts on inputs, are kept; the oldest go.
KEPT = 8


class Traces:
    """The traces of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.made: OrderedDict[Any, Trace] = OrderedDict()
        self.verdicts: OrderedDict[str, Parity] = OrderedDict()

    def get(self, feed: Feed, precision: torch.dtype | None = None) -> Trace:
        """The trace for an input's signature; for its very values where what the model does depends on them."""
        from analyzer.importer.trace import trace

        signature = (str(precision), tuple((k, v.shape, v.dtype.str) for k, v in feed.items()))
        own = (signature, digest(feed))
        for key in (signature, own):
            if key in self.made:
                self.made.move_to_end(key)
                return self.made[key]
        made = trace(self._model.graph, feed, precision)
        self.made[own if made.data_dependent is not None else signature] = made
        while len(self.made) > KEPT:
            self.made.popitem(last=False)
        return made

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The trace's outputs, not held against anything."""
        from analyzer.importer.conversion import as_tensor, to_numpy

        made = self.get(feed)
        return {k: to_numpy(v) for k, v in made.run({k: as_tensor(feed[k]) for k in made.inputs}).items()}

    def run_verified(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The trace's outputs; where the second source had a part in it, not without holding it against onnxruntime."""
        values = self.run(feed)
        if self.get(feed).converted:
            self.require(feed)
        return values

    def verify(self, feed: Mapping[str, Array]) -> Parity:
        """The verdict on an input, from its first samples where the batch is fixed."""
        from analyzer.engines.parity import hold_against_runtime

        key = digest(feed)
        if key not in self.verdicts:
            size = self._model.pieces(feed)
            part = dict(feed) if size is None else {k: v[:size] for k, v in feed.items()}
            self.verdicts[key] = hold_against_runtime(self._model, part)
            while len(self.verdicts) > KEPT:
                self.verdicts.popitem(last=False)
        return self.verdicts[key]

    def require(self, feed: Mapping[str, Array]) -> Parity:
        """Verify, and refuse to go on where the trace disagrees.

        Raises
        ------
        ParityError
            ``parity.mismatch`` naming the first ONNX node that differs.
        """
        parity = self.verify(feed)
        if not parity.ok:
            where = f": {parity.first_difference} is the first to differ" if parity.first_difference else ""
            raise ParityError(
                "parity.mismatch",
                f"the trace disagrees with onnxruntime (relative error {parity.error:.1e}){where}",
                "perturbation methods such as occlusion work without a trace",
            )
        return parity


def digest(feed: Feed) -> str:
    """SHA-256 of an input: names, shapes, types and values."""
    state = hashlib.sha256()
    for name, value in feed.items():
        state.update(f"{name}{value.shape}{value.dtype}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    return state.hexdigest()
