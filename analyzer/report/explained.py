"""Explanations as the records that pictures and pages are drawn from.

Belongs here: from an explanation's arrays and record to panels and samples, and saving one explanation. Not here: drawing,
pages of many explanations with facts about the model (``analyzer.jobs.report``).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.inputs.resampling import resample
from analyzer.report.panel import ModelFacts, Panel, Sample

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput

Array = NDArray[Any]
#: Largest number of samples of a batch on a page.
MOST_SAMPLES = 24
#: How many of them a notebook shows.
_NOTEBOOK = 3


class Sums(Protocol):
    """The sum of an attribution, and what it should be, per sample; see :class:`analyzer.explanation.Completeness`."""

    @property
    def total(self) -> Array: ...

    @property
    def expected(self) -> Array: ...


class Drawable(Protocol):
    """The parts of an explanation that are drawn; see :class:`analyzer.explanation.Explanation`."""

    @property
    def method(self) -> str: ...

    @property
    def headline(self) -> dict[str, Any]: ...

    @property
    def attributions(self) -> Mapping[str, Array]: ...

    @property
    def attribution(self) -> Array: ...

    @property
    def inputs(self) -> Mapping[str, Array]: ...

    @property
    def target(self) -> tuple[str, ...]: ...

    @property
    def score(self) -> Array: ...

    @property
    def score_kind(self) -> str: ...

    @property
    def signed(self) -> bool: ...

    @property
    def completeness(self) -> Sums | None: ...

    @property
    def record(self) -> Mapping[str, Any]: ...


def panel(explanation: Drawable, index: int) -> Panel:
    """One sample's explanation as a panel."""
    attribution, notes_on_map, _ = drawn(explanation)
    own = attribution[index] if attribution.ndim else attribution.reshape(1)
    listed = features(explanation, index)
    if listed is not None:
        own = np.array([each.attribution for each in listed])
    complete = explanation.completeness
    sums = None
    if complete is not None:  # one for every score, or one for all of them together
        at = index if len(complete.total) > 1 else 0
        sums = f"sum {complete.total[at]:.4g} of {complete.expected[at]:.4g}"
    layer = explanation.record.get("layer")
    notes = [*explanation.record.get("notes", ()), *([f"layer {layer}"] if layer else []), *notes_on_map]
    r2 = explanation.record.get("r2")
    if r2 is not None:  # one for every sample, or one where all rows are one sample
        notes.append(f"R² of the linear fit: {r2[index if len(r2) > 1 else 0]:.2f}")
    first, *others = explanation.attributions
    if others and listed is None:
        notes.append(f"the map of {first} is drawn; the files hold those of {', '.join(others)} too")
    kind: Any = explanation.score_kind
    return Panel(
        method=explanation.method,
        params=explanation.headline,
        attribution=own,
        signed=explanation.signed or bool((attribution < 0).any()) or bool((own < 0).any()),
        target=explanation.target[index],
        score=float(explanation.score[index]),
        score_kind=kind,
        seconds=explanation.record.get("seconds", {}).get("method"),
        completeness=sums,
        notes=tuple(notes),
        boxes=tuple(tuple(each["box"]) for each in explanation.record.get("detection", ())[index : index + 1]),
    )


def drawn(explanation: Drawable) -> tuple[Array, list[str], bool]:
    """The attribution as it is drawn, notes about it, and whether it is laid over the first input.

    An inner feature map is laid over the picture that it was computed from.
    """
    name, attribution = next(iter(explanation.attributions)), explanation.attribution
    if name in explanation.inputs:
        return attribution, [], True
    picture = next(iter(explanation.inputs.values()))
    if not (attribution.ndim == picture.ndim == 4 and picture.shape[1] in (1, 3) and len(attribution) == len(picture)):
        return attribution, [f"relevance at {name}"], False
    size = "×".join(map(str, attribution.shape[2:]))
    summed: Array = resample(attribution.sum(1, keepdims=True), picture.shape[2:], "nearest")
    return summed, [f"relevance at {name}, summed over its {attribution.shape[1]} channels of {size} places"], True


class Feature(NamedTuple):
    """One column of a table, or word of a text."""

    label: str
    value: Any
    attribution: float
    is_word: bool = False


def features(explanation: Drawable, index: int) -> list[Feature] | None:
    """The columns and words of one sample, where they lie in several inputs or in text; else None."""
    listed = explanation.record.get("features")
    if listed is not None:
        only_words = all("word" in each for each in listed[index])
        return [
            Feature(
                str(each["value"] if only_words else each["column"] if "column" in each else each["input"]),
                each["value"], each["attribution"], only_words,
            )
            for each in listed[index]
        ]  # fmt: skip
    inputs, maps = explanation.inputs, explanation.attributions
    count = len(explanation.target)
    if len(maps) < 2 or not all(
        name in inputs and inputs[name].size == map_.size == count for name, map_ in maps.items()
    ):
        return None
    return [
        Feature(name, inputs[name].reshape(-1)[index], float(map_.reshape(-1)[index])) for name, map_ in maps.items()
    ]


def sample(explanation: Drawable, index: int, name: str, source: LoadedInput | None = None) -> Sample:
    """One explained sample as the report draws it.

    Parameters
    ----------
    source
        The file that the input was read from, for its picture and column names.
    """
    explained = next(iter(explanation.attributions))
    if explained not in explanation.inputs:
        if drawn(explanation)[2]:
            explained = next(iter(explanation.inputs))
        else:
            source = None
    batch = explanation.inputs.get(explained, explanation.attribution)
    values = batch[index] if batch.ndim else batch.reshape(1)
    listed = features(explanation, index)
    prediction = explanation.record.get("prediction")
    top = tuple((str(name), float(value)) for _, name, value in prediction["top"][index]) if prediction else ()
    feature_names = tuple(source.feature_names or ()) if source is not None else ()
    kind: Any
    if listed is not None:
        kind, layout, image = "tokens" if all(each.is_word for each in listed) else "table", None, None
        if kind == "tokens" or len(explanation.inputs) > 1 or len(feature_names) != len(listed):
            feature_names = tuple(each.label for each in listed)
        values = np.empty(len(listed), object)
        values[:] = [each.value for each in listed]
    else:
        kind, layout, image = _kind(values, explanation, source, index)
    return Sample(
        name=name,
        kind=kind,
        image=image,
        values=values,
        layout=layout,
        feature_names=feature_names,
        top=top,
        top_kind=prediction["kind"] if prediction else "probability",
    )


def _kind(values: Any, explanation: Drawable, source: LoadedInput | None, index: int) -> tuple[Any, Any, Any]:
    from analyzer.inputs import array_picture

    if source is not None and source.picture is not None and index == 0:
        return "image", source.layout, source.picture
    if values.ndim == 3 and (values.shape[0] in (1, 3) or values.shape[2] in (1, 3)):
        layout: Any = source.layout if source is not None and source.layout else None
        layout = layout or ("CHW" if values.shape[0] in (1, 3) else "HWC")
        return "image", layout, array_picture(values, layout)[0]
    if values.ndim == 1:
        if values.dtype.kind in "iu":
            return "tokens", None, None
        wide = (source is None or source.kind != "table") and len(values) > 64
        return ("series", "T", None) if wide else ("table", None, None)
    if values.ndim == 2 and min(values.shape) <= 16 < max(values.shape):
        return "series", None, None
    return "tensor", None, None


def save(explanation: Drawable, path: Path, source: LoadedInput | None = None) -> None:
    """Write an explanation as ``.png`` (its first sample) or ``.html`` (all samples)."""
    from analyzer.report.html import write_report
    from analyzer.report.pictures import save_picture

    stem = source.path.stem if source is not None else path.stem.partition(".")[0]
    if path.suffix == ".png":
        save_picture(sample(explanation, 0, stem, source), panel(explanation, 0), path)
        return
    count = min(len(explanation.target), MOST_SAMPLES)
    rows = [
        (sample(explanation, i, stem if count == 1 else f"{stem} [{i}]", source), [panel(explanation, i)])
        for i in range(count)
    ]
    write_report(path, _facts_of(explanation), rows, created())


def notebook(explanation: Drawable) -> str:
    """Pictures of an explanation's first samples as HTML for a notebook; it loads nothing and runs nothing."""
    import base64

    from markupsafe import escape

    from analyzer.report.pictures import draw_picture, png

    count = len(explanation.target)
    figures = []
    for index in range(min(count, _NOTEBOOK)):
        drawn = draw_picture(sample(explanation, index, f"[{index}]"), panel(explanation, index))
        uri = base64.b64encode(png(drawn)).decode("ascii")
        alt = escape(f"{explanation.method} of sample {index}: {explanation.target[index]}"[:300])
        figures.append(
            f'<img src="data:image/png;base64,{uri}" alt="{alt}" style="max-width:100%;width:44rem;display:block">'
        )
    more = f"<p>and {count - len(figures)} more samples</p>" if count > len(figures) else ""
    return "".join(figures) + more


def created() -> str:
    """The current time in UTC, to the minute."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _facts_of(explanation: Drawable) -> ModelFacts:
    known = explanation.record.get("model", {})
    inputs = tuple((k, f"{_type_name(v)} {list(v.shape)}") for k, v in explanation.inputs.items())
    return ModelFacts(str(known.get("path") or "model"), str(known.get("sha256", "")), 0, "", 0, {}, inputs, (), {}, 0)


def _type_name(value: Array) -> str:
    return "string" if value.dtype.kind == "O" else str(value.dtype)
