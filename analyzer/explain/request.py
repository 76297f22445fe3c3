"""What was asked for.

Belongs here: the request, nothing else. Not here: answering it (``run``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.targets.language import Resolved, TargetLike

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What was asked for; see :meth:`analyzer.model.Model.explain`."""

    method: str
    params: Mapping[str, Any]
    target: TargetLike = "top1"
    score: str = "logit"
    seed: int = 0
    backend: str = "auto"
    precision: str = "float32"
    progress: Progress | None = field(default=None, repr=False)
    resolved: Resolved | None = field(default=None, repr=False)
    """The target where it has been resolved already, on a larger batch."""
    layer: str | None = None
    at: str | None = None
    shared: dict[Any, Any] | None = field(default=None, repr=False)
    """What explanations of several targets share."""
