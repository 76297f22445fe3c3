"""Judging explanations of files: reading them, running methods and metrics, choosing by them. The job of ``onnxplain evaluate``.

Belongs here: from paths to values for every method and metric. Not here: judging (``analyzer.evaluation``), the files that are
written (``evaluation_report``), printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.data.dataset import Dataset, open_dataset
from analyzer.data.reading import named_files
from analyzer.errors import AnalyzerError, InconclusiveError, UsageError
from analyzer.evaluation import registry as metric_registry
from analyzer.evaluation.candidates import Candidate, combinations
from analyzer.evaluation.judging import Cell, Judgement, Progress, judge
from analyzer.evaluation.selection import Selection, select
from analyzer.evaluation.statistics import Interval
from analyzer.explanation import jsonable
from analyzer.jobs.arguments import parse_grid, parse_params
from analyzer.jobs.asked import Asked, command_line, merged
from analyzer.jobs.rule_options import with_rules
from analyzer.methods import registry
from analyzer.model import Model
from analyzer.output_folder import OutputFolder

#: Of all intervals; and the files that are written whatever is judged.
CONFIDENCE = 0.95
FILES = ("evaluation.json", "evaluation.html")


@dataclass(frozen=True)
class EvaluateJob(Asked):
    """What to judge, and by what.

    Attributes
    ----------
    metrics
        Names; ``METRIC.KEY=VALUE`` among the parameters is for one of them.
    mask
        A folder of masks, or one for all inputs.
    samples, stratify
        How many inputs are drawn, and by which column in proportion.
    grid
        ``KEY=VALUE,VALUE`` of methods' parameters, or ``method=NAME,NAME``: the best combination is chosen.
    held_out
        The share of the inputs on which a choice is confirmed.
    output
        Folder that is written to; None writes nothing.
    force
        Whether results that are there already are replaced.
    """

    metrics: Sequence[str] = ()
    mask: str | None = None
    samples: int | None = None
    stratify: str | None = None
    grid: Sequence[str] = ()
    held_out: float = 0.5
    output: Path | None = None
    force: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """How every explanation is asked for."""
        return {
            "target": self.targets[0], "score": self.score, "backend": self.backend, "inputs": self.explained or None,
            "seed": self.seed,
        }  # fmt: skip

    @property
    def command(self) -> str:
        """The command that asks for the same again."""
        single = [("--mask", self.mask), ("--samples", None if self.samples is None else str(self.samples)),
                  ("--stratify", self.stratify),
                  ("--held-out", None if self.held_out == 0.5 else str(self.held_out))]  # fmt: skip
        return command_line("evaluate", self, [("--metric", self.metrics), ("--grid", self.grid)], single)


@dataclass(frozen=True)
class Evaluated:
    """The results of a job.

    Attributes
    ----------
    judgement
        Of all inputs; where a combination was chosen, of those that it was chosen on.
    selection
        Where there was a grid.
    """

    job: EvaluateJob
    model: Model = field(repr=False)
    dataset: Dataset = field(repr=False)
    judgement: Judgement
    selection: Selection | None
    warnings: list[str]

    def interval(self, cell: Cell) -> Interval:
        """The mean of a candidate's values."""
        return Interval.of(cell.known, CONFIDENCE, self.job.seed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: everything."""
        return {
            "model": str(self.model.path or "model"),
            "sha256": self.model.sha256,
            "data": self.dataset.digest,
            "command": self.job.command,
            "seed": self.job.seed,
            "confidence": CONFIDENCE,
            **self._judged(self.judgement),
            "selection": None if self.selection is None else self._selected(self.selection),
            "warnings": self.warnings,
        }

    def _judged(self, judgement: Judgement) -> dict[str, Any]:
        return {
            "inputs": list(judgement.ids),
            "targets": judgement.targets,
            "unreadable": {judgement.ids[row]: each.to_dict() for row, each in judgement.unreadable.items()},
            "results": [
                self._cell(judgement, number, metric) for metric in judgement.metrics for number in judgement.usable
            ],
            "refused": [
                {
                    "name": judgement.candidates[number].name,
                    **_candidate(judgement.candidates[number]),
                    **each.to_dict(),
                }
                for number, each in judgement.refused.items()
            ],
        }

    def _cell(self, judgement: Judgement, number: int, metric: str) -> dict[str, Any]:
        cell, candidate, info = (
            judgement.cells[number, metric],
            judgement.candidates[number],
            metric_registry.get(metric),
        )
        known = self.interval(cell)
        return {
            "name": candidate.name,
            **_candidate(candidate),
            "metric": metric,
            "metric_params": jsonable(cell.params),
            "higher_is_better": info.higher_is_better,
            "direction": info.direction,
            **known.to_dict(),
            "n_valid": known.count,
            "n_nan": len(cell.values) - known.count,
            "reasons": cell.why_none,
            "values": jsonable([float(value) for value in cell.values]),
            "n_evaluations": cell.evaluations,
            "n_explanations": cell.explanations,
            "curves": {name: curve.to_dict() for name, curve in cell.curves.items()},
            "notes": cell.notes,
        }

    def _selected(self, selection: Selection) -> dict[str, Any]:
        candidates = selection.judgement.candidates
        return {
            "winner": {"name": selection.winner.name, **_candidate(selection.winner), "options": ready(selection.winner)},
            "ranking": [
                {
                    "name": candidates[each.number].name, **_candidate(candidates[each.number]), "rank": each.rank,
                    "ranks": dict(each.ranks), "means": {name: one.to_dict() for name, one in each.means.items()},
                    "to_best": {name: one.to_dict() for name, one in each.to_best.items()},
                }
                for each in selection.ranking
            ],
            "unranked": {candidates[number].name: why for number, why in selection.unranked.items()},
            "confirmations": [
                {
                    "metric": each.metric, "against": each.against.name, "role": each.role, "better": each.better,
                    "winner": each.winner.to_dict(), "other": each.other.to_dict(), "difference": each.difference.to_dict(),
                }
                for each in selection.confirmations
            ],
            "held_out": self._judged(selection.held_out),
            "notes": list(selection.notes),
        }  # fmt: skip


def ready(candidate: Candidate) -> str:
    """A combination as options of a command line."""
    import json
    import shlex

    words = ["-m", candidate.method]
    for key, value in candidate.params.items():
        text = value if isinstance(value, str) else json.dumps(jsonable(value))
        words += ["-p", f"{candidate.method}.{key}={text}"]
    return shlex.join(words)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"method": candidate.method, "params": jsonable(candidate.params)}


def evaluate_files(job: EvaluateJob, progress: Progress | None = None) -> Evaluated:
    """Judge every method's explanations of the inputs by every metric; with a grid, choose.

    Raises
    ------
    AnalyzerError
        Any error in the model, the data, a method, a metric or a parameter; :class:`InconclusiveError`
        ``evaluation.no_value`` where no metric has a value for any input.
    """
    candidates, chosen = _asked(job)
    if job.output is not None:
        OutputFolder(job.output, job.force).require_free(FILES)
    model = job.load()
    dataset = _data(job, model)
    selection = None
    if job.grid:
        selection = select(
            model, dataset, candidates, chosen, held_out=job.held_out, confidence=CONFIDENCE, progress=progress, **job.options
        )  # fmt: skip
        judgement = selection.judgement
    else:
        judgement = judge(model, dataset, candidates, chosen, progress=progress, **job.options)
    _require_values(judgement)
    return Evaluated(job, model, dataset, judgement, selection, _warnings(job, model, dataset, judgement, selection))


def _asked(job: EvaluateJob) -> tuple[list[Candidate], dict[str, dict[str, Any]]]:
    """What is judged and by what, checked as far as that goes without the model."""
    if len(job.targets) != 1:
        raise UsageError("evaluation.targets", f"{len(job.targets)} targets", "metrics judge one target: give one -t")
    grid = parse_grid(job.grid)
    methods = list(dict.fromkeys([*job.methods, *map(str, grid.get("method", ()))]))
    if not methods:
        raise UsageError("evaluation.methods", "no method is chosen", "as in -m lrp, or --grid method=lrp,gradient")
    chosen = list(dict.fromkeys(job.metrics))
    params = parse_params(job.params, methods, chosen)
    shared = with_rules({name: params[name] for name in methods}, job.rules)
    if not grid:
        for name in methods:
            registry.get(name).check(shared[name])
    for name in chosen:
        metric_registry.get(name).check(params[name])
    return combinations(grid, methods, shared), {name: params[name] for name in chosen}


def _data(job: EvaluateJob, model: Model) -> Dataset:
    named, plain = named_files(model, job.inputs)
    path: Any = named or (plain[0] if len(plain) == 1 else plain)
    masked = job.explained[0] if job.explained and job.explained[0] in model.inputs else None
    return open_dataset(
        model, path, masks=job.mask, samples=job.samples, seed=job.seed, stratify=job.stratify, masked=masked
    )


def _require_values(judgement: Judgement) -> None:
    """Refuse to call it a result where no metric has a value."""
    if any(len(cell.known) for cell in judgement.cells.values()):
        return
    first, metric = next((n, m) for n, m in judgement.cells if n in judgement.usable)
    reason = next(iter(judgement.cells[first, metric].why_none), "no reason is known")
    count = len(judgement.ids)
    inputs = "the input has no value" if count == 1 else f"none of {count} inputs has a value"
    raise InconclusiveError("evaluation.no_value", f"{inputs} of {metric}: {reason}", "choose another metric or method")


def _warnings(
    job: EvaluateJob, model: Model, dataset: Dataset, judgement: Judgement, selection: Selection | None
) -> list[str]:
    found = [*model.loaded.warnings, *merged(judgement.notes)]
    if job.samples is not None and len(dataset) < job.samples:
        found.append(f"the data has {len(dataset)} inputs, not {job.samples}: all are taken")
    unreadable: Mapping[int, AnalyzerError] = judgement.unreadable
    if unreadable:
        row, first = next(iter(unreadable.items()))
        found.append(
            f"{len(unreadable)} of {len(judgement.ids)} inputs can't be read; {judgement.ids[row]}: {first.message}"
        )
    cells = [
        (f"{metric} of {judgement.candidates[number].name}", cell) for (number, metric), cell in judgement.cells.items()
    ]
    found += merged([(note, name) for name, cell in cells for note in cell.notes])
    if selection is not None:
        found += [note for note in selection.notes if note not in found]
        found += [f"held-out {text}" for text in merged(selection.held_out.notes) if text not in found]
    return found
