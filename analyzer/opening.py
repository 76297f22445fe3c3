"""Opening a model: the file, and what comes with it.

Belongs here: ``load``. Not here: reading the file safely (``importer.loading``), what a model can be asked (``model``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from analyzer.importer.loading import read_model
from analyzer.model import Model

if TYPE_CHECKING:
    from analyzer.inputs import Labels, Preprocess
    from analyzer.targets.detection.schema import Decode


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    device: str = "auto",
    *,
    preprocess: str | os.PathLike[str] | Preprocess | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | Labels | None = None,
    threads: int = 0,
    decode: str | os.PathLike[str] | Mapping[str, Any] | Decode | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    source
        Path of an ``.onnx`` file, its bytes, or a ``ModelProto`` (never changed).
    device
        ``auto`` (CUDA where it works), ``cpu``, ``cuda`` or ``cuda:N``.
    preprocess
        How pictures become inputs: a preset's name, a TOML file, a :class:`~analyzer.inputs.Preprocess`. None looks for
        ``MODEL.preprocess.toml`` beside the model and for the metadata key ``preprocess``.
    labels
        Class names: a file, a list, or :class:`~analyzer.inputs.Labels`. None looks into the model's metadata.
    threads
        Threads inside one operator; 0 chooses by the machine.
    decode
        What a detector's outputs mean: a preset's name, a TOML file, a mapping, a
        :class:`~analyzer.targets.detection.schema.Decode`. None looks for ``MODEL.decode.toml`` beside the model and for the
        metadata key ``decode``.

    Raises
    ------
    UsageError
        ``model.not_found``, ``device.*``, ``config.preprocess``, ``config.decode``.
    InputError
        ``model.*``, ``graph.*``, ``tensor.*``, ``external.*``: the file is not a valid, safe model.
    """
    from analyzer.inputs import Labels, discover, labels_from_metadata, load_preprocess, read_labels
    from analyzer.targets.detection.reading import discover_decode, load_decode

    loaded = read_model(source if isinstance(source, (bytes, onnx.ModelProto)) else Path(source))
    metadata = {entry.key: entry.value for entry in loaded.proto.metadata_props}
    how = load_preprocess(preprocess) if preprocess is not None else discover(loaded.path, metadata)
    if labels is None:
        named = labels_from_metadata(metadata)
    elif isinstance(labels, (str, os.PathLike)):
        named = read_labels(labels)
    else:
        named = labels if isinstance(labels, Labels) else Labels(tuple(labels))
    spec = load_decode(decode) if decode is not None else discover_decode(loaded.path, metadata)
    return Model(loaded, device, how, named, threads, spec)
