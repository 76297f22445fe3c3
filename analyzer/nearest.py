"""The known names that somebody probably meant, and the words for it in an error.

Finding them is ``graph_rules.nearest``'s, for both packages; it can be had from here too.
"""

from __future__ import annotations

from collections.abc import Iterable

from graph_rules.nearest import nearest as nearest
from graph_rules.nearest import several as several


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """`` (did you mean X?)`` where a known name is near, else nothing."""
    found = nearest(word, known, cutoff)
    return f" (did you mean {found}?)" if found else ""
