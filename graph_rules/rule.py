"""What a rule is: the facts that it declares, what it sees of a node, and a plan of rules for a trace.

Belongs here: the base class of all rules, and the data that a sweep hands to them. Not here: any formula (``rules``),
running anything (``sweep``), text forms (``rule_format``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor, fx

from graph_rules import vjp


class Needs(Enum):
    """What a rule needs of its operator's derivative."""

    NOTHING = "no derivative"
    VALUES = "the derivative (Call.vjp), beside the values of inputs, arguments and output"
    VJP_ONLY = "nothing but the derivative"


class ZeroInputs(Enum):
    """What relevance a rule hands to the elements of its inputs that are zero; see ``zero_relevance``."""

    ANY = "unknown"
    NOTHING = "none: it shares by contribution"
    AS_COPIED = "what arrived at the elements that were copied from them, if the operator copies elements"
    AS_OUTPUT = "what arrived at the same element of the output, which is zero too if the operator keeps zeros"


class Absorber(Enum):
    """What keeps relevance that arrives at a node and isn't handed on."""

    BIAS = "constants that are added"
    STABILISER = "what keeps denominators from zero, and units with nothing to share"
    OPERATOR = "the operator, whose rule doesn't conserve relevance"


class Rule:
    """How relevance flows through a node: a formula, and facts about it that a class declares for itself.

    Attributes
    ----------
    needs
        What the sweep must record for :meth:`backward`.
    kinds
        The kinds of node (:data:`graph_rules.kinds.KINDS`) that a user may give the rule to; none unless declared.
    wide_kinds
        Of these, the kinds that are meant by a selector of many kinds at once (a glob, ``*``); None for all of them.
    zero_inputs
        What it hands to inputs that are zero.
    masks_relu
        Whether, at a ReLU, it hands nothing to negative inputs.
    """

    needs: ClassVar[Needs] = Needs.NOTHING
    kinds: ClassVar[frozenset[str]] = frozenset()
    wide_kinds: ClassVar[frozenset[str] | None] = None
    zero_inputs: ClassVar[ZeroInputs] = ZeroInputs.ANY
    masks_relu: ClassVar[bool] = False

    def backward(self, call: Call, relevance: Any) -> Sequence[Any]:
        """Relevance of the node's active inputs (``call.active``), given that of its output; None for no relevance.

        ``relevance`` has the output's shape; for an operator with several outputs it is a list with None where
        no relevance arrived.
        """
        raise NotImplementedError

    def absorber(self, biased: bool) -> Absorber:
        """What keeps the relevance that a node doesn't hand on.

        Parameters
        ----------
        biased
            Whether the node adds a constant to what it computes.
        """
        return Absorber.OPERATOR


@dataclass
class Call:
    """One executed node, as a rule sees it.

    Attributes
    ----------
    active
        The graph nodes whose values depend on the explained input, in the order of ``inputs``.
    inputs
        Their values, detached; leaves of autograd's graph for ``Needs.VALUES``. For ``Needs.VJP_ONLY`` they are edges of
        that graph, and ``args`` and ``kwargs`` are empty.
    output
        The operator's result, part of that graph if there is one; its edge or edges for ``Needs.VJP_ONLY``.
    reference
        The same node's call in a pass on other inputs, where two passes are compared (:func:`sweep.compare`).
    others
        All calls of the pass by node, where two passes are compared.
    retain_graph
        Whether the call will be asked for vector-Jacobian products once more.
    """

    node: fx.Node
    active: list[fx.Node]
    inputs: list[Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    plan: Plan
    reference: Call | None = None
    others: Mapping[fx.Node, Call] = field(default_factory=dict)
    retain_graph: bool = False

    def vjp(self, relevance: Any) -> list[Tensor]:
        """The operator's vector-Jacobian product for every active input; zeros where it doesn't depend on one."""
        return vjp.vjp(self.output, self.inputs, relevance, self.retain_graph)

    def argument(self, position: int) -> Any:
        """A positional argument's value, None where it isn't given."""
        return self.args[position] if position < len(self.args) else None


@dataclass
class Plan:
    """A trace with a rule for every node between the explained values and the explained output.

    Build one with :func:`graph_rules.sweep.plan`.

    Attributes
    ----------
    sources
        The nodes whose values are explained.
    active
        The nodes through which the output depends on them.
    cache
        What is derived from the trace's constants (modified weights, signs). Its owner is whoever owns the trace, so that
        it outlives one explanation.
    static
        The sweep is being recorded as a graph: no rule may look at the numbers of its input.
    """

    module: fx.GraphModule
    sources: tuple[fx.Node, ...]
    output: fx.Node
    active: frozenset[fx.Node]
    rules: Mapping[fx.Node, Rule]
    cache: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    static: bool = False

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any], parameters: tuple[Any, ...] = ()) -> Any:
        """A value derived from the model's constants, computed once; only that of the last ``parameters`` is stored."""
        if key not in self.cache or self.cache[key][0] != parameters:
            self.cache[key] = (parameters, make())
        return self.cache[key][1]
