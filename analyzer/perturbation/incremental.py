"""Scores of windows by incremental inference: whether it pays, preparing it once per model, holding it against whole runs.

Belongs here: what the executor's incremental inference needs of a evaluator, and the verification. Not here: the inference
itself (``analyzer.executor.incremental``), the map (``occlusion``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from onnx import TensorProto

from analyzer.errors import AnalyzerError
from analyzer.perturbation.evaluator import Array, Evaluator

if TYPE_CHECKING:
    from analyzer.executor.incremental import Runner, Span

#: ``auto`` where it pays, ``on`` wherever it can be done, ``off`` never.
Mode = Literal["auto", "on", "off"]
Place = tuple[slice, ...]
#: The least predicted gain that is worth it.
LEAST = 1.3
#: How far a verified window may lie from its whole run, as a part of the scores' scale, by the precision inside the model.
TOLERANCE, TOLERANCE_HALF = 1e-5, 4e-3
_KEPT = 2


@dataclass
class Windows:
    """Incremental inference for the windows of one call.

    Attributes
    ----------
    axes
        The place axes of the perturbed input.
    places
        The windows, the last place axis fastest.
    runner
        None where all windows are run whole.
    why_not
        Why they are.
    worst
        The largest difference of a verified window, as a part of the scores' scale.
    """

    evaluator: Evaluator
    axes: tuple[int, ...]
    places: Sequence[Place]
    runner: Runner | None = None
    why_not: str = ""
    worst: float = 0.0
    new: bool = True
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any] | str:
        """What an explanation's record says."""
        if self.runner is None:
            return self.why_not
        plan = self.runner.plan
        return {
            "predicted": round(plan.predicted, 2), "share": round(plan.share, 3), "stages": plan.cut, "verified": self.worst,
        }  # fmt: skip

    def scores(self, sample: int, replacement: Array, advance: Callable[[int], None]) -> Array | None:
        """The scores of all windows of a sample, (windows,) float64; None where they must be run whole.

        Parameters
        ----------
        replacement
            What windows become, of the sample's shape.
        advance
            Called with the number of windows done.
        """
        if self.runner is None:
            return None
        pool = self.evaluator.model.session_pool
        try:
            known = self._whole(sample, self._spread(), replacement) if self.new else None
            first = 0 if known is None else len(known)
            if first:
                advance(first)
            if first and pool.is_large:
                pool.close()  # its weights make room for those of the rest of the model
            scores = self._run(self.runner, sample, replacement, lambda done: advance(max(done, first)))
            off = self._difference(sample, scores, replacement, known)
        except AnalyzerError as problem:
            self._give_up(problem.message)
            return None
        if not off <= self._tolerance():
            self._give_up(f"a window differs from its whole run by {off:.1e} of the scores' scale")
            return None
        self.worst, self.new = max(self.worst, off), False
        return scores

    def _run(self, runner: Runner, sample: int, replacement: Array, advance: Callable[[int], None]) -> Array:
        from analyzer.executor.incremental import Sample

        evaluator, name = self.evaluator, self.evaluator.perturbed
        others = {}
        for other, value in evaluator.inputs.items():
            if other != name:
                axis = evaluator.batch_axis(other)
                others[other] = (value if axis is None else value.take([sample], axis), axis)
        counts = [len(span.low) for span in runner.plan.windows]
        scores, done = np.full(counts, np.nan), 0
        for corners, got in runner.run(Sample(evaluator.inputs[name][sample], replacement, others)):
            found = evaluator.target.score_copies(sample, got)
            for corner, score in zip(corners, found, strict=True):
                scores[corner] = score
                done += 1
                advance(done)
        return scores.ravel()

    def _spread(self) -> Array:
        """Some windows from the first to the last."""
        from analyzer.executor.incremental import VERIFIED

        return np.unique(np.linspace(0, len(self.places) - 1, VERIFIED).astype(int))

    def _whole(self, sample: int, chosen: Array, replacement: Array) -> Array:
        """The scores of chosen windows by whole runs."""
        copies = (self._copy(sample, self.places[i], replacement) for i in chosen)
        return np.fromiter(self.evaluator.evaluate(sample, copies), np.float64)

    def _difference(self, sample: int, scores: Array, replacement: Array, known: Array | None) -> float:
        """The largest difference between some windows and their whole runs, as a part of the scores' scale.

        Of the first sample after a plan was made: the first window, the last and those between; later the one of largest
        effect.

        Parameters
        ----------
        known
            Whole runs of the first, the last and those between, where they were made before.
        """
        largest = np.array([np.argmax(np.abs(scores - self.evaluator.score[sample]))])
        chosen = self._spread() if self.new else largest
        whole = self._whole(sample, chosen, replacement) if known is None else known
        output = np.asarray(self.evaluator.output)
        rows = output[sample] if output.ndim and len(output) == self.evaluator.batch else output
        scale = max(
            float(np.abs(rows).max(initial=0)), abs(float(self.evaluator.score[sample])), np.finfo(np.float32).tiny
        )
        return float(np.abs(scores[chosen] - whole).max() / scale)

    def _copy(self, sample: int, place: Place, replacement: Array) -> Array:
        """The sample with a window replaced."""
        copy = np.array(self.evaluator.inputs[self.evaluator.perturbed][sample])
        index = [slice(None)] * copy.ndim
        for axis, part in zip(self.axes, place, strict=True):
            index[axis - 1] = part
        copy[tuple(index)] = replacement[tuple(index)]
        return copy

    def _tolerance(self) -> float:
        assert self.runner is not None
        kinds = self.runner.chain.graph.kinds
        half = {TensorProto.FLOAT16, TensorProto.BFLOAT16} & {kinds.get(name) for name in self.runner.chain.layouts}
        return TOLERANCE_HALF if half else TOLERANCE

    def _give_up(self, why: str) -> None:
        held = self.evaluator.model.session_pool.incremental
        for key in [key for key, runner in held.items() if runner is self.runner]:
            del held[key]
        self.runner, self.why_not = None, why
        self.notes.append(f"incremental inference was given up, every window was run whole: {why}")


def prepared(
    evaluator: Evaluator, axes: Sequence[int], spans: Sequence[tuple[Sequence[int], Sequence[int]]], places: Sequence[Place],
    mode: Mode, replacement: object,
) -> Windows:  # fmt: skip
    """Incremental inference for windows that are a grid, or why they are run whole.

    Parameters
    ----------
    axes
        The place axes of the perturbed input.
    spans
        Per place axis: begins and ends of the windows.
    replacement
        What windows become; must be an array.
    """
    windows = Windows(evaluator, tuple(axes), places)
    if mode == "off":
        windows.why_not = "switched off"
    elif not isinstance(replacement, np.ndarray):
        windows.why_not = "windows are filled in more than one way"
    elif evaluator.model.device != "cpu":
        windows.why_not = f"on {evaluator.model.device} whole runs are quicker than cutting crops on the host"
    else:
        from analyzer.executor.incremental import Span

        try:
            _prepare(windows, [Span(np.array(low), np.array(high)) for low, high in spans], mode)
        except AnalyzerError as problem:
            windows.why_not = problem.message
    return windows


def _prepare(windows: Windows, spans: list[Span], mode: Mode) -> None:
    from analyzer.executor.incremental import Graph, Runner, Source, chain, planned

    evaluator, model = windows.evaluator, windows.evaluator.model
    fixed = model.fixed_batch or (1 if evaluator.target.single else None)
    shapes = tuple((name, np.shape(value)) for name, value in evaluator.inputs.items())
    grid = tuple((tuple(s.low.tolist()), tuple(s.high.tolist())) for s in spans)
    key = shapes, evaluator.perturbed, evaluator.target.reads, windows.axes, grid, fixed
    held = model.session_pool.incremental
    if key in held:
        plan = held[key].plan
        if mode == "auto" and plan.predicted < LEAST:
            windows.why_not = _poor(plan.predicted)
        else:
            windows.runner, windows.new = held[key], False
        return
    batch = model.fixed_batch or 1
    source = Source(model.proto, model.path.parent if model.path else None, model.device, model.threads)
    sizes = {}
    for name, value in evaluator.inputs.items():
        axis, shape = evaluator.batch_axis(name), list(np.shape(value))
        if axis is not None:
            shape[axis] = batch
        sizes[name] = shape
    links = chain(Graph(source, sizes), evaluator.perturbed, windows.axes, evaluator.target.reads)
    if not links.stages:
        first = next(iter(links.ends.items()), ("the model", "no layer is local"))
        windows.why_not = f"{first[0]}: {first[1]}"
        return
    plan = planned(links, spans, evaluator.batch)
    if not plan.cut or (mode == "auto" and plan.first < LEAST):
        windows.why_not = _poor(plan.first)
        return
    windows.runner = Runner(plan, fixed)
    held[key] = windows.runner
    while len(held) > _KEPT:
        del held[next(iter(held))]


def _poor(gain: float) -> str:
    return f"a gain of {gain:.2f} is predicted, less than {LEAST}"
