"""A CycloneDX bill of materials: the model as a machine-learning component whose model card holds what the gate measured.

Belongs here: the fragment, version 1.6, to be merged into a product's own. Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from analyzer.evaluation.statistics import Bounded
from analyzer.gate.formats.wording import model_name, verdict_line
from analyzer.gate.outcome import CheckResult, GateResult
from analyzer.report.text import clean


def bom(result: GateResult) -> dict[str, Any]:
    """The fragment; equal results give equal fragments, so it holds no time."""
    record = result.record
    own = f"{record['model']['sha256']}:{record['policy']['sha256']}:{record['data']['sha256']}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own)}",
        "version": 1,
        "metadata": {"tools": {"components": [_tool(name, v) for name, v in sorted(record["versions"].items())]}},
        "components": [_model(result), _data(record["data"])],
        "dependencies": [{"ref": "model", "dependsOn": ["data"]}, {"ref": "data"}],
    }


def _tool(name: str, version: str) -> dict[str, Any]:
    return {"type": "platform" if name == "python" else "library", "name": name, "version": version}


def _model(result: GateResult) -> dict[str, Any]:
    record = result.record
    metrics = [_metric(check, test) for check in result.checks for test in check.outcome.tests]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": model_name(result),
        "hashes": [{"alg": "SHA-256", "content": record["model"]["sha256"]}],
        "modelCard": {
            "modelParameters": {"datasets": [{"ref": "data"}]},
            "quantitativeAnalysis": {"performanceMetrics": [metric for metric in metrics if metric is not None]},
        },
        "properties": [
            {"name": "onnxplain:gate:verdict", "value": verdict_line(result)},
            {"name": "onnxplain:gate:status", "value": result.status},
            {"name": "onnxplain:gate:policy-sha256", "value": record["policy"]["sha256"]},
            *({"name": f"onnxplain:gate:check:{check.id}", "value": check.status} for check in result.checks),
        ],
    }


def _metric(check: CheckResult, test: Bounded) -> dict[str, Any] | None:
    """A statement as a performance metric; None where it has no value."""
    if not math.isfinite(test.estimate):
        return None
    found: dict[str, Any] = {"type": clean(f"{check.id}: {test.name}", 300), "value": repr(float(test.estimate))}
    if test.part:
        found["slice"] = clean(test.part, 200)
    if math.isfinite(test.low) and math.isfinite(test.high):
        found["confidenceInterval"] = {"lowerBound": repr(float(test.low)), "upperBound": repr(float(test.high))}
    return found


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": "data",
        "name": clean(data["path"], 300) or "data",
        "hashes": [{"alg": "SHA-256", "content": data["sha256"]}],
        "data": [{"type": "dataset", "name": "evaluation data", "description": f"{data['inputs']} inputs"}],
    }
