"""Top inputs of files: ``top_inputs.json``, a page with crops, and the ledger. The job of ``dataset … top-inputs``.

Belongs here: from paths to a folder. Not here: finding samples (``analyzer.visualization``), drawing the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analyzer.data.dataset import Dataset, open_dataset
from analyzer.errors import UsageError
from analyzer.explanation import jsonable
from analyzer.jobs.arguments import parse_layout, parse_params
from analyzer.model import Model, load
from analyzer.output_folder import OutputFolder
from analyzer.report import heat
from analyzer.report.explained import created, panel, sample
from analyzer.report.pictures import draw_picture
from analyzer.report.top_inputs_page import Entry, Shot, Side, render_top_inputs
from analyzer.visualization.top_inputs import CAUTION, Found, TopInputs

_RESULT, _PAGE, _LEDGER = "top_inputs.json", "top_inputs.html", "top_inputs.ledger.json"


@dataclass(frozen=True)
class TopInputsJob:
    """What is wanted; all values as a command line gives them.

    Attributes
    ----------
    data
        A folder, manifest, archive or table.
    layer, channel, unit, of_class, reduce
        As :class:`analyzer.visualization.units.Unit` has them; ``unit`` as ``3,5,5``.
    output
        Folder that is written to, with the ledger that a run is resumed by; None writes nothing.
    force
        Whether results that are there already are replaced.
    """

    model: str
    data: str
    layer: str | None = None
    channel: int | None = None
    unit: str | None = None
    of_class: str | None = None
    reduce: Literal["max", "mean"] = "max"
    k: int = 9
    method: str = "gradient-x-input"
    params: Sequence[str] = ()
    preprocess: str | None = None
    labels: str | None = None
    layout: Sequence[str] = ()
    output: Path | None = None
    force: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    tf32: bool = False

    @property
    def command(self) -> str:
        """The command that asks for the same again."""
        import shlex

        single = (
            ("--layer", self.layer), ("--channel", self.channel), ("--unit", self.unit), ("--class", self.of_class),
            ("--reduce", self.reduce if self.reduce != "max" else None), ("-k", self.k),
            ("-m", self.method if self.method != "gradient-x-input" else None), ("--preprocess", self.preprocess),
            ("--labels", self.labels), ("--seed", self.seed or None),
        )  # fmt: skip
        words = ["onnxplain", "dataset", self.model, self.data, "top-inputs"]
        words += [word for flag, value in single if value is not None for word in (flag, str(value))]
        words += [word for flag, values in (("-p", self.params), ("--layout", self.layout)) for each in values
                  for word in (flag, each)]  # fmt: skip
        return shlex.join(words)


@dataclass(frozen=True)
class Done:
    """The results of a job."""

    job: TopInputsJob
    model: Model = field(repr=False)
    dataset: Dataset = field(repr=False)
    found: TopInputs
    warnings: list[str]
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: everything."""
        return {
            "model": str(self.model.path or "model"), "sha256": self.model.sha256, "data": self.job.data,
            "data_digest": self.dataset.digest, "command": self.job.command, "method": self.job.method,
            **self.found.to_dict(), "warnings": self.warnings,
        }  # fmt: skip


def top_inputs_files(job: TopInputsJob, progress: Callable[[float, float], None] | None = None) -> Done:
    """Find the samples and write the folder. A run that was cut off leaves its ledger, by which the next one goes on.

    Raises
    ------
    AnalyzerError
        Any error in the model, the data, the unit or a parameter.
    """
    unit = parse_index(job.unit)
    params = parse_params(job.params, [job.method])[job.method]
    output = OutputFolder(job.output, job.force)
    if job.output is not None:
        output.require_free([_RESULT, _PAGE])
    model = load(job.model, job.device, preprocess=job.preprocess, labels=job.labels, threads=job.threads,
                 layout=parse_layout(job.layout), tf32=job.tf32)  # fmt: skip
    dataset = open_dataset(model, job.data, seed=job.seed)
    ledger = job.output / _LEDGER if job.output is not None else None
    found = model.top_inputs(
        dataset, job.layer, channel=job.channel, unit=unit, of_class=job.of_class, reduce=job.reduce, k=job.k,
        method=job.method, seed=job.seed, ledger=ledger, progress=progress, **params,
    )  # fmt: skip
    warnings = [*model.loaded.warnings, *found.notes]
    if found.unreadable:
        names = ", ".join(list(found.unreadable)[:3])
        first = next(iter(found.unreadable.values()))
        warnings.append(f"{len(found.unreadable)} of {len(dataset)} inputs can't be read: {names}; the first: {first}")
    if found.nonfinite:
        warnings.append(f"{len(found.nonfinite)} inputs have no finite score: {', '.join(found.nonfinite[:3])}")
    files = [job.output / name for name in (_RESULT, _PAGE)] if job.output is not None else []
    done = Done(job, model, dataset, found, warnings, files)
    if job.output is not None:
        with output.drafts() as (_, drafts):
            (drafts / _RESULT).write_text(json.dumps(jsonable(done.to_dict()), indent=1), encoding="utf-8")
            (drafts / _PAGE).write_text(_page(done), encoding="utf-8")
    return done


def parse_index(text: str | None) -> tuple[int, ...] | None:
    """``3,5,5`` as an index.

    Raises
    ------
    UsageError
        ``unit.syntax``.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError(
            "unit.syntax", f"unit {text!r} is no index", "as in --unit 5, or --unit 3,7,7 in a feature map"
        )
    return tuple(int(part) for part in parts)


def _page(done: Done) -> str:
    found = done.found
    name = done.model.path.name if done.model.path is not None else "model"
    lead = f"{name}, over {found.count} inputs of {Path(done.job.data).name}"
    lost = len(found.unreadable) + len(found.nonfinite)
    lead += f"; {lost} more have no score." if lost else "."
    sides = [
        Side("Drive it most", "The largest scores first.", [_entry(done, each) for each in found.top]),
        Side("Drive it least", "The smallest scores first.", [_entry(done, each) for each in found.bottom]),
    ]
    title = str(found.unit)
    return render_top_inputs(
        title[0].upper() + title[1:], lead, CAUTION, sides, done.warnings, created(), done.job.command
    )


def _entry(done: Done, found: Found) -> Entry:
    facts = []
    if found.label is not None:
        labels = done.model.labels
        named = labels.names[found.label] if labels is not None and found.label < len(labels.names) else None
        facts.append(f"labelled {named or found.label}")
    if found.box is not None:
        axes = ("row", "column") if len(found.box) == 2 else ("place",) * len(found.box)
        spans = (f"{axis}s {part.start} to {part.stop - 1}" for axis, part in zip(axes, found.box, strict=True))
        facts.append(f"the unit sees {', '.join(spans)}")
    return Entry(found.id, found.score, facts, _shots(found))


def _shots(found: Found) -> list[Shot]:
    """Pictures of a sample: of images the crop, the whole and relevance; of others the picture of their explanation."""
    source, e = found.source, found.explanation
    if e is None:
        if source is None or source.picture is None:
            return []
        picture, overlay = source.picture, None
    else:
        shown, map_ = sample(e, 0, found.id, source), panel(e, 0)
        if shown.kind != "image":
            return [Shot(draw_picture(shown, map_), f"relevance by {e.method}", wide=True)]
        parts = heat.layers(shown, map_)
        picture, overlay = parts.picture, parts.overlay
    box = found.box
    shots = []
    if box is not None and len(box) == 2:
        rows, columns = box
        shots.append(Shot(picture[rows, columns], "what the unit sees"))
        picture = heat.outlined(picture, (columns.start, rows.start, columns.stop, rows.stop))
    shots.append(Shot(picture, "input"))
    if overlay is not None and e is not None:
        shots.append(Shot(overlay, f"relevance by {e.method}"))
    return shots
