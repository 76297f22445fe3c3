"""Names that somebody probably meant."""

from __future__ import annotations

from analyzer.nearest import nearest, several

KNOWN = ("occlusion", "occlusions", "lime", "RISE")


def test_the_nearest_name_whatever_its_case() -> None:
    assert nearest("Oclusion", KNOWN) == "occlusion"
    assert nearest("rize", KNOWN) == "RISE"
    assert nearest("gradient", KNOWN) is None
    assert nearest("lime", ()) is None


def test_several_names_the_likeliest_first() -> None:
    assert several("oclusion", KNOWN) == ["occlusion", "occlusions"]
    assert several("oclusion", KNOWN, most=1) == ["occlusion"]
    assert several("x" * 10_000, KNOWN) == []
