"""Rule tables from texts and files: what is read, what comes before what, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import UsageError
from analyzer.jobs.rule_options import read_rules, with_rules
from analyzer.methods import registry

GOOD = """
composite = "epsilon"
gamma = 0.1

[rules]
Conv = "gamma:0.5"
"/layer1/*" = "alpha-beta:2,1"
"MatMul@depth>0.5" = "epsilon:0.1"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    return path


def test_a_file_is_parameters_and_a_table(file: Path) -> None:
    assert read_rules(file) == {
        "composite": "epsilon", "gamma": 0.1,
        "rules": {"Conv": "gamma:0.5", "/layer1/*": "alpha-beta:2,1", "MatMul@depth>0.5": "epsilon:0.1"},
    }  # fmt: skip


def test_a_file_of_parameters_alone_has_no_rules(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('composite = "gamma"\n')
    assert read_rules(tmp_path / "r.toml") == {"composite": "gamma", "rules": {}}


@pytest.mark.parametrize("kind", [str, Path])
def test_rules_may_name_a_file_and_what_is_given_beside_it_comes_first(file: Path, kind: type) -> None:
    lrp = registry.get("lrp")
    plain = lrp.check({"rules": kind(file)})
    assert (plain["composite"], plain["gamma"], plain["epsilon"]) == ("epsilon", 0.1, 1e-6)
    assert plain["rules"] == read_rules(file)["rules"]
    beside = lrp.check({"rules": kind(file), "composite": "epsilon-plus", "gamma": 0.25})
    assert (beside["composite"], beside["gamma"]) == ("epsilon-plus", 0.25)  # the defaults, but given
    assert lrp.check(plain) == plain


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        ("Conv=gamma:0.5", "Conv", "gamma:0.5"),
        ("Conv=gamma", "Conv", "gamma"),
        ("Conv=gamma:0.5,epsilon=1e-9,zero_bias=true", "Conv", "gamma:0.5,epsilon=1e-9,zero_bias=true"),
        ("Conv@depth<=0.3=w2", "Conv@depth<=0.3", "w2"),
        ("*@depth:0.2-0.6=alpha-beta:2,1", "*@depth:0.2-0.6", "alpha-beta:2,1"),
        ("MatMul@depth>0.5 = epsilon:0.1", "MatMul@depth>0.5", "epsilon:0.1"),
        ("model/a=b:0/MatMul=flat", "model/a=b:0/MatMul", "flat"),
        ("Conv=Gama", "Conv", "Gama"),
    ],
)
def test_a_key_may_hold_signs_of_equality(text: str, key: str, rule: str) -> None:
    found = with_rules({"lrp": {}}, [text])["lrp"]["rules"]
    if text.startswith("model/a=b"):  # b:0/MatMul=flat reads as a rule's text too: such a name is for a file
        assert list(found) == ["model/a"]
    else:
        assert found == {key: rule}


def test_texts_come_before_parameters_and_those_before_a_file(file: Path) -> None:
    before: dict[str, dict[str, Any]] = {"lrp": {"gamma": 0.3, "rules": {"Gemm": "flat", "Conv": "w2"}}, "gradient": {}}
    found = with_rules(before, [str(file), "Conv=zplus", "first=flat"])
    assert found["gradient"] == {}
    assert (found["lrp"]["gamma"], found["lrp"]["composite"]) == (0.3, "epsilon")
    assert list(found["lrp"]["rules"].items()) == [
        ("Conv", "zplus"), ("first", "flat"), ("Gemm", "flat"), ("/layer1/*", "alpha-beta:2,1"),
        ("MatMul@depth>0.5", "epsilon:0.1"),
    ]  # fmt: skip
    assert before["lrp"]["rules"] == {"Gemm": "flat", "Conv": "w2"}  # unchanged


def test_a_file_that_a_parameter_names_takes_texts_too(file: Path) -> None:
    found = with_rules({"lrp": {"rules": str(file)}}, ["Conv=zplus"])["lrp"]
    assert found["rules"]["Conv"] == "zplus"
    assert found["rules"]["/layer1/*"] == "alpha-beta:2,1"


def test_without_texts_nothing_changes() -> None:
    assert with_rules({"occlusion": {"window": 3}}, []) == {"occlusion": {"window": 3}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('composite = "eps\n', "line 1"),
        ("[rules]\nConv = gamma:0.5\n", "line 2"),
        ('compsite = "epsilon"\n', "'compsite' is unknown (did you mean composite?)"),
        ('rules = "Conv=gamma"\n', "rules is not a table"),
        ('[rules]\nlayer1.conv = "gamma"\n', "broken up at its dots"),
        ("[rules]\nConv = 0.5\n", "the rule for 'Conv' is 0.5"),
        ('[rules]\nConv = ["gamma"]\n', "the rule for 'Conv' is ['gamma']"),
        ('[rules]\nConv = "gamma"\nConv = "w2"\n', "Cannot overwrite"),
        ("\x00\x01", "NUL"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_rules(path)
    assert caught.value.code == "config.rules"
    assert "rules.toml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_rules(tmp_path / "no.toml")
    assert caught.value.code == "data.missing"
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00a = 1")
    for path in (tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(UsageError) as caught:
            read_rules(path)
        assert caught.value.code == "config.rules"


@pytest.mark.parametrize(
    ("methods", "texts", "code", "message"),
    [
        (["occlusion"], ["Conv=gamma"], "params.unknown", "-m lrp"),
        (["lrp"], ["Conv="], "params.syntax", "'Conv=' is not KEY=RULE"),
        (["lrp"], ["=gamma"], "params.syntax", "not KEY=RULE"),
        (["lrp"], ["Conv=gamma", "Conv=w2"], "params.syntax", "two rules for 'Conv'"),
        (["lrp"], ["a.toml", "b.toml"], "params.syntax", "two files"),
        (["lrp"], ["gamma"], "data.missing", "gamma"),
    ],
)
def test_bad_texts(methods: list[str], texts: list[str], code: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_rules({name: {} for name in methods}, texts)
    assert caught.value.code == code
    assert message in str(caught.value)
