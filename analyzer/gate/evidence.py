"""The folder of a run: what was demanded, written before anything ran, and what was found, ready to be signed.

Belongs here: which files there are, what is written before and what after a run, the in-toto statement. Not here: the reports
(``formats``), the bill of materials (``ml_bom``), holding files against each other afterwards (``verify``).

The statement binds the model to the digests of all other files by the predicate for test results:
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analyzer.errors import UsageError
from analyzer.explanation import jsonable
from analyzer.gate import ml_bom
from analyzer.gate.context import GateContext
from analyzer.gate.formats import FORMATS
from analyzer.gate.formats.wording import model_name
from analyzer.gate.inputs import Cancel
from analyzer.gate.named import exists
from analyzer.gate.outcome import GateResult
from analyzer.gate.policy import Policy, load_policy
from analyzer.gate.record import record_of
from analyzer.gate.run import run_gate
from analyzer.output_folder import OutputFolder

START, RESULT, STATEMENT, BOM = "evidence-start.json", FORMATS["json"].file, "statement.intoto.json", "model.cdx.json"
#: Every file that a run may write.
FILES = (START, RESULT, STATEMENT, BOM, *(form.file for form in FORMATS.values()))
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
_MEDIA_TYPES = {
    ".json": "application/json", ".xml": "application/xml", ".sarif": "application/sarif+json",
    ".html": "text/html", ".md": "text/markdown",
}  # fmt: skip


def run_recorded(
    path: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    policy: Policy | None = None,
    force: bool = False,
    cancel: Cancel | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    device: str = "auto",
    threads: int = 0,
) -> tuple[GateResult, Path]:
    """Run a gate and write its reports and its evidence.

    Parameters
    ----------
    path
        The ``gate.toml``.
    folder
        Where everything goes; the policy's own ``report.dir``, which is relative to its file, where it isn't given.
    policy
        What runs in place of the file's content: a part of it.
    force
        Whether files that are no earlier run's are replaced too.

    Returns
    -------
    tuple
        The result, and the folder.

    Raises
    ------
    AnalyzerError
        ``output.*`` where the folder can't be written; others as :func:`analyzer.gate.run.run_gate`. Nothing is left behind then.
    """
    path = Path(path)
    policy = load_policy(path) if policy is None else policy
    target = path.parent / policy.report.dir if folder is None else Path(folder)
    data = path.parent / policy.data.path
    if exists(data) and data.is_dir() and target.resolve().is_relative_to(data.resolve()):
        message = f"report.dir: {target} lies in the data, {data}: the next run would take reports for inputs"
        raise UsageError("config.gate", message, "write reports elsewhere")
    place = OutputFolder(target, force or (target / START).is_file())  # an earlier run's files go unasked
    place.require_free(FILES)
    with place.drafts() as (there, draft):
        result = run_gate(
            policy, folder=path.parent, before=lambda gate: _write(draft / START, start_of(gate)), cancel=cancel,
            progress=progress, device=device, threads=threads,
        )  # fmt: skip
        write_evidence(draft, result, policy)
        for name in FILES:
            if not (draft / name).exists():
                (there / name).unlink(missing_ok=True)
    return result, target


def start_of(gate: GateContext) -> dict[str, Any]:
    """What is written before the first input runs: the whole policy with its digest, and what it is held against."""
    content = gate.policy.model_dump(mode="json", by_alias=True, exclude={"report"})
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**record_of(gate), "started": now, "policy": {"sha256": gate.policy.digest, "content": content}}


def write_evidence(folder: Path, result: GateResult, policy: Policy) -> None:
    """Write the reports that a policy asks for, the result, the bill of materials, and the statement on all of them."""
    for name in dict.fromkeys(["json", *policy.report.formats]):
        text = FORMATS[name].write(result, policy.report.embed_images)
        (folder / FORMATS[name].file).write_text(text, encoding="utf-8")
    _write(folder / BOM, ml_bom.bom(result))
    names = [name for name in FILES if (folder / name).is_file() and name != STATEMENT]
    _write(folder / STATEMENT, statement(result, {name: digest_of(folder / name) for name in dict.fromkeys(names)}))


def statement(result: GateResult, files: Mapping[str, str]) -> dict[str, Any]:
    """The in-toto statement on a result.

    Parameters
    ----------
    files
        Name -> SHA-256 of the files that lie beside it.
    """
    record = result.record
    used = [
        _resource("gate.toml", record["policy"]["sha256"], "policy"),
        _resource(str(record["data"]["path"]), record["data"]["sha256"], "data"),
    ]
    if record.get("reference"):
        used.append(_resource(record["reference"]["path"], record["reference"]["sha256"], "reference"))
    used += [_file(name, digest) for name, digest in sorted(files.items())]
    used += [_tool(name, version) for name, version in sorted(record["versions"].items())]
    groups = {
        "passedTests": [check.id for check in result.checks if check.status == "pass"],
        "warnedTests": [check.id for check in result.checks if check.status != "pass" and not check.blocks],
        "failedTests": [check.id for check in result.checks if check.blocks],
    }
    verdict = "FAILED" if not result.passed else "WARNED" if groups["warnedTests"] else "PASSED"
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": model_name(result), "digest": {"sha256": record["model"]["sha256"]}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"result": verdict, "configuration": used, **groups},
    }


def _resource(name: str, digest: str, role: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}, "annotations": {"role": role}}


def _file(name: str, digest: str) -> dict[str, Any]:
    media = _MEDIA_TYPES[Path(name).suffix]
    return {"name": name, "digest": {"sha256": digest}, "mediaType": media, "annotations": {"role": "file"}}


def _tool(name: str, version: str) -> dict[str, Any]:
    kind = "generic" if name == "python" else "pypi"
    return {"name": name, "uri": f"pkg:{kind}/{name}@{version}", "annotations": {"role": "tool"}}


def digest_of(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(jsonable(content), indent=2, ensure_ascii=True, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")
