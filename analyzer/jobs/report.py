"""The page of a job: facts about the model, and its explanations side by side.

Belongs here: from :class:`analyzer.Model` to the report's facts. Not here: explanations as panels
(``analyzer.report.explained``), drawing (``analyzer.report``), explaining (``explain_files``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.explanation import Explanation
from analyzer.jobs.inspection import operators, producer, weights
from analyzer.report.explained import MOST_SAMPLES, created, panel, sample

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput
    from analyzer.model import Model
    from analyzer.report import ModelFacts


def facts(model: Model) -> ModelFacts:
    """Facts about the model file."""
    from analyzer.report import ModelFacts

    proto = model.proto
    return ModelFacts(
        path=str(model.path or "model"),
        sha256=model.sha256,
        size_bytes=model.size,
        producer=producer(model),
        ir_version=proto.ir_version,
        opsets={entry.domain: entry.version for entry in proto.opset_import},
        inputs=tuple((name, str(spec)) for name, spec in model.inputs.items()),
        outputs=tuple((name, str(spec)) for name, spec in model.outputs.items()),
        operators=operators(model),
        parameters=weights(model)[0],
        description=proto.doc_string,
        metadata=model.metadata,
    )


def write_comparison(
    path: Path,
    model: Model,
    explained: Sequence[tuple[str, LoadedInput | None, Sequence[Explanation]]],
    command: str | None = None,
) -> None:
    """Write the page that compares methods side by side, sample by sample.

    Parameters
    ----------
    explained
        (name, file, one explanation per method) for every input.
    """
    from analyzer.report import write_report

    rows = []
    for name, source, explanations in explained:
        count = len(explanations[0].target)
        for index in range(count):
            label = name if count == 1 else f"{name} [{index}]"
            rows.append((sample(explanations[0], index, label, source), [panel(e, index) for e in explanations]))
    write_report(path, facts(model), rows[:MOST_SAMPLES], created(), command)
