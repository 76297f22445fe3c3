"""A compiled sweep, and what it explains.

Belongs here: the subject (inputs, explained value, weights) and a loaded compiled sweep. Not here: finding one
(``sweep_cache``), compiling one (``sweep_model``), running one as a method's engine (``engine``). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.engines.protocol import at_least_single
from analyzer.executor.session import Session
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
#: Name of the metadata entry that describes a compiled sweep.
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
    chosen
        Names of the inputs that are explained; None for all that can be.
    known
        Values that the model's own session has given for these inputs already.
    """

    inputs: dict[str, Array]
    value: str
    weights: Array
    chosen: tuple[str, ...] | None = None
    known: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.weights) if self.weights.ndim else 1

    def axes(self, model: OnnxModel) -> dict[str, int | None]:
        """Input name -> its batch axis; None where all samples share the input."""
        return model.batch_axes(self.inputs, self.batch)

    def of(self, model: OnnxModel, count: int, others: Mapping[str, Array] | None = None) -> Subject:
        """The same for another number of samples, repeated as often as needed.

        Parameters
        ----------
        others
            Inputs that are given for as many samples.
        """
        rows = np.arange(count) % self.batch
        axes, given = self.axes(model), others or {}
        inputs = {
            k: given[k] if k in given else v if axes[k] is None else v.take(rows, axes[k])
            for k, v in self.inputs.items()
        }
        weights = self.weights[rows] if self.weights.ndim else self.weights
        return replace(self, inputs=inputs, weights=weights, known={})


@dataclass(frozen=True)
class Compiled:
    """A compiled sweep, loaded.

    Attributes
    ----------
    about
        The description in the file's metadata: the explained inputs as ``sources`` (name, whether it is the embedding of
        tokens), ``layer`` and its ``obstacles``, the model's ``outputs`` and the ``tolerance`` of their parity, whether the
        batch is ``free``, the ``rank`` of the scores, the nodes that may be ``selecting`` in a difference, and of a rectifying
        table the ``units`` with the plain derivative, and of a conserving one what and which node each number of what was
        ``absorbed`` is about.
    """

    session: Session
    about: Mapping[str, Any]

    def feed(
        self, subject: Subject, embeddings: Mapping[str, Array], starts: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The values of the model's inputs: the subject's, its weights, given embeddings, the baselines of a difference."""
        read = self.session.inputs
        feed = {name: at_least_single(value) for name, value in subject.inputs.items() if name in read}
        weights = subject.weights.astype(np.float32)
        feed["onnxplain.weights"] = weights if self.about["rank"] else weights.reshape(())
        given = {f"onnxplain.at.{name}": value for name, value in embeddings.items()}
        given |= {f"onnxplain.start.{name}": value for name, value in (starts or {}).items()}
        return feed | {name: value for name, value in given.items() if name in read}

    @property
    def free(self) -> bool:
        """Whether any batch fits."""
        return bool(self.about["free"])
