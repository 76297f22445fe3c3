"""``onnxplain gate``: exit codes, one line for whatever is wrong, what is written, what evidence shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from analyzer.gate.checks.finite import FiniteCheck
from tests.cli.conftest import FINITE, Call, Ran, Write
from tests.cli.test_process import environment

FILES = {
    "evidence-start.json", "junit.xml", "model.cdx.json", "report.html", "result.json", "result.sarif",
    "statement.intoto.json", "summary.md",
}  # fmt: skip
FAITHFUL = {"id": "faithful", "kind": "pixel_flipping", "steps": 2, "baseline": [0.0], "versus": ["random"]}


def verdict(call: Call, path: Path, *more: object) -> Ran:
    return call("gate", "run", path, *more)


# Running


def test_a_gate_that_passes_prints_and_writes_everything(gate: Write, call: Call, tmp_path: Path) -> None:
    done = verdict(call, gate(report={"dir": "out"}))
    assert done.code == 0, done.err
    assert "everything is finite on 12 inputs" in done.out
    assert "Passed: every required check passed." in done.out
    assert done.err == ""
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES


@pytest.mark.parametrize(
    ("checks", "policy", "code", "status"),
    [
        ([FAITHFUL | {"min_margin": -1000.0}], {"min_n": 5}, 0, "pass"),
        ([FAITHFUL | {"min_margin": 1000.0}], {"min_n": 5}, 1, "fail"),
        ([FAITHFUL | {"min_margin": -1000.0}], {"min_n": 59}, 4, "inconclusive"),
        ([FAITHFUL | {"min_margin": -1000.0}], {"min_n": 59, "on_inconclusive": "pass"}, 4, "inconclusive"),
        ([FINITE, FAITHFUL], {"min_n": 59, "on_inconclusive": "warn"}, 0, "inconclusive"),
        ([FINITE, FAITHFUL | {"min_margin": 1000.0, "level": "warn"}], {"min_n": 5}, 0, "warn"),
        ([FAITHFUL | {"min_margin": 1000.0, "level": "warn"}], {"min_n": 5}, 4, "warn"),
    ],
)
def test_exit_codes_tell_the_verdict(
    gate: Write, call: Call, checks: list[dict[str, Any]], policy: dict[str, Any], code: int, status: str
) -> None:
    done = verdict(call, gate(check=checks, policy=policy), "--json")
    assert done.code == done.json["exit_code"] == code
    assert done.json["checks"][-1]["status"] == status
    assert done.json["checks"][-1]["code"] == f"check.{status}"


def test_a_check_that_breaks_down_fails_closed(gate: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gate(check=[FINITE], explain={"method": "gradient", "target": "label"})
    done = verdict(call, path, "--json")
    assert (done.code, done.json["checks"][0]["status"], done.json["checks"][0]["code"]) == (2, "error", "config.gate")

    lenient = gate(check=[FINITE], explain={"method": "gradient", "target": "label"}, policy={"on_error": "pass"})
    assert verdict(call, lenient).code == 2, "what the policy is wrong about is no error that may pass"

    def broken(*_: object) -> None:
        raise RuntimeError("[/oops] \x1b[31m")

    monkeypatch.setattr(FiniteCheck, "run", broken)
    done = verdict(call, path)
    assert done.code == 5
    assert "a fault of onnxplain: RuntimeError" in done.out
    assert "\x1b" not in done.out
    assert verdict(call, path, "--exit-zero").code == 5


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"wall_s": 1e-6}, "the run has taken"),
        ({"worker_timeout_s": 1e-9}, "a step has taken"),
        ({"memory_mb": 1.0}, "MiB of 1"),
    ],
)
def test_a_check_that_a_limit_cuts_off_fails_closed(
    gate: Write, call: Call, limits: dict[str, float], told: str
) -> None:
    done = verdict(call, gate(limits=limits), "--json")
    (check,) = done.json["checks"]
    assert (done.code, check["status"]) == (4, "error")
    assert check["code"] == ("limit.memory" if "memory_mb" in limits else "limit.time")
    assert told in check["message"]


def test_exit_zero_only_reports(gate: Write, call: Call) -> None:
    path = gate(check=[FAITHFUL | {"min_margin": 1000.0}])
    assert verdict(call, path).code == 1
    done = verdict(call, path, "--exit-zero")
    assert done.code == 0
    assert "Failed: faithful." in done.out
    assert verdict(call, gate(modle={}), "--exit-zero").code == 2


def test_two_runs_differ_in_seconds_alone(gate: Write, call: Call, tmp_path: Path) -> None:
    path = gate(check=[FINITE, FAITHFUL])
    first, second = (verdict(call, path, "--json", "-o", tmp_path / name).json for name in "ab")
    assert first.pop("seconds").keys() == second.pop("seconds").keys() == {"total", "finite", "faithful"}
    assert first == second
    written = json.loads((tmp_path / "a" / "result.json").read_text())
    del written["seconds"]
    assert written == first


def test_one_check_alone(gate: Write, call: Call, tmp_path: Path) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": 1000.0}])
    done = verdict(call, path, "--only", "finite", "--json", "-o", tmp_path / "part")
    assert (done.code, [each["id"] for each in done.json["checks"]]) == (0, ["finite"])
    assert call("gate", "verify", tmp_path / "part").code == 0
    assert call("gate", "verify", tmp_path / "part", "--policy", path).code == 1, (
        "evidence of a part passes for the whole"
    )
    done = verdict(call, path, "--only", "finit")
    assert done.code == 2
    assert "did you mean finite?" in done.error


def test_a_folder_that_is_there_keeps_what_is_not_the_gates(gate: Write, call: Call, tmp_path: Path) -> None:
    path, out = gate(report={"dir": "out"}), tmp_path / "out"
    assert verdict(call, path).code == 0
    (out / "mine.txt").write_text("mine")
    assert verdict(call, gate(report={"dir": "out", "formats": ["md"]})).code == 0
    assert {file.name for file in out.iterdir()} == FILES - {"junit.xml", "report.html", "result.sarif"} | {"mine.txt"}
    assert not list(tmp_path.rglob(".*"))


def test_files_that_no_gate_wrote_are_replaced_only_where_that_is_wanted(
    gate: Write, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("another command's")
    done = verdict(call, gate(report={"dir": "out"}))
    assert done.code == 2
    assert "[output.exists]" in done.error
    assert [file.read_text() for file in (tmp_path / "out").iterdir()] == ["another command's"]
    assert verdict(call, gate(report={"dir": "out"}), "--force").code == 0
    assert "Gate report" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(gate: Write, call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        done = verdict(call, gate(), "-o", tmp_path / folder)
        assert done.code == 2
        assert "[output.not_a_folder]" in done.error


def test_the_seed_is_the_policys(gate: Write, call: Call) -> None:
    done = verdict(call, gate(), "--seed", 3)
    assert done.code == 2
    assert "set data.seed in the policy" in done.error


# What is wrong is told in one line, and nothing is left behind

BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"polcy": {}}, 2, "polcy: there is no such key (did you mean policy?)"),
    ({"data": {"path": "val", "sampels": 3}}, 2, "data.sampels: there is no such key (did you mean samples?)"),
    ({"check": [FINITE | {"wheer": []}]}, 2, "wheer (check 'finite'): there is no such key (did you mean where?)"),
    ({"check": [{"id": "a", "kind": "finit"}]}, 2, "no check is called 'finit' (did you mean finite?)"),
    ({"check": [FINITE, FINITE]}, 2, "check.id: two checks are called 'finite'"),
    ({"check": [FAITHFUL | {"min_margin": "abc"}]}, 2, "min_margin (check 'faithful'): 'abc' is not valid"),
    ({"check": [FAITHFUL | {"mostly": 1.5}]}, 2, "mostly (check 'faithful'): 1.5 is not valid"),
    ({"check": []}, 2, "check"),
    ({"check": None}, 2, "check: it is missing"),
    ({"schema": 2}, 2, "schema: 2 is not valid"),
    ({"policy": {"confidence": float("nan")}}, 2, "policy.confidence"),
    ({"data": {"path": "nowhere"}}, 2, "data.path"),
    ({"data": {"path": "val", "masks": "nowhere"}}, 2, "data.masks"),
    ({"data": {"path": "empty"}}, 4, "empty"),
    ({"data": {"path": "broken"}}, 4, "data.min_valid_fraction"),
    ({"model": {"path": "nowhere.onnx"}}, 2, "nowhere.onnx"),
    ({"model": {"path": "broken/a.png"}}, 3, "a.png"),
    ({"model": {"path": "pictures.onnx", "sha256": "0" * 64}}, 3, "model.sha256 names 00000"),
    ({"model": {"path": "pictures.onnx", "sha256": "abc"}}, 2, "model.sha256"),
]


@pytest.mark.parametrize(("sections", "code", "told"), BAD, ids=[f"{code}-{told[:40]}" for _, code, told in BAD])
def test_a_bad_policy_is_one_line_and_leaves_nothing(
    gate: Write, call: Call, tmp_path: Path, sections: dict[str, Any], code: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for name in "ab":
        (tmp_path / "broken" / f"{name}.png").write_bytes(b"no picture")
    path = gate(**sections)
    before = set(tmp_path.iterdir())
    done = verdict(call, path)
    assert done.code == code
    assert told in done.error
    assert done.out == ""
    assert set(tmp_path.iterdir()) == before
    document = verdict(call, path, "--json").json["error"]
    assert document["exit_code"] == code
    assert document["code"]
    looked = call("gate", "lint", path)
    if code == 2 or "sha256" in told:
        assert looked.code == code
        assert told in looked.error


def test_a_file_that_is_no_toml_names_the_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text("schema = 1\nschema = ;\n")
    done = verdict(call, tmp_path / "gate.toml")
    assert done.code == 2
    assert "line 2" in done.error
    assert verdict(call, tmp_path / "absent.toml").code == 2


# A run that is killed


def test_a_run_that_is_killed_leaves_nothing_and_gives_the_same_verdict_again(
    gate: Write, call: Call, tmp_path: Path
) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"steps": 200}], report={"dir": "out"})
    words = [sys.executable, "-m", "cli.main", "gate", "run", str(path), "--json"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.onnxplain-staging-*/evidence-start.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, json.loads(out)["error"]["code"]) == (143, "signal.terminated"), err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob(".*"))
    again, uncut = (verdict(call, path, "--json", *more).json for more in ((), ("-o", tmp_path / "uncut")))
    assert again["checks"] == uncut["checks"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES


# Looking over


def test_lint_tells_what_a_policy_will_do(gate: Write, call: Call) -> None:
    path = gate(policy={"min_n": 59})
    done = call("gate", "lint", path, "--json")
    assert done.code == 0
    assert (done.json["checks"], done.json["inputs"], len(done.json["sha256"])) == (["finite"], 12, 64)
    assert "the data has 12 inputs and policy.min_n is 59" in done.json["warnings"][0]
    assert "policy.min_n" in done.error


@pytest.mark.parametrize(
    ("explain", "told"),
    [
        ({"method": "lrq"}, "explain.method: no method is called 'lrq'"),
        ({"method": "occlusion", "params": {"windwo": 3}}, "explain.params.windwo"),
        ({"method": "gradient", "preset": "epsilon"}, "explain.preset: gradient has no parameter 'composite'"),
        ({"method": "gradient", "target": "label"}, 'explain.target = "label", and the data has none'),
    ],
)
def test_lint_finds_what_only_a_run_would_show(gate: Write, call: Call, explain: dict[str, Any], told: str) -> None:
    done = call("gate", "lint", gate(explain=explain))
    assert done.code == 2
    assert told in done.error


def test_lint_tells_all_paths_at_once(gate: Write, call: Call) -> None:
    done = call("gate", "lint", gate(model={"path": "no.onnx"}, data={"path": "no", "masks": "nor"}))
    assert done.code == 2
    assert all(key in done.error for key in ("model.path", "data.path", "data.masks"))


def test_the_schema_accepts_a_policy_and_refuses_a_bad_one(gate: Write, call: Call) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    done = call("gate", "lint", "--schema")
    assert done.code == 0
    validator = jsonschema.Draft202012Validator(done.json)
    jsonschema.Draft202012Validator.check_schema(done.json)
    for sections, good in [({}, True), ({"polcy": {}}, False), ({"check": [FAITHFUL | {"min_margin": "abc"}]}, False)]:
        assert validator.is_valid(tomllib.loads(gate(**sections).read_text())) is good, sections
    assert call("gate", "lint").code == 2


# Deriving thresholds


def test_calibrated_thresholds_pass_the_models_that_they_come_from(
    gate: Write, call: Call, pictures_model: Path, tmp_path: Path
) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": 1000.0, "mostly": 0.5}])
    assert verdict(call, path).code == 1
    done = call("gate", "calibrate", path, "--seeds", 2, "--factor", 3, "-o", tmp_path / "own.toml")
    assert done.code == 0, done.err
    text = (tmp_path / "own.toml").read_text()
    assert "# was 1000; median" in text
    assert "# seeds: 0, 1" in text
    (_, derived) = tomllib.loads(text)["check"]
    assert derived["min_margin"] < 1
    assert 0 <= derived["mostly"] <= 1
    found = verdict(call, tmp_path / "own.toml", "--json").json["checks"][1]
    assert found["status"] == "pass" if derived["mostly"] > 0 else found["status"] != "fail"
    again = call("gate", "calibrate", path, "-o", tmp_path / "own.toml")
    assert again.code == 2
    assert "[output.exists]" in again.error
    printed = call("gate", "calibrate", path, "--seeds", 2, "--factor", 3, "--good", pictures_model, "-q")
    assert tomllib.loads(printed.out) == tomllib.loads(text)
    assert call("gate", "calibrate", path, "-o", tmp_path / "val" / "x.toml").code == 2


@pytest.mark.parametrize("section", ["data", "model"])
def test_what_cannot_be_a_path_is_the_policys_fault(gate: Write, call: Call, section: str) -> None:
    for command in ("lint", "run"):
        done = call("gate", command, gate(**{section: {"path": "x" * 300}}))
        assert done.code in (2, 3) and "\n" not in done.error.strip() and "internal" not in done.error, done.error


def test_reports_are_not_written_into_the_data(gate: Write, call: Call) -> None:
    path = gate(report={"dir": "val/out"})
    done = call("gate", "run", path)
    assert done.code == 2 and "report.dir" in done.error
    assert not (path.parent / "val" / "out").exists()


def test_a_method_that_is_not_there_is_refused_before_anything_runs(gate: Write, call: Call) -> None:
    done = call("gate", "run", gate(explain={"method": "lrpp"}, policy={"on_error": "pass"}))
    assert done.code == 2 and "did you mean lrp?" in done.error
