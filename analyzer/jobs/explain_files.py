"""Explaining files: reading them, running methods, writing the results. The job of ``onnxplain explain``.

Belongs here: from paths to a folder of results. Not here: reading one file (``analyzer.inputs``), one explanation
(``analyzer.explain``), the page (``report``).

Everything is checked and computed before anything is written; an error leaves no file behind.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.data.reading import read_all
from analyzer.explanation import Explanation
from analyzer.jobs import report
from analyzer.jobs.arguments import parse_layout, parse_params
from analyzer.jobs.rule_options import with_rules
from analyzer.methods import registry
from analyzer.model import Model, load
from analyzer.output_folder import OutputFolder
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput


#: The folder that is written to where none is named, and the page in it.
_DEFAULT, _PAGE = "onnxplain-out", "report.html"


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
        Folder that is written to; None for a new one: ``onnxplain-out``, ``onnxplain-out-2``, …
    force
        Whether results that are there already are replaced.
    """

    model: str
    inputs: Sequence[str]
    methods: Sequence[str]
    params: Sequence[str] = ()
    targets: Sequence[str] = ("top1",)
    score: str = "logit"
    preprocess: str | None = None
    labels: str | None = None
    output: Path | None = None
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
    force: bool = False


@dataclass(frozen=True)
class Item:
    """One input: the file its picture comes from, its explanations, the names of each one's files, and the files written."""

    name: str
    source: LoadedInput | None
    explanations: list[Explanation]
    stems: list[str]
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
    check_output(job)
    model = load(
        job.model, job.device, preprocess=job.preprocess, labels=job.labels, threads=job.threads, decode=job.decode,
        layout=parse_layout(job.layout), tf32=job.tf32,
    )  # fmt: skip
    read = read_all(model, job.inputs)
    stems = {name: _stems(name, methods, job.targets) for name, _, _ in read}
    _folder(job).require_free(file for names in stems.values() for stem in names for file in _files(stem))
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
        items.append(Item(name, sources[0], explanations, stems[name]))
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


def check_output(job: Job) -> None:
    """Refuse early a folder that can't be written to, or whose report isn't to be replaced; errors as of ``OutputFolder``."""
    _folder(job).require_free([_PAGE])


def _folder(job: Job) -> OutputFolder:
    return OutputFolder(job.output, job.force)


def _write(job: Job, model: Model, items: list[Item]) -> Path:
    """Write all files, or none."""
    with _folder(job).drafts() as (folder, drafts):
        for item in items:
            for explanation, stem in zip(item.explanations, item.stems, strict=True):
                for name in _files(stem):
                    explanation.save(drafts / name, item.source)
                item.files.append([folder / name for name in _files(stem)])
        rows = [(item.name, item.source, item.explanations) for item in items]
        report.write_comparison(drafts / _PAGE, model, rows, _command(job))
    return folder / _PAGE


def _files(stem: str) -> list[str]:
    """The names of an explanation's files."""
    return [f"{stem}.{suffix}" for suffix in ("npz", "json", "png")]


def _stems(name: str, methods: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Names of an input's files: ``STEM.METHOD``, and ``STEM.METHOD.TARGET`` where there are several targets."""
    found: list[str] = []
    for method, text in itertools.product(methods, targets):
        stem = f"{name}.{method}"
        if len(targets) > 1:
            target = re.sub(r"[^A-Za-z0-9_+-]+", "-", text).strip("-")
            full = f"{stem}.{target[:60] or 'target'}"
            numbered = (f"{full}-{number}" for number in itertools.count(2))
            stem = next(each for each in itertools.chain([full], numbered) if each not in found)
        found.append(stem)
    return found


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
