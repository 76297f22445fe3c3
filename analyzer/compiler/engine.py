"""The white-box engine on onnxruntime: compiled sweeps in place of torch, the same methods around them.

Belongs here: what methods ask of an engine, answered by compiled sweeps. Not here: finding or making those
(``analyzer.compiler.sweep_cache``), the torch engine (``whitebox``), choosing between both (``backends``). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from analyzer.compiler.sweep_cache import Compiled, Shelf, Subject
from analyzer.engines import protocol as asking
from analyzer.engines.protocol import Array, FeatureMap, InsideError, Question, Swept, Table
from analyzer.importer.parity import Parity, compare
from analyzer.inputs.resampling import Resampling, resample
from analyzer.targets.language import weighted

if TYPE_CHECKING:
    from analyzer.model import Model


class MissingError(Exception):
    """No compiled sweep answers a question, and none may be made."""


@dataclass(frozen=True)
class Entry:
    """Where an explained input enters: the input itself or, for tokens, the embedding that they select."""

    name: str
    tokens: bool


@dataclass
class CompiledEngine:
    """Compiled sweeps on one batch of inputs; answers what :class:`analyzer.engines.torch_engine.Engine` answers.

    Attributes
    ----------
    making
        Whether missing sweeps are compiled, which imports torch; else they raise :class:`MissingError`.
    moved
        Explained values in place of the inputs' own.
    base
        The engine on the unchanged inputs.
    """

    model: Model
    shelf: Shelf
    subject: Subject
    making: bool
    moved: Mapping[str, Array] = field(default_factory=dict)
    base: CompiledEngine | None = None
    _used: dict[int, Compiled] = field(default_factory=dict)
    _unmoved: tuple[Compiled, dict[str, Any]] | None = None

    @property
    def sources(self) -> tuple[Entry, ...]:
        """The explained inputs."""
        subject = self._root.subject
        known = next(iter(self._root._used.values()), None) or self.shelf.any(subject)
        if known is None and self.making:
            from analyzer.engines.torch_engine import Engine

            engine = Engine.on(self.model, subject.inputs, subject.value, subject.weights, "float32")
            return tuple(Entry(source.name, source.tokens) for source in engine.sources)
        if known is None:
            raise MissingError("sources")
        return _entries(known)

    def values(self) -> dict[str, Array]:
        """The explained values (inputs, or embeddings of tokens) by input name."""
        if self.moved:
            return dict(self.moved)
        sources = self.sources
        if any(source.tokens for source in sources):
            return self.sweep(asking.GRADIENT).values
        return {source.name: self.subject.inputs[source.name] for source in sources}

    def at(self, values: Mapping[str, Array]) -> CompiledEngine:
        """The engine at other explained values: one or more variations of the batch, one after the other."""
        return replace(self._repeated(self._times(values)), moved=dict(values))

    def sweep(self, table: Table, initial: str = "one", values: Mapping[str, Array] | None = None) -> Swept:
        """Forward and reverse once; as :meth:`analyzer.engines.torch_engine.Engine.sweep`."""
        values = values or self.moved
        moved = bool(values) and any(source.tokens for source in self.sources)
        found = self._compiled(Question(table, initial, None, moved))
        times = self._times(values) if values else 1
        if moved:
            kept = {
                name: np.concatenate([value] * times) for name, value in self.values().items() if name not in values
            }
            values = {**values, **kept}
        if times == 1:
            return self._sweep(found, values)[0]
        if found.free:
            return self._repeated(times)._sweep(found, values)[0]
        parts = [
            self._sweep(found, {k: part for k, v in values.items() for part in [np.split(v, times)[turn]]})[0]
            for turn in range(times)
        ]
        return Swept(
            {k: np.concatenate([part.relevance[k] for part in parts]) for k in parts[0].relevance},
            {k: np.concatenate([part.values[k] for part in parts]) for k in parts[0].values},
            np.concatenate([part.score for part in parts]),
        )

    def gradient(self, values: Mapping[str, Array] | None = None) -> Swept:
        """Gradients of the explained score."""
        return self.sweep(asking.GRADIENT, values=values)

    def at_layer(self, layer: str) -> FeatureMap:
        """Gradients of the score at a layer's feature map."""
        found = self._compiled(Question(asking.GRADIENT, "one", layer))
        name = str(found.about["layer"])
        got = self._run(found, self.subject.inputs, {})
        values, gradients = got[f"onnxplain.values.{name}"], got[f"onnxplain.relevance.{name}"]
        return FeatureMap(name, values, gradients, self._score(got), tuple(found.about["obstacles"]))

    def difference(self, table: Table, starts: Mapping[str, Array]) -> tuple[Swept, Array, list[str]]:
        """Multipliers of differences; as :meth:`analyzer.engines.torch_engine.Engine.difference`."""
        found = self._compiled(Question(table, difference=True))
        swept, got = self._sweep(found, {}, starts)
        counts = got.get("onnxplain.selecting", np.zeros(0))
        selecting = [name for name, count in zip(found.about["selecting"], counts, strict=True) if count]
        return swept, self._score(got, "onnxplain.scores_at_start"), selecting

    def chunk(self) -> int:
        """How many variations of the batch are best run at once."""
        if self.model.fixed_batch is not None:
            return 1
        bytes_each = sum(v.nbytes for v in self.subject.inputs.values())
        return int(np.clip(2**22 // max(bytes_each, 1), 1, 16))

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """Maps (batch, channels, *spatial) resampled to another spatial size."""
        return resample(map_, size, how)

    def verify(self) -> Parity:
        """The model's outputs as the compiled sweeps give them for the unchanged input beside its own session's."""
        root = self._root
        if root._unmoved is None:
            plain = (compiled for compiled in root._used.values() if compiled.about["outputs"])
            compiled = next(plain, None) or root._compiled(Question(asking.GRADIENT))
            root._run(compiled, root.subject.inputs, {})
        assert root._unmoved is not None
        compiled, got = root._unmoved
        expected = self.model.values(root.subject.inputs, list(compiled.about["outputs"]))
        return compare(got, expected, float(compiled.about["tolerance"]))

    def score_with(self, *_: Any) -> NoReturn:
        """Not answered by compiled sweeps."""
        raise InsideError("it runs parts of the model")

    feature_layer = repeated = score_with

    @property
    def _root(self) -> CompiledEngine:
        return self.base or self

    def _compiled(self, question: Question) -> Compiled:
        subject = self._root.subject
        found = self.shelf.find(subject, question)
        if found is None and self.making:
            found = self.shelf.make(subject, question, asked_for=True)
        if found is None:
            raise MissingError(question.text())
        self._root._used[id(found)] = found
        return found

    def _times(self, values: Mapping[str, Array]) -> int:
        """How many variations of the batch explained values are."""
        name = next(iter(values))
        return len(values[name]) // len(self.values()[name])

    def _repeated(self, times: int) -> CompiledEngine:
        larger = self.subject.of(self.model, self.subject.batch * times)
        return replace(self, subject=larger, base=self._root, moved={}, _used={}, _unmoved=None)

    def _sweep(
        self, found: Compiled, values: Mapping[str, Array], starts: Mapping[str, Array] | None = None
    ) -> tuple[Swept, dict[str, Any]]:
        sources = _entries(found)
        given = {source.name: values[source.name] for source in sources if source.name in values and not source.tokens}
        placed = {**self.subject.inputs, **given}
        got = self._run(found, placed, values, starts)
        swept = Swept(
            {source.name: got[f"onnxplain.relevance.{source.name}"] for source in sources},
            {source.name: got.get(f"onnxplain.values.{source.name}", placed[source.name]) for source in sources},
            self._score(got),
        )
        return swept, got

    def _run(
        self,
        compiled: Compiled,
        inputs: dict[str, Array],
        moved: Mapping[str, Array],
        starts: Mapping[str, Array] | None = None,
    ) -> dict[str, Any]:
        subject = Subject(inputs, self.subject.value, self.subject.weights)
        got = compiled.session.run(compiled.feed(subject, moved, starts))
        if self.base is None and not moved and compiled.about["outputs"]:
            self._unmoved = compiled, {name: got[name] for name in compiled.about["outputs"]}
        return got

    def _score(self, got: Mapping[str, Array], name: str = "onnxplain.scores") -> Array:
        scores = np.asarray(got[name], np.float64)
        return weighted(scores, self.subject.weights.reshape(scores.shape))


def _entries(compiled: Compiled) -> tuple[Entry, ...]:
    return tuple(Entry(name, tokens) for name, tokens in compiled.about["sources"])
