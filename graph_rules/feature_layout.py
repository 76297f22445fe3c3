"""Bringing a layer's value to (batch, channels, *spatial) and back.

Belongs here: those two ways, as reshapes and permutations of an array or a tensor. Not here: finding out what the axes
count (``axis_flow``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from graph_rules.axes import Atom, Axes


@dataclass(frozen=True)
class FeatureLayout:
    """How a layer lays out samples, channels and places.

    Attributes
    ----------
    shape
        The layer's own.
    parts
        The sizes of what its axes are made of, outermost first; samples and places as they come.
    order
        The parts in the order samples, channels, places.
    batch, channels
        How many there are.
    grid
        The size of every dimension of places.
    before, after
        How many tokens stand before the places and behind them.
    """

    shape: tuple[int, ...]
    parts: tuple[int, ...]
    order: tuple[int, ...]
    batch: int
    channels: int
    grid: tuple[int, ...]
    before: int = 0
    after: int = 0

    @classmethod
    def plain(cls, shape: tuple[int, ...]) -> FeatureLayout:
        """(batch, channels, *spatial)."""
        return cls(shape, shape, tuple(range(len(shape))), shape[0], shape[1], shape[2:])

    @classmethod
    def of(cls, axes: Axes | None, shape: tuple[int, ...]) -> FeatureLayout | None:
        """From what the axes count; None where they aren't samples, channels and all places.

        Of a value behind no convolution, such as a series' steps or embedded words, some axis must count channels.
        """
        if axes is None or not axes.has_places or not (axes.learned or axes.has_channels):
            return None
        atoms = axes.atoms
        if any(atom.what in ("joined", "unknown") for atom in atoms) or sum(a.what == "batch" for a in atoms) != 1:
            return None
        order = sorted(range(len(atoms)), key=lambda position: _rank(atoms[position], position))
        found = [atoms[position] for position in order]
        beside = next((atom for atom in found if atom.what == "tokens"), Atom("tokens", 0))
        channels = prod(atom.size for atom in found if atom.what == "channels")
        parts = tuple(atom.size for atom in atoms)
        return cls(shape, parts, tuple(order), found[0].size, channels, axes.grid, beside.before, beside.after)

    def split(self, value: Any) -> tuple[Any, Any]:
        """The feature map (batch, channels, *spatial), and the tokens beside its places (batch, channels, tokens)."""
        if self == FeatureLayout.plain(self.shape):
            return value, None
        count = prod(self.grid)
        flat = _permuted(value.reshape(self.parts), self.order).reshape((self.batch, self.channels, -1))
        whole = flat[:, :, self.before : self.before + count] if self.before or self.after else flat
        beside = (flat[:, :, : self.before], flat[:, :, self.before + count :])
        return whole.reshape((self.batch, self.channels, *self.grid)), beside

    def joined(self, feature_map: Any, beside: Any) -> Any:
        """The layer's value with another feature map, numpy arrays; as :meth:`split`, the other way round."""
        import numpy as np

        flat = feature_map.reshape((self.batch, self.channels, -1))
        if self.before or self.after:
            times = self.batch // len(beside[0])
            first, last = (np.concatenate([each] * times) for each in beside)
            flat = np.concatenate([first, flat, last], axis=2)
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        ordered = flat.reshape([self.parts[position] for position in self.order])
        return _permuted(ordered, back).reshape(self.shape)


def _rank(atom: Atom, position: int) -> tuple[int, int, int]:
    """Samples, then channels as they come, then places by dimension, the coarsest steps first."""
    if atom.what == "batch":
        return 0, 0, 0
    if atom.what == "channels":
        return 1, position, 0
    return 2, atom.dimension, -atom.stride


def _permuted(value: Any, order: Any) -> Any:
    return value.permute(*order) if isinstance(value, Tensor) else value.transpose(*order)
