"""One explanation: target, parity, parameters, the record of what was done.

Belongs here: the steps that every method shares. Not here: the methods, what is explained (``analyzer.targets``), engines
(``backends``), fixed batches (``fixed_batch``).
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.compiler.subject import Subject
from analyzer.engines.protocol import NotCompilableError
from analyzer.errors import InputError, UnsupportedError, UsageError
from analyzer.executor.row_coupling import NO_COUPLING, Coupling
from analyzer.explain.backends import Backends, Shared, check
from analyzer.explain.completeness import SHORTFALL, with_missed_sum
from analyzer.explain.finiteness import all_finite, require_finite_params, require_finite_result, require_finite_score
from analyzer.explain.fixed_batch import in_parts
from analyzer.explain.request import Request
from analyzer.explanation import Explanation, NodeTotals, Result
from analyzer.inputs.fitted_range import strange
from analyzer.methods import registry
from analyzer.methods.context import Context, Evaluator
from analyzer.onnx_model import OnnxModel
from analyzer.perturbation.whole_input import WholeInput
from analyzer.targets.language import TargetLike
from analyzer.targets.resolve import Explained, resolve_on
from analyzer.targets.target import Resolved
from analyzer.versions import version

Array = NDArray[Any]
#: How often a model that draws random numbers is run again.
_RUNS = 7


def explain(backends: Backends, feed: dict[str, Array], request: Request) -> Explanation:
    """Run a method on inputs that fit the model."""
    info = registry.get(request.method)
    if request.layer is not None and "layer" in info.parameters:
        request = replace(request, params={**request.params, "layer": request.layer}, layer=None)
    params = info.check(request.params)
    require_finite_params(info, params)
    _check(backends.model, info, feed, request)
    size = backends.model.part_size(feed)
    coupling = NO_COUPLING if size is not None else _coupling(backends.model, feed, info)
    if coupling.kind == "some" and backends.model.fixed_batch is None and _samples(feed) not in (None, 1):
        size = 1
    if size is not None:
        found = in_parts(backends, feed, request, size, explain)
        notes = list(dict.fromkeys([*found.record["notes"], *_coupled(backends.model, coupling)]))
        return replace(found, record={**found.record, "notes": notes})
    with backends.model.held.hold(feed):
        return _explained(backends, feed, request, info, params, coupling)


def _explained(
    backends: Backends,
    feed: dict[str, Array],
    request: Request,
    info: registry.MethodInfo,
    params: dict[str, Any],
    coupling: Coupling,
) -> Explanation:
    """Run a method on inputs that are explained as they are."""
    started = time.perf_counter()
    explained = resolve_on(
        backends.model, feed, request.target, score=request.score, layer=request.layer, place=request.place,
        gradients=info.needs == "trace", fetched=None if request.shared is None else request.shared.values,
    )  # fmt: skip
    require_finite_score(backends.model, feed, explained.target.score(explained.output))
    record = _record(backends.model, request) | explained.record
    began = time.perf_counter()
    call = _Call(backends.on(explained.model), feed, request, explained, info, params, whole=coupling.kind == "whole")
    evaluator, result, ran = call.run()
    require_finite_result(info.name, result)
    ended = time.perf_counter()
    record |= ran
    record["notes"] = [
        *explained.target.notes,
        *strange(backends.model.fitted_ranges, evaluator.replaced),
        *result.notes,
        *_held(info, request, feed, result),
        *_together(result, len(explained.target.names)),
        *_coupled(backends.model, coupling),
        *_random(explained, feed),
        *_guessed(backends.model, info, feed, result),
        *_empty(info, result),
    ]
    record["seconds"] = {"method": ended - began, "total": ended - started}
    if evaluator.masks is not None:
        record["masks"] = evaluator.masks
    if evaluator.files:
        record["fills"] = evaluator.files
    record.update(result.record)
    record[SHORTFALL] = result.shortfall or info.remedy
    raws = {name: result.raws.get(name, value) for name, value in result.attributions.items()}
    complete = result.completeness if request.at is None else None  # others may carry the rest past an inner value
    signed = info.signed if result.signed is None else result.signed
    found = Explanation(
        request.method, params, result.attributions, raws, feed, explained.target.names, explained.target.classes,
        explained.target.score(explained.output), explained.scored.kind, signed, complete, record,
        info.notable(params), result.standard_errors, request.options, call.totals,
    )  # fmt: skip
    return found if request.place is not None else with_missed_sum(found, [found])


def _coupling(model: OnnxModel, feed: dict[str, Array], info: registry.MethodInfo) -> Coupling:
    """How rows depend on each other: by the operators, and where several rows are run together by running them."""
    if info.needs == "runtime" or model.batch_of(feed) > 1:
        return model.coupling(feed, model.batch_of(feed))
    return NO_COUPLING if model.couples_rows is None else Coupling("some", model.couples_rows)


def _samples(feed: dict[str, Array]) -> int | None:
    """How many samples all inputs count on their first axis; None where these differ."""
    counts = {len(value) if value.ndim else 1 for value in feed.values()}
    return counts.pop() if len(counts) == 1 else None


def _coupled(model: OnnxModel, coupling: Coupling) -> list[str]:
    """A note where rows depend on each other."""
    if coupling.kind == "none":
        return []
    if coupling.kind == "whole":
        return ["rows depend on each other: all of them are one sample, the map is that of the sum of their scores"]
    fixed = model.fixed_batch not in (None, 1)
    then = "perturbed copies change each other's scores" if fixed else "samples and their copies are run one at a time"
    return [f"{coupling.reason} makes a row's outputs depend on the rows beside it: {then}"]


def _empty(info: registry.MethodInfo, result: Result) -> list[str]:
    """A note where all maps are zero; class activation maps have one of their own."""
    if info.family == "CAM" or any(np.any(value) for value in result.attributions.values()):
        return []
    return [
        "the map is zero everywhere: for this method and these parameters nothing that it looks at changes the score"
    ]


def _guessed(model: OnnxModel, info: registry.MethodInfo, feed: Mapping[str, Array], result: Result) -> list[str]:
    """A note on every layout that only the sizes tell, where masks and segments follow it."""
    if info.needs != "runtime":
        return []
    shapes = {name: feed[name].shape for name in result.attributions if name in feed}
    return [
        f"input {name!r} is taken as {model.axes(name, shape).letters}, guessed from its sizes: layout= says otherwise"
        for name, shape in shapes.items()
        if model.guesses_axes(name, shape)
    ]


def _random(explained: Explained, feed: dict[str, Array]) -> list[str]:
    """A note on how much the score itself varies where the model draws random numbers."""
    model, target = explained.model, explained.target
    if model.random_operator is None or not isinstance(target, Resolved):
        return []
    again = [target.score(model.values(feed, [target.value])[target.value]) for _ in range(_RUNS)]
    scores = np.stack([target.score(explained.output), *again])
    low, high = scores.min(axis=0), scores.max(axis=0)
    worst = int(np.argmax(high - low))
    if high[worst] == low[worst]:
        return []
    return [
        f"{model.random_operator} draws random numbers: the same input scored from {low[worst]:.4g} to {high[worst]:.4g} "
        f"in {_RUNS + 1} runs"
    ]


def _held(info: registry.MethodInfo, request: Request, feed: Mapping[str, Array], result: Result) -> list[str]:
    """A note that names the inputs which are no part of what is explained."""
    fixed = [name for name in feed if name not in result.attributions]
    if not fixed or request.at is not None or info.family == "CAM":
        return []
    return [f"held fixed: {', '.join(fixed)}"]


def _together(result: Result, batch: int) -> list[str]:
    """A note where the map promises one sum for several scores."""
    if result.completeness is None or len(result.completeness.total) == batch:
        return []
    return ["the scores share an input, or depend on each other's rows: the map's sum is that of all scores together"]


def explain_targets(
    backends: Backends, feed: dict[str, Array], request: Request, targets: Sequence[TargetLike]
) -> list[Explanation]:
    """One explanation per target; where the method needs a trace, one forward pass serves all."""
    shared = Shared()
    try:
        return [explain(backends, feed, replace(request, target=target, shared=shared)) for target in targets]
    finally:
        shared.clear()


class _Call:
    """One call of a method on one batch."""

    def __init__(
        self, backends: Backends, feed: dict[str, Array], request: Request, explained: Explained,
        info: registry.MethodInfo, params: Mapping[str, Any], whole: bool = False,
    ) -> None:  # fmt: skip
        self._backends = backends
        self._feed = feed
        self._request = request
        self._explained = explained
        self._info = info
        self._params = params
        self._whole = whole

    def run(self) -> tuple[Evaluator, Result, dict[str, Any]]:
        """A method's context and result, and the engine's entries for the record."""
        if self._info.needs == "runtime":
            evaluator = self._evaluator()
            result: Result = self._info.function(evaluator, **self._params)
            return evaluator, evaluator.rows_of(result) if isinstance(evaluator, WholeInput) else result, {}
        request, subject = self._request, self._subject()
        try:
            engine = self._backends.engine(
                subject, request.backend, request.precision, at=request.at, shared=request.shared
            )
            context = self._context(engine)
            result = self._info.function(context, **self._params)
            ran = engine.record()
        except NotCompilableError as problem:
            raise UnsupportedError(
                "backend.onnxruntime", f"the onnxruntime backend can't do this: {problem}", 'use backend="torch"'
            ) from None
        self._backends.remember(subject, engine)
        return context, result, ran

    def totals(self) -> dict[str, NodeTotals]:
        """Relevance totals of every ONNX node, from one more sweep.

        Raises
        ------
        UnsupportedError
            ``nodes.method`` for methods that aren't one reverse sweep.
        """
        info = self._info
        refusal = UnsupportedError(
            "nodes.method", f"{info.name} isn't one reverse sweep: it has no totals by node", "use lrp, or gradient"
        )
        if info.needs != "trace" or info.family not in ("gradient", "relevance"):
            raise refusal
        from graph_rules.totals import NoTotalsError, RelevanceTotals

        engine, totals = self._torch(), RelevanceTotals()
        engine.totals = totals
        try:
            info.function(self._context(engine), **self._params)
        except NoTotalsError:
            raise refusal from None
        if totals.sweeps != 1:
            raise refusal
        return {name: NodeTotals(*found) for name, found in totals.by_onnx_node().items()}

    def _torch(self) -> Any:
        return self._backends.torch(self._subject(), self._request.precision, at=self._request.at)

    def _subject(self) -> Subject:
        target = self._explained.target
        assert isinstance(target, Resolved)  # a detection has been resolved to its class score
        return Subject(
            self._feed, self._explained.scored.value, target.weights, self._request.inputs, self._explained.known
        )

    def _context(self, engine: Any) -> Context:
        target = self._explained.target
        assert isinstance(target, Resolved)
        return Context(
            self._backends.model, self._feed, target, self._explained.output, self._request.seed,
            self._request.progress, self._request.inputs, engine_on=self._engine_on, engine=engine,
        )  # fmt: skip

    def _evaluator(self) -> Evaluator:
        evaluator = Evaluator(
            self._backends.model, self._feed, self._explained.target, self._explained.output, self._request.seed,
            self._request.progress, self._request.inputs, engine_on=self._engine_on,
        )  # fmt: skip
        return WholeInput.of(evaluator) if self._whole else evaluator

    def _engine_on(self, inputs: dict[str, Array], weights: Array) -> Any:
        """The torch engine on other inputs; on the request's own ones the trace is verified."""
        subject = Subject(inputs, self._explained.scored.value, weights, self._request.inputs)
        return self._backends.torch(subject, self._request.precision, verify=inputs is self._feed)


def _check(model: OnnxModel, info: registry.MethodInfo, feed: Mapping[str, Array], request: Request) -> None:
    """Refuse what can be seen to be wrong before anything runs."""
    if request.at is not None and not info.inner:
        able = ", ".join(name for name, known in registry.methods().items() if known.inner)
        raise UsageError("at.method", f"{info.name} can't be given at an inner value", f"methods that can: {able}")
    check(request.backend, request.precision)
    model.require_inputs()
    request.require_inputs(feed)
    if isinstance(request.seed, bool) or not isinstance(request.seed, int | np.integer) or request.seed < 0:
        raise UsageError("seed.invalid", f"seed={request.seed!r} is no whole number from 0 on", "give seed=0")
    for name, value in feed.items():
        if value.ndim and len(value) == 0:
            raise InputError("data.bad_shape", f"input {name!r} holds no samples", "give at least one")
        if value.dtype.kind != "f" or all_finite(value):
            continue
        if np.isinf(value).any() or name not in model.takes_missing:
            raise InputError("data.nonfinite", f"input {name!r} holds NaN or infinite values", "clean the input first")


def _record(model: OnnxModel, request: Request) -> dict[str, Any]:
    return {
        "model": {"path": str(model.path) if model.path else None, "sha256": model.sha256},
        "versions": dict(_versions()),
        "device": model.device,
        "tf32": model.tf32,
        "seed": request.seed,
        "precision": request.precision,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("onnxplain", "onnx", "numpy")}
    for name in ("onnxruntime-gpu", "onnxruntime", "torch"):  # one of the former two, the last only perhaps
        if found := version(name, ""):
            versions[name] = found
    return versions
