"""Explaining files: reading them, running methods, writing the results. The job of ``onnxplain explain``.

Belongs here: from paths to a folder of results. Not here: reading one file (``analyzer.inputs``), one explanation
(``analyzer.explain``), the page (``report``).

Everything is checked and computed before anything is written; an error leaves no file behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.data.reading import read_all
from analyzer.errors import UsageError
from analyzer.explanation import Explanation
from analyzer.jobs import report
from analyzer.jobs.arguments import parse_layout, parse_params
from analyzer.jobs.rule_options import with_rules
from analyzer.methods import registry
from analyzer.model import Model, load
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput


@dataclass(frozen=True)
class Job:
    """What to explain; all values as a command line gives them.

    Attributes
    ----------
    inputs
        Files, or ``NAME=FILE`` for models with several inputs.
    params
        ``KEY=VALUE`` for every method that has the parameter, ``METHOD.KEY=VALUE`` for one.
    rules
        ``KEY=RULE``, or a file of them, for every method that takes rules.
    targets
        Each input is explained for each of them.
    at
        Inner value at which relevance is wanted instead of the inputs.
    explained
        Names of the inputs that are explained; empty for those that are by default.
    layout
        ``NAME=LETTERS``, or letters for the first input.
    output
        Folder that is written to.
    """

    model: str
    inputs: Sequence[str]
    methods: Sequence[str]
    params: Sequence[str] = ()
    targets: Sequence[str] = ("top1",)
    score: str = "logit"
    preprocess: str | None = None
    labels: str | None = None
    output: Path = Path("onnxplain-out")
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    decode: str | None = None
    backend: str = "auto"
    rules: Sequence[str] = ()
    at: str | None = None
    explained: Sequence[str] = ()
    layout: Sequence[str] = ()
    tf32: bool = False


@dataclass(frozen=True)
class Item:
    """One input: the file its picture comes from, its explanations, and the files written for each of them."""

    name: str
    source: LoadedInput | None
    explanations: list[Explanation]
    files: list[list[Path]] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """The results of a job."""

    items: list[Item]
    report: Path
    warnings: list[str]
    model: Model | None = field(default=None, repr=False)

    def keep_compiled(self) -> list[str]:
        """Compile the sweeps that this job ran in torch, for later jobs; gives the reasons why some weren't compiled."""
        if self.model is None:
            return []
        self.model.backends.sweeps.compile_pending()
        return self.model.backends.sweeps.diagnostics

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: every explanation's record, and the paths of the files."""
        return {
            "report": str(self.report),
            "warnings": self.warnings,
            "explanations": [
                {"input": item.name, "files": [str(file) for file in files], **e.to_dict()}
                for item in self.items
                for e, files in zip(item.explanations, item.files, strict=True)
            ],
        }


def explain_files(job: Job, progress: Callable[[int, int], None] | None = None) -> Done:
    """Explain every input with every method and write the folder.

    Raises
    ------
    AnalyzerError
        Any error in the model, an input, a method or a parameter; then nothing has been written.
    """
    methods = list(dict.fromkeys(job.methods))
    params = with_rules(parse_params(job.params, methods), job.rules)
    for name in methods:
        registry.get(name).check(params[name])
    check_output(job.output)
    model = load(
        job.model, job.device, preprocess=job.preprocess, labels=job.labels, threads=job.threads, decode=job.decode,
        layout=parse_layout(job.layout), tf32=job.tf32,
    )  # fmt: skip
    read = read_all(model, job.inputs)
    items = []
    notes: list[tuple[str, str]] = []
    for name, sources, feed in read:
        notes += [(note, name) for each in sources for note in each.notes if not note.startswith("picture shown")]
        explanations = []
        for method in methods:
            found = model.explain_targets(
                feed, job.targets, method, score=job.score, seed=job.seed, backend=job.backend, at=job.at,
                inputs=job.explained or None, progress=progress, **params[method],
            )  # fmt: skip
            pairs = zip(found, job.targets, strict=True)
            explanations += [_with_source(explanation, job, target, sources) for explanation, target in pairs]
        for explanation in explanations:
            notes += [(note, f"{name}, {explanation.method}") for note in explanation.record.get("notes", ())]
        items.append(Item(name, sources[0], explanations))
    warnings = [*model.loaded.warnings, *_merged(notes)]
    first = items[0].explanations[0].record
    if model.labels is not None and first.get("prediction") and "detection" not in first:
        warnings += _label_warning(model, items[0].explanations[0])
    return Done(items, _write(job, model, items), warnings, model)


def _merged(notes: Sequence[tuple[str, str]]) -> list[str]:
    """(note, input and method) pairs as messages, every note once."""
    owners_of: dict[str, list[str]] = {}
    for note, owner in notes:
        owners_of.setdefault(note, []).append(owner)
    texts = []
    for note, owners in owners_of.items():
        owners = list(dict.fromkeys(owners))
        more = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
        texts.append(f"{owners[0]}{more}: {note}")
    return texts


def _with_source(explanation: Explanation, job: Job, target: str, files: Sequence[LoadedInput]) -> Explanation:
    """The explanation with the request and the conversion of the files in its record, so that the record reproduces it."""
    record = dict(explanation.record)
    record["request"] = {"target": target, "score": job.score, **({"at": job.at} if job.at is not None else {})}
    if job.explained:
        record["request"]["inputs"] = list(job.explained)
    record["sources"] = [each.record for each in files]
    record["preprocess"] = next((r["preprocess"] for r in record["sources"] if "preprocess" in r), None)
    return replace(explanation, record=record)


def _label_warning(model: Model, explanation: Explanation) -> list[str]:
    shape = next((s.shape for n, s in model.outputs.items() if n == scored_value(model).output), ())
    classes = next((d for d in shape[1:] if isinstance(d, int) and d > 1), None)
    warning = model.labels.check(classes) if model.labels is not None and classes is not None else None
    return [warning] if warning else []


def check_output(folder: Path) -> None:
    """Refuse early what can't be written to: a file where the folder or a parent should be, a folder without permission.

    Raises
    ------
    UsageError
        ``output.not_a_folder``, ``output.unwritable``.
    """
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise UsageError("output.not_a_folder", f"{existing} is a file", "give a folder with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, "no permission", "choose another folder with -o")


def _unwritable(folder: Path, reason: str | None, hint: str) -> UsageError:
    return UsageError("output.unwritable", f"can't write to {folder}: {reason}", hint)


def _write(job: Job, model: Model, items: list[Item]) -> Path:
    """Write into a temporary folder inside the output folder, then rename each file."""
    page = job.output / "report.html"
    is_new = not job.output.exists()
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".onnxplain-", dir=job.output))
    except OSError as problem:
        _discard(job.output, is_new)
        raise _unwritable(job.output, problem.strerror, "choose another folder with -o") from None
    try:
        for item in items:
            for explanation, stem in zip(item.explanations, _stems(item, len(job.targets)), strict=True):
                names = [f"{stem}.{suffix}" for suffix in ("npz", "json", "png")]
                for name in names:
                    explanation.save(staging / name, item.source)
                item.files.append([job.output / name for name in names])
        command = _command(job)
        rows = [(item.name, item.source, item.explanations) for item in items]
        report.write_comparison(staging / page.name, model, rows, command)
        for path in sorted(staging.iterdir()):
            path.replace(job.output / path.name)
    except OSError as problem:
        raise _unwritable(job.output, problem.strerror, "is the disk full?") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _discard(job.output, is_new)
    return page


def _stems(item: Item, targets: int) -> list[str]:
    """Names of an input's files: ``STEM.METHOD``, and ``STEM.METHOD.TARGET`` where there are several targets."""
    found: list[str] = []
    for explanation in item.explanations:
        stem = f"{item.name}.{explanation.method}"
        if targets > 1:
            target = re.sub(r"[^A-Za-z0-9_+-]+", "-", str(explanation.record["request"]["target"])).strip("-")
            name = f"{stem}.{target[:60] or 'target'}"
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            stem = next(each for each in itertools.chain([name], numbered) if each not in found)
        found.append(stem)
    return found


def _discard(folder: Path, is_new: bool) -> None:
    """Remove the folder that was made for the results where an error left it empty."""
    if is_new:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _command(job: Job) -> str:
    import shlex

    command_line = ["onnxplain", "explain", job.model, *job.inputs]
    targets = job.targets if list(job.targets) != ["top1"] else ()
    repeated = (
        ("-m", job.methods), ("-p", job.params), ("--rule", job.rules), ("-t", targets), ("--input", job.explained),
        ("--layout", job.layout),
    )  # fmt: skip
    for flag, values in repeated:
        command_line += [word for value in values for word in (flag, value)]
    options: Mapping[str, str | None] = {
        "--at": job.at,
        "--score": job.score if job.score != "logit" else None,
        "--backend": job.backend if job.backend != "auto" else None,
        "--preprocess": job.preprocess,
        "--labels": job.labels,
        "--decode": job.decode,
        "--seed": str(job.seed) if job.seed else None,
    }
    command_line += [word for flag, text in options.items() if text is not None for word in (flag, text)]
    return shlex.join(command_line)
