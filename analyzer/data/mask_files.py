"""Which mask file is for which sample: one for all, or the one of a folder that is called like the sample.

Belongs here: names of files. Not here: what a mask file holds (``masks``).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analyzer.data.folders import walk
from analyzer.data.masks import FileMasks
from analyzer.inputs.files import open_regular

#: Endings of mask files.
ENDINGS = (".npy", ".png")


class MaskFiles:
    """The masks of a data set.

    Parameters
    ----------
    path
        A folder, or one file for all samples.

    Raises
    ------
    UsageError
        ``data.missing``.
    InputError
        ``data.not_regular``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shared = not path.is_dir()
        if self.shared:
            with open_regular(path):
                pass

    def within(self, folder: Path) -> tuple[str, ...] | None:
        """The parts of the masks' own path below a folder; None where they lie elsewhere."""
        own, other = self.path.resolve(), folder.resolve()
        return own.relative_to(other).parts if own.is_relative_to(other) else None

    def of(self, names: Sequence[Path]) -> FileMasks:
        """The masks of samples, which are called by their paths below the data's folder.

        A mask lies as deep in its folder as the sample in its own, or, where only one sample and one mask have that name,
        anywhere.
        """
        if self.shared:
            return FileMasks([self.path] * len(names))
        stems = Counter(name.stem for name in names)
        found = [
            self._by_path.get(name.with_suffix("")) or (self._by_stem.get(name.stem) if stems[name.stem] == 1 else None)
            for name in names
        ]
        return FileMasks(found)

    @functools.cached_property
    def _by_path(self) -> dict[Path, Path]:
        files = [each for each in walk(self.path) if each.suffix.lower() in ENDINGS]
        return {each.with_suffix(""): self.path / each for each in reversed(files)}

    @functools.cached_property
    def _by_stem(self) -> dict[str, Path]:
        counts = Counter(each.name for each in self._by_path)
        return {name.name: path for name, path in self._by_path.items() if counts[name.name] == 1}
