"""What is written as TOML is what the standard library reads from it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import UsageError
from analyzer.gate.toml_text import to_toml

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TABLE = st.dictionaries(TEXT, PLAIN, max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(TEXT, PLAIN | TABLE | st.lists(TABLE, min_size=1, max_size=3), max_size=5))
def test_any_document_is_read_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == document


def test_comments_stand_above_their_keys_and_none_is_left_out() -> None:
    document = {"a": 1, "t": {"b": None, "c": "x"}, "l": [{"d": 1.0}, {"d": 2.0}]}
    notes = {(): ["top"], ("t", "c"): ["one", "two"], ("l", 1, "d"): ["second"]}
    assert to_toml(document, notes) == (
        '# top\na = 1\n\n[t]\n# one\n# two\nc = "x"\n\n[[l]]\nd = 1.0\n\n[[l]]\n# second\nd = 2.0\n'
    )


def test_what_toml_has_no_way_to_write_is_refused() -> None:
    with pytest.raises(UsageError, match="can't be written"):
        to_toml({"a": {1, 2}})
