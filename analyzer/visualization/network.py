"""A model as a function that is optimised: one input's numbers in, one inner value out, any number of samples.

Belongs here: cutting samples to what the model takes, scores by onnxruntime. Not here: making engines
(``analyzer.explain.backends``), what the value is for (``objectives``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.compiler.subject import Subject
from analyzer.engines.differentiable import differentiable
from analyzer.explain.backends import Backends

if TYPE_CHECKING:
    from analyzer.engines.torch_engine import TorchEngine

Array = NDArray[Any]


class Network:
    """One value of a model, as a function of one input.

    Parameters
    ----------
    feed
        One sample, or as many as the model's batch is fixed at; the other inputs stay as they are in it.
    """

    def __init__(self, backends: Backends, value: str, name: str, feed: Mapping[str, Array]) -> None:
        self.model, self._backends, self.value, self._name = backends.model, backends, value, name
        self._feed = dict(feed)
        self._engines: dict[int, TorchEngine] = {}
        self._alone = self.model.fixed_batch is None and self.model.coupling(self._feed, 1).kind != "none"

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return torch.device(self.model.device)

    def __call__(self, x: Tensor) -> Tensor:
        """The value for samples, differentiable by them.

        Raises
        ------
        ParityError
            ``parity.mismatch`` where the trace disagrees with onnxruntime on the first samples given.
        UnsupportedError
            ``op.unsupported``, ``model.no_gradient``, ``model.data_dependent``.
        """
        size = self.model.fixed_batch or (1 if self._alone else len(x))
        found = []
        for part in torch.split(x, size):
            short = size - len(part)
            whole = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
            found.append(differentiable(self._engine(whole), self._name, whole)[: len(part)])
        return torch.cat(found) if len(found) > 1 else found[0]

    def exact(self, x: Array) -> Array:
        """The value for samples as onnxruntime computes it."""
        size = self.model.fixed_batch or (1 if self._alone else len(x))
        found = []
        for begin in range(0, len(x), size):
            part = x[begin : begin + size]
            whole = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
            feed = self.model.feed(self._with(whole))
            found.append(np.asarray(self.model.values(feed, [self.value])[self.value])[: len(part)])
        return np.concatenate(found)

    def _with(self, x: Array) -> dict[str, Array]:
        count = self.model.batch_of(self._feed)
        axes = self.model.batch_axes(self._feed, count)
        rows = np.arange(len(x)) % count
        others = {k: v if axes[k] is None else v.take(rows, axes[k]) for k, v in self._feed.items()}
        return {**others, self._name: x.astype(self._feed[self._name].dtype)}

    def _engine(self, x: Tensor) -> TorchEngine:
        if len(x) not in self._engines:
            feed = self.model.feed(self._with(x.detach().cpu().numpy()))
            value = np.asarray(self.model.values(feed, [self.value])[self.value])
            subject = Subject(feed, self.value, np.ones(value.shape), (self._name,))
            engine = self._backends.torch(subject)
            engine.verify()
            self._engines[len(x)] = engine
        return self._engines[len(x)]
