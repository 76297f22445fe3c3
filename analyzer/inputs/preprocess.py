"""Finding and reading preprocessing: presets by name, TOML and JSON files, what a model carries, the default.

Belongs here: where a `Preprocess` comes from. Not here: reading settings as such (``config``), what it does
(``schema``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.inputs.config import Kind
from analyzer.inputs.schema import CODE, PRESETS, Preprocess
from analyzer.inputs.shapes import Dims, image_shape, numpy_dtype, show

__all__ = ["PRESETS", "Preprocess", "default_for", "discover", "load_preprocess"]

_SIZE_KEYS = ("resize", "resize_short", "crop", "letterbox")


def _inherited(preset: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that are given replace all of the preset's."""
    if not any(key in given for key in _SIZE_KEYS):
        return preset
    return {key: value for key, value in preset.items() if key not in (*_SIZE_KEYS, "follow_model")}


_KIND = Kind(
    Preprocess, PRESETS, "preprocess", "preprocessing", "leave one of them out or change it", inherited=_inherited
)


def load_preprocess(source: str | os.PathLike[str] | Mapping[str, Any] | Preprocess) -> Preprocess:
    """A preset by its name, a TOML or JSON file by its path, or a mapping of the same keys.

    A file may start from a preset with ``preset = "imagenet"`` and override keys; sizes it gives replace the preset's.

    Raises
    ------
    UsageError
        ``config.preprocess``, naming file, key and what is allowed; ``data.missing`` for a path that isn't there.
    """
    return _KIND.load(source)


def discover(model_path: str | os.PathLike[str] | None, metadata: Mapping[str, str] | None = None) -> Preprocess | None:
    """The preprocessing that comes with a model, if any does: ``MODEL.preprocess.toml``, the metadata key ``preprocess``.

    Raises
    ------
    UsageError
        ``config.preprocess`` where one is there but can't be read.
    """
    return _KIND.discover(model_path, metadata or {})


def default_for(shape: Dims, dtype: Any = "float32") -> Preprocess:
    """The default where no preprocessing is given: values in [0, 1]; 0..255 for uint8 inputs.

    Raises
    ------
    UsageError
        ``config.preprocess`` where the input takes no picture.
    """
    kind = numpy_dtype(dtype)
    image = image_shape(shape)
    if image is None or not (kind.kind == "f" or kind == np.uint8):
        raise UsageError(CODE, f"input {show(shape)} of type {kind} takes no picture", "give an array file")
    color = "grey" if image.channels == 1 else "RGB"
    span, preset = ("[0, 1]", "unit") if kind.kind == "f" else ("0..255", "raw")
    return PRESETS[preset].model_copy(update={"note": f"no preprocessing given: assumed {color} in {span}"})
