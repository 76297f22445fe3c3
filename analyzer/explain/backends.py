"""The engines of a model: the only place where one is made.

Belongs here: choosing and making engines, and the traces and compiled sweeps that they use. Not here: engines
themselves (``analyzer.engines``, ``analyzer.compiler``, ``auto_engine``), the steps of an explanation (``pipeline``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyzer.compiler.engine import CompiledEngine
from analyzer.compiler.subject import Subject
from analyzer.compiler.sweep_cache import SweepCache
from analyzer.engines.parity import Verification
from analyzer.engines.protocol import Engine, NotCompilableError
from analyzer.engines.tracer import Tracer
from analyzer.errors import UsageError
from analyzer.explain.auto_engine import AutoEngine, Fallback
from analyzer.onnx_model import OnnxModel

if TYPE_CHECKING:
    from analyzer.engines.torch_engine import TorchEngine

BACKENDS = ("auto", "torch", "onnxruntime")


@dataclass
class Shared:
    """What explanations of several targets of the same inputs share.

    Attributes
    ----------
    values
        Cached values of the model, by the value that they were computed for.
    engines
        Torch engines on these inputs by explained value and precision, with the forward passes that were run.
    """

    values: dict[Any, Any] = field(default_factory=dict)
    engines: dict[tuple[str, str], TorchEngine] = field(default_factory=dict)

    def clear(self) -> None:
        """Release the forward passes."""
        for engine in self.engines.values():
            if engine.passes is not None:
                engine.passes.clear()
        self.engines.clear()
        self.values.clear()


class Backends:
    """The engines of one model.

    Attributes
    ----------
    tracer
        The model's traces and their parity.
    sweeps
        Its compiled sweeps.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.tracer = Tracer(model)
        #: Traces to be compiled: those are recorded on the CPU, wherever the result will run.
        self.recorded = self.tracer if model.device == "cpu" else Tracer(model, "cpu")
        self.sweeps = SweepCache(model, self.to_record)
        self._others: list[Backends] = []

    def on(self, model: OnnxModel) -> Backends:
        """The engines of this model, or of one that is this one with nodes behind it."""
        if model is self.model:
            return self
        alive = [extension.model for extension in self.model.extensions.values()]
        self._others = [each for each in self._others if any(each.model is known for known in alive)]
        found = next((each for each in self._others if each.model is model), None)
        if found is None:
            found = Backends(model)
            self._others.append(found)
        return found

    def engine(
        self, subject: Subject, backend: str, precision: str, *, at: str | None = None, shared: Shared | None = None
    ) -> Engine:
        """The engine for a white-box method.

        Parameters
        ----------
        backend
            ``onnxruntime`` compiles missing sweeps; ``auto`` uses compiled sweeps where there are any, else torch.
        at
            The inner value at which relevance is computed instead of the inputs.
        shared
            Values and engines shared with explanations of other targets of the same inputs.

        Raises
        ------
        UsageError
            ``backend.unknown``, ``backend.precision``.
        NotCompilableError
            Relevance at an inner value from the onnxruntime backend.
        ParityError
            The trace disagrees with the model's own session.
        """
        check(backend, precision)
        if backend == "onnxruntime":
            if at is not None:
                raise NotCompilableError("relevance is wanted at an inner value")
            return CompiledEngine(self.model, self.sweeps, subject, compile_missing=True)
        if backend == "torch" or precision != "float32":
            return self.torch(subject, precision, at=at, shared=shared)
        compiled = CompiledEngine(self.model, self.sweeps, subject, compile_missing=False) if at is None else None
        return AutoEngine(Fallback(lambda: self.torch(subject, precision, at=at, shared=shared), compiled))

    def torch(
        self,
        subject: Subject,
        precision: str = "float32",
        *,
        at: str | None = None,
        shared: Shared | None = None,
        verify: bool = True,
    ) -> TorchEngine:
        """The torch engine; imports torch.

        Parameters
        ----------
        verify
            Whether the trace is compared with onnxruntime on these inputs, by the first pass that runs it.
        """
        from analyzer.engines.torch_engine import TorchEngine

        key = subject.value, precision
        engine = None if shared is None else shared.engines.get(key)
        if engine is None:
            engine = TorchEngine.on(
                self.model, self.tracer, subject.inputs, subject.value, subject.weights, precision, subject.chosen
            )
            engine.verification = (
                Verification(self.model, self.tracer.run, subject.inputs, subject.known) if verify else None
            )
            if shared is not None:
                engine.passes = {}
                shared.engines[key] = engine
        engine = engine.aimed(subject.weights)
        engine.at_value = at
        return engine

    def to_record(self, subject: Subject) -> TorchEngine:
        """The torch engine on the CPU, by which a sweep is recorded to be compiled; verified already."""
        from analyzer.engines.torch_engine import TorchEngine

        engine = TorchEngine.on(
            self.model, self.recorded, subject.inputs, subject.value, subject.weights, "float32", subject.chosen
        )
        engine.verification = Verification(self.model, self.recorded.run, subject.inputs, subject.known)
        engine.verify()
        return engine

    def remember(self, subject: Subject, engine: Engine) -> None:
        """Remember the sweeps that an engine of ``auto`` ran in torch, so that they may be compiled for later runs."""
        log = engine.fallback.log if isinstance(engine, AutoEngine) else None
        if log is not None:
            self.sweeps.remember(subject, log)

    def clear(self) -> None:
        """Release all traces, plans and compiled sweeps."""
        for other in self._others:
            other.clear()
        self._others.clear()
        self.tracer.clear()
        self.recorded.clear()
        self.sweeps.clear()


def check(backend: str, precision: str) -> None:
    """Refuse unknown backends and precisions.

    Raises
    ------
    UsageError
        ``backend.unknown``, ``backend.precision``, ``precision.unknown``.
    """
    if backend not in BACKENDS:
        raise UsageError("backend.unknown", f"unknown backend {backend!r}", f"use {', '.join(BACKENDS)}")
    if backend == "onnxruntime" and precision != "float32":
        raise UsageError(
            "backend.precision", f"the onnxruntime backend computes in float32, not {precision}", 'use backend="torch"'
        )
    if precision not in ("float32", "float64"):
        raise UsageError("precision.unknown", f"unknown precision {precision!r}", "use float32 or float64")
