"""What the scripts and the tests of all sample models share: metadata in the file, running it, reading a card.

Not here: anything about one model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

FOLDER = Path(__file__).resolve().parent
SAMPLES = FOLDER / "samples"


def annotate(path: Path, entries: Mapping[str, Any]) -> None:
    """Check the model file and write JSON entries, such as ``labels``, to its metadata.

    The exporters' notes of source lines go: they hold paths of the machine that made the file.
    """
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    for node in model.graph.node:
        node.doc_string = ""
        for position in reversed(range(len(node.metadata_props))):
            if "stack_trace" in node.metadata_props[position].key:
                del node.metadata_props[position]
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in entries.items()})
    onnx.save(model, path)


def run(path: Path, values: np.ndarray[Any, Any], batch: int = 256) -> list[Any]:
    """All outputs of a model with one input, in batches: arrays, or lists where an output is a sequence."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: values[at : at + batch]}) for at in range(0, len(values), batch)]
    return [_joined(part) for part in zip(*parts, strict=True)]


def _joined(parts: tuple[Any, ...]) -> Any:
    """The batches of one output, one after the other."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [row for part in parts for row in part]


def stated(card: Path) -> dict[str, float]:
    """The figures of a model card: every table row ``| name | number |``."""
    rows = re.findall(r"^\| ([^|]+?) \| (-?\d+(?:\.\d+)?) \|$", card.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: float(value) for name, value in rows}


def table(figures: Mapping[str, float]) -> str:
    """Figures as the Markdown table that `stated` reads."""
    rows = [f"| {name} | {value:.4g} |" for name, value in figures.items()]
    return "\n".join(["| figure | value |", "|---|---|", *rows])
