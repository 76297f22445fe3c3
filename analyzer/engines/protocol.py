"""The interface between methods and engines: what an engine computes and the results it gives; needs no torch.

Belongs here: the protocol and its values. Not here: engines (``torch_engine``, ``analyzer.compiler.engine``),
rule tables (``graph_rules``, imported where one is built).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.inputs.resampling import Resampling

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable

#: A numpy array or, while a method is recorded to be compiled, a torch tensor.
Array = NDArray[Any]


def at_least_single(value: Array) -> Array:
    """Numbers of half precision as float32, in which they are explained; others as they are."""
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value


class NotCompilableError(Exception):
    """A method needs something that can't be part of a compiled graph; the message says what."""


@dataclass(frozen=True)
class TableSpec:
    """A rule table by name and settings; two of the same name and settings are the same table.

    Attributes
    ----------
    settings
        JSON of everything that the table is made from.
    build
        Makes it; imports torch.
    conserving
        Whether relevance should arrive complete, so that a sweep says where it was kept.
    rectifying
        Whether rectifiers are treated apart from other activation functions, so that a sweep names those.
    """

    name: str
    settings: str = "{}"
    build: Callable[[], RuleTable] = field(default=lambda: _named("GRADIENT"), compare=False, repr=False)
    conserving: bool = field(default=False, compare=False)
    rectifying: bool = field(default=False, compare=False)

    @classmethod
    def of(
        cls, name: str, settings: Mapping[str, Any], build: Callable[[], RuleTable], *, conserving: bool = False
    ) -> TableSpec:
        """A table from any settings; arrays enter by their digest."""
        return cls(name, json.dumps(_plain(settings), sort_keys=True), build, conserving)


def _named(name: str) -> RuleTable:
    from graph_rules import composites

    table: RuleTable = getattr(composites, name)
    return table


GRADIENT = TableSpec("gradient")
GUIDED_BACKPROP = TableSpec("guided-backprop", build=lambda: _named("GUIDED_BACKPROP"), rectifying=True)
DECONVNET = TableSpec("deconvnet", build=lambda: _named("DECONVNET"), rectifying=True)
#: The same for ReLU alone.
GUIDED_BACKPROP_RELU, DECONVNET_RELU = (
    TableSpec(name, '{"rectifiers": "relu"}', build, rectifying=True)
    for name, build in (
        ("guided-backprop", lambda: _named("GUIDED_BACKPROP_RELU")),
        ("deconvnet", lambda: _named("DECONVNET_RELU")),
    )
)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        return ["array", content.dtype.str, list(content.shape), hashlib.sha256(content.tobytes()).hexdigest()]
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class ExplainedInput:
    """Where an explained input enters the model.

    Attributes
    ----------
    tokens
        Whether relevance is computed for the embedding that integer tokens select, not for the input itself.
    """

    name: str
    tokens: bool


@dataclass(frozen=True)
class SweepSpec:
    """One kind of sweep.

    Attributes
    ----------
    initial
        Relevance put on the target: ``one`` or ``logit``.
    layer
        The layer to stop at instead of the inputs, as in a method's ``layer`` parameter.
    embedded
        Whether embeddings are given instead of those that the tokens select.
    difference
        Whether the table's rules compare the inputs with a baseline.
    """

    table: TableSpec
    initial: str = "one"
    layer: str | None = None
    embedded: bool = False
    difference: bool = False

    def text(self) -> str:
        """Everything that makes it what it is, as one line."""
        return json.dumps(
            [self.table.name, self.table.settings, self.initial, self.layer, self.embedded, self.difference]
        )


@dataclass(frozen=True)
class Absorbed:
    """Relevance that was kept on its way: ONNX node -> how much, over all samples.

    Attributes
    ----------
    bias
        By constants that are added.
    stabiliser
        By what keeps denominators from zero.
    operator
        By operators whose rules don't conserve relevance.
    """

    bias: Mapping[str, float]
    stabiliser: Mapping[str, float]
    operator: Mapping[str, float]

    @classmethod
    def of(cls, labels: Iterable[Sequence[str]], amounts: Iterable[float]) -> Absorbed:
        """From (attribute, node) pairs and their amounts."""
        found: dict[str, dict[str, float]] = {"bias": {}, "stabiliser": {}, "operator": {}}
        for (absorber, node), amount in zip(labels, amounts, strict=True):
            found[absorber][node] = found[absorber].get(node, 0.0) + amount
        return cls(**found)


@dataclass(frozen=True)
class SweepResult:
    """One sweep's result.

    Attributes
    ----------
    relevance
        Input or layer name -> relevance.
    values
        The same names -> values there.
    score
        The explained score, shape (batch,), float64.
    absorbed
        Where relevance was kept, for a conserving table; None where the engine doesn't know.
    units
        ONNX operators of the activation functions that a rectifying table gives the plain derivative.
    """

    relevance: dict[str, Array]
    values: dict[str, Array]
    score: Array
    absorbed: Absorbed | None = None
    units: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: Sequence[SweepResult]) -> SweepResult:
        """The results of variations of a batch, one after the other."""
        return cls(
            {name: np.concatenate([part.relevance[name] for part in parts]) for name in parts[0].relevance},
            {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
            np.concatenate([part.score for part in parts]),
            units=parts[0].units,
        )


@dataclass(frozen=True)
class FeatureMap:
    """What a layer holds, and what a gradient sweep down to it gives.

    Attributes
    ----------
    name
        The layer's ONNX node.
    values, gradients
        Its activations and the score's derivatives by them, both (batch, channels, *spatial) however the layer lays
        them out; tokens beside the places are left out.
    score
        The explained score, shape (batch,), float64.
    inputs
        The explained inputs that the layer depends on.
    obstacles
        Nodes after the layer that are neither averaging nor linear, as text; CAM requires that there are none.
    """

    name: str
    values: Array
    gradients: Array
    score: Array
    inputs: tuple[str, ...]
    obstacles: tuple[str, ...] = ()

    @property
    def spatial(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(2, self.values.ndim))


@dataclass
class SweepLog:
    """The sweeps that a method has run.

    Attributes
    ----------
    specs
        Each once, in order.
    not_compilable
        Whether it also needed something that can't be compiled.
    """

    specs: dict[SweepSpec, None] = field(default_factory=dict)
    not_compilable: bool = False


class Engine(Protocol):
    """Sweeps over one model on one batch of inputs, for one target."""

    @property
    def xp(self) -> Any:
        """The namespace of the arrays that it gives and takes: numpy, or torch's in the array API."""
        ...

    @property
    def explained(self) -> Sequence[ExplainedInput]:
        """The inputs that are explained."""
        ...

    def values(self) -> dict[str, Array]:
        """The explained values (inputs, or embeddings of tokens) by input name."""
        ...

    def at(self, values: Mapping[str, Array]) -> Engine:
        """The engine at other explained values: one or more variations of the batch, one after the other."""
        ...

    def sweep(self, table: TableSpec, initial: str = "one", values: Mapping[str, Array] | None = None) -> SweepResult:
        """Forward and reverse once.

        Parameters
        ----------
        initial
            Relevance put on the target: ``one`` (its weights) or ``logit`` (weights times output).
        values
            Values for the explained inputs that replace their own; m times the batch is run as one larger batch.
        """
        ...

    def gradient(self, values: Mapping[str, Array] | None = None) -> SweepResult:
        """Gradients of the explained score."""
        ...

    def at_layer(self, layer: str) -> FeatureMap:
        """Gradients of the score at a layer's feature map.

        Raises
        ------
        UnsupportedError
            ``layer.none`` where the model has no feature map.
        UsageError
            ``layer.unknown``, ``layer.not_spatial``.
        """
        ...

    def difference(self, table: TableSpec, baseline: Mapping[str, Array]) -> tuple[SweepResult, Array, list[str]]:
        """Multipliers of the differences between the inputs and a baseline, by a table of difference rules.

        Returns
        -------
        tuple
            The sweep, the score at the baseline, and the ONNX nodes whose masks or indices differ between the two.

        Raises
        ------
        UnsupportedError
            ``rule.missing`` for operators without a rule, ``rule.failed`` for a node that isn't smooth.
        """
        ...

    def scores_with_layer(self, layer: str, values: Array) -> Array:
        """The explained score, shape (m * batch,), float64, where a layer's feature map has other values.

        Parameters
        ----------
        values
            As :attr:`FeatureMap.values`: one or more variations of the batch, one after the other; tokens beside the
            places stay as they are. Only what lies behind the layer is run.
        """
        ...

    def scores_with_inputs(self, values: Mapping[str, Array]) -> Array:
        """The explained score, shape (m * batch,), float64, at other explained values."""
        ...

    def chunk(self) -> int:
        """How many variations of the batch are best run at once."""
        ...

    def resample(self, map_: Array, size: Sequence[int], how: Resampling = "linear") -> Array:
        """Maps (batch, channels, *spatial) resampled to another spatial size."""
        ...

    def numbers(self, value: Array) -> NDArray[Any]:
        """An array's numbers as numpy, for checks, notes and figures beside the maps.

        While a method is recorded they are those of the example: a map must never be made of them.
        """
        ...

    def record(self) -> dict[str, Any]:
        """The engine's entries in an explanation's record: ``backend`` and ``parity``.

        Raises
        ------
        ParityError
            What ran disagrees with the model's own session.
        """
        ...
