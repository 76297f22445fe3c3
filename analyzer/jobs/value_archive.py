"""An ``.npz`` of values that come part by part: no more than a part is held in memory.

Belongs here: growing arrays on disk, and the archive. Not here: where values come from (``analyzer.visualization``).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class ValueArchive:
    """Named arrays that grow along one axis, each in a file of its own until all are put together.

    Parameters
    ----------
    folder
        For the arrays; it is there already, and the caller removes it.
    count
        How many samples there will be.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._done = 0
        self._files: dict[str, Path] = {}
        self._unfit: set[str] = set()

    def add(self, samples: int, values: Mapping[str, Array], axes: Mapping[str, int | None]) -> list[str]:
        """Take in the values of the next samples; gives the names of those that didn't fit to what was there before.

        Parameters
        ----------
        axes
            Value name -> the axis that grows; None where all samples share the value.
        """
        unfit = []
        for name, value in values.items():
            if name in self._unfit or (self._done and axes[name] is None):
                continue
            if not self._put(name, value.astype("U") if value.dtype == object else value, axes[name], samples):
                self._unfit.add(name)
                self._files.pop(name, None)
                unfit.append(name)
        self._done += samples
        return unfit

    def _put(self, name: str, value: Array, axis: int | None, samples: int) -> bool:
        if samples == self._count or axis is None:
            path = self._files.setdefault(name, self._folder / f"{len(self._files)}.npy")
            np.save(path, value, allow_pickle=False)
            return True
        each = value.shape[axis] // samples
        if not self._done:
            path = self._files.setdefault(name, self._folder / f"{len(self._files)}.npy")
            shape = (*value.shape[:axis], each * self._count, *value.shape[axis + 1 :])
            held = np.lib.format.open_memmap(path, "w+", dtype=value.dtype, shape=shape)
        else:
            held = np.lib.format.open_memmap(self._files[name], "r+")
        begin = self._done * each
        where = (*[slice(None)] * axis, slice(begin, begin + value.shape[axis]))
        fits = held.dtype == value.dtype and held[where].shape == value.shape
        if fits:
            held[where] = value
        del held
        return fits

    def write(self, path: Path) -> None:
        """All arrays as one archive, in which they are called as the values are."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, file in self._files.items():
                archive.write(file, f"{name}.npy")
                file.unlink()
