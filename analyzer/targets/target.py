"""A target on a concrete batch: what methods see of it, and the linear form that most targets have.

Belongs here: the protocol, weights on an output, scores by them. Not here: reading a target (``language``), choosing the value
that it is on (``resolve``), detections (``detection``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError

Array = NDArray[Any]


class Target(Protocol):
    """A target on a concrete batch, as methods that only run the model see it.

    Attributes
    ----------
    names
        What is explained, per sample, as text.
    classes
        Class index per sample, -1 where it isn't a single class.
    notes
        Messages about choices that were made for the user.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[int, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def single(self) -> bool:
        """Whether the values that scores are computed from hold one sample at a time."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The ONNX values that scores are computed from."""
        ...

    def score(self, output: Array) -> Array:
        """The explained score per sample of the unchanged batch, shape (batch,), float64."""
        ...

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """Scores of n changed copies of one sample.

        Parameters
        ----------
        got
            Each of :attr:`reads` -> its value for the copies, batch first.

        Returns
        -------
        ndarray
            (n,) float64.

        Raises
        ------
        UsageError
            ``target.no_batch`` where a value has no batch axis.
        """
        ...


@dataclass(frozen=True)
class Resolved:
    """A linear target on a concrete output.

    Attributes
    ----------
    weights
        The output's shape, float64: score = sum(weights * output) per sample.
    names, classes, notes
        See :class:`Target`.
    value
        The ONNX value that the weights apply to; empty until it is known.
    """

    weights: Array
    names: tuple[str, ...]
    classes: tuple[int, ...]
    notes: tuple[str, ...] = ()
    value: str = ""
    single: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The one value that the weights apply to."""
        return (self.value,)

    def score(self, output: Array) -> Array:
        """The explained score per sample, shape (batch,), float64."""
        return weighted(output, self.weights)

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """See :meth:`Target.score_copies`."""
        output = np.asarray(got[self.value])
        if not output.ndim:
            raise no_batch(self.value, output.shape)
        weights = self.weights[sample : sample + 1]
        if weights.shape[1:] != output.shape[1:]:
            return weighted(output, np.broadcast_to(weights, output.shape))
        explained = np.flatnonzero(weights)  # few, mostly one
        return np.asarray(
            output.reshape(len(output), -1)[:, explained].astype(np.float64) @ weights.reshape(-1)[explained]
        )

    def repeated(self, times: int) -> Resolved:
        """The target of the batch repeated ``times`` times."""
        weights = np.concatenate([self.weights] * times)
        return replace(self, weights=weights, names=self.names * times, classes=self.classes * times)


def no_batch(name: str, shape: Sequence[int]) -> UsageError:
    """The error for a value without a batch axis."""
    return UsageError(
        "target.no_batch",
        f"output {name!r} of shape {list(shape)} has no batch axis",
        "perturbation methods need one score per sample",
    )


def weighted(output: Array, weights: Array) -> Array:
    """sum(weights * output) over all axes but the first; elements of weight zero may be non-finite."""
    product = np.where(weights != 0, np.asarray(output, np.float64), 0.0) * weights
    return np.asarray(product.reshape(len(product), -1).sum(axis=1) if product.ndim else product.reshape(1))
