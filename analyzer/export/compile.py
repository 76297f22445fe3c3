"""``compile``: a model and one of its explanations as a single ONNX file.

Belongs here: the steps from a model to a checked file. Not here: recording and writing (``analyzer.compiler``), targets as
tensor code (``targets``).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from analyzer.compiler import agreement
from analyzer.compiler.free_batch import HINT as TORCH
from analyzer.compiler.free_batch import Recorded, write
from analyzer.compiler.recorder import SweepRecorder
from analyzer.compiler.recording_engine import RecordedTarget, RecordingEngine
from analyzer.compiler.subject import Subject
from analyzer.engines.protocol import NotCompilableError
from analyzer.errors import UnsupportedError, UsageError
from analyzer.explain.finiteness import require_finite_params
from analyzer.explain.pipeline import explain
from analyzer.explain.request import Request
from analyzer.export import targets
from analyzer.files import remove_drafts, require_replaceable, require_writable, write_atomically
from analyzer.importer.conversion import as_tensor
from analyzer.importer.precision import HALF, raised
from analyzer.methods import registry
from analyzer.methods.context import Context
from analyzer.model import Model, load
from analyzer.targets.grammar import is_per_sample, parse, with_scalars
from analyzer.targets.language import TargetLike, resolve
from analyzer.targets.resolve import Explained, explains_a_detection

Array = NDArray[Any]


@dataclass(frozen=True)
class Compiled:
    """A compiled explanation.

    Attributes
    ----------
    proto
        The ONNX model.
    path
        Where it was written, None where no ``output`` was given.
    batch
        None where it is free, else the size that it is fixed at.
    reason
        Why the batch is fixed.
    relevances
        Input name -> name of the output with its relevance.
    difference
        Largest difference to the torch backend on the example, relative to the largest relevance; None without ``verify``.
    """

    proto: onnx.ModelProto = field(repr=False)
    path: Path | None
    method: str
    target: str
    batch: int | None
    reason: str
    relevances: Mapping[str, str]
    difference: float | None

    @property
    def size(self) -> int:
        """Bytes of the model."""
        return int(self.proto.ByteSize())


def compile(  # noqa: A001  (analyzer.compile)
    model: Model | str | os.PathLike[str],
    method: str = "gradient",
    target: TargetLike = "top1",
    *,
    output: str | os.PathLike[str] | None = None,
    batch: int = 1,
    score: str = "logit",
    seed: int = 0,
    example: Array | Mapping[str, Array] | None = None,
    inputs: str | Sequence[str] | None = None,
    verify: bool = True,
    overwrite: bool = True,
    **params: Any,
) -> Compiled:
    """Write an explanation as an ONNX model that onnxruntime runs without anything else.

    The model takes the original's inputs and gives its outputs and ``relevance``, shaped like ``Explanation.raw`` of
    the first explained input (further ones: ``relevance_NAME``). Opset 18, standard operators.

    Parameters
    ----------
    method, params, score, seed, inputs
        As in :meth:`Model.explain`.
    target
        ``top1``, ``top2``, … are ranked inside; a class, label, contrast, weights or ``OUTPUT[:,3]`` is fixed; ``input`` adds an
        int64 input ``target`` of shape (batch,).
    output
        File to write; written under a temporary name and renamed.
    batch
        The batch size where it can't be left free. It stays free where no operator depends on it.
    example
        An input whose shape (the batch aside) the model is compiled for; needed where sizes other than the batch are open.
    verify
        Run the result on the example and compare it with the torch backend.
    overwrite
        Whether a file that is there already is replaced. Nothing but a regular file ever is.

    Raises
    ------
    UnsupportedError
        ``compile.method``, ``compile.operator``, ``compile.data_dependent``, ``compile.size``.
    ParityError
        ``compile.mismatch``: the compiled model gives other numbers.
    UsageError
        ``output.*``: the file can't be written, or must not be replaced.
    InconclusiveError
        ``output.no_space``, ``output.read_only``.
    """
    model = model if isinstance(model, Model) else load(model)
    _check(model, method, target, batch)
    path = None if output is None else Path(output)
    if path is not None:
        _check_output(model, path, overwrite)
    given = registry.get(method).check(params)
    require_finite_params(registry.get(method), given)
    chosen = Request.of(method, inputs=inputs).inputs
    request = Request(method, given, target, score, seed, "torch", inputs=chosen)
    request.require_inputs(model.inputs)
    if model.fixed_batch is not None:
        batch, reason = model.fixed_batch, "the model's own batch is fixed"
    else:
        reason = ""
    _require_own_outputs(model)
    feed = _example(model, example, batch)
    if isinstance(target, str) and target == "top1" and explains_a_detection(model, feed, score):
        raise UsageError(
            "target.not_compilable",
            "the default target of a detector is its best detection, which no fixed graph finds",
            "name an element of an output, as in OUTPUT[:,3098,5]",
        )

    request = _at_its_grid(model, request, feed)

    def record(count: int | None) -> Recorded:
        return _record(model, request, feed if count is None else _rows(feed, count))

    def describe(_: Mapping[str, Any], size: int | None) -> dict[str, str]:
        return _metadata(model, request, size)

    written = write(record, batch, reason, describe)
    proto, relevances = written.proto, dict(written.facts)
    difference = None
    if verify and not _is_input(target):
        difference = _difference(model, written.content, feed, request, relevances)
    model.files.require_not_overwritten()
    if path is not None:
        content = written.content
        remove_drafts(path)
        require_replaceable(path, overwrite=overwrite)
        write_atomically(path, lambda draft: draft.write_bytes(content), make_folder=False)
    return Compiled(
        proto, path, method, targets.described(target), written.batch, written.reason, relevances, difference
    )


def _check(model: Model, method: str, target: TargetLike, batch: int) -> None:
    info = registry.get(method)
    if not info.compilable:
        raise UnsupportedError("compile.method", f"{method} can't be compiled", _hint())
    if is_per_sample(target):
        raise UsageError("target.not_compilable", "a compiled model has one target", 'use target="input"')
    if batch < 1:
        raise UsageError("compile.batch", f"batch must be at least 1, not {batch}", "give batch=1")
    taken = {"relevance", *(["target"] if _is_input(target) else [])} & {*model.inputs, *model.outputs}
    if taken:
        raise UsageError("compile.name_taken", f"the model itself has a value {taken.pop()!r}", "rename it first")


def _check_output(model: Model, path: Path, overwrite: bool) -> None:
    """Refuse early what can't be written to, or must not be replaced.

    Raises
    ------
    UsageError
        ``output.*``.
    InconclusiveError
        ``output.read_only``.
    """
    require_replaceable(path, overwrite=True)
    own = [*model.files.paths, *([model.path] if model.path is not None else [])]
    if any(path.exists() and each.exists() and path.samefile(each) for each in own):
        raise UsageError("output.is_input", f"{path} is the model itself", "choose another output file")
    if not path.parent.is_dir():
        raise UsageError("output.unwritable", f"can't write {path}: no such folder", "make it, or give another file")
    require_replaceable(path, overwrite=overwrite)
    require_writable(path.parent)


def _at_its_grid(model: Model, request: Request, feed: dict[str, Array]) -> Request:
    """For the layer ``auto`` on a detector of several grids, with a fixed target: the map of the grid that it lies on."""
    target = request.target
    ranked = isinstance(target, str) and (target == "input" or target.startswith("top"))
    if request.params.get("layer") != "auto" or ranked:
        return request
    tree = with_scalars(parse(target), model.outputs, model.labels.names if model.labels is not None else ())
    scored = targets.scored_by(model, tree, request.score)
    scores = np.asarray(model.values(feed, [scored.value])[scored.value])
    traced = model.backends.torch(Subject(feed, scored.value, np.ones_like(scores), request.inputs)).traced
    if not traced.grids:
        return request
    layer = explain(model.backends, feed, request).record["layer"]
    return dataclasses.replace(request, params={**request.params, "layer": layer})


def _is_input(target: TargetLike) -> bool:
    """Whether the class is an input of the compiled model."""
    return isinstance(target, str) and target == "input"


def _require_own_outputs(model: Model) -> None:
    """Refuse a model that gives out an input as it is: what is written would have two values of one name.

    Raises
    ------
    UnsupportedError
        ``compile.output_is_input``.
    """
    both = [name for name in model.outputs if name in model.inputs]
    if both:
        raise UnsupportedError(
            "compile.output_is_input", f"output {both[0]!r} is an input of the model", "export the model without it"
        )


def _example(model: Model, example: Any, batch: int) -> dict[str, Array]:
    if example is not None:
        return model.feed(example)
    model.require_inputs()
    rng, feed = np.random.default_rng(0), {}
    for name, spec in model.inputs.items():
        open_sizes = [d for d in spec.shape[1:] if not isinstance(d, int)]
        if open_sizes or not spec.ranked:
            raise UsageError(
                "compile.open_sizes",
                f"input {name!r} takes {spec}: only the batch may be open",
                "give an example input in the sizes that are wanted",
            )
        first = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else batch
        shape = tuple(int(d or 1) for d in (first, *spec.shape[1:])) if spec.shape else ()
        floating = spec.dtype.startswith(("float", "double", "bfloat"))
        value = rng.standard_normal(shape) if floating else np.ones(shape)
        feed[name] = value.astype(str if spec.dtype == "string" else spec.dtype)
    return model.feed(feed)


def _rows(feed: Mapping[str, Array], count: int) -> dict[str, Array]:
    """The example for another batch size."""
    have = next((len(v) for v in feed.values() if v.ndim), 1)
    return {
        k: np.concatenate([v] * -(-count // have))[:count] if v.ndim and len(v) == have else v for k, v in feed.items()
    }


def _record(model: Model, request: Request, feed: dict[str, Array]) -> Recorded:
    method, target = request.method, request.target
    if not _is_input(target):
        labels = model.labels.names if model.labels is not None else ()
        target = with_scalars(parse(target), model.outputs, labels)
    scored = targets.scored_by(model, target, request.score)
    scores = np.asarray(model.values(feed, [scored.value])[scored.value])
    resolved = dataclasses.replace(resolve("top1", scores), value=scored.value)
    explained = Explained(model, scored, resolved, scores)
    example = model.backends.to_record(Subject(feed, scored.value, resolved.weights, request.inputs))
    trace = example.traced.trace
    _refuse_data_dependent(trace.data_dependent, "what node {!r} does")
    recorder = SweepRecorder()
    with recorder:
        given = {name: recorder.placeholder(name, as_tensor(feed[name])) for name in trace.inputs}
        inputs = {name: value.to(raised(value.dtype, torch.float32)) for name, value in given.items()}
        chosen = None
        if _is_input(target):
            chosen = recorder.placeholder("target", torch.zeros(len(scores), dtype=torch.int64))
        recorded_target = RecordedTarget(lambda found: targets.weights(target, found, explained, model.labels, chosen))
        engine = RecordingEngine(example, inputs, recorded_target)
        context = Context(
            model, feed, resolved, scores, request.seed, None, request.inputs, engine_on=_no_engine, engine=engine
        )
        try:
            with recorded_target.guard:
                result = registry.get(method).function(context, **request.params)
        except NotCompilableError as problem:
            raise UnsupportedError("compile.method", f"{method} can't be compiled: {problem}", _hint()) from None
        maps: dict[str, Any] = {name: result.raws.get(name, value) for name, value in result.attributions.items()}
        if not all(isinstance(value, torch.Tensor) for value in maps.values()):
            raise UnsupportedError("compile.method", f"{method} gives a map that isn't made of tensors", _hint())
        names = {name: "relevance" if i == 0 else f"relevance_{name}" for i, name in enumerate(maps)}
        own = {name: _as_declared(model, name, value) for name, value in recorded_target.outputs.items()}
        outputs = {**own, **{names[name]: value.to(torch.float32) for name, value in maps.items()}}
    _refuse_data_dependent(None if recorder.data_dependent is None else method, "the sweep of {}")
    return Recorded(recorder.finish(outputs), list(outputs), names)


def _as_declared(model: Model, name: str, value: torch.Tensor) -> torch.Tensor:
    """An output of half precision, which is computed in float32, in the type that the model gives it in."""
    dtype = getattr(torch, model.outputs[name].dtype, value.dtype)
    return value.to(dtype) if dtype in HALF else value


def _refuse_data_dependent(reason: str | None, what: str) -> None:
    if reason is not None:
        raise UnsupportedError(
            "compile.data_dependent",
            f"{what.format(reason)} depends on the input's values: no fixed graph says it",
            TORCH,
        )


def _hint() -> str:
    return f"methods that can be compiled: {', '.join(name for name, i in registry.methods().items() if i.compilable)}"


def _no_engine(*_: Any) -> NoReturn:
    raise NotCompilableError("it perturbs its inputs")


def _metadata(model: Model, request: Request, batch: int | None) -> dict[str, str]:
    from analyzer.explanation import jsonable
    from analyzer.versions import version

    described = {
        "version": version("onnxplain"), "method": request.method,
        "params": json.dumps(jsonable(request.params), sort_keys=True), "target": targets.described(request.target),
        "score": request.score, "seed": str(request.seed), "source_sha256": model.sha256,
        "batch": "dynamic" if batch is None else str(batch),
    }  # fmt: skip
    return {**model.metadata, **{f"onnxplain.{key}": value for key, value in described.items()}}


def _difference(
    model: Model, content: bytes, feed: dict[str, Array], request: Request, relevances: Mapping[str, str]
) -> float:
    """Largest difference to the torch backend on the example.

    Raises
    ------
    ParityError
        ``compile.mismatch``.
    """
    from analyzer.executor.session import Session

    session = Session(content, "cpu", threads=model.threads)
    found = session.run({k: v for k, v in feed.items() if k in session.inputs}, list(relevances.values()))
    got = {name: found[output] for name, output in relevances.items()}
    want = {name: np.asarray(raw) for name, raw in explain(model.backends, feed, request).raws.items()}
    agreement.require(
        request.method,
        got,
        want,
        lambda: explain(model.backends, agreement.with_rounding_noise(feed), request).raws,
        TORCH,
    )
    largest = 0.0
    for name in relevances:
        gap = np.abs(got[name].astype(np.float64) - want[name].astype(np.float64))
        largest = max(largest, float(gap.max(initial=0) / (np.abs(want[name]).max(initial=0) or 1.0)))
    return largest
