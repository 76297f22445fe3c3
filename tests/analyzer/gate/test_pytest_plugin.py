"""A gate as tests of pytest: one for each check, failing closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.gate.run import run_gate
from analyzer.gate.toml_text import to_toml
from tests.conftest import ROOT

pytest_plugins = ["pytester"]
FINITE = {"id": "finite", "kind": "finite"}
FAITHFUL = {"id": "faithful", "kind": "pixel_flipping", "steps": 2, "baseline": [0.0], "versus": ["random"]}


def write(folder: Path, checks: list[dict[str, object]], **policy: object) -> None:
    """Write a gate of the digits' model."""
    models = ROOT / "models"
    gate = {
        "schema": 1, "model": {"path": str(models / "digits_cnn.onnx")}, "data": {"path": "val"},
        "explain": {"method": "gradient-x-input"}, "policy": {"min_n": 5, **policy}, "check": checks,
    }  # fmt: skip
    (folder / "gate.toml").write_text(to_toml(gate))
    (folder / "val").mkdir()
    for at in range(8):
        (folder / "val" / f"{at}.png").write_bytes((models / "samples" / f"digits_{at}.png").read_bytes())


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load everything that a gate loads: a run inside this process forgets what it was the first to import."""
    folder = tmp_path_factory.mktemp("gate")
    write(folder, [FINITE, FAITHFUL])
    run_gate(folder / "gate.toml")


def run(
    pytester: pytest.Pytester, checks: list[dict[str, object]], *arguments: str, **policy: object
) -> pytest.RunResult:
    """Run pytest on a gate, in this process."""
    write(pytester.path, checks, **policy)
    return again(pytester, "gate.toml", *arguments)


def again(pytester: pytest.Pytester, gate: str, *arguments: str) -> pytest.RunResult:
    """Run pytest on a gate that is there."""
    own = "-p", "no:onnxplain", "-p", "analyzer.gate.pytest_plugin"  # this checkout's, not an installed one
    plugins = *own, "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "default"
    return pytester.runpytest_inprocess(*plugins, "--onnxplain-gate", gate, *arguments)


def test_checks_are_tests_that_pass_fail_and_warn(pytester: pytest.Pytester) -> None:
    checks = [
        FINITE,
        FAITHFUL | {"min_margin": 1000.0},
        FAITHFUL | {"id": "told-only", "min_margin": 1000.0, "level": "warn"},
    ]
    done = run(pytester, checks, "-v")
    done.assert_outcomes(passed=2, failed=1, warnings=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*gate.toml::finite PASSED*", "*gate.toml::faithful FAILED*", "*told-only PASSED*"])
    done.stdout.fnmatch_lines(["faithful: fail: the mean margin over random is *at least 1000 is wanted*"])
    done.stdout.fnmatch_lines(["*GateWarning: told-only: warn: *"])
    assert "Traceback" not in done.stdout.str()


@pytest.mark.parametrize(("answer", "failed"), [("fail", 1), ("warn", 0)])
def test_what_is_not_decided_fails_unless_the_policy_says_otherwise(
    pytester: pytest.Pytester, answer: str, failed: int
) -> None:
    done = run(pytester, [FINITE, FAITHFUL], min_n=59, on_inconclusive=answer)
    done.assert_outcomes(passed=2 - failed, failed=failed, warnings=1 - failed)


def test_a_gate_in_which_nothing_was_decided_is_not_green(pytester: pytest.Pytester) -> None:
    done = run(pytester, [FAITHFUL | {"level": "warn"}], min_n=59)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*no required check was decided*"])


def test_what_keeps_a_gate_from_running_fails_every_check(pytester: pytest.Pytester) -> None:
    run(pytester, [FINITE, FAITHFUL])
    for picture in (pytester.path / "val").iterdir():
        picture.write_bytes(b"no picture")
    done = again(pytester, "gate.toml")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["finite: 8 of 8 inputs can't be read*"])


def test_a_bad_policy_and_an_absent_one_end_the_run(pytester: pytest.Pytester) -> None:
    done = run(pytester, [{"id": "a", "kind": "finit"}])
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*no check is called 'finit' (did you mean finite[?])*"])
    done = again(pytester, "absent.toml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_a_gate_stands_beside_other_tests_and_its_tests_can_be_chosen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_own(): pass")
    done = run(pytester, [FINITE, FAITHFUL | {"min_margin": 1000.0}], "-k", "finite or own")
    done.assert_outcomes(passed=2, deselected=1)


def test_the_plugin_loads_nothing_heavy_and_nothing_else_needs_pytest(tmp_path: Path) -> None:
    script = (
        "import sys, analyzer.gate.pytest_plugin; heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import analyzer; analyzer.run_gate\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    blocked = "import sys; sys.modules['pytest'] = None; import analyzer; analyzer.run_gate; import cli.gate"
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
