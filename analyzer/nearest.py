"""The known name that somebody probably meant.

Belongs here: finding it, and the words for it in an error.
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
    import difflib  # only where something is wrong already

    folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word[:200].casefold(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """`` (did you mean X?)`` where a known name is near, else nothing."""
    found = nearest(word, known, cutoff)
    return f" (did you mean {found}?)" if found else ""
