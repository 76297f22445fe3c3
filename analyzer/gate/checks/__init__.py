"""The checks, a short file each; :func:`kinds` finds them."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from analyzer.gate.check import Check


@functools.cache
def kinds() -> dict[str, type[Check]]:
    """Kind -> check, sorted by kind."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found = {each.model_fields["kind"].default: each for each in _below(Check) if "kind" in each.model_fields}
    return dict(sorted(found.items()))


def _below(kind: type[Check]) -> list[type[Check]]:
    return [found for each in kind.__subclasses__() for found in (each, *_below(each))]
