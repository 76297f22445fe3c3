"""What a white-box method works with.

Belongs here: the context. Not here: scores of changed inputs (``analyzer.perturbation.evaluator``), engines, choosing the
target (``analyzer.targets``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analyzer.engines.protocol import Array, Engine
from analyzer.errors import UsageError
from analyzer.explanation import Completeness, Result
from analyzer.perturbation.evaluator import Evaluator
from analyzer.targets.target import Resolved

__all__ = ["Array", "Context", "Evaluator", "Result"]


#: Where sums miss their scores by more than this share of them it is looked into whether rows are samples at all.
_OFF = 0.05


@dataclass
class Context(Evaluator):
    """One call of a white-box method.

    Attributes
    ----------
    target
        The target as weights on one value.
    engine
        Sweeps over the model on these inputs.
    """

    target: Resolved
    engine: Engine = field(kw_only=True)

    @property
    def xp(self) -> Any:
        """The namespace of the engine's arrays: a method that computes only in it can be compiled."""
        return self.engine.xp

    def numbers(self, value: Array) -> Array:
        """An array's numbers as numpy, for checks, notes and figures; a map must never be made of them."""
        return self.engine.numbers(value)

    def constant(self, value: Array) -> Array:
        """A numpy array that doesn't depend on the input, among the engine's arrays."""
        found: Array = value if self.xp is np else self.xp.asarray(np.array(value))
        return found

    def at(self, values: Mapping[str, Array], times: int) -> Context:
        """The context at other explained values: ``times`` variations of the batch, one after the other."""
        output = np.concatenate([np.atleast_1d(self.output)] * times)
        return replace(self, engine=self.engine.at(values), target=self.target.repeated(times), output=output)

    def embedding(self, name: str, ids: Array) -> Array:
        """What other tokens select in place of an input's: the explained values there.

        Raises
        ------
        UsageError
            ``params.invalid`` for a token that the model doesn't know.
        """
        engine = self.engine_on({**self.inputs, name: ids}, self.target.weights)
        try:
            return self.constant(engine.numbers(engine.values()[name]))
        except IndexError as problem:
            raise UsageError(
                "params.invalid",
                f"a token of the baseline is beyond what the model knows: {problem}",
                "see its vocabulary",
            ) from None

    def complete(self, attributions: Mapping[str, Array], expected: Array) -> Completeness:
        """The sum of all attributions beside what it should be, one of each for every explained score.

        Where an input is shared by all samples, or where scores depend on other rows than their own (nodes of a graph are no
        samples), there is one for all scores together.
        """
        with np.errstate(invalid="ignore"):  # what isn't finite is refused later, with its place
            total, wanted = self.sample_sums(attributions), np.asarray(self.numbers(expected), np.float64).reshape(-1)
            together = Completeness(total.sum(keepdims=True), wanted.sum(keepdims=True))
        if len(total) != len(wanted):
            return together
        found = Completeness(total, wanted)
        off = np.abs(found.delta).max(initial=0) > _OFF * np.abs(wanted).max(initial=0)
        return together if len(total) > 1 and off and self._rows_mix() else found

    def _rows_mix(self) -> bool:
        """Whether rows depend on each other, so that no row has a sum of its own."""
        return self.model.coupling(self.inputs, self.batch).kind != "none"

    def sample_sums(self, values: Mapping[str, Array]) -> Array:
        """Sums over all inputs for each sample, (batch,) float64; one sum, (1,), where an input has no samples."""
        arrays = {name: np.asarray(self.numbers(value)) for name, value in values.items()}
        axes = {name: self.batch_axis(name) if name in self.inputs else 0 for name in arrays}
        if self.batch == 1 or None in axes.values():
            return np.array([sum(float(value.sum(dtype=np.float64)) for value in arrays.values())])
        return np.asarray(
            sum(
                np.moveaxis(value, axes[name] or 0, 0).reshape(self.batch, -1).sum(axis=1, dtype=np.float64)
                for name, value in arrays.items()
            )
        )
