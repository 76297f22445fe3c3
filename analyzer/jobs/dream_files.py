"""DeepDream to files: the picture, the way there, a record. The job of ``visualize MODEL dream``.

Belongs here: from a photo's file to a folder. Not here: dreaming (``analyzer.visualization.dream``).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.explanation import jsonable
from analyzer.inputs.images import read_picture
from analyzer.inputs.preprocess import default_for
from analyzer.inputs.reading import array_picture, shown_by
from analyzer.jobs.arguments import parse_settings
from analyzer.model import Model, load
from analyzer.output_folder import OutputFolder
from analyzer.report.animation import encoded
from analyzer.report.heat import resize
from analyzer.report.pictures import png

#: Frames of an animation.
FRAMES = 32


@dataclass(frozen=True)
class DreamJob:
    """What is wanted; all values as a command line gives them.

    Attributes
    ----------
    photo
        A picture's file.
    target, layer, channel
        As :meth:`analyzer.Model.dream` has them.
    largest
        The photo's larger side is reduced to this.
    animate
        Write the way there as this.
    output
        Folder; None for a new one.
    """

    model: str
    photo: str
    target: str | None = None
    layer: str | None = None
    channel: int | None = None
    params: Sequence[str] = ()
    largest: int = 512
    animate: Literal["gif", "webp"] | None = None
    preprocess: str | None = None
    output: Path | None = None
    force: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    tf32: bool = False

    @property
    def command(self) -> str:
        """The command that asks for the same again."""
        single = (
            ("-t", self.target), ("--layer", self.layer), ("--channel", self.channel), ("--largest", self.largest),
            ("--animate", self.animate), ("--preprocess", self.preprocess), ("--seed", self.seed or None),
        )  # fmt: skip
        words = ["onnxplain", "visualize", self.model, "dream", self.photo]
        words += [word for flag, value in single if value is not None for word in (flag, str(value))]
        words += [word for each in self.params for word in ("-p", each)]
        return shlex.join(words)


@dataclass(frozen=True)
class Done:
    """The results of a job."""

    record: dict[str, Any]
    warnings: list[str]
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**self.record, "warnings": self.warnings}


def dream_files(job: DreamJob, progress: Callable[[float, float], None] | None = None) -> Done:
    """Dream on a photo and write the folder.

    Raises
    ------
    AnalyzerError
        Any error in the model, the photo, the layer or a parameter; then nothing has been written.
    """
    params = parse_settings(job.params)
    output = OutputFolder(job.output, job.force)
    stem = f"{Path(job.photo).stem}.dream"
    if job.output is not None:
        output.require_free([f"{stem}.{suffix}" for suffix in ("png", "json", *([job.animate] if job.animate else []))])
    model = load(job.model, job.device, preprocess=job.preprocess, threads=job.threads, tf32=job.tf32)
    picture = read_picture(job.photo)
    pixels = _reduced(picture.pixels, job.largest)
    how = _preprocess(model, pixels.shape[:2])
    frames = FRAMES if job.animate else 0
    found = model.dream(how.encode(pixels), job.layer, target=job.target, channel=job.channel, seed=job.seed,
                        progress=progress, frames=frames, **params)  # fmt: skip
    layout: Literal["CHW", "HWC"] = "HWC" if how.layout == "NHWC" else "CHW"
    record = {
        "command": job.command, "model": str(model.path or "model"), "sha256": model.sha256, "photo": job.photo,
        "photo_sha256": picture.sha256, "size": list(pixels.shape[:2]), "goal": found.goal.to_dict(), "seed": job.seed,
        "parameters": params, "scores": found.scores, "preprocess": how.to_dict(),
    }  # fmt: skip
    warnings = [*model.loaded.warnings, *picture.notes, *found.notes]
    with output.drafts() as (folder, drafts):
        (drafts / f"{stem}.png").write_bytes(png(array_picture(found.x, layout, how)[0]))
        if job.animate:
            shown = [array_picture(each, layout, how)[0] for each in found.frames]
            (drafts / f"{stem}.{job.animate}").write_bytes(encoded(shown, "GIF" if job.animate == "gif" else "WEBP"))
        done = Done(record, warnings, [folder / path.name for path in sorted(drafts.iterdir())])
        (drafts / f"{stem}.json").write_text(json.dumps(jsonable(done.to_dict()), indent=1), encoding="utf-8")
        done.files.append(folder / f"{stem}.json")
    return done


def _reduced(pixels: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    factor = largest / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    rows, columns = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return resize(pixels, rows, columns, smooth=True)


def _preprocess(model: Model, size: Sequence[int]) -> Any:
    """How the photo becomes the model's numbers at its own size.

    Raises
    ------
    UnsupportedError
        ``dream.no_picture``.
    """
    name, spec = next(iter(model.inputs.items()))
    try:
        given = model.preprocess or default_for(spec.shape, spec.dtype)
        fitted = given.fit(spec.shape, spec.dtype)
        first = fitted.layout != "NHWC"
        shape = (1, fitted.channels, *size) if first else (1, *size, fitted.channels)
        return shown_by(given, shape, spec.dtype)
    except UsageError as problem:
        raise UnsupportedError("dream.no_picture", f"input {name!r} takes no picture: {spec}", problem.hint) from None
