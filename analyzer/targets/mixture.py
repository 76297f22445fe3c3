"""Targets on several values, or that aren't linear: their parts side by side in one value behind the model.

Belongs here: which parts a target needs, and the target as weights on them. Not here: the nodes (``functional``), the language
(``language``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.targets.functional import Extension, Part, extended
from analyzer.targets.grammar import Leaf
from analyzer.targets.language import Place, TargetLike, linear, resolve_trees
from analyzer.targets.references import array_of
from analyzer.targets.target import Array, Resolved
from analyzer.targets.values import Values, scored_of


def mixed(
    values: Values, target: TargetLike, leaves: Sequence[Leaf], score: str, layer: str | None, place: Place
) -> tuple[Extension, Resolved, Array]:
    """The model with what a target needs behind it, the target as weights on that, and its value.

    Raises
    ------
    UsageError
        ``target.*``.
    """
    model, parts, laid, notes = values.model, {}, {}, {}
    at: dict[Any, tuple[str, ...]] = {}
    for leaf in leaves:
        if leaf.functional:
            part, notes[leaf.target] = _functional(values, leaf.target, layer)
            name: Any = leaf.target
        else:
            name = scored_of(model, leaf.output, score, layer)
            if name not in laid:
                laid[name] = values.laid_out(name)
            scored, scores, _ = laid[name]
            if not scores.ndim:
                raise _no_batch(scored.output)
            part = Part("values", scored.value, scores.shape, scores.dtype)
        at[name] = part.key
        parts[part.key] = part
    starts, width = {}, 0
    for key, part in parts.items():
        starts[key] = width
        width += part.columns
    extension = extended(model, list(parts.values()))
    output = np.asarray(extension.model.values(values.feed, [extension.value])[extension.value])
    count = len(output)

    def resolve_leaf(leaf: Leaf, rows: slice) -> Resolved:
        size = rows.stop - rows.start
        weights = np.zeros((size, width))
        if leaf.functional:
            weights[:, starts[at[leaf.target]]] = 1.0
            return Resolved(weights, (leaf.target,) * size, (-1,) * size, notes[leaf.target])
        name = scored_of(model, leaf.output, score, layer)
        scored, scores, in_layout = laid[name]
        where = Place(place.start + rows.start, place.total or count)
        dense = name.output in model.outputs and name.permutation is None
        found = linear(leaf, in_layout[rows], model.labels, where, dense)
        start = starts[at[name]]
        flat = scored.pulled_back(found.weights, scores[rows]).reshape(size, -1)
        weights[:, start : start + flat.shape[1]] = flat
        return replace(found, weights=weights)

    resolved = resolve_trees(target, count, resolve_leaf)
    return extension, replace(resolved, value=extension.value), output


def _functional(values: Values, text: str, layer: str | None) -> tuple[Part, tuple[str, ...]]:
    """The part of a target that isn't linear, and what must be said of it."""
    if text == "reconstruction":
        return _reconstruction(values, layer)
    kind, _, path = text.partition(":")
    reference = array_of(path)
    if kind == "cosine" and not reference.any():
        raise UsageError(
            "target.zero_vector", f"{path} holds zeros only: it has no direction", "give another reference"
        )
    name, output = _like(values, reference, path, layer)
    if kind == "cosine" and not np.any(output.reshape(len(output), -1), axis=1).all():
        raise UsageError(
            "target.zero_vector", f"{name!r} is zero for a sample: it has no direction", "use distance:FILE.npy"
        )
    part = Part(kind, name, output.shape, output.dtype, np.ascontiguousarray(reference.reshape(-1)))
    what = "the cosine of the angle to" if kind == "cosine" else "minus the Euclidean distance from"
    return part, (f"{what} the reference is explained, on {name!r} as the model gives it",)


def _like(values: Values, reference: Array, path: str, layer: str | None) -> tuple[str, Array]:
    """The value that a reference is shaped like: an inner one, the default output, or the only one that fits."""
    model = values.model
    scored = scored_of(model, None, "probability", layer)
    found = {scored.output: values.output(scored)} if layer is not None else values.outputs()
    floating = {name: value for name, value in found.items() if value.dtype.kind == "f" and value.ndim}
    fitting = [name for name, value in floating.items() if _fits(reference, value)]
    if scored.output in fitting or len(fitting) == 1:
        name = scored.output if scored.output in fitting else fitting[0]
        return scored_of(model, name, "probability", None).value if layer is None else name, floating[name]
    shape = list(found[scored.output].shape) if scored.output in found else "another shape"
    raise UsageError(
        "target.bad_shape",
        f"{path} has shape {list(reference.shape)}, output {scored.output!r} has {shape}",
        "give one sample of the output, or name the value that it belongs to with layer=",
    )


def _fits(reference: Array, value: Array) -> bool:
    each = value.shape[1:]
    return reference.shape in (each, (1, *each)) or (reference.ndim == 1 and reference.size == int(np.prod(each)))


def _reconstruction(values: Values, layer: str | None) -> tuple[Part, tuple[str, ...]]:
    model, feed = values.model, values.feed
    scored = scored_of(model, None, "probability", layer)
    outputs = {scored.output: values.output(scored)} if layer is not None else values.outputs()
    order = sorted(outputs, key=lambda name: name != scored.output)
    for name in order:
        value = outputs[name]
        alike = [other for other, x in feed.items() if x.shape == value.shape and x.ndim and x.dtype == value.dtype]
        if value.dtype.kind == "f" and alike:
            note = f"the squared error between {name!r} and input {alike[0]!r} is explained; both change with the input"
            return Part("reconstruction", name, value.shape, value.dtype, None, alike[0]), (note,)
    shapes = ", ".join(f"{name} {list(outputs[name].shape)}" for name in order)
    raise UsageError(
        "target.bad_shape", f"no output has an input's shape: {shapes}", "reconstruction is for autoencoders"
    )


def _no_batch(name: str) -> UsageError:
    return UsageError("target.no_batch", f"output {name!r} has no batch axis", "explain it alone, not in a contrast")
