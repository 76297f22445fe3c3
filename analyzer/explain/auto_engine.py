"""The engine of ``backend="auto"``: compiled sweeps where there are any, torch for everything else.

Belongs here: falling back for each single sweep, so that no method ever runs twice. Not here: the two engines, making
them (``backends``). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analyzer.compiler.engine import CompiledEngine, MissingSweepError
from analyzer.engines import protocol
from analyzer.engines.protocol import (
    Array,
    Engine,
    ExplainedInput,
    FeatureMap,
    NotCompilableError,
    SweepLog,
    SweepResult,
    TableSpec,
)
from analyzer.errors import AnalyzerError
from analyzer.inputs.resampling import Resampling, resample

if TYPE_CHECKING:
    from analyzer.engines.torch_engine import TorchEngine

T = TypeVar("T")


@dataclass
class Fallback:
    """What all engines of one explanation share.

    Attributes
    ----------
    make_torch
        Makes the torch engine on the unchanged inputs.
    compiled
        The engine of compiled sweeps on the unchanged inputs; None once it has failed.
    torch
        The torch engine, once it was needed.
    answered
        Whether a compiled sweep was used, and found to agree with the model.
    """

    make_torch: Callable[[], TorchEngine]
    compiled: CompiledEngine | None
    torch: TorchEngine | None = None
    answered: bool = False

    def torch_engine(self) -> TorchEngine:
        """The torch engine, made when it is first needed."""
        if self.torch is None:
            self.torch = self.make_torch()
        return self.torch

    @property
    def log(self) -> SweepLog | None:
        """The sweeps that torch has run; None where it wasn't needed."""
        return None if self.torch is None else self.torch.log


@dataclass
class AutoEngine:
    """Implements :class:`~analyzer.engines.protocol.Engine` by compiled sweeps or by torch.

    Attributes
    ----------
    given
        Values for the explained inputs that replace their own.
    """

    fallback: Fallback
    given: Mapping[str, Array] | None = None

    @property
    def xp(self) -> Any:
        """numpy."""
        return np

    @property
    def explained(self) -> Sequence[ExplainedInput]:
        """The inputs that are explained."""
        return self._ask(lambda engine: engine.explained)

    def values(self) -> dict[str, Array]:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.values())

    def at(self, values: Mapping[str, Array]) -> AutoEngine:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return replace(self, given=dict(values))

    def sweep(self, table: TableSpec, initial: str = "one", values: Mapping[str, Array] | None = None) -> SweepResult:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.sweep(table, initial, values))

    def gradient(self, values: Mapping[str, Array] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        return self.sweep(protocol.GRADIENT, values=values)

    def at_layer(self, layer: str) -> FeatureMap:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.at_layer(layer))

    def difference(self, table: TableSpec, baseline: Mapping[str, Array]) -> tuple[SweepResult, Array, list[str]]:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.difference(table, baseline))

    def scores_with_layer(self, layer: str, values: Array) -> Array:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.scores_with_layer(layer, values))

    def scores_with_inputs(self, values: Mapping[str, Array]) -> Array:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.scores_with_inputs(values))

    def chunk(self) -> int:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self._ask(lambda engine: engine.chunk())

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """See :func:`analyzer.inputs.resampling.resample`."""
        return resample(map_, size, how)

    def numbers(self, value: Array) -> Array:
        """The array itself."""
        return np.asarray(value)

    def record(self) -> dict[str, Any]:
        """Which engines answered, and the worse of their parities."""
        used: list[Engine] = []
        if self.fallback.compiled is not None and self.fallback.answered:
            used.append(self.fallback.compiled)
        if self.fallback.torch is not None:
            used.append(self.fallback.torch)
        records = [engine.record() for engine in used]
        if not records:
            return {}
        worst = max((each["parity"] for each in records), key=lambda parity: parity["error"])
        return {"backend": " and ".join(each["backend"] for each in records), "parity": worst}

    def _ask(self, question: Callable[[Engine], T]) -> T:
        compiled = self.fallback.compiled
        if compiled is not None:
            try:
                answer = question(compiled if self.given is None else compiled.at(self.given))
                if self.fallback.answered or not compiled.used:
                    return answer
                if compiled.verify().ok:
                    self.fallback.answered = True
                    return answer
            except (MissingSweepError, NotCompilableError, AnalyzerError):
                pass  # torch can do it, or raises the error to report
            if not self.fallback.answered:
                self.fallback.compiled = None
        torch = self.fallback.torch_engine()
        return question(torch if self.given is None else torch.at(self.given))
