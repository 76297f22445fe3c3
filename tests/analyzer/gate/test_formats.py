"""Reports against the schemas of their formats, by other people's readers; foreign strings do nothing in any of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analyzer.gate.formats import FORMATS
from analyzer.gate.outcome import Exhibit, GateResult
from analyzer.gate.policy import ReportSection
from tests.analyzer.gate.results import HOSTILE, bounded, check, every_status, explanation, hostile, result
from tests.analyzer.report.pages import Page, chromium

SCHEMAS = Path(__file__).parent / "schemas"


def test_there_is_a_format_for_every_name_that_a_policy_may_have() -> None:
    assert set(ReportSection().formats) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_foreign_text_is_one_harmless_line_in_every_format(name: str, text: str) -> None:
    written = FORMATS[name].write(hostile(text))
    written.encode("utf-8")
    assert not [c for c in written if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    assert "\u202e" not in written
    if name != "json":
        assert len(written) < 200_000


# JUnit


def junit(given: GateResult) -> object:
    etree = pytest.importorskip("lxml.etree")
    tree = etree.fromstring(FORMATS["junit"].write(given).encode())
    etree.XMLSchema(etree.parse(SCHEMAS / "junit-10.xsd")).assertValid(tree)
    return tree


def test_junit_is_valid_and_decides_as_the_gate_does() -> None:
    tree = junit(every_status())
    cases = {case.get("name"): [child.tag for child in case] for case in tree.iter("testcase")}
    assert cases == {
        "passes": ["system-out"], "warns": ["system-out"], "fails": ["failure"], "breaks": ["error"],
        "is-skipped": ["skipped"], "is-unsure": ["failure"],
    }  # fmt: skip
    suite = tree.find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert tree.find(".//failure").get("message") == "why"


def test_junit_of_a_gate_that_nothing_was_decided_in_is_not_green() -> None:
    tree = junit(result(check("warns", "warn"), status="inconclusive"))
    assert [case.get("name") for case in tree.iter("testcase")] == ["warns", "verdict"]
    assert tree.get("failures") == "1"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_junit_stays_valid(text: str) -> None:
    assert len(list(junit(hostile(text)).iter("testcase"))) == 2


# SARIF


def sarif(given: GateResult) -> dict:
    jsonschema = pytest.importorskip("jsonschema")
    found = json.loads(FORMATS["sarif"].write(given))
    schema = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    jsonschema.Draft4Validator(schema).validate(found)
    return found


def test_sarif_is_valid_and_names_what_did_not_pass_at_the_model() -> None:
    (run,) = sarif(every_status())["runs"]
    found = {each["properties"]["status"]: each for each in run["results"]}
    assert {status: each["level"] for status, each in found.items()} == {
        "warn": "warning", "fail": "error", "error": "error", "skipped": "warning", "inconclusive": "error",
    }  # fmt: skip
    place = found["fail"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "models/some%20model.onnx"
    assert run["artifacts"][0]["hashes"] == {"sha-256": "cd" * 32}
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == found["fail"]["ruleId"] == "finite"
    assert "What is looked at" in rule["help"]["text"]
    assert run["invocations"][0]["exitCode"] == 1


def test_sarif_fingerprints_stay_when_figures_change_and_differ_between_checks() -> None:
    def prints(estimate: float) -> list[str]:
        failing = [check(name, "fail", True, str(estimate), (bounded(estimate),)) for name in ("a", "b")]
        return [
            each["partialFingerprints"]["onnxplainCheck/v1"] for each in sarif(result(*failing))["runs"][0]["results"]
        ]

    assert prints(0.1) == prints(0.2)
    assert len(set(prints(0.1))) == 2


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_sarif_stays_valid(text: str) -> None:
    assert len(sarif(hostile(text))["runs"][0]["results"]) == 2


# Markdown


def test_markdown_tells_verdict_table_and_reasons() -> None:
    text = FORMATS["md"].write(every_status())
    assert text.startswith("## ❌ Gate: some model.onnx\n\n**Failed&#58; fails. Not decided&#58; breaks, is-unsure.**")
    assert "| fails | ❌ fail | why |" in text
    assert "- the share is 0.2 &#91;0.15, 0.25&#93;, at least 0.8 is wanted (100 inputs)" in text
    assert "in class dog is 0.1" in text
    assert "broken.png&#58; no picture" in text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_markdown_has_no_markup_but_its_own(text: str) -> None:
    written = FORMATS["md"].write(hostile(text))
    own = {"<details>", "<summary>", "</summary>", "</details>"}
    assert set(re.findall(r"<[^>]*>", written)) == own
    assert not re.search(r"[\[\]`@]|://|www\.", written)
    rows = [line for line in written.split("\n") if line.startswith("|")]
    assert [row.count("|") for row in rows] == [4] * 4


# HTML


def test_page_shows_a_card_for_each_check_and_loads_nothing() -> None:
    page = Page(FORMATS["html"].write(every_status()))
    assert sum(attrs.get("class") == "check" for tag, attrs in page.tags if tag == "section") == 6
    style = re.search("<style>(.*)</style>", FORMATS["html"].write(every_status()), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(attrs["content"] for _, attrs in page.tags if "Content-Security-Policy" in str(attrs))
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}';")
    for tag, attrs in page.tags:
        assert tag not in ("script", "iframe", "link", "object", "form")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset"):
            assert str(attrs.get(name) or "#").startswith(("#", "data:"))


def test_bars_lie_where_their_numbers_are() -> None:
    from analyzer.gate.formats.page import statement

    kept = statement(bounded(0.9, 0.8))
    assert kept.bound is not None
    assert kept.low is not None
    assert kept.estimate is not None
    assert kept.high is not None
    assert kept.bound < kept.low < kept.estimate < kept.high
    assert (kept.state, kept.kept_from, kept.kept_to) == ("kept", kept.bound, 100.0)
    assert statement(bounded(0.9, 0.8, side="at most")).state == "broken"
    assert statement(bounded(0.82, 0.8)).state == "unknown"
    assert statement(bounded(np.nan)).estimate is None


@pytest.mark.parametrize(("images", "shown"), [(0, 0), (1, 1), (2, 1), (3, 2), (24, 5)])
def test_so_many_inputs_are_embedded_those_of_blocking_checks_first(images: int, shown: int) -> None:
    pair = Exhibit("a", "the class changes", explanation(0), ("without it", explanation(1)), np.eye(8, dtype=bool))
    single = Exhibit("b", "see", explanation(2))
    good = replace(check("good"), outcome=replace(check("good").outcome, exhibits=[single] * 4))
    bad = check("bad", "fail", True, exhibits=[pair])
    page = Page(FORMATS["html"].write(result(good, bad), images))
    assert len(page.of("figure")) == shown
    if images == 2:
        assert "the class changes" in page.text()
        assert len(page.of("img")) == 6


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_page_has_no_elements_but_its_own(text: str) -> None:
    plain, foreign = (Page(FORMATS["html"].write(hostile(each))) for each in ("harmless", text))
    assert [tag for tag, _ in foreign.tags] == [tag for tag, _ in plain.tags]


def test_a_browser_shows_the_page_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(FORMATS["html"].write(hostile(HOSTILE[0])), encoding="utf-8")
    page = Page(chromium(tmp_path, "--dump-dom", (tmp_path / "report.html").as_uri()))
    assert not page.of("script")
    assert "owned" not in next(text for tag, text in page.texts if tag == "title").split()
    assert HOSTILE[0] in page.text()
