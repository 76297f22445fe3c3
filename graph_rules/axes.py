"""What the axes of a trace's values count: samples, channels, places of a grid, tokens.

Belongs here: the pieces that axes are made of, and how they are moved by reshaping. Not here: following them through a
graph (``axis_flow``), bringing a value to (batch, channels, *spatial) (``feature_layout``).

An axis is a row of atoms, outermost first: flattened patches are (rows, columns), windows put to the batch are (samples,
rows of windows, columns of windows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal


@dataclass(frozen=True)
class Atom:
    """A piece of an axis.

    Attributes
    ----------
    what
        ``batch``; ``channels``; ``places`` along one dimension of the grid; ``tokens``: all places and what was put
        beside them; ``joined``: places of several grids, one after the other; ``unknown``.
    stride
        Of places: how many steps of the dimension one step of the atom is.
    before, after
        Of tokens: how many stand before the places and behind them.
    """

    what: Literal["batch", "channels", "places", "tokens", "joined", "unknown"]
    size: int
    dimension: int = 0
    stride: int = 1
    before: int = 0
    after: int = 0


Axis = tuple[Atom, ...]


@dataclass(frozen=True)
class Axes:
    """What all axes of a value count.

    Attributes
    ----------
    grid
        The size of every dimension of places.
    learned
        Whether a convolution or a product with patches has made the grid: the places of a feature map, not an input's.
    """

    axes: tuple[Axis, ...]
    grid: tuple[int, ...] = ()
    learned: bool = False

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """All atoms, outermost first."""
        return tuple(atom for axis in self.axes for atom in axis)

    @property
    def has_places(self) -> bool:
        """Whether every place of the grid is somewhere in it."""
        return placed(self.atoms, self.grid)

    @property
    def has_channels(self) -> bool:
        """Whether an axis counts channels."""
        return any(atom.what == "channels" for atom in self.atoms)


def placed(atoms: Iterable[Atom], grid: Sequence[int]) -> bool:
    """Whether atoms hold all places of a grid, each once, and the grid has more than one."""
    if prod(grid) <= 1:
        return False
    found = [atom for atom in atoms if atom.what in ("places", "tokens")]
    if any(atom.what == "tokens" for atom in found):
        return len(found) == 1
    return [_span(found, dimension) for dimension in range(len(grid))] == list(grid)


def _span(atoms: Sequence[Atom], dimension: int) -> int:
    """How many steps of a dimension atoms cover without a gap; 0 where they don't."""
    reach = 1
    for atom in sorted((a for a in atoms if a.dimension == dimension), key=lambda a: a.stride):
        if atom.stride != reach:
            return 0
        reach *= atom.size
    return reach


def axis(what: Literal["batch", "channels", "places", "joined", "unknown"], size: int, dimension: int = 0) -> Axis:
    """An axis of one atom; of none where it is one long, samples aside."""
    return (Atom(what, size, dimension),) if size != 1 or what == "batch" else ()


def reshaped(value: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a reshape; None where an atom is cut that can't be."""
    waiting, axes = list(value.atoms), list[Axis]()
    for size in shape:
        taken: list[Atom] = []
        while waiting and (size > 1 or (not taken and waiting[0].size == 1)):
            first = waiting.pop(0)
            if size % first.size == 0:
                taken.append(first)
                size //= first.size
            elif first.size % size == 0 and first.what in ("channels", "places", "unknown", "joined"):
                inner = first.size // size
                taken.append(replace(first, size=size, stride=first.stride * inner))
                waiting.insert(0, replace(first, size=inner))
                size = 1
            else:
                return None
        if size != 1:
            return None
        axes.append(_merged(taken))
    if waiting and axes:
        axes[-1] = (*axes[-1], *waiting)  # a batch of one
    return replace(value, axes=tuple(axes))


def _merged(atoms: Iterable[Atom]) -> Axis:
    """Atoms of which neighbours that were one are one again."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        follows = last is not None and last.what == atom.what and last.dimension == atom.dimension
        if (
            last is not None
            and follows
            and (
                atom.what in ("channels", "unknown")
                or (atom.what == "places" and last.stride == atom.stride * atom.size)
            )
        ):
            found[-1] = replace(last, size=last.size * atom.size, stride=atom.stride)
        else:
            found.append(atom)
    return tuple(found)


def with_axis(value: Axes, position: int, new: Axis) -> Axes:
    """The value with another axis at a position."""
    axes = (*value.axes[:position], new, *value.axes[position + 1 :])
    return replace(value, axes=axes)


def regrid(value: Axes, dimension: int, size: int) -> Axes:
    """The value on a grid that is ``size`` long in one dimension."""
    grid = (*value.grid[:dimension], size, *value.grid[dimension + 1 :])
    return replace(value, grid=grid)


def coarser(value: Axes) -> Axes:
    """The value on the grid of the places that are left; dimensions without any are left out."""
    kept = sorted({atom.dimension for atom in value.atoms if atom.what == "places"})
    if any(atom.what == "tokens" for atom in value.atoms):
        return value
    new: dict[Atom, Atom] = {}
    grid = []
    for at, dimension in enumerate(kept):
        reach = 1
        for atom in sorted(
            {a for a in value.atoms if a.what == "places" and a.dimension == dimension}, key=lambda a: a.stride
        ):
            new[atom] = replace(atom, dimension=at, stride=reach)
            reach *= atom.size
        grid.append(reach)
    axes = tuple(tuple(new.get(atom, atom) for atom in each) for each in value.axes)
    return replace(value, axes=axes, grid=tuple(grid))


def resized(old: Axis, size: int, value: Axes) -> tuple[Axis, Axes]:
    """An axis at another length (pooled, padded, cut), and the value on the grid that it then has."""
    places = [atom for atom in old if atom.what == "places"]
    if old and all(atom.what == "channels" for atom in old):
        return axis("channels", size), value
    if len(old) == 1 and places and old[0].size == value.grid[old[0].dimension]:
        dimension = old[0].dimension
        return axis("places", size, dimension), regrid(value, dimension, size)
    if not old:
        return axis("channels", size), value
    return axis(
        "joined" if any(atom.what in ("joined", "tokens", "places") for atom in old) else "unknown", size
    ), value


def sliced(value: Axes, position: int, start: int, stop: int, step: int) -> Axes:
    """The axes after a slice: tokens without those beside the places are the places."""
    old = value.axes[position]
    size = len(range(start, stop, step))
    if len(old) == 1 and old[0].what == "tokens" and step == 1:
        token = old[0]
        before, after = token.before - start, token.after - (token.size - stop)
        if before >= 0 and after >= 0:
            return with_axis(value, position, tokens(value.grid, before, after))
        outside = stop <= token.before or start >= token.size - token.after
        return with_axis(value, position, axis("unknown" if outside else "joined", size))
    whole = [atom for atom in old if atom.what == "places"]
    if len(whole) > 1 and len(whole) == len(old):
        return with_axis(value, position, axis("joined", size))
    new, value = resized(old, size, value)
    return with_axis(value, position, new)


def tokens(grid: Sequence[int], before: int, after: int) -> Axis:
    """An axis of all places of a grid, row by row, with tokens beside them."""
    if before or after:
        return (Atom("tokens", prod(grid) + before + after, before=before, after=after),)
    return tuple(Atom("places", size, dimension) for dimension, size in enumerate(grid) if size > 1)
