"""Scores of windows by incremental inference: whether it pays, preparing it once per model, checking it by full runs.

Belongs here: what the executor's incremental inference needs of an evaluator, and the verification. Not here: the inference
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
    from analyzer.executor.incremental import Plan, Runner, Span

#: ``auto`` where it pays, ``on`` wherever it can be done, ``off`` never.
Mode = Literal["auto", "on", "off"]
#: One slice per spatial axis.
Window = tuple[slice, ...]
#: The least predicted gain that is worth it.
LEAST = 1.3
#: How far a verified window may lie from its full run, as a part of the scores' scale, by the precision inside the model.
TOLERANCE, TOLERANCE_HALF = 1e-5, 4e-3
#: How many runners a model holds.
_RUNNERS = 2


@dataclass
class IncrementalWindows:
    """Incremental inference for the windows of one call.

    Attributes
    ----------
    axes
        The spatial axes of the perturbed input.
    windows
        In order, the last spatial axis fastest.
    runner
        None where every window is run in full.
    why_not
        Why it is.
    worst
        The largest difference of a verified window, as a part of the scores' scale.
    new
        Whether no sample was verified since the runner was made.
    """

    evaluator: Evaluator
    axes: tuple[int, ...]
    windows: Sequence[Window]
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
        """The scores of all windows of a sample, (windows,) float64; None where they must be run in full.

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
            references = self._full_runs(sample, self._evenly_spaced(), replacement) if self.new else None
            first = 0 if references is None else len(references)
            if first:
                advance(first)
            if first and pool.is_large:
                pool.close()  # its weights make room for those of the rest of the model
            scores = self._run(self.runner, sample, replacement, lambda done: advance(max(done, first)))
            difference = self._difference(sample, scores, replacement, references)
        except AnalyzerError as problem:
            self._give_up(problem.message)
            return None
        if not difference <= self._tolerance():
            self._give_up(f"a window differs from its whole run by {difference:.1e} of the scores' scale")
            return None
        self.worst, self.new = max(self.worst, difference), False
        return scores

    def _run(self, runner: Runner, sample: int, replacement: Array, advance: Callable[[int], None]) -> Array:
        from analyzer.executor.incremental import Sample

        evaluator, name = self.evaluator, self.evaluator.perturbed
        others = {
            other: (evaluator.repeated(other, sample), evaluator.batch_axis(other))
            for other in evaluator.inputs
            if other != name
        }
        counts = [len(span.low) for span in runner.plan.windows]
        scores, done = np.full(counts, np.nan), 0
        for corners, got in runner.run(Sample(evaluator.inputs[name][sample], replacement, others)):
            found = evaluator.target.score_copies(sample, got)
            for corner, score in zip(corners, found, strict=True):
                scores[corner] = score
                done += 1
                advance(done)
        return scores.ravel()

    def _evenly_spaced(self) -> Array:
        """The numbers of some windows from the first to the last, which verify a new runner."""
        from analyzer.executor.incremental import VERIFIED

        return np.unique(np.linspace(0, len(self.windows) - 1, VERIFIED).astype(int))

    def _full_runs(self, sample: int, chosen: Array, replacement: Array) -> Array:
        """The scores of chosen windows by running the full model."""
        copies = (self._copy(sample, self.windows[i], replacement) for i in chosen)
        return np.fromiter(self.evaluator.evaluate(sample, copies), np.float64)

    def _difference(self, sample: int, scores: Array, replacement: Array, references: Array | None) -> float:
        """The largest difference between some windows and their full runs, as a part of the scores' scale.

        Of the first sample after a plan was made: the evenly spaced windows; later the one of largest effect.

        Parameters
        ----------
        references
            Full runs of the evenly spaced windows, where they were made before.
        """
        evaluator = self.evaluator
        largest = np.array([np.argmax(np.abs(scores - evaluator.score[sample]))])
        chosen = self._evenly_spaced() if self.new else largest
        full = self._full_runs(sample, chosen, replacement) if references is None else references
        output = np.asarray(evaluator.output)
        rows = output[sample] if output.ndim and len(output) == evaluator.batch else output
        scale = max(float(np.abs(rows).max(initial=0)), abs(float(evaluator.score[sample])), np.finfo(np.float32).tiny)
        return float(np.abs(scores[chosen] - full).max() / scale)

    def _copy(self, sample: int, window: Window, replacement: Array) -> Array:
        """The sample with a window replaced."""
        copy = np.array(self.evaluator.inputs[self.evaluator.perturbed][sample])
        index = [slice(None)] * copy.ndim
        for axis, part in zip(self.axes, window, strict=True):
            index[axis - 1] = part
        copy[tuple(index)] = replacement[tuple(index)]
        return copy

    def _tolerance(self) -> float:
        assert self.runner is not None
        kinds = self.runner.chain.graph.kinds
        half = {TensorProto.FLOAT16, TensorProto.BFLOAT16} & {kinds.get(name) for name in self.runner.chain.layouts}
        return TOLERANCE_HALF if half else TOLERANCE

    def _give_up(self, why: str) -> None:
        runners = self.evaluator.model.session_pool.incremental
        for key in [key for key, runner in runners.items() if runner is self.runner]:
            del runners[key]
        self.runner, self.why_not = None, why
        self.notes.append(f"incremental inference was given up, every window was run whole: {why}")


def prepared(
    evaluator: Evaluator, axes: Sequence[int], spans: Sequence[tuple[Sequence[int], Sequence[int]]], windows: Sequence[Window],
    mode: Mode, replacement: object,
) -> IncrementalWindows:  # fmt: skip
    """Incremental inference for windows that are a grid, or why they are run in full.

    Parameters
    ----------
    axes
        The spatial axes of the perturbed input.
    spans
        Per spatial axis: begins and ends of the windows.
    replacement
        What windows become; must be an array.
    """
    local = IncrementalWindows(evaluator, tuple(axes), windows)
    if mode == "off":
        local.why_not = "switched off"
    elif not isinstance(replacement, np.ndarray):
        local.why_not = "windows are filled in more than one way"
    elif evaluator.batch_size() == 1 and evaluator.model.fixed_batch is None:
        local.why_not = "the model is run for one copy at a time"
    elif evaluator.model.device != "cpu":
        local.why_not = f"on {evaluator.model.device} whole runs are quicker than cutting crops on the host"
    else:
        from analyzer.executor.incremental import Span

        try:
            _prepare(local, [Span(np.array(low), np.array(high)) for low, high in spans], mode)
        except AnalyzerError as problem:
            local.why_not = problem.message
    return local


def _prepare(local: IncrementalWindows, spans: list[Span], mode: Mode) -> None:
    """Give the windows a runner, one that the model holds or a new one, or say why they have none."""
    from analyzer.executor.incremental import Runner

    evaluator, model = local.evaluator, local.evaluator.model
    fixed = model.fixed_batch or (1 if evaluator.target.single else None)
    shapes = tuple((name, np.shape(value)) for name, value in evaluator.inputs.items())
    grid = tuple((tuple(span.low.tolist()), tuple(span.high.tolist())) for span in spans)
    key = shapes, evaluator.perturbed, evaluator.target.reads, local.axes, grid, fixed
    runners = model.session_pool.incremental
    if key in runners:
        gain = runners[key].plan.predicted
        if mode == "auto" and gain < LEAST:
            local.why_not = _small(gain)
        else:
            local.runner, local.new = runners[key], False
        return
    plan = _plan(local, spans)
    if isinstance(plan, str):
        local.why_not = plan
    elif not plan.cut or (mode == "auto" and plan.first < LEAST):
        local.why_not = _small(plan.first)
    else:
        local.runner = runners[key] = Runner(plan, fixed)
        while len(runners) > _RUNNERS:
            del runners[next(iter(runners))]


def _plan(local: IncrementalWindows, spans: list[Span]) -> Plan | str:
    """What to compute for each window; where no layer is local, the reason."""
    from analyzer.executor.incremental import Graph, Source, chain, planned

    evaluator, model = local.evaluator, local.evaluator.model
    sizes = {}
    for name, value in evaluator.inputs.items():
        axis, sizes[name] = evaluator.batch_axis(name), list(np.shape(value))
        if axis is not None:
            sizes[name][axis] = model.fixed_batch or 1
    source = Source(model.proto, model.files, model.device, model.threads)
    layers = chain(Graph(source, sizes), evaluator.perturbed, local.axes, evaluator.target.reads)
    if not layers.stages:
        where, why = next(iter(layers.ends.items()), ("the model", "no layer is local"))
        return f"{where}: {why}"
    return planned(layers, spans, evaluator.batch)


def _small(gain: float) -> str:
    return f"a gain of {gain:.2f} is predicted, less than {LEAST}"
