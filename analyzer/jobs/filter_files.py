"""The weights of layers as numbers and pictures. The job of ``visualize MODEL filters``.

Belongs here: from a model's path to a folder. Not here: finding weights (``analyzer.visualization``), printing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.data.reading import unique
from analyzer.jobs.activation_files import file_name
from analyzer.jobs.filter_pictures import filter_picture
from analyzer.jobs.value_archive import ValueArchive
from analyzer.model import load
from analyzer.output_folder import OutputFolder
from analyzer.report.pictures import png
from analyzer.visualization.filters import Filter, filters

#: So many layers are drawn where none is named.
_PICTURES = 64


@dataclass(frozen=True)
class FiltersJob:
    """What is wanted; all values as a command line gives them.

    Attributes
    ----------
    layers
        Names and patterns of layers; empty for all.
    output
        Folder that is written to; None for a new one.
    force
        Whether files that are there already are replaced.
    """

    model: str
    layers: Sequence[str] = ()
    output: Path | None = None
    force: bool = False
    preprocess: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    tf32: bool = False


@dataclass(frozen=True)
class Drawn:
    """One layer's weights, what its picture shows and where that is; no file where it isn't drawn."""

    filter: Filter
    shows: str = ""
    file: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        weights, layer = self.filter.weights, self.filter.layer
        return {
            "value": layer.value, "node": layer.node, "operator": layer.operator, "shape": list(weights.shape),
            "groups": self.filter.groups, "quantised": self.filter.quantised, "dequantised": self.filter.scaled,
            "mean": float(weights.mean(dtype=np.float64)), "std": float(weights.std(dtype=np.float64)),
            "min": float(weights.min()), "max": float(weights.max()), "shows": self.shows,
            "file": str(self.file) if self.file is not None else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Done:
    """The results of a job."""

    layers: list[Drawn]
    archive: Path
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "layers": [each.to_dict() for each in self.layers],
            "archive": str(self.archive),
            "warnings": self.warnings,
        }


def filter_files(job: FiltersJob) -> Done:
    """Write ``filters.npz``, the weights by the names of their layers' values, and a picture of each layer.

    Raises
    ------
    AnalyzerError
        Any error in the model or a layer's name; then nothing has been written.
    """
    output = OutputFolder(job.output, job.force)
    output.require_free(["filters.npz"])
    model = load(job.model, job.device, preprocess=job.preprocess, threads=job.threads, tf32=job.tf32)
    found = filters(model, job.layers or None)
    warnings = [*model.loaded.warnings, *(f"{value}: {why}; left out" for value, why in found.skipped.items())]
    warnings += [
        f"{value}: whole numbers less their zero point, as the layer holds no scale"
        for value, each in found.items()
        if not each.scaled
    ]
    some = list(found.values()) if job.layers else list(found.values())[:_PICTURES]
    if len(some) < len(found):
        warnings.append(f"pictures of {len(some)} of {len(found)} layers; name others with --layer")
    bgr = model.preprocess is not None and model.preprocess.color == "BGR"
    title = Path(job.model).stem
    drawn = []
    with output.drafts() as (folder, drafts):
        scratch = drafts / ".weights"
        scratch.mkdir()
        archive = ValueArchive(scratch, 1)
        archive.add(1, {value: each.weights for value, each in found.items()}, dict.fromkeys(found))
        archive.write(drafts / "filters.npz")
        scratch.rmdir()
        names = unique(file_name(each.layer.value) for each in some)
        for each, name in zip(some, names, strict=True):
            pixels, shows = filter_picture(each, title, bgr=bgr)
            (drafts / f"{name}.filters.png").write_bytes(png(pixels))
            drawn.append(Drawn(each, shows, folder / f"{name}.filters.png"))
    drawn += [Drawn(each) for each in list(found.values())[len(some) :]]
    return Done(drawn, folder / "filters.npz", warnings)
