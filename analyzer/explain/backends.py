"""Where a white-box method runs: on torch, or on compiled sweeps in onnxruntime.

Belongs here: the choice, and what the record says of it. Not here: the engines (``whitebox``, ``compiled``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analyzer.errors import AnalyzerError, ParityError, UnsupportedError, UsageError
from analyzer.methods.context import Context, Result

if TYPE_CHECKING:
    from analyzer.compiler.sweep_cache import Subject

BACKENDS = ("auto", "torch", "onnxruntime")
Run = Callable[[Context], Result]


def check(backend: str, precision: str) -> None:
    """Refuse what there is not.

    Raises
    ------
    UsageError
        ``backend.unknown``, ``backend.precision``.
    """
    if backend not in BACKENDS:
        raise UsageError("backend.unknown", f"unknown backend {backend!r}", f"use {', '.join(BACKENDS)}")
    if backend == "onnxruntime" and precision != "float32":
        raise UsageError(
            "backend.precision", f"the onnxruntime backend computes in float32, not {precision}", 'use backend="torch"'
        )


def run(context: Context, backend: str, method: Run) -> tuple[Result, dict[str, Any]]:
    """Run a method, and say where it ran.

    Parameters
    ----------
    backend
        ``onnxruntime`` compiles what is missing; ``auto`` takes compiled sweeps where all are there, else torch, and
        remembers what torch was asked for (:meth:`analyzer.compiler.sweep_cache.Shelf.fill`).

    Returns
    -------
    tuple
        The result, and ``backend`` and ``parity`` for the record.

    Raises
    ------
    UnsupportedError
        ``backend.onnxruntime``, ``compile.*``: the onnxruntime backend can't, and why.
    ParityError
        The trace or the compiled model disagrees with the model's own session.
    """
    from analyzer.compiler.engine import MissingError
    from analyzer.engines.protocol import InsideError

    if backend == "onnxruntime":
        try:
            return _on_runtime(context, method, making=True)
        except InsideError as problem:
            raise UnsupportedError(
                "backend.onnxruntime", f"the onnxruntime backend can't do this: {problem}", 'use backend="torch"'
            ) from None
    if backend == "auto" and context.precision == "float32":
        try:
            return _on_runtime(context, method, making=False)
        except (MissingError, InsideError, AnalyzerError):
            pass  # torch can, or says what is wrong
    parity = context.model.require_parity(context.inputs)
    result = method(context)
    if backend == "auto" and context.precision == "float32":
        context.model.shelf.note(_subject(context), context.engine.asked)
    return result, {"backend": "torch", "parity": parity.to_dict()}


def _on_runtime(context: Context, method: Run, making: bool) -> tuple[Result, dict[str, Any]]:
    from analyzer.compiler.engine import CompiledEngine
    from analyzer.engines.protocol import InsideError

    if context.at is not None:
        raise InsideError("relevance is wanted at an inner value")
    engine = CompiledEngine(context.model, context.model.shelf, _subject(context), making)
    context.__dict__["engine"] = engine  # in place of the cached property
    try:
        result = method(context)
    finally:
        del context.__dict__["engine"]
    parity = engine.verify()
    if not parity.ok:
        raise ParityError(
            "parity.compiled",
            f"the compiled explanation disagrees with the model (relative error {parity.error:.1e})",
            'use backend="torch"',
        )
    return result, {"backend": "onnxruntime", "parity": parity.to_dict()}


def _subject(context: Context) -> Subject:
    from analyzer.compiler.sweep_cache import Subject

    return Subject(context.inputs, context.scored.value, context.resolved.weights)
