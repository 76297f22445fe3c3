"""Determinism: the same input gets the same outputs and the same map again, however it is run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from analyzer.executor.session import Session
from analyzer.explanation import Explanation
from analyzer.gate.check import MOST_LEFT_OUT, Check, Positive, Share
from analyzer.gate.context import GateContext, counted
from analyzer.gate.differences import excess, flat_map, has_rows, rank_correlation
from analyzer.gate.exhibits import exhibits
from analyzer.gate.inputs import Batch
from analyzer.gate.outcome import Array, Outcome
from analyzer.importer.parity import TOLERANCE
from analyzer.model import Model

Vary = Literal["threads", "batch", "optimisation"]
#: What sums in another order may differ by, as a multiple of what equal runs may.
_ORDER = 10.0
_THREADS = (1, 2)
#: Maps are compared in batches of other inputs, in small ones.
_SMALL = 5


class DeterminismCheck(Check):
    """Outputs and maps stay the same when the same inputs are run again, with other threads and in other batches."""

    source = "measured: onnxruntime gives equal bits again, and to 1e-6 of the largest score in another order of sums"
    kind: Literal["determinism"] = "determinism"
    repeats: Annotated[int, Field(ge=2, le=1000)] = 3
    """How often every input is run, and explained, as it is; each of ``vary`` but optimisation explains it once more."""
    vary: list[Vary] = ["threads", "batch"]
    """What else is changed: 1 and 2 threads; every input alone beside many together, for maps a few in other company;
    onnxruntime's optimisations off."""
    atol: Positive = 1e-6
    """The most by which outputs may differ, in units of an output's largest score where that is above 1; ten times that, and in
    coarser types what rounding comes to, where sums are taken in another order."""
    explanation_spearman: Annotated[float, Field(ge=-1, le=1)] = 0.9999
    """The least rank correlation of an input's maps."""
    mostly: Share = 1.0
    """The share of all inputs that must stay the same; 1 lets not one of these differ."""

    def run(self, gate: GateContext) -> Outcome:
        """Outputs first; maps only of a model whose outputs stay the same."""
        moved = self._moved(gate)
        worst = np.max(list(moved.values()), axis=0)
        values = {f"outputs, {kind}: difference over what is allowed": each for kind, each in moved.items()}
        tests = gate.share("the share of inputs whose outputs stay the same", worst <= 1.0, self.mostly)
        details = {kind: float(each.max(initial=0.0)) for kind, each in moved.items()}
        if not tests[0].holds:
            random = gate.model.random_operator
            because = f"they differ most by {max(details, key=lambda kind: details[kind])}"
            return Outcome(
                tests, because=because + (f", {random} draws random numbers" if random else ""), values=values,
                details={"difference over what is allowed": details},
                exhibits=exhibits(
                    gate, np.where(worst > 1, worst, np.nan), lambda at: f"scores differ by {worst[at]:.3g} times what is allowed"
                ),
            )  # fmt: skip
        likeness, unexplained = self._likeness(gate)
        values["maps: least rank correlation"] = likeness
        tests += gate.share(
            f"the share of inputs whose maps keep a rank correlation of {self.explanation_spearman:g}",
            np.where(np.isnan(likeness), np.nan, likeness >= self.explanation_spearman), self.mostly,
        )  # fmt: skip
        shown = exhibits(
            gate, np.where(likeness < self.explanation_spearman, -likeness, np.nan),
            lambda at: f"this map and the same input's map again have a rank correlation of {likeness[at]:.4f}",
            lambda at, _: ("explained again", gate.explanation(at)),
        )  # fmt: skip
        return Outcome(
            tests, values=values, exhibits=shown, details={"difference over what is allowed": details},
            left_out=counted(unexplained.values()), most_left_out=MOST_LEFT_OUT,
        )  # fmt: skip

    def _moved(self, gate: GateContext) -> dict[str, Array]:
        """What is changed -> the largest difference of each input's outputs over what is allowed."""
        kinds = ["repeats", *dict.fromkeys(self.vary)]
        moved = {kind: np.zeros(gate.count) for kind in kinds}
        sessions = {kind: self._sessions(gate.model, kind) for kind in kinds}
        for batch in gate.batches():
            known = gate.model.predict(batch.feed)
            gate.evaluations += len(batch.at)
            count = gate.model.batch_of(batch.feed)
            for kind in kinds:
                for other in self._outputs(gate, batch, kind, sessions[kind]):
                    each, _ = excess(other, known, len(batch.at), count, self._allowed(gate.model, kind))
                    rows = list(batch.at)
                    moved[kind][rows] = np.maximum(moved[kind][rows], each)
                    gate.evaluations += len(batch.at)
        return moved

    def _allowed(self, model: Model, kind: str) -> Callable[[float], float]:
        most = self.atol
        if kind != "repeats":
            coarse = model.tolerance if model.tolerance > TOLERANCE["float32"] else 0.0
            most = max(_ORDER * self.atol, coarse)
        return lambda size: most * max(1.0, size)

    def _sessions(self, model: Model, kind: str) -> list[Session]:
        """Sessions with other threads, or without onnxruntime's optimisations."""
        if kind == "threads":
            return [model.open_session(*model.source(), threads=count) for count in _THREADS]
        source, files = model.source()
        if kind == "optimisation":
            return [Session(source, model.device, (), files, model.threads, optimize=False, tf32=model.tf32)]
        return []

    def _outputs(
        self, gate: GateContext, batch: Batch, kind: str, sessions: list[Session]
    ) -> Iterator[Mapping[str, Any]]:
        """The batch's outputs again, changed as a kind says."""
        model = gate.model
        if kind == "repeats":
            for _ in range(self.repeats - 1):
                yield model.predict(batch.feed)
        elif kind == "batch":
            alone = [model.predict(each.feed) for at in batch.at for each in gate.batches([at])]
            own = model.fixed_batch or 1
            with_rows = [name for name, value in alone[0].items() if has_rows(value, own)]
            yield {name: np.concatenate([one[name][:1] for one in alone]) for name in with_rows}
        for session in sessions:
            names = [name for name in model.outputs if name in session.outputs]
            yield model.in_parts(
                batch.feed,
                lambda part, session=session, names=names: session.run(  # type: ignore[misc]
                    {name: value for name, value in part.items() if name in session.inputs}, names
                ),
            )

    def _likeness(self, gate: GateContext) -> tuple[Array, dict[int, str]]:
        """Every input's least rank correlation with its map when explained again, -1 where a map has no ranks; who has none."""
        maps: dict[int, Array] = {}
        unexplained: dict[int, str] = {}
        found = np.full(gate.count, np.nan)

        def compare(batch: Batch, e: Explanation) -> None:
            for row, at in enumerate(batch.at):
                like = rank_correlation(maps[at], flat_map(gate.model, e, row))
                found[at] = np.fmin(found[at], -1.0 if np.isnan(like) else like)

        for batch, known in gate.explanations_of(unexplained=unexplained):
            maps |= {at: flat_map(gate.model, known, row) for row, at in enumerate(batch.at)}
            for _ in range(self.repeats - 1):
                compare(batch, gate.explain(batch))
            if "threads" in self.vary:
                with _other_threads():
                    compare(batch, gate.explain(batch))
        if maps and "batch" in self.vary and not self._draws(gate, maps):
            for batch in gate.batches(sorted(maps, reverse=True), _SMALL):
                compare(batch, gate.explain(batch))
        return found, unexplained

    def _draws(self, gate: GateContext, maps: Mapping[int, Array]) -> bool:
        """Whether the method draws at random, for a whole batch: then each batch has draws of its own."""
        batch = next(gate.batches(sorted(maps)))
        other = flat_map(gate.model, gate.explain(batch, seed=gate.seed + 1), 0)
        return rank_correlation(maps[batch.at[0]], other) < self.explanation_spearman


@contextlib.contextmanager
def _other_threads() -> Iterator[None]:
    """Another number of threads for torch, where it is in use; what onnxruntime computes has been compared by the outputs."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
