"""Wrong usage, help, JSON errors, the methods listing: everything that needs no model."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

import analyzer
from analyzer.errors import InconclusiveError, UsageError
from cli import main, output
from cli.main import COMMANDS
from tests.cli.conftest import Call


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(call: Call, flag: str) -> None:
    ran = call(flag)
    assert ran.code == 0
    assert ran.err == ""
    assert all(f"\n  {name} " in ran.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_a_screen(call: Call, name: str) -> None:
    ran = call(name, "--help")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 24
    assert max(map(len, ran.out.splitlines())) <= 80


def test_version(call: Call) -> None:
    assert call("--version").out == f"onnxplain {analyzer.__version__}\n"


def test_no_arguments_show_help_and_are_wrong_usage(call: Call) -> None:
    ran = call()
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage: onnxplain" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explian"], "Did you mean 'explain'?"),
        (["bogus"], "Commands: inspect, methods, explain"),
        (["inspect"], "Missing argument 'MODEL'"),
        (["explain", "m.onnx"], "Missing argument 'INPUTS...'"),
        (["explain", "m.onnx", "x.png"], "Missing option '-m'"),
        (["inspect", "m.onnx", "--colour"], "No such option '--colour'"),
        (["inspect", "m.onnx", "more"], "unexpected extra argument"),
        (["explain", "m.onnx", "x.png", "-m", "lime", "--seed", "x"], "'x' is not a valid integer"),
        (["explain", "m.onnx", "x.png", "-m", "lime", "--seed", "-1"], "-1 is not in the range"),
        (["explain", "m.onnx", "x.png", "-m", "lime", "--threads", "-1"], "-1 is not in the range"),
        (["explain", "m.onnx", "x.png", "-m", "grad-cma"], "unknown method 'grad-cma' (did you mean grad-cam?)"),
        (["methods", "integrated-gradents"], "(did you mean integrated-gradients?)"),
    ],
)
def test_wrong_usage_is_one_line_and_one_document(call: Call, arguments: list[str], message: str) -> None:
    plain = call(*arguments)
    assert plain.code == 2
    assert plain.out == ""
    assert plain.error.startswith("onnxplain: ")
    assert message in plain.error
    as_json = call(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.error == plain.error
    error = as_json.json["error"]
    assert error["exit_code"] == 2
    assert error["hint"]
    assert f"[{error['code']}]" in plain.error
    assert message in error["message"]


def test_methods_lists_the_registry(call: Call) -> None:
    known = analyzer.methods()
    found = call("methods", "--json").json
    assert list(found) == list(known)
    for name, info in known.items():
        assert found[name]["family"] == info.family
        assert found[name]["needs"] == info.needs
        assert found[name]["summary"] == info.summary
        assert list(found[name]["parameters"]) == list(info.parameters)
    assert call("methods", "lrp", "--json").json == found["lrp"]


def test_tables_off_a_terminal_are_wide_and_never_break_a_name(call: Call) -> None:
    lines = call("methods").out.splitlines()
    assert {words[0] for line in lines if (words := line.split())} >= set(analyzer.methods())
    assert 100 < max(map(len, lines)) <= 120
    assert all(line == line.rstrip() for line in lines)


def test_one_method_shows_its_parameters(call: Call) -> None:
    ran = call("methods", "integrated-gradients")
    starts = [line.split()[0] for line in ran.out.splitlines() if line.strip()]
    assert set(analyzer.methods()["integrated-gradients"].parameters) <= set(starts)
    assert "50" in ran.out
    assert "gausslegendre" in ran.out


def test_a_method_without_parameters_says_so(call: Call) -> None:
    assert "no parameters" in call("methods", "gradient").out


def test_doctor_finds_this_installation_sound(call: Call) -> None:
    import numpy as np

    ran = call("doctor", "--json")
    assert ran.code == 0
    assert ran.json["versions"]["numpy"] == np.__version__
    assert set(ran.json["checks"].values()) == {"ok"}
    assert "CPUExecutionProvider" in ran.json["providers"]


def test_doctor_reports_a_broken_part_instead_of_breaking(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("a wheel of another version")

    monkeypatch.setattr(analyzer.Model, "explain", fail)
    ran = call("doctor")
    assert ran.code == 5
    assert ran.out.count("a wheel of another version") == 2


@pytest.mark.parametrize(
    ("fault", "code", "printed"),
    [
        (KeyboardInterrupt(), 130, "signal.interrupted"),
        (MemoryError(), 3, "limit.memory"),
        (ZeroDivisionError("one\ntwo"), 5, "ZeroDivisionError: one two"),
        (UsageError("a.code", "a\nmessage", "hint"), 2, "a message (hint) [a.code]"),
    ],
)
def test_any_fault_is_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, printed: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(main, "_invoke", fail)
    ran = call("methods", "--json")
    assert ran.code == code
    assert printed in ran.error
    assert ran.json["error"]["exit_code"] == code


def test_verbose_shows_where_an_internal_error_arose(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_invoke", lambda _: 1 // 0)
    ran = call("methods", "-v")
    assert ran.code == 5
    assert "Traceback" in ran.err


@pytest.mark.parametrize("text", ["[/foo]", "a\x1b[31mred", "one\ntwo", "abc\u202ecba", "\x9b2J"])
def test_foreign_text_is_inert(call: Call, capfd: pytest.CaptureFixture[str], text: str) -> None:
    options = output.Options(json=False, quiet=False, verbose=False, color=True, seed=0, device="cpu", threads=0)
    output.line(options, text)
    output.table(options, ("name",), [(text,)])
    output.warn(options, text)
    printed = "".join(capfd.readouterr())
    assert not any(character in printed for character in "\x1b\x9b\u202e")
    assert printed.count(output.inert(text)) == 3


def test_quiet_warns_of_nothing(call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    output.warn(output.Options(False, True, False, True, 0, "cpu", 0), "unheard")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("explain m.onnx x.png -m gradient-x", ["gradient-x-input"]),
        ("methods li", ["lime", "lime-noise"]),
        ("exp", ["explain"]),
        ("explain --pre", ["--preprocess"]),
    ],
)
def test_shell_completion(call: Call, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]) -> None:
    given = f"onnxplain {words}".split()
    monkeypatch.setenv("_ONNXPLAIN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(given))
    monkeypatch.setenv("COMP_CWORD", str(len(given) - 1))
    assert call().out.split() == [f"plain,{name}" for name in expected]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_scripts(call: Call, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_ONNXPLAIN_COMPLETE", f"{shell}_source")
    assert "_ONNXPLAIN_COMPLETE" in call().out


def test_presets_of_the_help_are_those_there_are(call: Call) -> None:
    from analyzer.inputs import PRESETS
    from cli import explaining

    assert tuple(PRESETS) == explaining._PRESETS


def test_a_stdout_that_takes_no_more_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(click, "echo", full)
    monkeypatch.setattr(output, "silence", lambda: None)
    with pytest.raises(InconclusiveError, match=r"No space left on device.*output\.no_space"):
        output.document({})


def test_the_package_is_what_the_command_runs() -> None:
    script = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert 'onnxplain = "cli.main:main"' in script
