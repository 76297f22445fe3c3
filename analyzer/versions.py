"""Versions of installed packages, never an exception: a program may be bundled without the packages' metadata.

Belongs here: asking. Not here: who wants to know (the record of an explanation, the cache of compiled sweeps, ``doctor``).
"""

from __future__ import annotations


def version(name: str, absent: str = "unknown") -> str:
    """The version of an installed package, by the name of its distribution; ``absent`` where nothing says it."""
    import importlib.metadata  # reads files and takes its time: not on the way to `--help`

    try:
        found: str | None = importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, KeyError):  # the latter: metadata that name no version
        found = None
    return found or absent
