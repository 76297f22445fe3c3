"""Feature preparation of the classical machine-learning domain: scaling, imputing, encoding, picking.

Belongs here: operators of ``ai.onnx.ml`` that turn columns into columns, and ZipMap. Not here: models (``ml_linear``,
``ml_svm``, ``ml_trees``).

Text has no tensor in a trace. Where an operator only names classes by text, its result is the class's position
instead: an int64 tensor that counts in the order of the class names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyzer.errors import InputError, UnsupportedError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import Node
from analyzer.importer.precision import single
from analyzer.importer.table import operator

ML = "ai.onnx.ml"


def as_float(x: Tensor) -> Tensor:
    """The input in the type that the domain computes with: float32, or float64 for such inputs."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def floats(node: Node, name: str) -> Tensor | None:
    """An attribute of floats as a tensor of single precision; None where it is missing or empty."""
    values = node.attr(name)
    return torch.tensor(np.asarray(values, np.float32)).to(single()) if values is not None and len(values) else None


@operator("Scaler", domain=ML)
def scaler(node: Node, x: Tensor) -> Tensor:
    """``(x - offset) * scale``, one value for all columns or one each."""
    y = x.to(single())
    offset, scale = floats(node, "offset"), floats(node, "scale")
    for values in (offset, scale):
        if values is not None and values.numel() not in (1, x.shape[-1]):
            raise InputError(
                "op.bad_attribute", f"{node}: {values.numel()} values for {x.shape[-1]} columns", "re-export the model"
            )
    y = y if offset is None else y - offset
    return y if scale is None else y * scale


@operator("Normalizer", domain=ML)
def normalizer(node: Node, x: Tensor) -> Tensor:
    """Rows divided by their largest value, their sum of sizes or their length; rows of zeros stay."""
    y = x.to(single())
    kind = str(node.attr("norm", "MAX")).upper()
    match kind:
        case "MAX":
            norm = y.amax(-1, keepdim=True)
        case "L1":
            norm = y.abs().sum(-1, keepdim=True)
        case "L2":
            norm = y.square().sum(-1, keepdim=True).sqrt()
        case _:
            raise InputError("op.bad_attribute", f"{node}: unknown norm {kind!r}", "one of MAX, L1, L2")
    return y / torch.where(norm == 0, torch.ones_like(norm), norm)


@operator("Binarizer", domain=ML)
def binarizer(node: Node, x: Tensor) -> Tensor:
    """One where a value is above the threshold."""
    return (x > float(node.attr("threshold", 0.0))).to(x.dtype)


@operator("Imputer", domain=ML)
def imputer(node: Node, x: Tensor) -> Tensor:
    """Replaces missing values: by one value for all columns, or one for each."""
    if x.is_floating_point():
        given, missing = node.attr("imputed_value_floats"), float(node.attr("replaced_value_float", 0.0))
    else:
        given, missing = node.attr("imputed_value_int64s"), int(node.attr("replaced_value_int64", 0))
    if not given:
        raise InputError("op.bad_attribute", f"{node}: no values to put in for {x.dtype}", "re-export the model")
    values = torch.tensor(np.asarray(given), dtype=x.dtype)
    if values.numel() not in (1, x.shape[-1]):
        raise InputError(
            "op.bad_attribute", f"{node}: {values.numel()} values for {x.shape[-1]} columns", "re-export the model"
        )
    is_missing = torch.isnan(x) if missing != missing else x == missing
    return torch.where(is_missing, values, x)


@operator("OneHotEncoder", domain=ML)
def one_hot_encoder(node: Node, x: Tensor) -> Tensor:
    """A new last dimension with a one at the value's category; unknown values give zeros."""
    categories = node.attr("cats_int64s")
    if not categories:
        raise _text(node)
    return (x.to(torch.int64).unsqueeze(-1) == torch.tensor(categories)).to(torch.float32)


@operator("FeatureVectorizer", domain=ML)
def feature_vectorizer(node: Node, *inputs: Tensor) -> Tensor:
    """All inputs side by side as float32; each is cut or filled up with zeros to its given width."""
    widths = [int(w) for w in node.attr("inputdimensions") or [x.shape[-1] for x in inputs]]
    columns = []
    for x, width in zip(inputs, widths, strict=True):
        rows = x.reshape(1, -1) if x.ndim == 1 else x.reshape(x.shape[0], -1)
        rows = rows.to(single())[:, :width]
        columns.append(torch.nn.functional.pad(rows, (0, width - rows.shape[1])) if rows.shape[1] < width else rows)
    return torch.cat(columns, 1)


@operator("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(node: Node, x: Any, positions: Tensor) -> Tensor:
    """Columns by position; of class names their position."""
    picked = positions.reshape(-1).to(torch.int64)
    if isinstance(x, np.ndarray):
        return picked.reshape(1, -1)
    y: Tensor = torch.index_select(x, -1, picked)
    return y.reshape(1, -1) if x.ndim == 1 else y


@operator("ZipMap", domain=ML)
def zip_map(node: Node, x: Tensor) -> Tensor:
    """The probabilities themselves, columns in the order of the class labels (the runtime gives dictionaries)."""
    return x.reshape(1, -1) if x.ndim == 1 else x


@operator("LabelEncoder", since=1, domain=ML)
def label_encoder_1(node: Node, x: Tensor) -> Tensor:
    """Numbers to class names: the numbers are the positions."""
    names = node.attr("classes_strings") or ()
    known = (x >= 0) & (x < len(names))
    return torch.where(known, x, torch.full_like(x, -1))


@operator("LabelEncoder", since=2, domain=ML)
def label_encoder(node: Node, x: Tensor) -> Tensor:
    """Values for keys, a default for unknown keys; for values of text their position, and -1 as the default."""
    keys = _listed(node, "keys")
    if keys is None or keys.dtype.kind in "OSU":
        raise _text(node)
    values = _listed(node, "values")
    if values is None:
        raise InputError("op.bad_attribute", f"{node}: it has no values", "re-export the model")
    if values.dtype.kind in "OSU":
        found, default = torch.arange(len(keys)), torch.tensor(-1)
    else:
        found, default = as_tensor(values), _default(node, values)
    known = as_tensor(keys).to(x.dtype)
    same = x.unsqueeze(-1) == known
    if x.is_floating_point():
        same = same | (torch.isnan(x).unsqueeze(-1) & torch.isnan(known))
    position = same.to(torch.int64).argmax(-1)
    return torch.where(same.any(-1), found[position], default)


def _listed(node: Node, side: str) -> np.ndarray | None:
    """The keys or values, whichever attribute holds them."""
    for kind, dtype in (("int64s", np.int64), ("floats", np.float32), ("strings", object)):
        given = node.attr(f"{side}_{kind}")
        if given is not None and len(given):
            return np.asarray(given, dtype)
    tensor = node.attr(f"{side}_tensor")
    return None if tensor is None else np.asarray(tensor).reshape(-1)


def _default(node: Node, values: np.ndarray) -> Tensor:
    tensor = node.attr("default_tensor")
    if tensor is not None:
        return as_tensor(np.asarray(tensor)).reshape(()).to(as_tensor(values).dtype)
    name, fallback = ("default_int64", -1) if values.dtype.kind == "i" else ("default_float", -0.0)
    return torch.tensor(node.attr(name, fallback), dtype=as_tensor(values).dtype)


def class_labels(node: Node, names: Sequence[str] = ("classlabels_int64s", "classlabels_ints")) -> tuple[Tensor, int]:
    """A classifier's labels by position (text: the positions themselves), and how many there are."""
    text = node.attr("classlabels_strings") or ()
    if len(text):
        return torch.arange(len(text)), len(text)
    numbers = next((node.attr(name) for name in names if node.attr(name)), None)
    if numbers is None:
        raise InputError("op.bad_attribute", f"{node}: it has no class labels", "re-export the model")
    return torch.tensor(numbers), len(numbers)


def _text(node: Node) -> UnsupportedError:
    return UnsupportedError(
        "op.unsupported", f"{node} reads text, which has no trace", "use a perturbation method, such as occlusion"
    )
