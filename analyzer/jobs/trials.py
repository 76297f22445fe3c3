"""Trying methods on an input made up for the model.

Belongs here: such inputs, and verdicts by running every method on one. Not here: verdicts by looking (``suitability``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import AnalyzerError, InputError
from analyzer.methods import registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model import Model
    from analyzer.onnx_model import OnnxModel

#: Sizes of free axes in a trial input: height and width of pictures; all other axes, in the order in which they are tried.
FREE_SIDE, FREE_LENGTHS = 224, (16, 1, 256)
#: Bytes of a trial input's arrays together.
_MOST_BYTES = 256 * 2**20
Verdict = dict[str, Any]


def trial_shapes(model: OnnxModel, length: int = 16, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shapes that fit the model's inputs: pictures of 224 pixels, ``length`` on other free axes.

    A name that several axes share stands for one size, but the batch's, which some exporters give to all free axes.

    Raises
    ------
    InputError
        ``inspect.no_trial`` for an input of unknown rank; ``model.no_inputs``.
    """
    model.require_inputs()
    sizes: dict[str, int] = {}
    shapes = {}
    for name, spec in model.inputs.items():
        if not spec.ranked:
            raise InputError("inspect.no_trial", f"input {name!r} declares no rank", "give an input")
        free = [axis for axis, size in enumerate(spec.shape) if not isinstance(size, int)]
        first = spec.shape[0] if spec.shape else 1
        # an axis before the batch is fixed and isn't 1, as in a recurrent state (layers, batch, width)
        at = 0 if not isinstance(first, int) or first == 1 else free[0] if free else None
        if isinstance(model.batch_dimension, str) and model.batch_dimension in spec.shape:
            at = spec.shape.index(model.batch_dimension)
        usual = FREE_SIDE if len(spec.shape) == 4 else length
        shape = [
            size if isinstance(size, int) else batch if axis == at else usual for axis, size in enumerate(spec.shape)
        ]
        named = [axis for axis in free if axis != at and spec.shape[axis] not in (None, spec.shape[at or 0])]
        for axis in named:
            shape[axis] = sizes.setdefault(str(spec.shape[axis]), usual)
        shapes[name] = tuple(shape)
    return shapes


def trial_input(model: OnnxModel, length: int = 16, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values of :func:`trial_shapes`, a batch of one.

    Raises
    ------
    InputError
        ``inspect.no_trial`` for an input of unknown rank, or of more bytes than a trial may take.
    """
    rng, shapes = np.random.default_rng(seed), trial_shapes(model, length)
    taken = sum(float(np.prod(shape, dtype=float)) for shape in shapes.values()) * 8
    if taken > _MOST_BYTES:
        raise InputError("inspect.no_trial", f"a trial input would take {taken / 2**30:.1f} GiB", "give an input")
    feed: dict[str, NDArray[Any]] = {}
    for name, shape in shapes.items():
        dtype = model.inputs[name].dtype
        if dtype.startswith(("float", "bfloat")):
            feed[name] = rng.standard_normal(shape).astype(dtype if dtype != "bfloat16" else np.float32)
        else:
            feed[name] = np.ones(shape, "str" if dtype == "string" else dtype)
    return feed


def running_feed(model: Model) -> dict[str, NDArray[Any]]:
    """A trial input that the model runs on.

    Raises
    ------
    InputError
        ``inspect.no_trial`` where none fits.
    """
    reasons = []
    for length in FREE_LENGTHS:
        try:
            feed = trial_input(model, length)
            model.predict(feed)
            return feed
        except (AnalyzerError, TypeError, ValueError) as problem:
            reasons.append(str(problem))
    raise InputError("inspect.no_trial", f"no trial input fits the model ({reasons[0]})", "give an input")


def tried(model: Model) -> dict[str, Any]:
    """Which methods work: perturbation methods where the model runs, white-box methods where it can be traced.

    Returns
    -------
    dict
        ``methods``: name -> whether it works (None: not known), and why not; ``parity``; ``cam_layer``.
    """
    verdicts: dict[str, Verdict] = {}
    parity, refusal = None, None
    try:
        feed = running_feed(model)
    except InputError as problem:
        why = {"works": None, "reason": f"not tried: {problem.message}"}
        return {"methods": dict.fromkeys(registry.methods(), why), "parity": None, "cam_layer": None}
    try:
        parity = model.backends.tracer.require(feed)
    except Exception as problem:
        refusal = failure(problem)
    for name, info in registry.methods().items():
        if info.derived_from in verdicts:
            verdicts[name] = dict(verdicts[info.derived_from])
        else:
            verdicts[name] = (refusal if info.needs == "trace" else None) or _try(model, feed, info)
    layer = next((v["layer"] for v in verdicts.values() if v.get("layer")), None)
    return {"methods": verdicts, "parity": parity.to_dict() if parity else None, "cam_layer": layer}


def _try(model: Model, feed: dict[str, NDArray[Any]], info: registry.MethodInfo) -> Verdict:
    """Explain the trial input with few evaluations."""
    longest = max(next(iter(feed.values())).shape[1:], default=1)
    text = any(value.dtype.kind in "OSU" for value in feed.values())
    quick = {"window": -(-longest // 2)} if info.name == "occlusion" and not text else info.quick
    try:
        done = model.explain(feed, method=info.name, **quick)
    except Exception as problem:
        return failure(problem)
    return {"works": True, "reason": "", "layer": done.record.get("layer")}


def failure(problem: Exception) -> Verdict:
    """The verdict on a method that failed; an internal error must not hide the other facts about the model."""
    known = isinstance(problem, AnalyzerError)
    return {"works": False, "reason": str(problem) if known else f"{type(problem).__name__}: {problem} [internal]"}
