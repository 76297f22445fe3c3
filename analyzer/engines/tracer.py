"""A model's traces, one per input signature, and whether they agree with onnxruntime.

Belongs here: making, keeping and verifying them. Not here: how a trace is made (``importer.trace``), how two runs are
compared (``parity``), sweeps (``traced_score``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from analyzer.engines.traced_score import TracedScore
    from analyzer.importer.parity import Parity
    from analyzer.importer.trace import Trace
    from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
Feed = Mapping[str, Array]
#: How many traces, and how many parity results, are cached; the oldest are dropped.
KEPT = 8
#: Bytes of inputs that are cached with their parity results.
_KEPT_BYTES = 64 * 2**20


class Tracer:
    """The traces of one model, with the plans of sweeps over them.

    Inputs are never hashed: what depends on their values is found by comparing them with copies of those seen before.

    Parameters
    ----------
    device
        Where the traces' weights lie; the model's device by default.
    """

    def __init__(self, model: OnnxModel, device: str | None = None) -> None:
        self.model = model
        self.device = device or model.device
        self._traces: OrderedDict[Any, Trace] = OrderedDict()
        #: Signatures of traces that hold for one input's values only, and those inputs.
        self._pinned: OrderedDict[Any, list[tuple[dict[str, Array], Trace]]] = OrderedDict()
        self._verdicts: list[tuple[dict[str, Array], Parity]] = []
        self._scores: OrderedDict[tuple[int, str, tuple[str, ...] | None], TracedScore] = OrderedDict()

    def get(self, feed: Feed, precision: torch.dtype | None = None) -> Trace:
        """The trace for an input's signature; for its very values where what the model does depends on them."""
        from analyzer.importer.trace import trace

        signature = (str(precision), tuple((k, v.shape, v.dtype.str) for k, v in feed.items()))
        if signature in self._traces:
            self._traces.move_to_end(signature)
            return self._traces[signature]
        for known, found in self._pinned.get(signature, ()):
            if _equal(known, feed):
                return found
        made = trace(self.model.graph, feed, precision)
        if self.device != "cpu":
            made.module.to(self.device)
        if made.data_dependent is None:
            self._traces[signature] = made
        else:
            self._pinned.setdefault(signature, []).append((_copied(feed), made))
            del self._pinned[signature][:-KEPT]
        while len(self._traces) > KEPT:
            self._forget(self._traces.popitem(last=False)[1])
        while len(self._pinned) > KEPT:
            for _, old in self._pinned.popitem(last=False)[1]:
                self._forget(old)
        return made

    def score(
        self, feed: Feed, value: str, precision: str = "float32", chosen: tuple[str, ...] | None = None
    ) -> TracedScore:
        """The trace for an input's signature with the value whose scores are explained.

        Parameters
        ----------
        chosen
            As of :func:`~analyzer.engines.input_nodes.input_nodes`.

        Raises
        ------
        UnsupportedError
            ``op.unsupported`` naming the nodes that can't be traced, ``model.no_gradient`` where nothing that can be
            explained reaches the value.
        """
        from analyzer.engines.traced_score import PRECISION, TracedScore

        trace = self._in_precision(feed, PRECISION[precision])
        key = (id(trace), value, chosen)
        if key not in self._scores:
            self._scores[key] = TracedScore.on(trace, value, precision, self.device, chosen)
            while len(self._scores) > 2 * KEPT:
                self._scores.popitem(last=False)
        self._scores.move_to_end(key)
        return self._scores[key]

    def _in_precision(self, feed: Feed, precision: torch.dtype) -> Trace:
        """The trace that is explained: the model's own unless it computes something in a coarser type."""
        from analyzer.importer.precision import raised

        own = self.get(feed)
        kinds = {node.meta["dtype"] for node in own.module.graph.nodes if "dtype" in node.meta}
        return own if all(raised(kind, precision) == kind for kind in kinds) else self.get(feed, precision)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The trace's outputs, not held against anything."""
        import torch

        from analyzer.engines.precision import float32_products
        from analyzer.importer.conversion import as_tensor, to_numpy

        made, device = self.get(feed), torch.device(self.device)
        with float32_products(device, self.model.tf32):
            values = made.run({name: as_tensor(feed[name]).to(device) for name in made.inputs})
        return {name: to_numpy(value) for name, value in values.items()}

    def run_verified(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The trace's outputs; where onnx2torch had a part in it, not without holding it against onnxruntime."""
        values = self.run(feed)
        if self.get(feed).converted:
            self.require(feed)
        return values

    def verify(self, feed: Mapping[str, Array]) -> Parity:
        """The verdict on an input, from its first samples where the batch is fixed."""
        from analyzer.engines.parity import hold_against_runtime

        for known, verdict in self._verdicts:
            if _equal(known, feed):
                return verdict
        size = self.model.part_size(feed)
        part = dict(feed) if size is None else {k: v[:size] for k, v in feed.items()}
        verdict = hold_against_runtime(self.model, self.run, part)
        self._verdicts.append((_copied(feed), verdict))
        while len(self._verdicts) > KEPT or (len(self._verdicts) > 1 and self._bytes() > _KEPT_BYTES):
            del self._verdicts[0]
        return verdict

    def require(self, feed: Mapping[str, Array]) -> Parity:
        """Verify, and refuse to go on where the trace disagrees.

        Raises
        ------
        ParityError
            ``parity.mismatch`` naming the first ONNX node that differs.
        """
        from analyzer.engines.parity import required

        return required(self.verify(feed))

    def clear(self) -> None:
        """Let go of all traces and verdicts."""
        self._traces.clear()
        self._pinned.clear()
        self._verdicts.clear()
        self._scores.clear()

    def _forget(self, trace: Trace) -> None:
        for key in [key for key in self._scores if key[0] == id(trace)]:
            del self._scores[key]

    def _bytes(self) -> int:
        return sum(value.nbytes for known, _ in self._verdicts for value in known.values())


def _equal(known: Feed, feed: Feed) -> bool:
    """Whether two inputs are the same, types, shapes and bits included."""
    return known.keys() == feed.keys() and all(
        value.dtype == feed[name].dtype
        and value.shape == feed[name].shape
        and np.array_equal(_bits(value), _bits(feed[name]))
        for name, value in known.items()
    )


def _bits(value: Array) -> Array:
    """Floating-point values as integers of their bits, so that NaN equals itself and 0 differs from -0; others unchanged."""
    if value.dtype.kind != "f" or value.dtype.itemsize > 8:
        return value
    return np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")


def _copied(feed: Feed) -> dict[str, Array]:
    return {name: np.array(value) for name, value in feed.items()}
