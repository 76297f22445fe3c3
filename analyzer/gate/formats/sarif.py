"""SARIF 2.1.0: a rule for each kind of check, a result for each check that didn't pass, at the model's file.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any
from urllib.parse import quote

from analyzer.gate.checks import kinds
from analyzer.gate.formats.wording import message, model_name, statements, verdict_line
from analyzer.gate.outcome import CheckResult, GateResult
from analyzer.report.text import clean

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def write(result: GateResult, images: int = 0) -> str:
    """The result as a SARIF log."""
    names = sorted({check.kind for check in result.checks})
    run = {
        "tool": {
            "driver": {
                "name": "onnxplain",
                "semanticVersion": _version(result),
                "rules": [_rule(kind) for kind in names],
            }
        },
        "artifacts": [{"location": _location(result), "hashes": {"sha-256": result.record["model"]["sha256"]}}],
        "results": [_result(check, result, names) for check in result.checks if check.status != "pass"],
        "invocations": [
            {
                "executionSuccessful": result.exit_code != 5,
                "exitCode": result.exit_code,
                "exitCodeDescription": verdict_line(result),
            }
        ],
        "columnKind": "unicodeCodePoints",
        "properties": {"verdict": result.status, "policySha256": result.record["policy"]["sha256"]},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=True) + "\n"


def _version(result: GateResult) -> str:
    return clean(result.record.get("versions", {}).get("onnxplain", ""), 40) or "0.0.0"


def _rule(kind: str) -> dict[str, Any]:
    """A kind of check, explained by its own docstrings."""
    check = kinds().get(kind)
    if check is None:
        return {"id": kind, "shortDescription": {"text": kind}}
    text = inspect.getdoc(check) or kind
    params = [
        f"{name}: {' '.join(field.description.split())}"
        for name, field in check.model_fields.items()
        if field.description and name not in ("id", "level")
    ]
    source = [f"Source: {check.source}."] if check.source else []
    return {
        "id": kind,
        "name": check.__name__,
        "shortDescription": {"text": text.splitlines()[0]},
        "fullDescription": {"text": text},
        "help": {"text": "\n".join([text, *params, *source])},
        "defaultConfiguration": {"level": "error"},
    }


def _result(check: CheckResult, result: GateResult, names: list[str]) -> dict[str, Any]:
    lines = [f"{check.id} ({check.status}): {message(check)}", *statements(check)]
    identity = "\n".join([check.id, check.kind, model_name(result)])
    return {
        "ruleId": check.kind,
        "ruleIndex": names.index(check.kind),
        "level": "error" if check.blocks else "warning",
        "kind": "fail",
        "message": {"text": "\n".join(lines)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": _location(result) | {"index": 0}, "region": {"startLine": 1}},
                "logicalLocations": [{"name": check.id, "kind": "check"}],
            }
        ],
        "partialFingerprints": {"onnxplainCheck/v1": hashlib.sha256(identity.encode()).hexdigest()},
        "properties": {"status": check.status, "code": check.code, "required": check.required},
    }


def _location(result: GateResult) -> dict[str, Any]:
    path = str(result.record["model"]["path"]).replace("\\", "/")
    return {"uri": quote(path.encode("utf-8", "replace"), safe="/") or "model"}
