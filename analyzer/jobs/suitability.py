"""Which methods work on a model, by looking at it: nothing is run, and no value of a picture's size is ever there.

Belongs here: verdicts from a trace of types and shapes, and from the rules that its nodes would get. Not here: verdicts by
trying (``trials``), what a method needs (it says so itself, see :mod:`analyzer.methods.static_context`).

The trace is the one that an explanation would make, by the same operators and rules, so that what is refused here is refused
there with the same words. What only numbers decide is left open: a branch on the input's values, and whether the trace gives
onnxruntime's numbers, which every explanation checks for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from analyzer.engines.protocol import GRADIENT
from analyzer.errors import AnalyzerError, InputError
from analyzer.importer.subgraphs import with_subgraphs
from analyzer.jobs.trials import FREE_LENGTHS, Verdict, failure, trial_shapes
from analyzer.methods import registry
from analyzer.methods.static_context import StaticContext
from analyzer.perturbation.evaluator import Evaluator
from analyzer.targets.resolve import scored_value
from analyzer.targets.target import Resolved, no_batch
from analyzer.tensor_spec import code_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from analyzer.importer.trace import Trace
    from analyzer.model import Model

#: Models of more nodes aren't traced by looking.
MOST_NODES = 5_000
_TRY = "only a run can tell: --try-methods"
#: Codes of refusals that say nothing against a method.
_OPEN = ("trace.no_numbers", "inspect.no_trial", "inspect.large", "inspect.no_shapes", "inspect.converted")
#: Integer inputs of more elements have no numbers either.
_MOST_NUMBERS = 2**20


def looked_at(model: Model) -> dict[str, Any]:
    """Which methods work.

    Returns
    -------
    dict
        ``methods``: name -> whether it works (None: not known), and why not; ``parity``: None; ``cam_layer``.
    """
    look = _Look(model)
    verdicts: dict[str, Verdict] = {}
    for name, info in registry.methods().items():
        if info.derived_from in verdicts:
            verdicts[name] = dict(verdicts[info.derived_from])
        else:
            verdicts[name] = _verdict(look, info)
    layer = None
    if any(verdicts[name]["works"] for name, info in registry.methods().items() if info.reads_a_layer):
        layer = look.traced.layer.name
    return {"methods": verdicts, "parity": None, "cam_layer": layer}


def _verdict(look: _Look, info: registry.MethodInfo) -> Verdict:
    try:
        static = look.runtime if info.needs == "runtime" else look.traced
        if info.reads_a_layer:
            _ = static.layer
        if info.fits is not None:
            info.fits(static)
    except Exception as problem:
        if isinstance(problem, AnalyzerError) and problem.code not in _OPEN:
            return failure(problem)
        said = problem.message if isinstance(problem, AnalyzerError) else f"{type(problem).__name__}: {problem}"
        return {"works": None, "reason": f"{' '.join(said.split())[:300]}; {_TRY}"}
    return {"works": True, "reason": ""}


class _Look:
    """A model as it is looked at; what can't be known raises when it is asked for, every time alike."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._answers: dict[str, Any] = {}

    @property
    def runtime(self) -> StaticContext:
        """For methods that only run the model."""
        found: StaticContext = self._answer("runtime", self._runtime)
        return found

    @property
    def traced(self) -> StaticContext:
        """For white-box methods."""
        found: StaticContext = self._answer("traced", self._traced)
        return found

    def _answer(self, what: str, find: Callable[[], Any]) -> Any:
        if what not in self._answers:
            try:
                self._answers[what] = find()
            except Exception as problem:
                self._answers[what] = problem
        found = self._answers[what]
        if isinstance(found, Exception):
            raise found
        return found

    def _trace(self) -> tuple[Trace, int]:
        """The trace of a batch of one, and the length of free axes for which there is one."""
        count = sum(len(graph.node) for body in self._bodies() for graph in with_subgraphs(body))
        if count > MOST_NODES:
            raise InputError("inspect.large", f"{count:,} nodes are too many to look through", "")
        reasons = []
        for length in FREE_LENGTHS:
            try:
                return self._traced_shapes(length, 1), length
            except InputError as problem:
                if problem.code in ("op.unsupported", "inspect.no_trial"):
                    raise
                reasons.append(problem)
        raise InputError("inspect.no_shapes", f"no trial shape fits: {reasons[0].message}", "")

    def _bodies(self) -> list[Any]:
        return [self.model.proto.graph, *self.model.proto.functions]

    def _traced_shapes(self, length: int, batch: int) -> Trace:
        from analyzer.importer.shape_recorder import ShapeRecorder
        from analyzer.importer.trace import trace

        shapes = trial_shapes(self.model, length, batch)
        given = {name: _given(self.model.inputs[name].dtype, shape) for name, shape in shapes.items()}
        return trace(self.model.graph, given, recorder=ShapeRecorder())

    def _runtime(self) -> StaticContext:
        scored, length, batch = scored_value(self.model), FREE_LENGTHS[0], 1
        try:
            trace, length = self._answer("trace", self._trace)
        except AnalyzerError as problem:
            if problem.code == "inspect.no_shapes":
                raise
        else:
            batch = self._samples(trace, scored.value, length)
        evaluator = self._evaluator(length, batch)
        evaluator.require_batch()
        return StaticContext(evaluator)

    def _samples(self, trace: Trace, value: str, length: int) -> int:
        """How many scores there are for the trial shapes.

        Raises
        ------
        InputError
            ``target.no_batch`` for a scalar; ``inspect.no_shapes`` where scores don't grow with the batch, so that it is
            open whether copies can be run side by side.
        """
        node = trace.values.get(value)
        if node is None:
            raise InputError("inspect.no_shapes", f"{value!r} isn't computed from the inputs", "")
        shape = tuple(node.meta["shape"])
        if not shape:
            raise no_batch(value, shape)
        if self.model.fixed_batch or self.model.couples_rows:
            return int(shape[0])
        try:
            larger = tuple(self._traced_shapes(length, 2).values[value].meta["shape"])
        except (AnalyzerError, KeyError) as problem:
            raise InputError("inspect.no_shapes", f"a batch of two can't be traced: {problem}", "") from None
        if larger[0] != 2 * shape[0]:
            raise InputError("inspect.no_shapes", f"{value!r} of shape {list(larger)} has no row for each sample", "")
        return int(shape[0])

    def _traced(self) -> StaticContext:
        scored = scored_value(self.model)
        trace, length = self._answer("trace", self._trace)
        from analyzer.engines.traced_score import TracedScore

        if trace.converted:
            raise InputError("inspect.converted", f"{trace.converted[0]} is converted by onnx2torch", "")
        traced = TracedScore.on(trace, scored.value, "float32", "cpu")
        found = StaticContext(self._evaluator(length, int((*traced.output.meta["shape"], 1)[0])), traced)
        found.require_rules(GRADIENT)  # every white-box method needs a path
        return found

    def _evaluator(self, length: int, batch: int) -> Evaluator:
        """An evaluator on inputs that take no memory, and can't be run."""
        inputs = {
            name: np.broadcast_to(np.zeros((), _numpy(self.model.inputs[name].dtype)), shape)
            for name, shape in trial_shapes(self.model, length).items()
        }
        nobody = Resolved(np.ones((batch, 1)), ("",) * batch, (-1,) * batch)

        def refuse(*_: object) -> Any:
            raise InputError("inspect.no_trial", "it runs the model while it is set up", "")

        return Evaluator(self.model, inputs, nobody, np.zeros((batch, 1)), 0, engine_on=refuse)


def _numpy(dtype: str) -> Any:
    return {"string": "object", "bfloat16": "float32"}.get(dtype, dtype)


def _given(dtype: str, shape: tuple[int, ...]) -> Tensor | NDArray[Any]:
    """An input: types and shapes alone, but for text and few integers, which are ones."""
    if dtype == "string":
        return np.broadcast_to(np.ones((), "str"), shape)
    import torch

    from analyzer.importer.conversion import as_tensor

    kind = as_tensor(np.ones((1,), onnx.helper.tensor_dtype_to_np_dtype(code_of(dtype)))).dtype
    few = not kind.is_floating_point and math.prod(shape) <= _MOST_NUMBERS
    return torch.ones(shape, dtype=kind) if few else torch.empty(shape, dtype=kind, device="meta")
