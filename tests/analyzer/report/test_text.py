"""Strings from models lose their teeth; numbers read well."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.text import bytes_text, clean, number, params_text, score_text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;x:y\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x7fc\x08d", "abcd"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("a\u2066b\u2069c\u200fd\ufeff", "abcd"),
        (" line\nbreak\t tab\u2028sep ", "line break tab sep"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("猫 – Ägypten", "猫 – Ägypten"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_clean(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@given(st.text(st.characters(exclude_categories=())), st.integers(1, 40))
def test_clean_is_harmless_short_and_idempotent(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    cleaned.encode("utf-8")
    assert not {unicodedata.category(char) for char in cleaned if char not in "\u200c\u200d"} & {"Cc", "Cf", "Cs", "Co"}
    assert clean(cleaned, limit) == cleaned


def test_clean_cuts_with_an_ellipsis_and_is_quick_on_huge_strings() -> None:
    assert clean("x" * 10_000_000, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (12.4, "12.4"),
        (-2.5, "−2.5"),
        (123456.0, "123456"),
        (1234567.0, "1.235e6"),
        (0.00012346, "0.0001235"),
        (1e-6, "1e−6"),
        (-3.14159e-12, "−3.142e−12"),
        (float("nan"), "not a number"),
        (float("-inf"), "−∞"),
        (100.0, "100"),
    ],
)
def test_number(value: float, wanted: str) -> None:
    assert number(value) == wanted


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (0.7123, "probability", "71.2 %"),
        (0.0043, "probability", "0.43 %"),
        (1e-9, "probability", "1e−7 %"),
        (1.0, "probability", "100.0 %"),
        (0.0, "probability", "0.00 %"),
        (float("nan"), "probability", "not a number"),
        (12.4, "logit", "12.4"),
    ],
)
def test_score(value: float, kind: str, wanted: str) -> None:
    assert score_text(value, kind) == wanted


def test_bytes() -> None:
    assert [bytes_text(size) for size in (0, 999, 1000, 4_956_208, 999_600, 10**15)] == [
        "0 B", "999 B", "1 kB", "4.96 MB", "1 MB", "1e+03 TB",
    ]  # fmt: skip


def test_params_are_short_and_plain() -> None:
    params = {
        "composite": "epsilon-plus",
        "epsilon": 1e-6,
        "relu": True,
        "layer": None,
        "steps": np.int64(50),
        "segments": np.zeros((8, 8), dtype=int),
        "rules": {"Conv": "gamma", "Gemm": {"epsilon": 0.1}},
        "size": [3, 4],
        "evil": "\x1b[2J" + "y" * 100,
    }
    assert params_text(params) == (
        "composite=epsilon-plus",
        "epsilon=1e−6",
        "relu=yes",
        "steps=50",
        "segments=array 8 × 8",
        "rules=Conv: gamma, Gemm: epsilon: 0.1",
        "size=3, 4",
        "evil=" + "y" * 39 + "…",
    )
