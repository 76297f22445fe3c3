"""The known names that somebody probably meant.

Belongs here: finding them. Not here: how a message says it.
"""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like a word, whatever its case; None where none is near.

    Parameters
    ----------
    cutoff
        The least likeness, from 0 to 1 (difflib's ratio). Only the word's first 200 letters count.
    """
    return next(iter(several(word, known, 1, cutoff)), None)


def several(word: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names most like a word, likeliest first; otherwise as :func:`nearest`."""
    import difflib  # only where something is wrong already

    folded = {name.casefold(): name for name in known}
    return [folded[near] for near in difflib.get_close_matches(word[:200].casefold(), folded, n=most, cutoff=cutoff)]
