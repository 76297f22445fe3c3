"""The white-box engine on onnxruntime: compiled sweeps in place of torch, the same methods around them.

Belongs here: the engine protocol on compiled sweeps. Not here: finding or compiling those (``sweep_cache``), the torch
engine (``analyzer.engines.torch_engine``), choosing between both (``analyzer.explain.backends``). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np

from analyzer.compiler.subject import Compiled, Subject
from analyzer.compiler.sweep_cache import SweepCache
from analyzer.engines import protocol
from analyzer.engines.parity import values_of
from analyzer.engines.protocol import (
    Absorbed,
    Array,
    ExplainedInput,
    FeatureMap,
    NotCompilableError,
    SweepResult,
    SweepSpec,
    TableSpec,
)
from analyzer.errors import ParityError
from analyzer.importer.parity import TOLERANCE_TF32, Parity, compare
from analyzer.inputs.resampling import Resampling, resample
from analyzer.onnx_model import OnnxModel
from analyzer.targets.target import weighted


class MissingSweepError(Exception):
    """There is no compiled sweep for a spec, and none may be compiled."""


@dataclass
class CompiledEngine:
    """Compiled sweeps on one batch of inputs; implements :class:`~analyzer.engines.protocol.Engine`.

    Attributes
    ----------
    compile_missing
        Whether a missing sweep is compiled, which imports torch; else, unless sweeps of this model are compiled unasked, it
        raises :class:`MissingSweepError`.
    given
        Values for the explained inputs that replace the batch's own.
    base
        The engine on the unchanged inputs, where this one was made from another.
    """

    model: OnnxModel
    cache: SweepCache
    subject: Subject
    compile_missing: bool
    given: Mapping[str, Array] = field(default_factory=dict)
    base: CompiledEngine | None = None
    _used: dict[int, Compiled] = field(default_factory=dict)
    _unchanged: tuple[Compiled, dict[str, Any]] | None = None

    @property
    def xp(self) -> Any:
        """numpy."""
        return np

    @property
    def explained(self) -> tuple[ExplainedInput, ...]:
        """The inputs that are explained."""
        subject = self._root.subject
        known = next(iter(self._root._used.values()), None) or self.cache.any(subject)
        if known is None and (self.compile_missing or self.cache.compiles_unasked):
            return self.cache.engine(subject).explained
        if known is None:
            raise MissingSweepError("inputs")
        return _explained(known)

    def values(self) -> dict[str, Array]:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        if self.given:
            return dict(self.given)
        explained = self.explained
        if any(entry.tokens for entry in explained):
            return self.sweep(protocol.GRADIENT).values
        return {entry.name: protocol.at_least_single(self.subject.inputs[entry.name]) for entry in explained}

    def at(self, values: Mapping[str, Array]) -> CompiledEngine:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return replace(self._repeated(self._times(values), values), given=dict(values))

    def sweep(self, table: TableSpec, initial: str = "one", values: Mapping[str, Array] | None = None) -> SweepResult:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        values = values or self.given
        embedded = bool(values) and any(entry.tokens for entry in self.explained)
        found = self._compiled(SweepSpec(table, initial, None, embedded))
        times = self._times(values) if values else 1
        if embedded:
            unchanged = {
                name: np.concatenate([value] * times) for name, value in self.values().items() if name not in values
            }
            values = {**values, **unchanged}
        if times == 1:
            return self._sweep(found, values)[0]
        names = [entry.name for entry in _explained(found)]
        if found.free and self.model.stackable(names, self.subject.inputs, self.subject.batch):
            return self._repeated(times, values)._sweep(found, values)[0]
        apart = [{name: np.split(value, times)[at] for name, value in values.items()} for at in range(times)]
        return SweepResult.joined([self._sweep(found, part)[0] for part in apart])

    def gradient(self, values: Mapping[str, Array] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        return self.sweep(protocol.GRADIENT, values=values)

    def at_layer(self, layer: str) -> FeatureMap:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        if self.given:
            raise NotCompilableError("it looks at a layer for changed inputs")
        found = self._compiled(SweepSpec(protocol.GRADIENT, "one", layer))
        name = str(found.about["layer"])
        got = self._run(found, self.subject.inputs, {})
        values, gradients = got[f"onnxplain.values.{name}"], got[f"onnxplain.relevance.{name}"]
        about = found.about
        return FeatureMap(name, values, gradients, self._score(got), tuple(about["inputs"]), tuple(about["obstacles"]))

    def difference(self, table: TableSpec, baseline: Mapping[str, Array]) -> tuple[SweepResult, Array, list[str]]:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        found = self._compiled(SweepSpec(table, difference=True))
        result, got = self._sweep(found, {}, baseline)
        counts = got.get("onnxplain.selecting", np.zeros(0))
        selecting = [name for name, count in zip(found.about["selecting"], counts, strict=True) if count]
        return result, self._score(got, "onnxplain.scores_at_start"), selecting

    def scores_with_layer(self, *_: Any) -> NoReturn:
        """Not possible with compiled sweeps."""
        raise NotCompilableError("it runs parts of the model")

    scores_with_inputs = scores_with_layer

    def chunk(self) -> int:
        """See :class:`~analyzer.engines.protocol.Engine`."""
        return self.model.variations_at_once(self.subject.inputs)

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """See :func:`analyzer.inputs.resampling.resample`."""
        return resample(map_, size, how)

    def numbers(self, value: Array) -> Array:
        """The array itself."""
        return np.asarray(value)

    def verify(self) -> Parity:
        """Compare the model's outputs that the compiled sweeps give for the unchanged input with its own session's."""
        root = self._root
        if root._unchanged is None:
            plain = (compiled for compiled in root._used.values() if compiled.about["outputs"])
            compiled = next(plain, None) or root._compiled(SweepSpec(protocol.GRADIENT))
            root._run(compiled, root.subject.inputs, {})
        assert root._unchanged is not None
        compiled, got = root._unchanged
        subject, names = root.subject, list(compiled.about["outputs"])
        expected = values_of(self.model, subject.inputs, names, subject.known)
        tolerance = float(compiled.about["tolerance"])
        return compare(got, expected, max(tolerance, TOLERANCE_TF32) if self.model.tf32 else tolerance)

    def record(self) -> dict[str, Any]:
        """Backend and parity.

        Raises
        ------
        ParityError
            ``parity.compiled``.
        """
        parity = self.verify()
        if not parity.ok:
            raise ParityError(
                "parity.compiled",
                f"the compiled explanation disagrees with the model (relative error {parity.error:.1e})",
                'use backend="torch"',
            )
        return {"backend": "onnxruntime", "parity": parity.to_dict()}

    @property
    def used(self) -> bool:
        """Whether a compiled sweep has been used."""
        return bool(self._root._used)

    @property
    def _root(self) -> CompiledEngine:
        return self.base or self

    def _compiled(self, spec: SweepSpec) -> Compiled:
        subject = self._root.subject
        found = self.cache.find(subject, spec)
        if found is None and self.compile_missing:
            found = self.cache.make(subject, spec, requested=True)
        if found is None and self.cache.compiles_unasked:
            found = self.cache.make_unasked(subject, spec)
        if found is None:
            raise MissingSweepError(spec.text())
        self._root._used[id(found)] = found
        return found

    def _times(self, values: Mapping[str, Array]) -> int:
        """How many copies of the batch the given values hold."""
        name = next(iter(values))
        return len(values[name]) // len(self.values()[name])

    def _repeated(self, times: int, values: Mapping[str, Array]) -> CompiledEngine:
        """The engine on ``times`` as many samples, whose explained inputs are given."""
        given = _as_inputs(self.explained, values)
        larger = self.subject.of(self.model, self.subject.batch * times, given)
        return replace(self, subject=larger, base=self._root, given={}, _used={}, _unchanged=None)

    def _sweep(
        self, found: Compiled, values: Mapping[str, Array], baseline: Mapping[str, Array] | None = None
    ) -> tuple[SweepResult, dict[str, Any]]:
        explained = _explained(found)
        inputs = {**self.subject.inputs, **_as_inputs(explained, values)}
        got = self._run(found, inputs, values, baseline)
        result = SweepResult(
            {entry.name: got[f"onnxplain.relevance.{entry.name}"] for entry in explained},
            {entry.name: got.get(f"onnxplain.values.{entry.name}", inputs[entry.name]) for entry in explained},
            self._score(got),
            _absorbed(found, got),
            tuple(found.about.get("units", ())),
        )
        return result, got

    def _run(
        self,
        compiled: Compiled,
        inputs: dict[str, Array],
        values: Mapping[str, Array],
        baseline: Mapping[str, Array] | None = None,
    ) -> dict[str, Any]:
        subject = replace(self.subject, inputs=inputs)
        unchanged = self.base is None and not values
        wanted = [name for name in compiled.session.outputs if unchanged or name not in compiled.about["outputs"]]
        got = compiled.session.run(compiled.feed(subject, values, baseline), wanted)
        if unchanged and compiled.about["outputs"]:
            self._unchanged = compiled, {name: got[name] for name in compiled.about["outputs"]}
        return got

    def _score(self, got: Mapping[str, Array], name: str = "onnxplain.scores") -> Array:
        scores = np.asarray(got[name], np.float64)
        return weighted(scores, self.subject.weights.reshape(scores.shape))


def _as_inputs(explained: Sequence[ExplainedInput], values: Mapping[str, Array]) -> dict[str, Array]:
    """Those of some explained values that are inputs themselves, not the embeddings of tokens."""
    return {entry.name: values[entry.name] for entry in explained if entry.name in values and not entry.tokens}


def _absorbed(compiled: Compiled, got: Mapping[str, Any]) -> Absorbed | None:
    labels = compiled.about.get("absorbed")
    return None if labels is None else Absorbed.of(labels, np.asarray(got["onnxplain.absorbed"]).tolist())


def _explained(compiled: Compiled) -> tuple[ExplainedInput, ...]:
    return tuple(ExplainedInput(name, tokens) for name, tokens in compiled.about["sources"])
