"""What an architecture of the sweep over exports is.

Belongs here: the value. Not here: the architectures (``new_export_networks``, ``new_export_tables``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes
    ----------
    package
        What must be installed.
    kind
        ``picture``, ``words``, ``sound``, ``several`` (inputs) or ``table``: which methods make sense.
    make
        Gives the network and its inputs by name; for a table the serialised model and its inputs.
    """

    package: str
    name: str
    kind: str
    make: Callable[[], tuple[Any, dict[str, Any]]]

    @property
    def label(self) -> str:
        """Package and name."""
        return f"{self.package}/{self.name}"
