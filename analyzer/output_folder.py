"""The folder that a command writes to: all of its files, or none.

Belongs here: refusing early what can't be written to or replaced, and renaming finished files into place. Not here: writing one
file (``analyzer.files``), which files there are.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import InconclusiveError, UsageError
from analyzer.files import require_replaceable, require_writable, staging, write_error


@dataclass(frozen=True)
class OutputFolder:
    """Where files are written to.

    Attributes
    ----------
    wanted
        The folder; None for a new one in the working directory.
    force
        Whether files that are there already are replaced.
    default
        The name of a new folder, numbered where it is taken.
    """

    wanted: Path | None
    force: bool = False
    default: str = "onnxplain-out"

    def require_free(self, names: Iterable[str] = ()) -> None:
        """Refuse early what can't be written to, and files that aren't to be replaced.

        Raises
        ------
        UsageError
            ``output.not_a_folder``, ``output.unwritable``, ``output.exists``, ``output.not_regular``.
        InconclusiveError
            ``output.read_only``.
        """
        require_writable(self.wanted if self.wanted is not None else Path())
        self._require_free(names)

    @contextlib.contextmanager
    def drafts(self) -> Iterator[tuple[Path, Path]]:
        """The folder, and a temporary one inside it, whose files are renamed into it once all are written.

        Raises
        ------
        UsageError, InconclusiveError
            As :meth:`require_free`, and ``output.no_space``; nothing is left behind then.
        """
        try:
            folder, is_new = self._made()
        except OSError as problem:
            raise write_error(str(self.wanted or self.default), problem) from None
        try:
            with staging(folder) as drafts:
                yield folder, drafts
                written = sorted(drafts.iterdir())
                self._require_free(path.name for path in written)
                for path in written:
                    path.replace(folder / path.name)
        except OSError as problem:
            raise write_error(str(folder), problem) from None
        except (UsageError, InconclusiveError) as problem:  # of a draft: the folder is what a user knows
            message = re.sub(r"/\.onnxplain-staging-[0-9a-f]+", "", problem.message)
            raise type(problem)(problem.code, message, problem.hint) from None
        finally:
            if is_new:  # an error left it empty
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _require_free(self, names: Iterable[str]) -> None:
        """Refuse names in the chosen folder that mustn't be replaced; a folder of the run's own has none."""
        if self.wanted is not None:
            for name in names:
                require_replaceable(self.wanted / name, overwrite=self.force)

    def _made(self) -> tuple[Path, bool]:
        """The folder, and whether it is new; where none was named, the first name that is free."""
        if self.wanted is not None:
            is_new = not self.wanted.exists()
            self.wanted.mkdir(parents=True, exist_ok=True)
            return self.wanted, is_new
        number = 1
        while True:
            folder = Path(self.default if number == 1 else f"{self.default}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder, True
            number += 1
