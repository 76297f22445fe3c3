"""Holding a model's trace against onnxruntime on an input.

Belongs here: running both, the verdict and, where they disagree, the values between; which of these is the first that isn't
finite. Not here: comparing arrays (``importer.parity``), what becomes of a model that fails (``tracer``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError, ParityError
from analyzer.executor.session import Session

if TYPE_CHECKING:
    from analyzer.importer.parity import Parity
    from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
Feed = Mapping[str, Array]


def hold_against_runtime(
    model: OnnxModel,
    run_trace: Callable[[dict[str, Array]], Mapping[str, Array]],
    feed: dict[str, Array],
    known: Feed | None = None,
) -> Parity:
    """Every numeric output of the trace beside onnxruntime's, and the first ONNX node that differs where they disagree.

    Parameters
    ----------
    known
        Values that onnxruntime has given for this input already.
    """
    from analyzer.importer.parity import compare, first_difference

    traced = run_trace(feed)
    names = [name for name in model.compared if name in traced]
    expected = values_of(model, feed, names, known) if names else {}
    parity = compare(traced, {k: v for k, v in expected.items() if _numeric(v)}, model.tolerance)
    if parity.ok:
        return parity
    where = first_difference(
        model.graph, every_value(model, feed), functools.partial(inner_values, model, feed), model.tolerance
    )
    return type(parity)(parity.error, parity.tolerance, parity.outputs, where)


def values_of(model: OnnxModel, feed: Feed, names: Sequence[str], known: Feed | None) -> Mapping[str, Array]:
    """onnxruntime's values by name: those that are known, or from a run."""
    if known is not None and all(name in known for name in names):
        return {name: known[name] for name in names}
    return model.values(feed, names)


@dataclass
class Verification:
    """Whether the trace agrees with onnxruntime on one batch, found out once, when it is first needed.

    Attributes
    ----------
    run
        Gives the trace's outputs.
    feed
        The batch.
    known
        Values that onnxruntime has given for it already.
    parity
        The verdict, once there is one.
    """

    model: OnnxModel
    run: Callable[[dict[str, Array]], Mapping[str, Array]]
    feed: dict[str, Array]
    known: Feed = field(default_factory=dict)
    parity: Parity | None = None

    def require(self, outputs: Callable[[], Mapping[str, Array]] | None = None) -> Parity:
        """The verdict; errors as :meth:`Tracer.require <analyzer.engines.tracer.Tracer.require>`.

        Parameters
        ----------
        outputs
            Gives the trace's outputs where a pass has computed them; else the trace is run.
        """
        if self.parity is None:
            run = self.run if outputs is None else lambda _: outputs()
            self.parity = hold_against_runtime(self.model, run, self.feed, self.known)
        return required(self.parity)


def required(parity: Parity) -> Parity:
    """A verdict that lets the trace be explained.

    Raises
    ------
    ParityError
        ``parity.mismatch`` naming the first ONNX node that differs.
    """
    if not parity.ok:
        where = f": {parity.first_difference} is the first to differ" if parity.first_difference else ""
        raise ParityError(
            "parity.mismatch",
            f"the trace disagrees with onnxruntime (relative error {parity.error:.1e}){where}",
            "perturbation methods such as occlusion work without a trace",
        )
    return parity


def every_value(model: OnnxModel, feed: Feed) -> dict[str, Array]:
    """Every value that the interpreter computes, by name."""
    import torch

    from analyzer.importer.conversion import as_tensor, to_numpy
    from analyzer.importer.graph import without
    from analyzer.importer.interpreter import Interpreter, missing, run_graph

    seen: dict[str, Array] = {}

    def observe(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            seen[name] = to_numpy(value)

    with torch.no_grad():
        graph = without(model.graph, missing(model.graph))
        run_graph(graph, {k: as_tensor(v) for k, v in feed.items()}, Interpreter(observe=observe))
    return seen


def inner_values(model: OnnxModel, feed: Feed, names: Sequence[str]) -> dict[str, Any]:
    """onnxruntime's values of inner names, graph optimisations off so that they exist."""
    return inner_runner(model, names)(feed)


def inner_runner(model: OnnxModel, names: Sequence[str]) -> Callable[[Feed], dict[str, Any]]:
    """What :func:`inner_values` gives, for many inputs with one session."""
    source, files = model.source()
    outputs = {o.name for o in model.proto.graph.output}
    expose = [name for name in names if name not in outputs]
    session = Session(source, "cpu", expose, files, model.threads, optimize=False)
    return lambda feed: session.run({k: v for k, v in feed.items() if k in session.inputs}, names)


def first_nonfinite(model: OnnxModel, feed: Feed) -> str:
    """Which node is the first whose value isn't finite, in words behind a colon; empty where that can't be found out."""
    nodes = [node for node in model.graph.nodes if node.outputs and node.outputs[0]]
    try:
        values = inner_values(model, feed, [node.outputs[0] for node in nodes])
    except AnalyzerError:  # a value that can't be given out
        return ""
    for node in nodes:
        value = values[node.outputs[0]]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            return f": {node.op_type} node {node.name!r} is the first whose value isn't finite"
    return ""


def _numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
