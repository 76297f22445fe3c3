"""What is judged: methods with parameters, and all combinations of a grid.

Belongs here: making them. Not here: judging (``judging``), choosing (``selection``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analyzer.errors import UsageError
from analyzer.methods import registry as methods
from analyzer.nearest import did_you_mean


@dataclass(frozen=True)
class Candidate:
    """A method with parameters: what is judged."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method and the parameters that were given."""
        return " ".join([self.method, *(f"{key}={_short(value)}" for key, value in self.params.items())])


def combinations(
    grid: Mapping[str, Sequence[Any]], chosen: Sequence[str], params: Mapping[str, Mapping[str, Any]]
) -> list[Candidate]:
    """Every combination of a grid's values, method by method; a method skips parameters that it hasn't got.

    Parameters
    ----------
    grid
        Parameter, or ``METHOD.PARAMETER``, -> values; ``method`` -> names of methods, beside the chosen ones.
    params
        Method -> parameters that all its combinations share.

    Raises
    ------
    UsageError
        ``method.unknown``; ``params.unknown`` for a parameter that no method has; ``selection.grid`` for one without values.
    """
    names = list(dict.fromkeys([*chosen, *map(str, grid.get("method", ()))]))
    axes = {key: values for key, values in grid.items() if key != "method"}
    empty = next((key for key, values in grid.items() if not len(values)), None)
    if empty is not None:
        raise UsageError("selection.grid", f"grid {empty!r} has no values", "as in gamma=0,0.25,1")
    used: set[str] = set()
    found: list[Candidate] = []
    for name in names:
        known = methods.get(name).parameters
        own = {key.removeprefix(f"{name}."): (key, values) for key, values in axes.items()
               if key in known or (key.startswith(f"{name}.") and key.removeprefix(f"{name}.") in known)}  # fmt: skip
        used |= {key for key, _ in own.values()}
        for values in itertools.product(*(values for _, values in own.values())):
            candidate = Candidate(name, {**params.get(name, {}), **dict(zip(own, values, strict=True))})
            if candidate not in found:
                found.append(candidate)
    unused = next((key for key in axes if key not in used), None)
    if unused is not None:
        all_known = sorted({key for name in names for key in methods.get(name).parameters})
        raise UsageError(
            "params.unknown", f"no method of the grid has a parameter {unused!r}{did_you_mean(unused, all_known)}",
            f"their parameters: {', '.join(all_known) or 'none'}",
        )  # fmt: skip
    return found


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
