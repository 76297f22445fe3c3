"""The methods, one short file each, and the registry that the CLI, the docs and the common tests read.

Methods compute with arrays: sweeps through a trace are the engine's (``analyzer.engines``), running the model is the
evaluator's (``analyzer.perturbation``). So importing the registry is cheap. Not here: rules (``graph_rules``),
sessions (``executor``).

The package is callable: ``analyzer.methods()`` gives the registry as a dictionary, as the public API promises, although
this package has the same name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.methods.registry import MethodInfo


class _Room(ModuleType):
    def __call__(self) -> dict[str, MethodInfo]:
        """All registered methods by name."""
        from analyzer.methods.registry import methods

        return methods()


sys.modules[__name__].__class__ = _Room
