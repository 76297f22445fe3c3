"""Compiled sweeps of one model: found in memory or on disk, or made.

Belongs here: which compiled sweep answers a question on inputs of a signature. Not here: files (``cache``), compiling
(``sweeps``, which imports torch), running one as a method's engine (``analyzer.compiler.engine``).
"""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.compiler import cache
from analyzer.engines.protocol import Asked, Question
from analyzer.errors import AnalyzerError, UnsupportedError
from analyzer.executor.session import Session
from analyzer.tensor_spec import batch_axis

if TYPE_CHECKING:
    from analyzer.model import Model

Array = NDArray[Any]
#: Sessions of one model that stay open.
_OPEN = 8
#: Name of the metadata entry that says what a compiled sweep is.
ABOUT = "onnxplain.sweep"


@dataclass(frozen=True)
class Subject:
    """What is explained on which inputs.

    Attributes
    ----------
    value
        The ONNX value that holds the scores.
    weights
        The target's weights on it.
    """

    inputs: dict[str, Array]
    value: str
    weights: Array

    @property
    def batch(self) -> int:
        """How many samples there are."""
        return len(self.weights) if self.weights.ndim else 1

    def axes(self, model: Model) -> dict[str, int | None]:
        """Input name -> the axis that counts the samples; None where an input is the same for all."""
        first = next((spec.shape[0] for spec in model.inputs.values() if spec.shape), None)
        return {
            name: batch_axis(model.inputs[name].shape if name in model.inputs else (), first, value, self.batch)
            for name, value in self.inputs.items()
        }

    def of(self, model: Model, count: int) -> Subject:
        """The same for another number of samples, repeated as often as needed."""
        rows = np.arange(count) % self.batch
        axes = self.axes(model)
        inputs = {k: v if axes[k] is None else v.take(rows, axes[k]) for k, v in self.inputs.items()}
        return Subject(inputs, self.value, self.weights[rows] if self.weights.ndim else self.weights)


@dataclass(frozen=True)
class Compiled:
    """A compiled sweep, loaded.

    Attributes
    ----------
    about
        ``sources`` as (input, whether embeddings), ``layer`` and ``obstacles``, ``outputs`` of the model, ``tolerance``
        of their parity, ``free`` batch, ``rank`` of the scores,
        the nodes that may be ``selecting`` in a difference.
    """

    session: Session
    about: Mapping[str, Any]

    def feed(
        self, subject: Subject, moved: Mapping[str, Array], starts: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """What it reads: inputs, weights, embeddings where they are given, starts of differences."""
        feed = {name: value for name, value in subject.inputs.items() if name in self.session.inputs}
        weights = subject.weights.astype(np.float32)
        feed["onnxplain.weights"] = weights if self.about["rank"] else weights.reshape(())
        given = {f"onnxplain.at.{name}": value for name, value in moved.items()}
        given |= {f"onnxplain.start.{name}": value for name, value in (starts or {}).items()}
        return feed | {name: value for name, value in given.items() if name in self.session.inputs}

    @property
    def free(self) -> bool:
        """Whether any batch fits."""
        return bool(self.about["free"])


class Shelf:
    """All compiled sweeps of a model.

    Attributes
    ----------
    remarks
        What happened that only the curious want to know: why something isn't kept or compiled.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._open: OrderedDict[str, Compiled] = OrderedDict()
        self._asked: OrderedDict[str, tuple[Subject, Question]] = OrderedDict()
        self.remarks: list[str] = []

    def find(self, subject: Subject, question: Question) -> Compiled | None:
        """The compiled sweep for a question, None where there is none."""
        for free in (True, False):
            name = self._name(subject, question, free)
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
            content = cache.read(name)
            found = self._opened(name, content) if content is not None else None
            if found is not None:
                return found
        return None

    def any(self, subject: Subject) -> Compiled | None:
        """Some compiled sweep for these inputs, to learn from it what all of them share."""
        for free in (True, False):
            base = self._base(subject, free)
            for found in (compiled for name, compiled in self._open.items() if name.startswith(base)):
                return found
            for name in cache.names(base):
                content = cache.read(name)
                opened = self._opened(name, content) if content is not None else None
                if opened is not None:
                    return opened
        return None

    def make(self, subject: Subject, question: Question, *, asked_for: bool) -> Compiled:
        """Compile the sweep, and keep it.

        Parameters
        ----------
        asked_for
            Whether the user asked for the onnxruntime backend: then it is kept whatever its size.

        Raises
        ------
        UnsupportedError
            ``compile.*``, ``op.unsupported``, ``rule.missing``: why it can't be compiled.
        ParityError
            ``compile.mismatch``.
        """
        from analyzer.compiler.sweep_model import compile_sweep

        try:
            content, found = compile_sweep(self._model, subject, question)
        except UnsupportedError as problem:
            for either in (True, False):
                cache.refuse(self._name(subject, question, either), problem.message)
            raise
        name = self._name(subject, question, found.free)
        reason = cache.write(name, content, None if asked_for else cache.LARGEST)
        if reason:
            self.remarks.append(f"the compiled {question.table.name} isn't kept: {reason}")
        return self._kept_open(name, found)

    def note(self, subject: Subject, asked: Asked) -> None:
        """Remember which sweeps a method asked the torch engine for, so that they may be compiled later."""
        if asked.inside:
            return
        for question in asked.questions:
            self._asked[self._name(subject, question, True)] = subject, question
        while len(self._asked) > 4 * _OPEN:
            self._asked.popitem(last=False)

    def fill(self) -> None:
        """Compile and keep what was noted and isn't kept yet; failures are remarks."""
        from analyzer.importer.parity import TOLERANCE, tolerance_of

        todo, self._asked = list(self._asked.values()), OrderedDict()
        if cache.folder() is None or not todo:
            return
        if self._model.size > cache.LARGEST or tolerance_of(self._model.graph) != TOLERANCE["float32"]:
            self.remarks.append("not compiled for later runs: the model is too large, or not a float32 model")
            return
        for subject, question in todo:
            if cache.refused(self._name(subject, question, True)) or self.find(subject, question) is not None:
                continue
            try:
                self.make(subject, question, asked_for=False)
            except Exception as problem:  # nothing depends on it: the results are there already
                reason = problem.message if isinstance(problem, AnalyzerError) else type(problem).__name__
                self.remarks.append(f"{question.table.name} isn't compiled for later runs: {reason}")

    def _opened(self, name: str, content: bytes) -> Compiled | None:
        try:
            session = Session(content, self._model.device, threads=self._model.threads)
            found = Compiled(session, json.loads(session.metadata[ABOUT]))
        except (AnalyzerError, KeyError, ValueError):
            return None
        return self._kept_open(name, found)

    def _kept_open(self, name: str, found: Compiled) -> Compiled:
        self._open[name] = found
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return found

    def _name(self, subject: Subject, question: Question, free: bool) -> str:
        return f"{self._base(subject, free)}-{cache.name_of(question=question.text())}"

    def _base(self, subject: Subject, free: bool) -> str:
        axes = subject.axes(self._model)
        signature = [
            (name, value.dtype.str, [None if free and axis == axes[name] else n for axis, n in enumerate(value.shape)])
            for name, value in subject.inputs.items()
        ]
        return cache.name_of(model=self._digest, value=subject.value, signature=signature)

    @functools.cached_property
    def _digest(self) -> str:
        """Of the model with its external data."""
        files = {entry.path.name: entry.path for entry in self._model.loaded.external.values()}
        outside = {name: path for name, path in files.items() if path != self._model.path}
        return self._model.sha256 + (cache.digest_of(outside) if outside else "")
