"""The probability of a class whose logit is explained, for whoever judges by probabilities what explains a logit.

Belongs here: from the logit to its probability. Not here: which value is explained (``scores``, ``resolve``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analyzer.targets.scores import Scored
from analyzer.targets.target import Array, Resolved, Target, no_batch


@dataclass(frozen=True)
class Probability:
    """The probability of one class of each sample; a :class:`~analyzer.targets.target.Target`.

    Attributes
    ----------
    logit
        The target on logits, one class for each sample.
    sigmoid
        Whether it is the class's sigmoid; else the softmax over all classes.
    own
        Whether the model itself ends so.
    """

    logit: Resolved
    sigmoid: bool
    own: bool

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`~analyzer.targets.target.Target`."""
        return self.logit.names

    @property
    def classes(self) -> tuple[int, ...]:
        """See :class:`~analyzer.targets.target.Target`."""
        return self.logit.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`~analyzer.targets.target.Target`."""
        return self.logit.notes

    @property
    def single(self) -> bool:
        """See :class:`~analyzer.targets.target.Target`."""
        return self.logit.single

    @property
    def reads(self) -> tuple[str, ...]:
        """The value that holds the logits."""
        return self.logit.reads

    def score(self, output: Array) -> Array:
        """The probability per sample of the unchanged batch, shape (batch,), float64."""
        return self._of(output, self.logit.weights.reshape(len(self.names), -1).argmax(axis=1))

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """See :meth:`Target.score_copies <analyzer.targets.target.Target.score_copies>`."""
        output = np.asarray(got[self.logit.value])
        if not output.ndim:
            raise no_batch(self.logit.value, output.shape)
        return self._of(output, np.full(len(output), self.logit.weights[sample].argmax()))

    def _of(self, output: Array, chosen: Array) -> Array:
        logits = np.asarray(output, np.float64).reshape(len(output), -1)
        own = np.take_along_axis(logits, chosen[:, None], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            others = np.exp(-own) + 1 if self.sigmoid else np.exp(logits - own).sum(axis=1, keepdims=True)
            return np.asarray((1 / others)[:, 0])


def probability_of(scored: Scored, target: Target, output: Array) -> Target:
    """The probability that a target's logit stands for; the target itself where it is no logit of one class.

    Parameters
    ----------
    scored
        The value that is explained: what squashed it says how. Logits that nothing squashes are taken for those of a softmax.
    output
        That value, for the unchanged inputs.
    """
    sides = sorted(output.shape[1:])
    flat = len(sides) > 0 and all(side == 1 for side in sides[:-1])
    if scored.kind != "logit" or not isinstance(target, Resolved) or not flat:
        return target
    weights = target.weights.reshape(len(target.weights), -1)
    one = weights.shape[0] == len(output) and ((weights == 1).sum(axis=1) == 1) & ((weights != 0).sum(axis=1) == 1)
    sigmoid = scored.squashed_by == "Sigmoid"
    if not np.all(one) or (not sigmoid and sides[-1] < 2):
        return target
    return Probability(target, sigmoid, scored.squashed_by is not None)
