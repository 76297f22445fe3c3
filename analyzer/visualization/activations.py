"""Activations: what a model's layers give for an input, through onnxruntime, part by part.

Belongs here: running the model and putting parts together. Not here: which layers (``layers``), figures of them
(``statistics``), files (``analyzer.jobs``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.onnx_model import Feed, OnnxModel
from analyzer.visualization.layers import Layer, chosen, layers

Array = NDArray[Any]
#: Bytes of inner values that one run may give out, and that an answer may hold where no layer is named.
RUN_BYTES, BUDGET = 64 * 2**20, 2**30
NO_TENSOR = "a sequence or map, no tensor"
#: Numbers of eight bits and fewer that numpy has no type for: onnxruntime gives none, or their bits as whole numbers.
_UNHELD = re.compile(r"tensor\((u?int[24]|float[48]\w*|bfloat16)\)")
VARYING = "its shape depends on the numbers, so that parts of the input don't fit together"


class Activations(dict[str, Array]):
    """Value name -> array.

    Attributes
    ----------
    skipped
        Value name -> why it isn't there: sequences and maps are no arrays.
    """

    def __init__(self, values: dict[str, Array], skipped: dict[str, str]) -> None:
        super().__init__(values)
        self.skipped = skipped


@dataclass
class Stream:
    """The inner values of one input.

    Attributes
    ----------
    model, feed
        The model and the checked input.
    layers
        Whose values are wanted.
    budget
        Bytes that all values together may take; None for no limit.
    count
        How many samples the input holds.
    axes
        Value name -> the axis along which the samples' values are joined; None where all samples share the value. Known
        after the first part.
    skipped
        Value name -> why it is not given.
    """

    model: OnnxModel
    feed: Feed
    layers: Sequence[Layer]
    budget: int | None = None
    count: int = field(init=False)
    axes: dict[str, int | None] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count = self.model.batch_of(self.feed)

    def parts(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """(number of samples, value name -> array) for one part of the input after the other.

        Raises
        ------
        UsageError
            ``activations.too_large`` where they are more than the budget.
        """
        self._leave_out_unheld()
        fixed = self.model.part_size(self.feed)
        if fixed is None and not self._can_be_cut():
            values = self._run(self.feed)
            self._check_budget(sum(value.nbytes for value in values.values()))
            self.axes = {name: 0 if value.shape[:1] == (self.count,) else None for name, value in values.items()}
            yield self.count, values
            return
        first = self._run(self._rows(0, fixed or 1))
        one = max(sum(value.nbytes for value in first.values()), 1)
        self._check_budget(one * self.count // (fixed or 1))
        size = fixed or max(1, min(RUN_BYTES // one, self.count))
        start = 0
        if fixed or size == 1:
            self.axes = {name: 0 if value.shape[:1] == (size,) else None for name, value in first.items()}
            yield size, first
            start = size
        for begin in range(start, self.count, size):
            values = self._run(self._rows(begin, size))
            if not begin:
                self._compare(first, values)
            stop = min(begin + size, self.count)
            yield stop - begin, {name: value for name, value in values.items() if name in self.axes}

    def _leave_out_unheld(self) -> None:
        expose = tuple(layer.value for layer in self.layers if layer.value not in self.model.outputs)
        for name, (kind, _) in self.model.session(expose).types().items():
            if _UNHELD.fullmatch(kind):
                self.skipped[name] = f"of type {kind[7:-1]}, which numpy has none for"
        self.layers = [layer for layer in self.layers if layer.value not in self.skipped]

    def _can_be_cut(self) -> bool:
        """Whether samples can be run one after the other: they don't depend on each other, and lie along first axes."""
        if self.count < 2 or self.model.couples_rows is not None or self.model.fixed_batch is not None:
            return False
        axes = self.model.batch_axes(self.feed, self.count)
        return all(axis in (0, None) for axis in axes.values()) and 0 in axes.values()

    def _rows(self, begin: int, size: int) -> dict[str, Array]:
        axes = self.model.batch_axes(self.feed, self.count)
        return {name: value if axes[name] is None else value[begin : begin + size] for name, value in self.feed.items()}

    def _run(self, feed: Feed) -> dict[str, Array]:
        got: dict[str, Any] = self.model.values(feed, [layer.value for layer in self.layers])
        self.skipped |= {name: NO_TENSOR for name, value in got.items() if not isinstance(value, np.ndarray)}
        return {name: value for name, value in got.items() if isinstance(value, np.ndarray)}

    def _compare(self, one: dict[str, Array], several: dict[str, Array]) -> None:
        """Find the axes that grow with the number of samples."""
        for name, value in several.items():
            alone = one[name].shape
            same_rank = value.ndim == len(alone)
            grown = [axis for axis in range(len(alone)) if value.shape[axis] != alone[axis]] if same_rank else []
            if not same_rank or len(grown) > 1:
                self.skipped[name] = VARYING
            else:
                self.axes[name] = grown[0] if grown else None

    def _check_budget(self, total: int) -> None:
        if self.budget is not None and total > self.budget:
            samples = f"{self.count} samples" if self.count > 1 else "one sample"
            raise UsageError(
                "activations.too_large",
                f"the {len(self.layers)} inner values of {samples} take {total / 2**20:,.0f} MiB, more than "
                f"{self.budget // 2**20:,} MiB",
                "name the layers that are wanted, a pattern as 'layer1*' or a kind of operator as Conv",
            )


def wanted_layers(model: OnnxModel, names: str | Sequence[str] | None) -> list[Layer]:
    """The named layers; all that depend on an input for None.

    Raises
    ------
    UsageError
        ``layer.*``.
    """
    return layers(model) if names is None else chosen(model, names)


def activations(model: OnnxModel, feed: Feed, names: str | Sequence[str] | None = None) -> Activations:
    """The values of layers for an input.

    Parameters
    ----------
    names
        As :func:`analyzer.visualization.layers.chosen` takes them; None for all, which must fit into 1 GiB.

    Raises
    ------
    UsageError
        ``layer.unknown``, ``layer.in_body``, ``activations.too_large``.
    """
    stream = Stream(model, feed, wanted_layers(model, names), BUDGET if names is None else None)
    parts = [values for _, values in stream.parts()]
    found = {}
    for name, axis in stream.axes.items():
        own = [part[name] for part in parts]
        try:
            found[name] = own[0] if axis is None else np.concatenate(own, axis)
        except ValueError:
            stream.skipped[name] = VARYING
    return Activations(found, stream.skipped)
