"""Activations of files: a table of all layers, on request values and pictures. The job of ``visualize MODEL activations``.

Belongs here: from paths to figures and a folder. Not here: running the model (``analyzer.visualization``), printing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.data.reading import Feed, read_all, unique
from analyzer.errors import UsageError
from analyzer.jobs.arguments import parse_layout
from analyzer.jobs.layer_pictures import layer_picture
from analyzer.jobs.value_archive import ValueArchive
from analyzer.model import Model, load
from analyzer.output_folder import OutputFolder
from analyzer.report.pictures import png
from analyzer.visualization.activations import BUDGET, VARYING, Stream, wanted_layers
from analyzer.visualization.layers import Layer, unreachable
from analyzer.visualization.statistics import Figures, LayerFigures

#: Layers that are drawn where none is named, and the most pictures of an input.
_DRAWN, _PICTURES = (
    ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "Gemm", "MatMul", "LSTM", "GRU"),
    32,
)


@dataclass(frozen=True)
class ActivationsJob:
    """What is wanted; all values as a command line gives them.

    Attributes
    ----------
    inputs
        Files, or ``NAME=FILE`` for models with several inputs.
    layers
        Names and patterns of layers; empty for all.
    dump
        Folder for values and pictures; None writes nothing.
    force
        Whether files that are there already are replaced.
    """

    model: str
    inputs: Sequence[str]
    layers: Sequence[str] = ()
    dump: Path | None = None
    force: bool = False
    preprocess: str | None = None
    layout: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    tf32: bool = False


@dataclass(frozen=True)
class Item:
    """One input: its layers' figures and the files written."""

    name: str
    samples: int
    figures: list[LayerFigures]
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """The results of a job."""

    items: list[Item]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "inputs": [
                {"input": item.name, "samples": item.samples, "layers": [each.to_dict() for each in item.figures],
                 "files": [str(file) for file in item.files]}
                for item in self.items
            ],
            "warnings": self.warnings,
        }  # fmt: skip


def activation_files(job: ActivationsJob, progress: Callable[[float, float], None] | None = None) -> Done:
    """Run the model on every input, gather figures, write the folder.

    Raises
    ------
    AnalyzerError
        Any error in the model, a layer's name or an input; then nothing has been written.
    """
    output = OutputFolder(job.dump, job.force)
    if job.dump is not None:
        output.require_free()
    model = load(job.model, job.device, preprocess=job.preprocess, threads=job.threads, layout=parse_layout(job.layout),
                 tf32=job.tf32)  # fmt: skip
    wanted = wanted_layers(model, job.layers or None)
    read = read_all(model, job.inputs)
    warnings = dict.fromkeys(model.loaded.warnings)
    warnings |= dict.fromkeys(f"{name}: {note}" for name, sources, _ in read for each in sources for note in each.notes)
    hidden = unreachable(model)
    if hidden and not job.layers:
        warnings[f"{hidden} values in bodies of branches, loops and functions can't be given out"] = None
    if not wanted:
        raise UsageError("layer.none", "no value in the model depends on its inputs", "there is nothing to look at")
    items = []

    def gather(folder: Path | None) -> None:
        for at, (name, _, feed) in enumerate(read):
            items.append(_item(job, model, wanted, name, feed, folder, warnings))
            if progress is not None:
                progress(at + 1, len(read))

    if job.dump is None:
        gather(None)
    else:
        with output.drafts() as (_, drafts):
            gather(drafts)
    return Done(items, list(warnings))


def _item(
    job: ActivationsJob, model: Model, wanted: list[Layer], name: str, feed: Feed, folder: Path | None,
    warnings: dict[str, None],
) -> Item:  # fmt: skip
    stream = Stream(model, model.feed(feed), wanted, BUDGET if folder is not None and not job.layers else None)
    figures = Figures(model)
    files: list[str] = []
    if folder is None:
        for _ in figures.through(stream):
            pass
    else:
        files = _dumped(job, model, stream, figures, name, folder, warnings)
    for value, why in stream.skipped.items():
        warnings[f"{value}: {why}; left out"] = None
    found = [each for layer in wanted if (each := figures.of(layer)) is not None]
    return Item(name, stream.count, found, [job.dump / file for file in files] if job.dump is not None else [])


def _dumped(
    job: ActivationsJob,
    model: Model,
    stream: Stream,
    figures: Figures,
    name: str,
    folder: Path,
    warnings: dict[str, None],
) -> list[str]:
    """Write an input's values and pictures; gives the files' names."""
    first: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix=".values-", dir=folder) as scratch:
        archive = ValueArchive(Path(scratch), stream.count)
        for count, values in figures.through(stream):
            first = first or values
            stream.skipped |= dict.fromkeys(archive.add(count, values, stream.axes), VARYING)
        archive.write(folder / f"{name}.activations.npz")
    drawn = [layer for layer in stream.layers if layer.value in first and (job.layers or layer.operator in _DRAWN)]
    if len(drawn) > _PICTURES:
        warnings[f"pictures of {_PICTURES} of {len(drawn)} layers; name others with --layer"] = None
    title = name if stream.count == 1 else f"{name} [0]"
    files = [f"{name}.activations.npz"]
    names = unique(file_name(layer.value) for layer in drawn[:_PICTURES])
    for layer, own in zip(drawn[:_PICTURES], names, strict=True):
        pixels = layer_picture(model, layer, first[layer.value], stream.axes.get(layer.value), title)
        if pixels is not None:
            files.append(f"{name}.{own}.png")
            (folder / files[-1]).write_bytes(png(pixels))
    return files


def file_name(value: str) -> str:
    """A value's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_+.-]+", "-", value).strip("-.")[:80] or "value"
