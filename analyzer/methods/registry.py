"""The registry: name -> method, with its parameters, family, needs and source.

Belongs here: declaring, finding and describing methods. Not here: any method, running one, what a parameter may be
(``parameters``).
"""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analyzer.errors import UsageError
from analyzer.methods.parameters import Parameter, all_valid, parameters_of, summary_of
from analyzer.nearest import did_you_mean

if TYPE_CHECKING:
    from analyzer.methods.static_context import StaticContext

Family = Literal["gradient", "relevance", "CAM", "perturbation", "model"]
Needs = Literal["trace", "runtime"]
#: What kinds of input most methods are for; and those that replace whole columns and words, text among them.
ANY_NUMBERS = ("image", "table", "series", "tokens")
ANY_ROWS = (*ANY_NUMBERS, "text")


@dataclass(frozen=True)
class MethodInfo:
    """A registered method.

    Attributes
    ----------
    family
        gradient, relevance, CAM, perturbation or model.
    needs
        ``trace`` for white-box methods, ``runtime`` for those that only run the model.
    modalities
        What kinds of input it is for.
    signed
        Whether negative values mean evidence against.
    derivative
        Whether the map is a change of the score per change of the input, not a share of the score; a function of the
        parameters where they decide it.
    complete
        Whether the attribution promises to sum to a score difference.
    tolerance, remedy
        From which share of that difference on a missed sum is worth a note, and what helps then.
    summary, source
        What it does in a line; paper and equation.
    inner
        Whether it can be given at an inner value (``at=``) instead of the inputs: it is one reverse sweep.
    compilable
        Whether it computes only in the engine's arrays, so that it can be written as an ONNX graph.
    derived_from
        The method whose sweep it only looks at in another way: it works where that one works.
    quick
        Parameters that make it quick on a small model, for trials and tests.
    headline
        Parameters that are worth showing beside a map even at their defaults.
    expand
        Turns what was given into parameters before they are checked: reads a file that one of them names.
    check_together
        Refuses parameters, each of them valid, that don't go together.
    fits
        Refuses a model, as a :class:`~analyzer.methods.static_context.StaticContext`, that the method can't be used on, with
        the error that a call would end in, where it needs more than all of its kind.
    """

    name: str
    family: Family
    needs: Needs
    modalities: tuple[str, ...]
    signed: bool
    complete: bool
    summary: str
    source: str
    parameters: Mapping[str, Parameter]
    function: Callable[..., Any] = field(repr=False)
    tolerance: float = 0.05
    remedy: str = ""
    derivative: bool | Callable[[Mapping[str, Any]], bool] = False
    inner: bool = False
    compilable: bool = False
    derived_from: str | None = None
    quick: Mapping[str, Any] = field(default_factory=dict)
    headline: tuple[str, ...] = ()
    expand: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None, repr=False)
    check_together: Callable[[Mapping[str, Any]], None] | None = field(default=None, repr=False)
    fits: Callable[[StaticContext], None] | None = field(default=None, repr=False)

    def gives_derivatives(self, params: Mapping[str, Any]) -> bool:
        """Whether its map with these parameters, defaults included, is a derivative."""
        return self.derivative(params) if callable(self.derivative) else self.derivative

    @property
    def reads_a_layer(self) -> bool:
        """Whether it explains from a layer, which a parameter names."""
        return "layer" in self.parameters

    def notable(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters worth showing: those that differ from their defaults, and the method's headline."""

        def differs(name: str, value: Any) -> bool:
            import numpy as np

            default = self.parameters[name].default if name in self.parameters else None
            alike = type(value) is type(default) and not isinstance(value, np.ndarray)
            return not (alike and bool(value == default))

        return {
            name: value
            for name, value in params.items()
            if value is not None and (name in self.headline or name not in self.parameters or differs(name, value))
        }

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with their values, defaults filled in.

        Raises
        ------
        UsageError
            ``params.unknown`` with the near name, ``params.invalid`` with the type that is wanted.
        """
        given = self.expand(given) if self.expand is not None else given
        found = all_valid(self.name, self.parameters, given)
        if self.check_together is not None:
            self.check_together(found)
        return found


_METHODS: dict[str, MethodInfo] = {}


def method(
    name: str,
    family: Family,
    *,
    needs: Needs = "trace",
    modalities: tuple[str, ...] = ANY_NUMBERS,
    signed: bool = True,
    derivative: bool | Callable[[Mapping[str, Any]], bool] = False,
    complete: bool = False,
    tolerance: float = 0.05,
    remedy: str = "",
    inner: bool = False,
    compilable: bool = False,
    derived_from: str | None = None,
    quick: Mapping[str, Any] | None = None,
    headline: tuple[str, ...] = (),
    source: str,
    expand: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    check_together: Callable[[Mapping[str, Any]], None] | None = None,
    fits: Callable[[StaticContext], None] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function ``(context, *, parameters…) -> Result`` as a method; the arguments are :class:`MethodInfo`'s.

    The function's keyword-only arguments are the method's parameters; annotate each as ``Annotated[type, "doc"]``.
    The first line of its docstring is the summary.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _METHODS:
            raise ValueError(f"method {name!r} is registered twice")
        _METHODS[name] = MethodInfo(
            name,
            family,
            needs,
            modalities,
            signed,
            complete,
            summary_of(function),
            source,
            parameters_of(function),
            function,
            tolerance,
            remedy,
            derivative,
            inner,
            compilable,
            derived_from,
            dict(quick or {}),
            headline,
            expand,
            check_together,
            fits,
        )
        return function

    return register


def methods() -> dict[str, MethodInfo]:
    """All methods by name, in the order of their families."""
    for module in _modules().values():
        importlib.import_module(module)
    order = list(typing.get_args(Family))
    return dict(sorted(_METHODS.items(), key=lambda item: (order.index(item[1].family), item[0])))


@functools.cache
def _modules() -> dict[str, str]:
    """The modules of the families' packages, which hold the methods: last name -> full name."""
    import pkgutil

    here, package = Path(__file__).parent, __name__.rpartition(".")[0]
    families = [module.name for module in pkgutil.iter_modules([str(here)]) if module.ispkg]
    return {
        module.name: f"{package}.{family}.{module.name}"
        for family in families
        for module in pkgutil.iter_modules([str(here / family)])
    }


def get(name: str) -> MethodInfo:
    """A method by name; where a module has the method's name, no other method's module is loaded.

    Raises
    ------
    UsageError
        ``method.unknown`` with the near name.
    """
    if name not in _METHODS and (module := name.replace("-", "_")) in _modules():
        importlib.import_module(_modules()[module])
    if name in _METHODS:
        return _METHODS[name]
    known = methods()
    if name not in known:
        raise UsageError(
            "method.unknown", f"unknown method {name!r}{did_you_mean(name, known)}", "`onnxplain methods` lists them"
        )
    return known[name]
