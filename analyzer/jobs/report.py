"""Explanations turned into the records that the report draws, and saved as pictures and pages.

Belongs here: the way from :class:`analyzer.Explanation` and :class:`analyzer.Model` to ``analyzer.report``. Not here:
drawing (``report``), explaining (``methods``).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.explanation import Explanation
from analyzer.jobs.inspection import operators, weights
from analyzer.methods import registry

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput
    from analyzer.model import Model
    from analyzer.report import ModelFacts, Panel, Sample

Array = NDArray[Any]
#: Parameters that a panel shows though they are at their default: what the method hinges on.
_HINGES = {"lrp": ("composite",), "integrated-gradients": ("steps",)}

#: How many samples of a batch a page or a folder shows at most.
MOST_SAMPLES = 24


def facts(model: Model) -> ModelFacts:
    """What the model file is."""
    from analyzer.report import ModelFacts

    proto = model.proto
    producer = " ".join(part for part in (proto.producer_name, proto.producer_version) if part)
    return ModelFacts(
        path=str(model.path or "model"),
        sha256=model.sha256,
        size_bytes=model.size,
        producer=producer,
        ir_version=proto.ir_version,
        opsets={entry.domain: entry.version for entry in proto.opset_import},
        inputs=tuple((name, str(spec)) for name, spec in model.inputs.items()),
        outputs=tuple((name, str(spec)) for name, spec in model.outputs.items()),
        operators=operators(model),
        parameters=weights(model)[0],
        description=proto.doc_string,
        metadata=model.metadata,
    )


def panel(explanation: Explanation, index: int) -> Panel:
    """One sample's explanation as a panel."""
    from analyzer.report import Panel

    attribution, said, _ = drawn(explanation)
    complete = explanation.completeness
    sums = f"sum {complete.total[index]:.4g} of {complete.expected[index]:.4g}" if complete is not None else None
    layer = explanation.record.get("layer")
    notes = [*explanation.record.get("notes", ()), *([f"layer {layer}"] if layer else []), *said]
    r2 = explanation.record.get("r2")
    if r2 is not None:
        notes.append(f"R² of the linear fit: {r2[index]:.2f}")
    kind: Any = explanation.score_kind
    return Panel(
        method=explanation.method,
        params=telling(explanation),
        attribution=attribution[index] if attribution.ndim else attribution.reshape(1),
        signed=explanation.signed or bool((attribution < 0).any()),
        target=explanation.target[index],
        score=float(explanation.score[index]),
        score_kind=kind,
        seconds=explanation.record.get("seconds", {}).get("method"),
        completeness=sums,
        notes=tuple(notes),
        boxes=tuple(tuple(each["box"]) for each in explanation.record.get("detection", ())[index : index + 1]),
    )


def drawn(explanation: Explanation) -> tuple[Array, list[str], bool]:
    """The attribution as it is drawn, what is said of it, and whether it is laid over the first input.

    An inner feature map is laid over the picture that it was computed from.
    """
    first, attribution = next(iter(explanation.attributions)), explanation.attribution
    if first in explanation.inputs:
        return attribution, [], True
    picture = next(iter(explanation.inputs.values()))
    if not (attribution.ndim == picture.ndim == 4 and picture.shape[1] in (1, 3) and len(attribution) == len(picture)):
        return attribution, [f"relevance at {first}"], False
    from analyzer.inputs.resampling import resample

    places = "×".join(map(str, attribution.shape[2:]))
    summed: Array = resample(attribution.sum(1, keepdims=True), picture.shape[2:], "nearest")
    return summed, [f"relevance at {first}, summed over its {attribution.shape[1]} channels of {places} places"], True


def telling(explanation: Explanation) -> dict[str, Any]:
    """The parameters worth showing: those that differ from the method's defaults, and what the method hinges on."""
    known = registry.methods().get(explanation.method)
    defaults = {name: p.default for name, p in known.parameters.items()} if known is not None else {}
    always = _HINGES.get(explanation.method, ("samples",))

    def tells(name: str, value: Any) -> bool:
        return value is not None and (name in always or name not in defaults or not _same(value, defaults[name]))

    return {name: value for name, value in explanation.params.items() if tells(name, value)}


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and not isinstance(value, np.ndarray) and bool(value == default)


def sample(explanation: Explanation, index: int, name: str, shown: LoadedInput | None = None) -> Sample:
    """One explained sample as the report draws it.

    Parameters
    ----------
    shown
        The file that the input was read from, for its picture and column names.
    """
    from analyzer.report import Sample

    first = next(iter(explanation.attributions))
    if first not in explanation.inputs:
        first, shown = (next(iter(explanation.inputs)), shown) if drawn(explanation)[2] else (first, None)
    batch = explanation.inputs.get(first, explanation.attribution)
    values = batch[index] if batch.ndim else batch.reshape(1)
    prediction = explanation.record.get("prediction")
    top = tuple((str(name), float(value)) for _, name, value in prediction["top"][index]) if prediction else ()
    kind, layout, image = _kind(values, explanation, shown, index)
    return Sample(
        name=name,
        kind=kind,
        image=image,
        values=values,
        layout=layout,
        feature_names=tuple(shown.feature_names or ()) if shown is not None else (),
        top=top,
        top_kind=prediction["kind"] if prediction else "probability",
    )


def _kind(values: Any, explanation: Explanation, shown: LoadedInput | None, index: int) -> tuple[Any, Any, Any]:
    from analyzer.inputs import array_picture

    if shown is not None and shown.picture is not None and index == 0:
        return "image", shown.layout, shown.picture
    if values.ndim == 3 and (values.shape[0] in (1, 3) or values.shape[2] in (1, 3)):
        layout: Any = shown.layout if shown is not None and shown.layout else None
        layout = layout or ("CHW" if values.shape[0] in (1, 3) else "HWC")
        return "image", layout, array_picture(values, layout)[0]
    if values.ndim == 1:
        if values.dtype.kind in "iu":
            return "tokens", None, None
        wide = (shown is None or shown.kind != "table") and len(values) > 64
        return ("series", "T", None) if wide else ("table", None, None)
    if values.ndim == 2 and min(values.shape) <= 16 < max(values.shape):
        return "series", None, None
    return "tensor", None, None


def save(explanation: Explanation, path: Path, shown: LoadedInput | None = None, model: Model | None = None) -> None:
    """Write an explanation as ``.png`` (its first sample) or ``.html`` (all samples)."""
    from analyzer.report import save_picture, write_report

    stem = shown.path.stem if shown is not None else path.stem.partition(".")[0]
    if path.suffix == ".png":
        save_picture(sample(explanation, 0, stem, shown), panel(explanation, 0), path)
        return
    count = min(len(explanation.target), MOST_SAMPLES)
    rows = [
        (sample(explanation, i, stem if count == 1 else f"{stem} [{i}]", shown), [panel(explanation, i)])
        for i in range(count)
    ]
    write_report(path, facts(model) if model is not None else _facts_of(explanation), rows, created())


def write_comparison(
    path: Path,
    model: Model,
    explained: Sequence[tuple[str, LoadedInput | None, Sequence[Explanation]]],
    command: str | None = None,
) -> None:
    """Write the page that compares methods side by side, sample by sample.

    Parameters
    ----------
    explained
        (name, file, one explanation per method) for every input.
    """
    from analyzer.report import write_report

    rows = []
    for name, shown, explanations in explained:
        count = len(explanations[0].target)
        for index in range(count):
            label = name if count == 1 else f"{name} [{index}]"
            rows.append((sample(explanations[0], index, label, shown), [panel(e, index) for e in explanations]))
    write_report(path, facts(model), rows[:MOST_SAMPLES], created(), command)


def created() -> str:
    """Now, to the minute, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _facts_of(explanation: Explanation) -> ModelFacts:
    from analyzer.report import ModelFacts

    known = explanation.record.get("model", {})
    inputs = tuple((k, f"{v.dtype} {list(v.shape)}") for k, v in explanation.inputs.items())
    return ModelFacts(str(known.get("path") or "model"), str(known.get("sha256", "")), 0, "", 0, {}, inputs, (), {}, 0)
