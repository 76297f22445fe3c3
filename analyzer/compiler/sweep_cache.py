"""The compiled sweeps of one model: looked up in memory or on disk, or compiled.

Belongs here: which compiled sweep fits a spec and the dtypes and shapes of the inputs. Not here: files (``cache``),
compiling (``sweep_model``, which imports torch), running a sweep as a method's engine (``engine``).
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from analyzer.cache_folder import UnusableError, cache_folder
from analyzer.compiler import cache
from analyzer.compiler.cache import Question
from analyzer.compiler.subject import ABOUT, Compiled, Subject
from analyzer.engines.protocol import SweepLog, SweepSpec
from analyzer.errors import AnalyzerError, UnsupportedError

if TYPE_CHECKING:
    from analyzer.engines.torch_engine import TorchEngine
    from analyzer.onnx_model import OnnxModel

#: So many sessions of one model stay open.
_OPEN = 8
#: Bytes of the largest model whose sweeps are compiled unasked on a device.
_LARGEST_ON_DEVICE = 2**30
#: Samples from which a sweep is compiled unasked: it is recorded, and compared with torch's, on the CPU.
_SAMPLES = 2


class SweepCache:
    """All compiled sweeps of a model.

    Parameters
    ----------
    make_engine
        Makes the torch engine for a subject, on whose inputs the trace has been verified.

    Attributes
    ----------
    diagnostics
        Why sweeps were not cached, not taken from the cache, or not compiled; each message once.
    """

    def __init__(self, model: OnnxModel, make_engine: Callable[[Subject], TorchEngine]) -> None:
        self._model = model
        self._make_engine = make_engine
        self._open: OrderedDict[Question, Compiled] = OrderedDict()
        self._pending: OrderedDict[Question, tuple[Subject, SweepSpec]] = OrderedDict()
        self._failed: set[Question] = set()
        self.diagnostics: list[str] = []

    def find(self, subject: Subject, spec: SweepSpec) -> Compiled | None:
        """The compiled sweep for a spec, None where there is none."""
        for free in (True, False):
            question = self._question(subject, spec, free)
            if question in self._open:
                self._open.move_to_end(question)
                return self._open[question]
            found = self._load(question)
            if found is not None:
                return found
        return None

    def any(self, subject: Subject) -> Compiled | None:
        """Any compiled sweep for these inputs; all of them know the explained inputs."""
        for free in (True, False):
            text = self._subject_text(subject, free)
            for found in (compiled for question, compiled in self._open.items() if question.subject == text):
                return found
            for question in self._stored(text):
                loaded = self._load(question)
                if loaded is not None:
                    return loaded
        return None

    def engine(self, subject: Subject) -> TorchEngine:
        """The torch engine for a subject; imports torch."""
        return self._make_engine(subject)

    def make(self, subject: Subject, spec: SweepSpec, *, requested: bool) -> Compiled:
        """Compile the sweep and cache it.

        Parameters
        ----------
        requested
            Whether the user chose the onnxruntime backend: then it is cached whatever its size.

        Raises
        ------
        UnsupportedError
            ``compile.*``, ``op.unsupported``, ``rule.missing``: why it can't be compiled.
        ParityError
            ``parity.mismatch``, ``compile.mismatch``.
        """
        from analyzer.compiler.sweep_model import compile_sweep

        try:
            content, found = compile_sweep(self._model, self._make_engine, subject, spec)
        except UnsupportedError:
            with self._distrusting():
                for free in (True, False):
                    cache.refuse(self._question(subject, spec, free))
            raise
        self._model.files.require_not_overwritten()
        question = self._question(subject, spec, found.free)
        with self._distrusting():
            reason = cache.write(question, content, None if requested else cache.LARGEST)
            if reason:
                self._say(f"the compiled {spec.table.name} isn't kept: {reason}")
        return self._hold_open(question, found)

    def remember(self, subject: Subject, log: SweepLog) -> None:
        """Remember which sweeps the torch engine ran for a method, so that they may be compiled later."""
        if log.not_compilable:
            return
        for spec in log.specs:
            self._pending[self._question(subject, spec, True)] = subject, spec
        while len(self._pending) > 4 * _OPEN:
            self._pending.popitem(last=False)

    def compile_pending(self) -> None:
        """Compile and cache the remembered sweeps that aren't cached yet; failures go to :attr:`diagnostics`."""
        todo, self._pending = list(self._pending.values()), OrderedDict()
        usable = False
        with self._distrusting():
            usable = cache_folder() is not None
        if not usable or not todo:
            return
        try:
            suits = self._suits(cache.LARGEST)
        except AnalyzerError as problem:  # the results are there: a file that is gone by now is no error
            self._say(f"not compiled for later runs: {problem.message}")
            return
        if not suits:
            self._say("not compiled for later runs: the model is too large, or quantised")
            return
        for subject, spec in todo:
            self._attempt(subject, spec)

    @functools.cached_property
    def compiles_unasked(self) -> bool:
        """Whether sweeps are compiled when they are first used: on a device, where they are several times as fast as torch's."""
        return self._model.device != "cpu" and self._suits(_LARGEST_ON_DEVICE)

    def make_unasked(self, subject: Subject, spec: SweepSpec) -> Compiled | None:
        """Compile the sweep from a few samples; None where that can't be done or fits no other number, found out once."""
        found = self._attempt(subject.of(self._model, min(subject.batch, _SAMPLES)), spec)
        if found is None or found.free or subject.batch <= _SAMPLES:
            return found
        self._failed.add(self._question(subject, spec, True))
        return None

    def _suits(self, most_bytes: int) -> bool:
        """Whether the model is one whose sweeps are compiled unasked: small enough, and not quantised."""
        from analyzer.importer.parity import TOLERANCE_QUANTIZED, tolerance_of

        return self._model.size <= most_bytes and tolerance_of(self._model.graph) != TOLERANCE_QUANTIZED

    def _attempt(self, subject: Subject, spec: SweepSpec) -> Compiled | None:
        """Compile a sweep that nobody asked for: whatever comes in the way goes to :attr:`diagnostics`, and isn't tried again."""
        question = self._question(subject, spec, True)
        if question in self._failed or cache.refused(question):
            return None
        try:
            return self.find(subject, spec) or self.make(subject, spec, requested=False)
        except Exception as problem:  # torch gives the explanation, nothing depends on this
            self._failed.add(question)
            reason = problem.message if isinstance(problem, AnalyzerError) else type(problem).__name__
            self._say(f"{spec.table.name} isn't compiled for later runs: {reason}")
            return None

    @contextlib.contextmanager
    def _distrusting(self) -> Iterator[None]:
        """Do without the cache where it can't be used, and say so."""
        try:
            yield
        except UnusableError as problem:
            self._say(f"the cache isn't used: {problem}")

    def _say(self, text: str) -> None:
        if text not in self.diagnostics:
            self.diagnostics.append(text)

    def clear(self) -> None:
        """Close the sessions and forget the remembered sweeps."""
        self._open.clear()
        self._pending.clear()
        self._failed.clear()

    def _load(self, question: Question) -> Compiled | None:
        content = None
        with self._distrusting():
            content = cache.read(question)
        if content is None:
            return None
        try:
            session = self._model.open_session(content)
            found = Compiled(session, json.loads(session.metadata[ABOUT]))
        except (AnalyzerError, KeyError, ValueError):
            return None
        return self._hold_open(question, found)

    def _stored(self, subject_text: str) -> list[Question]:
        found: list[Question] = []
        with self._distrusting():
            found += cache.stored(subject_text)
        return found

    def _hold_open(self, question: Question, found: Compiled) -> Compiled:
        self._open[question] = found
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return found

    def _question(self, subject: Subject, spec: SweepSpec, free: bool) -> Question:
        return Question(self._subject_text(subject, free), spec.text())

    def _subject_text(self, subject: Subject, free: bool) -> str:
        axes = subject.axes(self._model)
        signature = [
            (name, value.dtype.str, [None if free and axis == axes[name] else n for axis, n in enumerate(value.shape)])
            for name, value in subject.inputs.items()
        ]
        chosen = {} if subject.chosen is None else {"chosen": subject.chosen}
        return cache.subject_text(model=self._digest, value=subject.value, signature=signature, **chosen)

    @functools.cached_property
    def _digest(self) -> str:
        """A digest of the model with its external data."""
        by_name = {entry.path.name: entry.path for entry in self._model.loaded.external.values()}
        external = {name: path for name, path in by_name.items() if path != self._model.path}
        if not external:
            return self._model.sha256
        with self._model.files.unchanged():
            return self._model.sha256 + cache.digest_of(external)
