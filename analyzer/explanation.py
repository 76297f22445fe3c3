"""An explanation: the attribution and everything needed to understand and reproduce it.

Belongs here: the result object and saving it. Not here: computing it (``methods``), drawing it (``report``).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.files import write_atomically

if TYPE_CHECKING:
    from analyzer.inputs import LoadedInput

Array = NDArray[Any]


@dataclass(frozen=True)
class Completeness:
    """How nearly an attribution sums to what it should explain, per sample.

    Attributes
    ----------
    total
        Sum of the attribution, shape (batch,).
    expected
        The score difference that the method promises, shape (batch,).
    """

    total: Array
    expected: Array

    @property
    def delta(self) -> Array:
        """total - expected."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total - self.expected)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"total": self.total.tolist(), "expected": self.expected.tolist(), "delta": self.delta.tolist()}


@dataclass
class Result:
    """What a method returns; arrays of numpy, or recorded tensors where it is compiled.

    Attributes
    ----------
    attributions
        Input name -> array of the input's rank.
    raws
        Where a map's native resolution differs from the input's; else left empty.
    completeness
        For methods that promise a sum.
    notes
        What the user should know.
    record
        Further figures for the explanation's record (R², the layer that was chosen).
    shortfall
        Where a promised sum is missed: why, and what helps; in place of what the method declares.
    signed
        Whether negative values mean evidence against, where a parameter decides that; None: as the method says.
    standard_errors
        Input name -> how uncertain each element of a random method's map is, of the map's shape; NaN where that isn't known.
        Left empty by methods that don't estimate it.
    """

    attributions: dict[str, Array]
    raws: dict[str, Array] = field(default_factory=dict)
    completeness: Completeness | None = None
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    shortfall: str = ""
    signed: bool | None = None
    standard_errors: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeTotals:
    """Relevance of one ONNX node's output, summed over all samples and elements.

    Attributes
    ----------
    sum, positive, negative
        Of all, of the positive and of the negative relevance that arrived.
    leak
        What arrived less what the node handed on to its inputs: the share of biases and stabilisers.
    bias
        The share of biases alone.
    """

    sum: float
    positive: float
    negative: float
    leak: float
    bias: float = 0.0


@dataclass(frozen=True, repr=False)
class Explanation:
    """The result of one method on one batch.

    Attributes
    ----------
    method, params
        The method's name and all its parameters, defaults included.
    attributions
        Input name -> array of that input's rank, broadcastable to it. For token inputs the sum over the embedding.
    raws
        Input name -> the map at its native resolution where that differs, else the same array.
    inputs
        The model's inputs, as given.
    target
        What is explained, one text per sample.
    classes
        Class index per sample where a class is explained, else -1.
    score
        The explained score, shape (batch,).
    score_kind
        ``logit``, ``probability``, ``log-probability`` (``score="probability"`` of a model that ends in a log-softmax) or
        ``value``.
    signed
        Whether negative values mean evidence against.
    completeness
        For methods that promise a sum; else None.
    record
        Everything else that reproduces it: model digest, versions, device, seed, timings, parity, notes.
    notable
        The parameters worth showing beside the map; None: all that are set.
    standard_errors
        Input name -> standard errors of a random method's map, of its shape; NaN where they aren't known, empty where a method
        doesn't estimate them.
    options
        The keyword arguments that it was asked for with, ``target`` among them: ``model.explain(inputs, method, **options)``
        gives it again.
    """

    method: str
    params: Mapping[str, Any]
    attributions: Mapping[str, Array]
    raws: Mapping[str, Array]
    inputs: Mapping[str, Array]
    target: tuple[str, ...]
    classes: tuple[int, ...]
    score: Array
    score_kind: str
    signed: bool
    completeness: Completeness | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    notable: Mapping[str, Any] | None = None
    standard_errors: Mapping[str, Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    totals: Callable[[], dict[str, NodeTotals]] | None = field(default=None, repr=False, compare=False)
    """Computes :attr:`nodes`; not pickled."""

    @functools.cached_property
    def nodes(self) -> dict[str, NodeTotals]:
        """Relevance totals by ONNX node name, in the order of execution; computed by one more sweep when first read.

        For the gradient family relevance means the gradient, for DeepLIFT contributions to the difference.

        Raises
        ------
        UnsupportedError
            ``nodes.method`` for methods that aren't one reverse sweep.
        UsageError
            ``nodes.gone`` for an explanation that was pickled.
        """
        if self.totals is None:
            raise UsageError("nodes.gone", "this explanation has lost its model", "explain the input again")
        return self.totals()

    def __repr__(self) -> str:
        """Method, shapes and the first score, on one line."""
        maps = ", ".join(f"{name} {list(value.shape)}" for name, value in self.attributions.items())
        more = f", and {len(self.target) - 1} more" if len(self.target) > 1 else ""
        return f"<Explanation {self.method} of {maps}: {self.target[0]}, {self.score_kind} {float(self.score[0]):.4g}{more}>"

    def _repr_html_(self) -> str:
        """Pictures of its first samples, as notebooks show them."""
        from analyzer.report.explained import notebook

        return notebook(self)

    @property
    def headline(self) -> dict[str, Any]:
        """The parameters worth showing beside the map."""
        return (
            dict(self.notable) if self.notable is not None else {k: v for k, v in self.params.items() if v is not None}
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "totals": None}

    @property
    def attribution(self) -> Array:
        """The first explained input's attribution."""
        return next(iter(self.attributions.values()))

    @property
    def raw(self) -> Array:
        """The first explained input's map at native resolution."""
        return next(iter(self.raws.values()))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, JSON-ready."""
        return {
            "method": self.method,
            "params": jsonable(self.params),
            "target": list(self.target),
            "classes": list(self.classes),
            "score": jsonable(self.score),
            "score_kind": self.score_kind,
            "signed": self.signed,
            "completeness": jsonable(self.completeness.to_dict()) if self.completeness else None,
            "attribution": {k: {"shape": list(v.shape), "dtype": v.dtype.name} for k, v in self.attributions.items()},
            **jsonable(self.record),
        }

    def save(self, path: str | os.PathLike[str], shown: LoadedInput | None = None) -> None:
        """Write ``.npz`` (arrays), ``.json`` (record), ``.png`` (picture) or ``.html`` (page), by the suffix.

        Raises
        ------
        UsageError
            ``output.format`` for another suffix.
        """
        target = Path(path)
        if target.suffix == ".npz":
            write_atomically(target, self._write_npz)
        elif target.suffix == ".json":
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
            write_atomically(target, lambda p: p.write_text(text, encoding="utf-8"))
        elif target.suffix in (".png", ".html"):
            from analyzer.report.explained import save

            save(self, target, shown)
        else:
            raise UsageError(
                "output.format", f"can't save an explanation as {target.suffix!r}", "use .npz, .json, .png or .html"
            )

    def _write_npz(self, path: Path) -> None:
        first = next(iter(self.attributions))
        arrays: dict[str, Any] = {
            "attribution": self.attribution, "raw": self.raw, "input": self.inputs.get(first, np.zeros(0)),
        }  # fmt: skip
        for name in self.attributions:
            if name != first:
                arrays |= {f"attribution/{name}": self.attributions[name], f"raw/{name}": self.raws[name]}
        for name, value in self.standard_errors.items():
            arrays["standard_error" if name == first else f"standard_error/{name}"] = value
        for name, value in self.inputs.items():
            if name != first:
                arrays[f"input/{name}"] = value
        texts = {name: value.astype(str) for name, value in arrays.items() if value.dtype.kind == "O"}  # never pickled
        with path.open("wb") as handle:
            np.savez_compressed(handle, **arrays | texts)


def jsonable(value: Any) -> Any:
    """Arrays to lists, numpy scalars to numbers, tuples to lists, non-finite numbers to None, paths to text."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(v) for v in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist()) if value.size <= 4096 else f"array {value.dtype} {list(value.shape)}"
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
