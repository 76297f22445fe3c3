"""The evidence of a gate: by the formats' own libraries, signed with public tools, and what `verify` finds when it is edited."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzer.gate.checks.finite import FiniteCheck
from analyzer.gate.context import GateContext
from analyzer.gate.outcome import Outcome
from analyzer.gate.policy import load_policy
from tests.cli.conftest import FINITE, Call, Write

FAITHFUL = {"id": "faithful", "kind": "pixel_flipping", "steps": 2, "baseline": [0.0], "versus": ["random"]}


@pytest.fixture
def out(gate: Write, call: Call, tmp_path: Path) -> Path:
    """The folder of a gate that fails."""
    gate(check=[FINITE, FAITHFUL | {"min_margin": 1000.0}], report={"dir": "out"})
    assert call("gate", "run", tmp_path / "gate.toml").code == 1
    return tmp_path / "out"


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON document in place."""
    content = read(file)
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def restated(folder: Path) -> None:
    """Let the statement name the files as they are now: what somebody does who has no key to sign with."""
    for each in read(folder / "statement.intoto.json")["predicate"]["configuration"]:
        if each["annotations"]["role"] == "file":
            digest = hashlib.sha256((folder / each["name"]).read_bytes()).hexdigest()
            text = (folder / "statement.intoto.json").read_text()
            (folder / "statement.intoto.json").write_text(text.replace(each["digest"]["sha256"], digest))


# Before the first input


def test_the_policy_is_written_before_the_first_input_runs(
    gate: Write, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def look(self: FiniteCheck, context: GateContext) -> Outcome:
        seen.extend(read(file) for file in tmp_path.glob("out/.onnxplain-staging-*/evidence-start.json"))
        assert context.evaluations == 0
        return Outcome(status="pass", message="fine")

    monkeypatch.setattr(FiniteCheck, "run", look)
    path = gate(report={"dir": "out"})
    assert call("gate", "run", path).code == 0
    (start,) = seen
    assert start["policy"]["sha256"] == load_policy(path).digest
    assert start["policy"]["content"]["check"] == [{**FINITE, "level": "fail",
                                                    "where": ["weights", "activations", "relevance"]}]  # fmt: skip
    assert start["model"]["sha256"] == hashlib.sha256((tmp_path / "pictures.onnx").read_bytes()).hexdigest()
    assert start == read(tmp_path / "out" / "evidence-start.json")


# Formats


def test_the_statement_is_one_to_the_in_toto_library_and_a_public_tool_signs_and_verifies_it(out: Path) -> None:
    json_format = pytest.importorskip("google.protobuf.json_format")
    statements = pytest.importorskip("in_toto_attestation.v1.statement")
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2

    payload = (out / "statement.intoto.json").read_bytes()
    parsed = statements.Statement.copy_from_pb(json_format.Parse(payload, statement_pb2.Statement()))
    parsed.validate()
    assert parsed.pb.predicate_type == "https://in-toto.io/attestation/test-result/v0.1"
    assert [(each.name, dict(each.digest)) for each in parsed.pb.subject] == [
        ("pictures.onnx", {"sha256": hashlib.sha256((out.parent / "pictures.onnx").read_bytes()).hexdigest()})
    ]
    predicate = json_format.ParseDict(read(out / "statement.intoto.json")["predicate"], test_result_pb2.TestResult())
    assert (predicate.result, list(predicate.passed_tests), list(predicate.failed_tests)) == (
        "FAILED", ["finite"], ["faithful"],
    )  # fmt: skip
    digests = {each.name: each.digest["sha256"] for each in predicate.configuration if each.digest}
    assert digests["gate.toml"] == load_policy(out.parent / "gate.toml").digest
    for file in out.iterdir():
        if file.name != "statement.intoto.json":
            assert digests[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()

    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    envelope = dsse.Envelope(payload, "application/vnd.in-toto+json", {})
    envelope.sign(signer)
    carried = dsse.Envelope.from_dict(json.loads(json.dumps(envelope.to_dict())))
    assert carried.verify([signer.public_key], 1)
    carried.payload = payload.replace(b'"FAILED"', b'"PASSED"')
    with pytest.raises((VerificationError, UnverifiedSignatureError)):
        carried.verify([signer.public_key], 1)


def test_the_bill_of_materials_is_valid_cyclonedx(out: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    text = (out / "model.cdx.json").read_text()
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    model, data = json.loads(text)["components"]
    assert (model["type"], data["type"]) == ("machine-learning-model", "data")
    (metric,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    (test,) = read(out / "result.json")["checks"][1]["tests"]
    assert float(metric["value"]) == test["estimate"]
    assert float(metric["confidenceInterval"]["lowerBound"]) == test["low"]
    assert {"name": "onnxplain:gate:check:faithful", "value": "fail"} in model["properties"]


def test_evidence_is_never_called_compliance(out: Path) -> None:
    for file in out.iterdir():
        assert b"complian" not in file.read_bytes().lower(), file


# Verifying


def test_untouched_evidence_agrees(out: Path, call: Call, tmp_path: Path) -> None:
    more = "--policy", tmp_path / "gate.toml", "--model", tmp_path / "pictures.onnx"
    done = call("gate", "verify", out, *more, "--json")
    assert (done.code, done.json["agrees"]) == (0, True)
    assert call("gate", "verify", out, *more).out.startswith(f"{out}: the evidence agrees")
    moved = tmp_path / "elsewhere"
    shutil.copytree(out, moved)
    assert call("gate", "verify", moved).code == 0


def test_a_threshold_that_was_edited_afterwards_shows(gate: Write, out: Path, call: Call) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": -1000.0}])
    done = call("gate", "verify", out, "--policy", path)
    assert done.code == 1
    assert "check[1].min_margin was 1000.0 and is -1000.0" in done.out.replace("\n", " ")


def test_where_reports_go_is_no_part_of_what_was_demanded(gate: Write, out: Path, call: Call) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": 1000.0}], report={"dir": "elsewhere", "embed_images": 3})
    assert call("gate", "verify", out, "--policy", path).code == 0


def passed(content: Any) -> None:
    content["status"], content["exit_code"] = "pass", 0


def excused(content: Any) -> None:
    content["checks"][1] |= {"status": "pass", "blocks": False, "code": "check.pass"}
    passed(content)


def dropped(content: Any) -> None:
    del content["checks"][1]
    passed(content)


def renamed(content: Any) -> None:
    content["model"]["sha256"] = "0" * 64


def softened(content: Any) -> None:
    content["policy"]["content"]["check"][1]["min_margin"] = -1000.0


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("result.json", passed, "the verdict, decided anew"),
        ("result.json", excused, "check faithful"),
        ("result.json", dropped, "the result has the checks finite, the policy finite, faithful"),
        ("result.json", renamed, "model before the run"),
        ("evidence-start.json", softened, "its content has another digest"),
    ],
)
def test_an_edited_file_shows_although_the_statement_was_written_anew(
    out: Path, call: Call, name: str, change: Callable[[Any], None], told: str
) -> None:
    edit(out / name, change)
    done = call("gate", "verify", out)
    assert done.code == 1
    assert f"differs: {name}: it was changed after the statement was written" in done.out
    restated(out)
    done = call("gate", "verify", out)
    assert done.code == 1
    assert told in done.out.replace("\n", " ")


def test_an_edited_report_and_an_edited_statement_show(out: Path, call: Call) -> None:
    report = out / "junit.xml"
    report.write_text(report.read_text().replace("failure", "system-out"))
    assert "differs: junit.xml" in call("gate", "verify", out).out
    edit(out / "statement.intoto.json", lambda content: content["predicate"].update(result="PASSED"))
    assert "'PASSED' and 'FAILED' differ" in call("gate", "verify", out).out


def test_another_model_shows(out: Path, call: Call, sample_models: Path) -> None:
    done = call("gate", "verify", out, "--model", sample_models / "digits_cnn.onnx")
    assert done.code == 1
    assert "digits_cnn.onnx: its digest is" in done.out


@pytest.mark.parametrize("name", ["result.json", "evidence-start.json", "statement.intoto.json"])
@pytest.mark.parametrize(
    "content", [None, "", "{}", "[]", "[" * 100_000, '{"predicate": 3, "policy": 3}'], ids=range(6)
)
def test_what_is_no_evidence_is_one_line(out: Path, call: Call, name: str, content: str | None) -> None:
    (out / name).unlink()
    if content is not None:
        (out / name).write_text(content)
    done = call("gate", "verify", out)
    assert done.code == 3, done.out
    assert "[evidence." in done.error


def test_a_policy_that_is_verified_against_is_read_as_any(out: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("schema = 1")
    assert call("gate", "verify", out, "--policy", tmp_path / "bad.toml").code == 2
    assert tomllib.loads((tmp_path / "gate.toml").read_text())["schema"] == 1
