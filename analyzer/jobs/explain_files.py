"""Explaining files: reading them, running methods, writing the results. The job of ``onnxplain explain``.

Belongs here: from paths to a folder of results. Not here: reading one file (``analyzer.inputs``), one explanation
(``analyzer.explain``), the page (``report``).

Everything is checked and computed before anything is written; an error leaves no file behind.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.data.reading import read_all
from analyzer.explanation import Explanation
from analyzer.jobs import report
from analyzer.jobs.arguments import parse_params
from analyzer.jobs.asked import Asked, command_line, merged
from analyzer.jobs.rule_options import with_rules
from analyzer.methods import registry
from analyzer.model import Model
from analyzer.output_folder import OutputFolder
from analyzer.targets.resolve import scored_value

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput


_PAGE = "report.html"


@dataclass(frozen=True)
class Job(Asked):
    """What to explain.

    Attributes
    ----------
    at
        Inner value at which relevance is wanted instead of the inputs.
    output
        Folder that is written to; None for a new one: ``onnxplain-out``, ``onnxplain-out-2``, …
    force
        Whether results that are there already are replaced.
    """

    output: Path | None = None
    at: str | None = None
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
    folder = OutputFolder(job.output, job.force)
    folder.require_free([_PAGE])
    model = job.load()
    read = read_all(model, job.inputs)
    stems = {name: _stems(name, methods, job.targets) for name, _, _ in read}
    folder.require_free(file for names in stems.values() for stem in names for file in _files(stem))
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
    warnings = [*model.loaded.warnings, *merged(notes)]
    first = items[0].explanations[0].record
    if model.labels is not None and first.get("prediction") and "detection" not in first:
        warnings += _label_warning(model, items[0].explanations[0])
    return Done(items, _write(job, model, items), warnings, model)


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


def _write(job: Job, model: Model, items: list[Item]) -> Path:
    """Write all files, or none."""
    with OutputFolder(job.output, job.force).drafts() as (folder, drafts):
        for item in items:
            for explanation, stem in zip(item.explanations, item.stems, strict=True):
                for name in _files(stem):
                    explanation.save(drafts / name, item.source)
                item.files.append([folder / name for name in _files(stem)])
        rows = [(item.name, item.source, item.explanations) for item in items]
        command = command_line("explain", job, (), [("--at", job.at)])
        report.write_comparison(drafts / _PAGE, model, rows, command)
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
