"""Faults that are known and not mended yet, each with its reason; a check that passes again makes its mark an error.

Not here: anything else. Without such faults this file isn't needed.
"""

from __future__ import annotations

import pytest

#: (test, word of the parameters) -> why it fails.
KNOWN = {
    ("test_a_sample_alone_equals_the_sample_in_a_batch", "smoothgrad-*"): "smoothgrad draws noise over the batch",
    ("test_a_fixed_batch_is_explained_piece_by_piece", "smoothgrad"): "smoothgrad draws noise over the batch",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known to fail."""
    for item in items:
        name, _, word = item.name.removesuffix("]").partition("[")
        for (test, words), reason in KNOWN.items():
            fits = word.startswith(words[:-1]) if words.endswith("*") else word == words
            if test in ("*", name) and fits:
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
