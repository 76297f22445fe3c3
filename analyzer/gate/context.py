"""What a check may ask: the inputs, their explanations, metrics on them, within the run's limits.

Belongs here: everything that checks share, computed once. Not here: the checks, deciding.
"""

from __future__ import annotations

import contextlib
import functools
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from analyzer.data.dataset import Dataset, Sample
from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.evaluation import statistics
from analyzer.evaluation.context import rows_of_explanation
from analyzer.evaluation.evaluate import evaluate
from analyzer.evaluation.measure import Evaluation
from analyzer.evaluation.paired_inputs import InputMatch
from analyzer.evaluation.statistics import Bounded, Side
from analyzer.explanation import Explanation
from analyzer.gate.outcome import Array, Outcome
from analyzer.gate.policy import Policy
from analyzer.memory import resident_memory
from analyzer.model import Model
from analyzer.targets.resolve import scored_value

#: Bytes of inputs in one batch, and the largest batch; bytes of explanations that are kept for the next check.
_BATCH_BYTES, _BATCH_MOST, _KEPT_BYTES = 16 * 2**20, 32, 512 * 2**20
#: Errors about what isn't finite that are one input's, and what they say of it.
_NOT_FINITE = {
    "score.nonfinite": "its score isn't finite", "result.nonfinite": "its map isn't finite",
    "data.nonfinite": "it holds NaN or infinite values",
}  # fmt: skip


class Cancel(Protocol):
    """Says whether a run should stop: a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether it should."""
        ...


class StoppedError(AnalyzerError):
    """The run was cancelled."""

    exit_code = 130


class LimitError(InputError):
    """A limit of the policy was reached."""


@dataclass(frozen=True)
class Batch:
    """Inputs that are run together.

    Attributes
    ----------
    at
        Their positions among the run's inputs.
    feed
        The model's inputs, batch first; where the model's batch is fixed filled up with repetitions of the last.
    """

    at: tuple[int, ...]
    feed: dict[str, Array]

    @property
    def rows(self) -> slice:
        """The rows that are no repetitions."""
        return slice(0, len(self.at))


@dataclass
class GateContext:
    """One run of a gate, as its checks see it.

    Attributes
    ----------
    folder
        The policy's, which its paths are relative to.
    readable
        Positions in the data set of the inputs that could be read; everything else counts along these.
    clock
        Seconds, for checks that time something.
    outcomes
        What the checks that have run found, by their ids.
    evaluations, explanations
        How many the current check has made: of one sample each.
    """

    policy: Policy
    folder: Path
    model: Model
    reference: Model | None
    dataset: Dataset
    readable: tuple[int, ...]
    cancel: Cancel | None = None
    progress: Callable[[str, int, int], None] | None = None
    clock: Callable[[], float] = time.perf_counter
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic, repr=False)
    check: str = ""
    evaluations: int = 0
    explanations: int = 0
    _kept: dict[Any, list[Explanation]] = field(default_factory=dict, repr=False)

    # inputs -------------------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many inputs there are."""
        return len(self.readable)

    @property
    def seed(self) -> int:
        """Of every random choice."""
        return self.policy.data.seed

    @property
    def confidence(self) -> float:
        """Of every interval and test."""
        return self.policy.policy.confidence

    def generator(self, *more: int) -> np.random.Generator:
        """The current check's random numbers: the same whatever other checks there are."""
        return np.random.default_rng([self.seed, zlib.crc32(self.check.encode()), *more])

    def sample(self, at: int) -> Sample:
        """An input, read anew."""
        return self.dataset.read(self.readable[at])

    def id(self, at: int) -> str:
        """An input's name."""
        return str(self.dataset.ids[self.readable[at]])

    @functools.cached_property
    def labels(self) -> tuple[int | None, ...]:
        """The true class of every input, where it is known."""
        return tuple(self.dataset.labels[at] for at in self.readable)

    def parts(self, per_class: bool = False, columns: Sequence[str] = ()) -> dict[str, Array]:
        """Name of a part of the data -> which inputs are in it, bool: by class (else by predicted class), by slice column.

        Raises
        ------
        UsageError
            ``config.gate`` for a column that the data hasn't got.
        """
        found: dict[str, Array] = {}
        if per_class:
            known = all(label is not None for label in self.labels)
            classes = np.array(self.labels if known else self.predicted, np.int64)
            names = self.model.labels.names if self.model.labels is not None else ()
            for at in np.unique(classes):
                name = names[at] if 0 <= at < len(names) else str(at)
                found[f"{'class' if known else 'predicted'} {name}"] = classes == at
        for column in columns:
            if column not in self.dataset.groups:
                there = ", ".join(self.dataset.groups) or "none"
                raise UsageError("config.gate", f"the data has no column {column!r}", f"its columns: {there}")
            values = np.array([self.dataset.groups[column][at] for at in self.readable])
            found |= {f"{column} {value}": values == value for value in np.unique(values)}
        return found

    def batches(self, at: Sequence[int] | None = None, most: int = _BATCH_MOST) -> Iterator[Batch]:
        """The inputs, or those at some positions, as batches that the model takes; inputs of other shapes apart.

        Parameters
        ----------
        most
            So many together at most, as far as the model's batch isn't fixed.

        Raises
        ------
        LimitError
            ``limit.time``, ``limit.memory``.
        StoppedError
            ``signal.cancelled``.
        """
        chosen = range(self.count) if at is None else at
        rows: list[tuple[int, dict[str, Array]]] = []
        for done, position in enumerate(chosen):
            self.within_limits()
            self._advance(done, len(chosen))
            feed = self.sample(position).feed
            if rows and (len(rows) >= self._size(feed, most) or _shapes(feed) != _shapes(rows[0][1])):
                yield self.joined(rows)
                rows = []
            rows.append((position, feed))
        if rows:
            yield self.joined(rows)
        self._advance(len(chosen), len(chosen))

    def _size(self, feed: Mapping[str, Array], most: int) -> int:
        each = max(1, sum(value.nbytes for value in feed.values()))
        most = int(np.clip(_BATCH_BYTES // each, 1, most))
        fixed = self.model.fixed_batch
        return most if fixed is None else max(fixed, most // fixed * fixed)

    def joined(self, rows: Sequence[tuple[int, Mapping[str, Array]]]) -> Batch:
        """Inputs of one shape, each a batch of one with its position, as a batch that the model takes."""
        fixed = self.model.fixed_batch or 1
        missing = -len(rows) % fixed
        feeds = [feed for _, feed in rows] + [rows[-1][1]] * missing
        axes = self.model.batch_axes(feeds[0], 1)
        joined = {
            name: value if axes[name] is None else np.concatenate([feed[name] for feed in feeds], axes[name] or 0)
            for name, value in feeds[0].items()
        }
        return Batch(tuple(at for at, _ in rows), joined)

    def feed_for(self, model: Model, feed: dict[str, Array]) -> dict[str, Array]:
        """A feed of the model as another, the reference, names and types its inputs.

        Raises
        ------
        UsageError
            ``compare.inputs`` where the two don't take the same.
        """
        return feed if model is self.model else InputMatch.of(self.model, model).feed(feed)

    # outputs and explanations -------------------------------------------------------------------------------------------

    @functools.cached_property
    def predicted(self) -> tuple[int, ...]:
        """The class that the model gives every input; -1 for a model without classes."""
        return self.predictions(self.model)

    def predictions(self, model: Model) -> tuple[int, ...]:
        """The class that a model gives every input; -1 where its scores are no classes'."""
        found = np.full(self.count, -1)
        output = scored_value(model).output
        for batch in self.batches():
            scores = np.asarray(model.predict(self.feed_for(model, batch.feed))[output])[batch.rows]
            self.evaluations += len(batch.at)
            if scores.ndim == 2 and scores.shape[1] > 1:
                found[list(batch.at)] = scores.argmax(axis=1)
        return tuple(int(each) for each in found)

    @functools.cached_property
    def method(self) -> tuple[str, dict[str, Any]]:
        """The policy's method and its parameters."""
        section = self.policy.explain
        params = dict(section.params)
        if section.preset is not None:
            params["composite"] = section.preset
        return section.method, params

    def targets(self, at: Sequence[int]) -> Any:
        """What is explained of inputs at some positions."""
        target = self.policy.explain.target
        if target == "predicted":
            classes = [self.predicted[each] for each in at]
            return "top1" if -1 in classes else classes
        if target == "label":
            labels = [self.labels[each] for each in at]
            if None in labels:
                raise UsageError("config.gate", 'explain.target = "label", and an input has no label', "label the data")
            return labels
        return target

    def explain(
        self, batch: Batch, *, model: Model | None = None, method: str | None = None,
        params: Mapping[str, Any] | None = None, targets: Any = None, seed: int | None = None,
    ) -> Explanation:  # fmt: skip
        """Explain a batch as the policy says, but for what is given; the explanation has no repetitions."""
        own, own_params = self.method
        at = batch.at
        wanted = self.targets(at) if targets is None else targets
        count = len(next(iter(batch.feed.values())))
        if isinstance(wanted, list):
            wanted = wanted + wanted[-1:] * (count - len(wanted))
        model = self.model if model is None else model
        e = model.explain(
            self.feed_for(model, batch.feed), method or own, wanted, score=self.policy.explain.output,
            seed=self.seed if seed is None else seed,
            **(own_params if params is None and method is None else dict(params or {})),
        )  # fmt: skip
        self.explanations += len(at)
        return e if len(e.target) == len(at) else rows_of_explanation(e, batch.rows)

    def explanations_of(
        self, at: Sequence[int] | None = None, *, model: Model | None = None, unexplained: dict[int, str] | None = None
    ) -> Iterator[tuple[Batch, Explanation]]:
        """The inputs' explanations as the policy says, batch by batch; kept for the next check where they aren't too large.

        Parameters
        ----------
        unexplained
            Is given the positions of inputs that have no explanation because something isn't finite, and why; those are left
            out. None doesn't let that pass.
        """
        key = (None if model is None else id(model), None if at is None else tuple(at))
        kept = self._kept.get(key)
        found: list[Explanation] | None = []
        for number, batch in enumerate(self.batches(at)):
            if kept is not None:
                yield batch, kept[number]
                continue
            for part, e in self._explained(batch, model, unexplained):
                if found is not None:
                    found.append(e)
                    room = _KEPT_BYTES - sum(map(_bytes, (one for each in self._kept.values() for one in each)))
                    found = found if part is batch and sum(map(_bytes, found)) <= room else None
                yield part, e
        if kept is None and found is not None and not unexplained:
            self._kept[key] = found

    def _explained(
        self, batch: Batch, model: Model | None, unexplained: dict[int, str] | None
    ) -> list[tuple[Batch, Explanation]]:
        """A batch with its explanation; input by input, without those that have none, where that fails."""
        try:
            return [(batch, self.explain(batch, model=model))]
        except AnalyzerError as problem:
            if unexplained is None or problem.code not in _NOT_FINITE:
                raise
            if len(batch.at) == 1:
                unexplained[batch.at[0]] = _NOT_FINITE[problem.code]
                return []
        alone = (each for at in batch.at for each in self.batches([at]))
        return [found for each in alone for found in self._explained(each, model, unexplained)]

    def explanation(self, at: int, **how: Any) -> Explanation:
        """One input's explanation, a batch of one."""
        batch = next(iter(self.batches([at])))
        e = self.explain(batch, **how)
        return rows_of_explanation(e, slice(0, 1))

    def evaluate(
        self, metric: str, *, at: Sequence[int] | None = None, masks: Callable[[int], Array | None] | None = None,
        change: Callable[[Batch, Explanation], Explanation] | None = None,
        judged: Callable[[Batch, Evaluation], None] | None = None, seed: int | None = None, **params: Any,
    ) -> tuple[Array, dict[str, int]]:  # fmt: skip
        """A metric of every input's explanation.

        Parameters
        ----------
        at
            Positions of the inputs; None for all.
        masks
            Position -> where the truth lies; inputs without are left out.
        change
            Judges another explanation in place of each: the control's, for one.
        judged
            Is shown each batch's evaluation, which may have rows of repetitions at its end.
        seed
            Of the metric's random choices; None for the run's.

        Returns
        -------
        tuple
            (values, reasons): (inputs,) float64 with NaN where there is none, and reason -> how many have none for it.
        """
        values, reasons, unexplained = np.full(self.count, np.nan), dict[str, int](), dict[int, str]()
        for batch, e in self.explanations_of(at, unexplained=unexplained):
            rows, mask = list(range(len(batch.at))), None
            if masks is not None:
                known = {row: found for row in rows if (found := masks(batch.at[row])) is not None}
                for _ in range(len(rows) - len(known)):
                    reasons["no mask"] = reasons.get("no mask", 0) + 1
                if not known:
                    continue
                filled = [known.get(row, np.zeros_like(next(iter(known.values())))) for row in rows]
                mask, rows = np.stack(filled), list(known)
            about = e if change is None else change(batch, e)
            how = {"metric": metric, "seed": self.seed if seed is None else seed, **params}
            for own, judgement in self._judged(about, mask, list(range(len(batch.at))), how):
                if isinstance(judgement, str):
                    unexplained[batch.at[own[0]]] = judgement
                    continue
                self.evaluations += judgement.n_evaluations
                self.explanations += judgement.n_explanations
                if judged is not None:
                    judged(Batch(tuple(batch.at[row] for row in own), batch.feed), judgement)
                for place, row in enumerate(own):
                    if row in rows:
                        values[batch.at[row]] = judgement.values[place]
                        if (reason := judgement.reasons.get(place)) is not None:
                            reasons[reason] = reasons.get(reason, 0) + 1
        return values, counted(unexplained.values(), reasons)

    def _judged(
        self, e: Explanation, mask: Array | None, rows: list[int], how: Mapping[str, Any]
    ) -> list[tuple[list[int], Evaluation | str]]:
        """Some rows of an explanation judged together; where a score isn't finite one by one, and then why one isn't judged."""
        padded = self._padded(e if len(rows) == len(e.target) else rows_of_explanation(e, rows))
        if mask is not None:
            mask = mask[rows]
            mask = np.concatenate([mask, np.repeat(mask[-1:], len(padded.target) - len(mask), 0)])
        try:
            return [(rows, evaluate(self.model, padded.inputs, padded, mask=mask, **how))]
        except AnalyzerError as problem:
            if problem.code not in _NOT_FINITE:
                raise
            if len(rows) == 1:
                return [(rows, "a score of a changed copy isn't finite")]
        return [found for row in rows for found in self._judged(e, mask, [row], how)]

    def _padded(self, e: Explanation) -> Explanation:
        """An explanation filled up to the model's fixed batch by repeating its last sample."""
        missing = -len(e.target) % (self.model.fixed_batch or 1)
        if not missing:
            return e
        return rows_of_explanation(e, np.minimum(np.arange(len(e.target) + missing), len(e.target) - 1))

    @contextlib.contextmanager
    def setting(self, key: str) -> Iterator[None]:
        """Whatever is wrong with a value of the policy only shows inside: told as the check's and the key's fault.

        Raises
        ------
        UsageError
            ``config.gate``.
        """
        try:
            yield
        except UsageError as problem:
            raise UsageError("config.gate", f"check {self.check!r}: {key}: {problem.message}", problem.hint) from None

    # statements ---------------------------------------------------------------------------------------------------------

    def share(
        self, name: str, ok: Array, least: float, parts: Mapping[str, Array] | None = None, least_n: int = 1
    ) -> list[Bounded]:
        """That at least a share of the inputs is ok; the same of each part with enough inputs.

        Parameters
        ----------
        ok
            1 or 0 for each input, NaN for those that don't count.
        """
        return self._stated(
            ok, parts, least_n, lambda v, part: statistics.share(name, v > 0, least, self.confidence, part)
        )

    def quantile(
        self, name: str, values: Array, at: float, bound: float, side: Side, parts: Mapping[str, Array] | None = None,
        least_n: int = 1,
    ) -> list[Bounded]:  # fmt: skip
        """That a quantile of the inputs' values keeps a bound; the same of each part with enough inputs."""
        return self._stated(
            values, parts, least_n,
            lambda v, part: statistics.quantile(name, v, at, bound, side, self.confidence, part),
        )  # fmt: skip

    def mean(
        self, name: str, values: Array, bound: float, side: Side, parts: Mapping[str, Array] | None = None,
        least_n: int = 2,
    ) -> list[Bounded]:  # fmt: skip
        """That the mean of the inputs' values keeps a bound; the same of each part with enough inputs."""
        return self._stated(
            values, parts, least_n,
            lambda v, part: statistics.mean(name, v, bound, side, self.confidence, self.seed, part),
        )  # fmt: skip

    def summary(self, name: str, values: Array, stat: str, bound: float) -> list[Bounded]:
        """That a statistic of the inputs' values is at most a bound.

        Parameters
        ----------
        stat
            ``mean``, ``median``, a percentile such as ``p95``, or ``max``, which is about these inputs alone.
        """
        told = f"the {'95th percentile' if stat == 'p95' else stat} of {name}"
        if stat == "mean":
            return self.mean(told, values, bound, "at most")
        if stat == "max":
            ok = np.where(np.isnan(values), np.nan, values <= bound)
            return self.share(f"the share of inputs of which {name} is at most {bound:g}", ok, 1.0)
        at = 0.5 if stat == "median" else int(stat[1:]) / 100
        return self.quantile(told, values, at, bound, "at most")

    def _stated(
        self, values: Array, parts: Mapping[str, Array] | None, least_n: int, state: Callable[[Array, str], Bounded]
    ) -> list[Bounded]:
        known = ~np.isnan(values)
        found = [state(values[known], "")]
        for part, inside in (parts or {}).items():
            if (inside & known).sum() >= least_n:
                found.append(state(values[inside & known], part))
        return found

    # limits -------------------------------------------------------------------------------------------------------------

    def within_limits(self) -> None:
        """Stop where the run was cancelled or has used up what it may.

        Raises
        ------
        LimitError
            ``limit.time``, ``limit.memory``.
        StoppedError
            ``signal.cancelled``.
        """
        if self.cancel is not None and self.cancel.is_set():
            raise StoppedError("signal.cancelled", "the run was cancelled")
        limits = self.policy.limits
        since, self.looked = time.monotonic() - self.looked, time.monotonic()
        if limits.worker_timeout_s is not None and since > limits.worker_timeout_s:
            message = f"a step has taken {since:.1f} s of {limits.worker_timeout_s:g}"
            raise LimitError("limit.time", message, "raise limits.worker_timeout_s, or give smaller inputs")
        if limits.wall_s is not None and (spent := time.monotonic() - self.started) > limits.wall_s:
            message = f"the run has taken {spent:.0f} s of {limits.wall_s:g}"
            raise LimitError("limit.time", message, "raise limits.wall_s, or give fewer samples")
        if limits.memory_mb is not None and (used := resident_memory() / 2**20) > limits.memory_mb:
            message = f"the run takes {used:.0f} MiB of {limits.memory_mb:g}"
            raise LimitError("limit.memory", message, "raise limits.memory_mb, or give smaller inputs")

    def _advance(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.check, done, total)


def counted(reasons: Iterable[str], more: Mapping[str, int] | None = None) -> dict[str, int]:
    """Reason -> how many inputs have no value for it."""
    return dict(Counter(reasons) + Counter(more or {}))


def _shapes(feed: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [value.shape for value in feed.values()]


def _bytes(e: Explanation) -> int:
    return sum(value.nbytes for each in (e.attributions, e.raws, e.inputs) for value in each.values())
