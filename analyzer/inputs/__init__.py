"""Reading data for models: images, arrays, tables, sound, labels, preprocessing, segments and fills.

Belongs here: turning a file into the array that a model takes, with a record of what was done, and the pieces that
perturbation methods cut an input into and replace it by. Not here: models, sessions, methods, anything that imports
torch or onnx. Importing this package stays cheap: Pillow, pydantic and scikit-image load where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.inputs.arrays import ArrayData, read_array, read_wav
from analyzer.inputs.columns import ColumnInput, feature_names
from analyzer.inputs.fills import fill
from analyzer.inputs.images import Picture, read_picture
from analyzer.inputs.labels import Labels, labels_from_metadata, read_labels
from analyzer.inputs.reading import LoadedInput, array_picture, read_columns, read_input
from analyzer.inputs.segments import segment, segment_with_notes
from analyzer.inputs.tables import read_csv

if TYPE_CHECKING:
    from analyzer.inputs.preprocess import PRESETS, Preprocess, default_for, discover, load_preprocess

__all__ = [
    "PRESETS",
    "ArrayData",
    "ColumnInput",
    "Labels",
    "LoadedInput",
    "Picture",
    "Preprocess",
    "array_picture",
    "default_for",
    "discover",
    "feature_names",
    "fill",
    "labels_from_metadata",
    "load_preprocess",
    "read_array",
    "read_columns",
    "read_csv",
    "read_input",
    "read_labels",
    "read_picture",
    "read_wav",
    "segment",
    "segment_with_notes",
]

_FROM_PREPROCESS = ("PRESETS", "Preprocess", "default_for", "discover", "load_preprocess")


def __getattr__(name: str) -> Any:
    """Load the preprocessing schema (and with it pydantic) on first use."""
    if name in _FROM_PREPROCESS:
        from analyzer.inputs import preprocess

        return getattr(preprocess, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
