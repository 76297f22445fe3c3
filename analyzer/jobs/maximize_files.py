"""Activation maximization to files: inputs as .npz, a sheet, the way there, a record. The job of ``visualize MODEL maximize``.

Belongs here: from a command's words to a folder. Not here: maximising (``analyzer.visualization``), drawing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analyzer.data.dataset import open_dataset
from analyzer.data.reading import read_one
from analyzer.errors import UsageError
from analyzer.explanation import jsonable
from analyzer.inputs import read_array
from analyzer.jobs.arguments import parse_layout, parse_settings
from analyzer.jobs.input_pictures import frames, sheet
from analyzer.jobs.top_inputs_files import parse_index
from analyzer.model import Model, load
from analyzer.output_folder import OutputFolder
from analyzer.report.animation import encoded
from analyzer.report.pictures import png
from analyzer.visualization.maximized import Maximized

Animation = Literal["gif", "webp"]
STEM = "maximized"
#: Frames of an animation, and what -p may set beside regularisers and steps.
FRAMES, _ARGUMENTS = 32, ("restarts", "parametrisation", "decorrelate", "bounds", "score", "input")


@dataclass(frozen=True)
class MaximizeJob:
    """What is wanted; all values as a command line gives them.

    Attributes
    ----------
    targets
        Each is maximised by itself; none where a layer is.
    layer, channel, unit, direction
        As :meth:`analyzer.Model.maximize` has them; ``unit`` as ``3,5,5``, ``direction`` a file.
    start
        ``noise``, ``mean``, ``best`` or a file.
    data, generator
        A data set to start from; a model that makes inputs.
    params
        ``KEY=VALUE``.
    animate
        Write the way there as this.
    output
        Folder; None for a new one.
    """

    model: str
    targets: Sequence[str] = ()
    layer: str | None = None
    channel: int | None = None
    unit: str | None = None
    direction: str | None = None
    start: str = "noise"
    data: str | None = None
    generator: str | None = None
    results: int = 1
    params: Sequence[str] = ()
    animate: Animation | None = None
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
        single = (
            ("--layer", self.layer), ("--channel", self.channel), ("--unit", self.unit),
            ("--direction", self.direction), ("--start", self.start if self.start != "noise" else None),
            ("--data", self.data), ("--generator", self.generator), ("-k", self.results if self.results > 1 else None),
            ("--animate", self.animate), ("--preprocess", self.preprocess), ("--labels", self.labels),
            ("--seed", self.seed or None),
        )  # fmt: skip
        words = ["onnxplain", "visualize", self.model, "maximize"]
        several = (("-t", self.targets), ("-p", self.params), ("--layout", self.layout))
        words += [word for flag, values in several for each in values for word in (flag, each)]
        words += [word for flag, value in single if value is not None for word in (flag, str(value))]
        return shlex.join(words)


@dataclass(frozen=True)
class Done:
    """The results of a job: one for each target."""

    job: MaximizeJob
    found: list[Maximized]
    warnings: list[str]
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: everything but the inputs."""
        return {"command": self.job.command, "results": [each.to_dict() for each in self.found],
                "warnings": self.warnings}  # fmt: skip


def maximize_files(job: MaximizeJob, progress: Callable[[float, float], None] | None = None) -> Done:
    """Maximise every target and write the folder; Ctrl-C ends the search and keeps what was found.

    Raises
    ------
    AnalyzerError
        Any error in the model, a target, a parameter or the data; then nothing has been written.
    """
    params = parse_settings(job.params)
    arguments = {name: params.pop(name) for name in _ARGUMENTS if name in params}
    arguments["bounds"] = _bounds(arguments.get("bounds"))
    output = OutputFolder(job.output, job.force)
    names = [f"{STEM}.{suffix}" for suffix in ("json", "npz", "png", *([job.animate] if job.animate else []))]
    if job.output is not None:
        output.require_free(names)
    options: dict[str, Any] = {"threads": job.threads, "tf32": job.tf32}
    model = load(job.model, job.device, preprocess=job.preprocess, labels=job.labels, layout=parse_layout(job.layout),
                 **options)  # fmt: skip
    arguments |= {
        "channel": job.channel, "unit": parse_index(job.unit), "results": job.results, "seed": job.seed,
        "direction": None if job.direction is None else np.squeeze(read_array(job.direction).values),
        "start": job.start if job.start in ("noise", "mean", "best") else read_one(model, [job.start]),
        "data": None if job.data is None else open_dataset(model, job.data, seed=job.seed),
        "generator": None if job.generator is None else load(job.generator, job.device, **options),
        "frames": FRAMES if job.animate else 0,
    }  # fmt: skip
    found = _searched(model, job, {**params, **arguments}, progress)
    warnings = list(dict.fromkeys([*model.loaded.warnings, *(note for each in found for note in each.notes)]))
    with output.drafts() as (folder, drafts):
        done = Done(job, found, warnings, [])
        _write(done, drafts)
        done.files.extend(folder / path.name for path in sorted(drafts.iterdir()))
    return done


def _bounds(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(each, int | float) for each in given):
        raise UsageError("params.invalid", f"bounds={given!r} are no two numbers", "as in -p bounds=0,1")
    return float(given[0]), float(given[1])


def _searched(
    model: Model, job: MaximizeJob, arguments: dict[str, Any], progress: Callable[[float, float], None] | None
) -> list[Maximized]:
    """One target after the other; where the user interrupts, those that are there."""
    targets: Sequence[str | None] = job.targets or (None,)
    found: list[Maximized] = []
    for at, target in enumerate(targets):

        def advance(done: int, total: int, at: int = at) -> None:
            if progress is not None:
                progress(at * total + done, len(targets) * total)

        found.append(model.maximize(target, job.layer, progress=advance, **arguments))
        if any(note.startswith("interrupted") for note in found[-1].notes):
            break
    return found


def _write(done: Done, drafts: Path) -> None:
    (drafts / f"{STEM}.json").write_text(json.dumps(jsonable(done.to_dict()), indent=1), encoding="utf-8")
    arrays: dict[str, Any] = {}
    for at, each in enumerate(done.found):
        own = "" if len(done.found) == 1 else f"_{at}"
        arrays |= {f"x{own}": each.x, f"scores{own}": each.scores, f"history{own}": each.history}
        arrays |= {f"codes{own}": each.codes} if each.codes is not None else {}
    np.savez_compressed(drafts / f"{STEM}.npz", **arrays)
    inputs = [x for each in done.found for x in each.x]
    labels = [label for each in done.found for label in _labels(each, many=len(done.found) > 1)]
    domain, first = done.found[0].domain, done.found[0]
    name = Path(done.job.model).stem
    title = f"{name}: {first.goal}" if len(done.found) == 1 else f"{name}: inputs that drive classes"
    drawn = sheet(title, domain, inputs, labels, [f"{first.kind} by onnxruntime", *done.warnings])
    if drawn is not None:
        (drafts / f"{STEM}.png").write_bytes(png(drawn))
    pictures = frames(domain, [[x for _, x in each.frames] for each in done.found]) if done.job.animate else []
    if done.job.animate and pictures:
        (drafts / f"{STEM}.{done.job.animate}").write_bytes(encoded(pictures, _format(done.job.animate)))


def _format(suffix: Animation) -> Literal["GIF", "WEBP"]:
    return "GIF" if suffix == "gif" else "WEBP"


def _labels(found: Maximized, *, many: bool) -> list[str]:
    tail = f" {found.goal.target}" if many else ""
    if found.probabilities is not None:
        return [f"p {each:.4f}{tail}" for each in found.probabilities]
    return [f"{each:.4g}{tail}" for each in found.scores]
