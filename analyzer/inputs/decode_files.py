"""Finding and reading a decode spec: presets by name, TOML and JSON files, what a model carries.

Belongs here: where a `Decode` comes from. Not here: reading settings as such (``analyzer.inputs.config``), what it means
(``decode``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from analyzer.inputs.config import Kind
from analyzer.inputs.decode import PRESETS, Decode

_KIND = Kind(
    Decode, PRESETS, "decode", "decode spec", "docs/detectors.md has examples", hidden=("name",), limit=4 * 2**20
)


def load_decode(source: str | os.PathLike[str] | Mapping[str, Any] | Decode) -> Decode:
    """A preset by its name, a TOML or JSON file by its path, or a mapping of the same keys.

    A file may start from a preset with ``preset = "yolov8"`` and override keys.

    Raises
    ------
    UsageError
        ``config.decode``, naming file, key and what is allowed.
    """
    return _KIND.load(source)


def discover_decode(model_path: str | os.PathLike[str] | None, metadata: Mapping[str, str]) -> Decode | None:
    """The decode spec that comes with a model, if any does: ``MODEL.decode.toml``, the metadata key ``decode``.

    Raises
    ------
    UsageError
        ``config.decode`` where one is there but can't be read.
    """
    return _KIND.discover(model_path, metadata)
