"""What methods ask of an engine, in words that need no torch: which rule table, and what a sweep gives back.

Belongs here: the question and the answer. Not here: engines (``whitebox`` runs torch, ``compiled`` onnxruntime), tables
(``graph_rules``, imported where one is built).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable

Array = NDArray[Any]


class InsideError(Exception):
    """A method looks at the trace itself, which a compiled explanation doesn't have; says what it wanted."""


@dataclass(frozen=True)
class Table:
    """A rule table by name and settings; two of the same name and settings are the same table.

    Attributes
    ----------
    settings
        JSON of everything that the table is made from.
    build
        Makes it; imports torch.
    """

    name: str
    settings: str = "{}"
    build: Callable[[], RuleTable] = field(default=lambda: _named("GRADIENT"), compare=False, repr=False)

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any], build: Callable[[], RuleTable]) -> Table:
        """A table from any settings; arrays enter by their digest."""
        return cls(name, json.dumps(_plain(settings), sort_keys=True), build)


def _named(name: str) -> RuleTable:
    from graph_rules import composites

    table: RuleTable = getattr(composites, name)
    return table


GRADIENT = Table("gradient")
GUIDED_BACKPROP = Table("guided-backprop", build=lambda: _named("GUIDED_BACKPROP"))
DECONVNET = Table("deconvnet", build=lambda: _named("DECONVNET"))


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
class Question:
    """One kind of sweep.

    Attributes
    ----------
    initial
        Relevance put on the target: ``one`` or ``logit``.
    layer
        The layer to stop at in place of the inputs, as a method's ``layer`` parameter names it.
    moved
        Whether embeddings of tokens are given in place of what the tokens select.
    difference
        Whether the table's rules compare the inputs with a start.
    """

    table: Table
    initial: str = "one"
    layer: str | None = None
    moved: bool = False
    difference: bool = False

    def text(self) -> str:
        """Everything that makes it what it is, as one line."""
        return json.dumps([self.table.name, self.table.settings, self.initial, self.layer, self.moved, self.difference])


@dataclass(frozen=True)
class Swept:
    """One sweep's result.

    Attributes
    ----------
    relevance
        Input or layer name -> relevance.
    values
        The same names -> values there.
    score
        The explained score, shape (batch,), float64.
    """

    relevance: dict[str, Array]
    values: dict[str, Array]
    score: Array


@dataclass(frozen=True)
class FeatureMap:
    """What a layer holds, and what a gradient sweep down to it gives.

    Attributes
    ----------
    name
        The layer's ONNX node.
    values, gradients
        Its activations and the score's derivatives by them, both (batch, channels, *spatial).
    score
        The explained score, shape (batch,), float64.
    obstacles
        Nodes behind the layer that are neither averaging nor linear, in words; class activation maps need none.
    """

    name: str
    values: Array
    gradients: Array
    score: Array
    obstacles: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(2, self.values.ndim))

    def wide(self) -> tuple[Array, Array]:
        """Values and gradients in float64, for formulas with powers and quotients."""
        return self.values.astype(np.float64), self.gradients.astype(np.float64)


@dataclass
class Asked:
    """What a method asked of an engine.

    Attributes
    ----------
    questions
        Its sweeps, each once, in order.
    inside
        Whether it also looked at the trace itself.
    """

    questions: dict[Question, None] = field(default_factory=dict)
    inside: bool = False
