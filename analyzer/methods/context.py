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
        output = np.concatenate([self.output] * times)
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
        """The sum of all attributions beside what it should be."""
        arrays = [np.asarray(self.numbers(a), np.float64) for a in attributions.values()]
        total = sum(a.reshape(len(a), -1).sum(axis=1) for a in arrays)
        return Completeness(np.asarray(total), np.asarray(self.numbers(expected), np.float64))
