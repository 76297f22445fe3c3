"""From a file of unknown origin to a parsed model that is safe to walk.

``read_model`` looks at the first bytes, walks the wire format, parses, and validates, each stage trusting only what the
one before it established; ``tensor_to_numpy`` gives the values of a tensor of such a model. Nothing of a model runs
here and no external weights are read into the protobuf.

Belongs here: the order of the stages and the result. Not here: the stages themselves (``_load_file``, ``_load_wire``,
``validation``, ``external``). Loading must not need what walks a model (``graph``, ``interpreter``), nor torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto

from analyzer.errors import InputError, UsageError
from analyzer.importer import _load_file, _load_tensors, _load_wire
from analyzer.importer._load_lean import without_weights
from analyzer.importer._load_limits import DEFAULT_LIMITS, Limits
from analyzer.importer._load_tensors import describe_nonfinite
from analyzer.importer._load_text import escape_undecodable, quoted
from analyzer.importer.checked_files import CheckedFiles, Stamp
from analyzer.importer.external import ExternalTensor, is_external
from analyzer.importer.locales import use_known_locales
from analyzer.importer.validation import validate
from analyzer.memory import trim_memory

__all__ = ["ExternalTensor", "Limits", "LoadedModel", "describe_nonfinite", "read_model", "tensor_to_numpy"]

LONGEST_PATH = 1000


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that has passed every check.

    Attributes
    ----------
    proto
        The parsed model, owned by this object: nodes in an order they can run in, all texts ``str``, external data not
        loaded into it. Large weights of a file stay there too: they are references like external data.
    path
        The file it came from; None for bytes and protobufs.
    sha256
        Of the file's bytes; of the serialised protobuf where the source was one.
    size
        Bytes of the file and of all external data.
    warnings
        One line each: what is odd, but no reason to refuse.
    external
        Initializer name -> file, offset and length of its values, checked; the model's own file for its large weights.
    files
        The files that sessions and mapped weights are read from, as they were when they were checked.
    repaired
        Whether `proto` differs from the file (nodes sorted, undecodable text escaped, a locale replaced): then sessions
        must be made from `proto`, not from `path`.
    """

    proto: ModelProto
    path: Path | None
    sha256: str
    size: int
    warnings: tuple[str, ...]
    external: Mapping[str, ExternalTensor]
    files: CheckedFiles
    repaired: bool = False

    @property
    def folder(self) -> Path | None:
        """Where external data may lie; None where the model came without a file."""
        return None if self.path is None else self.path.parent


def read_model(source: str | os.PathLike[str] | bytes | ModelProto, *, limits: Limits = DEFAULT_LIMITS) -> LoadedModel:
    """Read and check a model.

    Parameters
    ----------
    source
        A path, the bytes of a model file, or a protobuf, which is copied and never changed.
    limits
        Budgets; see :class:`Limits`.

    Raises
    ------
    UsageError
        ``model.not_found``, ``model.bad_source``.
    InputError
        ``model.*``, ``graph.*``, ``op.*``, ``tensor.*``, ``external.*``, ``input.unsupported_type``, ``limit.*``.

    Notes
    -----
    Memory: the file's bytes and the protobuf are held together while checking; afterwards a protobuf without large
    weights, which are mapped from the file when they are asked for.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    try:
        return _read(source, path, limits)
    except (InputError, UsageError) as fault:
        where = quoted(str(path), LONGEST_PATH)[1:-1] if path is not None else "the given model"
        raise type(fault)(fault.code, f"{where}: {fault.message}", fault.hint) from None


def tensor_to_numpy(tensor: TensorProto, model: LoadedModel) -> np.ndarray:
    """The values of any tensor of a model, read-only.

    Parameters
    ----------
    tensor
        An initializer or an attribute's tensor.
    model
        The model that it belongs to.

    Returns
    -------
    ndarray
        In the tensor's shape. Large weights and external data are mapped, not read; other raw data costs one copy
        (protobuf gives no view of it); only sub-byte types and those in typed fields are converted. bfloat16, float8,
        float6, float4, int4 and int2 have their ml_dtypes type, text is an object array of ``str``.

    Raises
    ------
    InputError
        ``tensor.*``, ``external.*``; ``model.changed`` where the file or an external one isn't what was checked.
    """
    if not is_external(tensor):
        return _load_tensors.to_numpy(tensor, model.folder)
    with model.files.unchanged():
        own = model.external.get(tensor.name)
        if own is not None and own.path == model.path:
            return _load_tensors.map_numpy(tensor, own)
        return _load_tensors.to_numpy(tensor, model.folder)


def _read(source: object, path: Path | None, limits: Limits) -> LoadedModel:
    data, stamp = _bytes_of(source, path, limits)
    digest, size = hashlib.sha256(data).hexdigest(), len(data)
    facts = _load_wire.scan(data, limits)
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as fault:
        # The walk found whole messages of bearable depth: what is left are numbers that don't end within their field.
        raise InputError("model.invalid", f"is damaged: {fault}", "download or export it again") from None
    finally:
        del data
    escaped = escape_undecodable(proto) if facts.bad_text else 0
    findings = validate(proto, None if path is None else path.parent, limits)
    findings.order.apply()
    if escaped:
        findings.warnings.append(f"{escaped} texts in it aren't UTF-8; their bytes are shown as \\xff")
    replaced = use_known_locales(proto)
    findings.warnings += replaced
    repaired = bool(escaped or findings.order.graphs or replaced)
    own = (path, stamp, digest) if path is not None and stamp is not None and not repaired else None
    lean = without_weights(*own[:2]) if own is not None else None
    if lean is not None:
        proto = onnx.ModelProto.FromString(lean[0])
        trim_memory()
    files = CheckedFiles(None if path is None else path.parent, findings.external_files, own)
    files.require_unchanged()  # meanwhile
    return LoadedModel(
        proto=proto,
        path=path,
        sha256=digest,
        size=size + findings.external_bytes,
        warnings=tuple(findings.warnings),
        external=MappingProxyType(findings.external | (lean[1] if lean is not None else {})),
        files=files,
        repaired=repaired,
    )


def _bytes_of(source: object, path: Path | None, limits: Limits) -> tuple[bytes, Stamp | None]:
    """The serialised model, and the stamp of the file that it comes from."""
    if path is not None:
        return _load_file.read_file(path, limits)
    if isinstance(source, ModelProto):
        try:
            return bytes(source.SerializeToString(deterministic=True)), None
        except (EncodeError, ValueError) as fault:
            raise InputError(
                "limit.file_size", f"can't be serialised: {fault}", "save it with external data and give the path"
            ) from None
    if isinstance(source, bytes):
        _load_file.refuse_other_kinds(source[: _load_file.HEAD], len(source))
        _load_file.refuse_too_large(len(source), limits)
        return source, None
    raise UsageError(
        "model.bad_source", f"a model can't be read from a {type(source).__name__}", "give a path, bytes or ModelProto"
    )
