"""Which node of a trace a sweep is at.

Belongs here: saying it and asking for it. Not here: walking (``execution``, ``sweep``). Who writes down or watches the single
operators of a sweep names their node by it.
"""

from __future__ import annotations

from contextvars import ContextVar

from torch import fx

_at: ContextVar[fx.Node | None] = ContextVar("graph_rules.position", default=None)

#: Say that a node's turn has come, None that the walk is over.
enter = _at.set


def current() -> fx.Node | None:
    """The node whose turn it is, forwards or backwards; None outside sweeps."""
    return _at.get()
