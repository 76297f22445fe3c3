"""A compiled sweep, and what it is asked about.

Belongs here: the subject (inputs, explained value, weights) and a loaded compiled sweep. Not here: finding one
(``sweep_cache``), making one (``sweep_model``), running one as a method's engine (``engine``). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.executor.session import Session
from analyzer.onnx_model import OnnxModel
from analyzer.tensor_spec import batch_axis

Array = NDArray[Any]
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

    def axes(self, model: OnnxModel) -> dict[str, int | None]:
        """Input name -> the axis that counts the samples; None where an input is the same for all."""
        first = next((spec.shape[0] for spec in model.inputs.values() if spec.shape), None)
        return {
            name: batch_axis(model.inputs[name].shape if name in model.inputs else (), first, value, self.batch)
            for name, value in self.inputs.items()
        }

    def of(self, model: OnnxModel, count: int) -> Subject:
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
        self, subject: Subject, embeddings: Mapping[str, Array], starts: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """What it reads: inputs, weights, embeddings where they are given, baselines of differences."""
        feed = {name: value for name, value in subject.inputs.items() if name in self.session.inputs}
        weights = subject.weights.astype(np.float32)
        feed["onnxplain.weights"] = weights if self.about["rank"] else weights.reshape(())
        given = {f"onnxplain.at.{name}": value for name, value in embeddings.items()}
        given |= {f"onnxplain.start.{name}": value for name, value in (starts or {}).items()}
        return feed | {name: value for name, value in given.items() if name in self.session.inputs}

    @property
    def free(self) -> bool:
        """Whether any batch fits."""
        return bool(self.about["free"])
