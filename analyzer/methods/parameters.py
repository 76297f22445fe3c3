"""Parameters of a method or a metric: what a function declares of them, and checking what is given.

Belongs here: what can be known of a value by itself. Not here: parameters that must go together, and which model they suit
(the methods).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.nearest import did_you_mean


@dataclass(frozen=True)
class Bounds:
    """What a number may be: part of a parameter's annotation. Other values, such as None or a name, are let through.

    Attributes
    ----------
    open
        Whether the ends themselves are excluded.
    """

    low: float = -np.inf
    high: float = np.inf
    open: bool = False

    def hold(self, value: Any) -> bool:
        """Whether a number, or each of several, lies between."""
        return all(self.low < v < self.high if self.open else self.low <= v <= self.high for v in _numbers(value))

    def __str__(self) -> str:
        if np.isinf(self.high):
            return f"{'above' if self.open else 'at least'} {self.low:,}"
        return f"{'above' if self.open else 'from'} {self.low:,} {'and below' if self.open else 'to'} {self.high:,}"


#: Runs of the model, and what else is counted: beyond it nobody waits for the result.
MOST = 1_000_000
COUNT = Bounds(1, MOST)
#: Cells or points along an axis.
CELLS = Bounds(1, 1024)
POSITIVE, NOT_NEGATIVE = Bounds(0, open=True), Bounds(0)
#: A share that is neither nothing nor everything.
SHARE = Bounds(0, 1, open=True)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method or a metric.

    Attributes
    ----------
    annotation
        Its type, as in the function's signature.
    default
        What is used when it isn't given.
    doc
        One line: what it does, with unit or range.
    bounds
        What numbers it may be.
    """

    name: str
    annotation: Any
    default: Any
    doc: str
    bounds: Bounds | None = None

    @classmethod
    def of(cls, name: str, annotation: Any, default: Any) -> Parameter:
        """From a signature: ``Annotated[type, "doc", Bounds(...)]``, the last two of which may be left out."""
        if typing.get_origin(annotation) is not typing.Annotated:
            return cls(name, annotation, default, "")
        kind, doc, *bounds = typing.get_args(annotation)
        return cls(name, kind, default, doc, *bounds[:1])

    @property
    def type_name(self) -> str:
        """The type as text."""
        text = getattr(self.annotation, "__name__", None) if isinstance(self.annotation, type) else None
        return text or str(self.annotation).replace("typing.", "")


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """A function's keyword-only arguments as parameters, by name; see :meth:`Parameter.of`."""
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: Parameter.of(name, hints[name], argument.default)
        for name, argument in inspect.signature(function).parameters.items()
        if argument.kind is argument.KEYWORD_ONLY
    }


def summary_of(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n")[0]


def all_valid(owner: str, parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a method or metric with their values, defaults filled in.

    Raises
    ------
    UsageError
        ``params.unknown`` with the near name, ``params.invalid`` with the type that is wanted.
    """
    for name in given:
        if name not in parameters:
            raise UsageError(
                "params.unknown",
                f"{owner} has no parameter {name!r}{did_you_mean(name, parameters)}",
                f"its parameters: {', '.join(parameters) or 'none'}",
            )
    return {
        name: valid(owner, parameter, given[name]) if name in given else parameter.default
        for name, parameter in parameters.items()
    }


def valid(owner: str, parameter: Parameter, value: Any) -> Any:
    """A value as the parameter's type.

    Raises
    ------
    UsageError
        ``params.invalid``.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if isinstance(value, np.ndarray):
        if "ndarray" in parameter.type_name or parameter.annotation is Any:
            return value
        value = value.tolist()
    if value is parameter.default or value == parameter.default:
        return parameter.default if type(value) is type(parameter.default) else value
    if (
        isinstance(value, bool | np.bool_)
        and parameter.annotation is not Any
        and not _takes(parameter.annotation, bool)
    ):
        raise _invalid(owner, parameter, value, "it is no truth value")
    if isinstance(value, str) and not value.strip():
        raise _invalid(owner, parameter, value, "it is empty")
    try:
        adapter = TypeAdapter(parameter.annotation, config=ConfigDict(arbitrary_types_allowed=True))
        found = adapter.validate_python(value)
    except ValidationError as problem:
        raise _invalid(owner, parameter, value, problem.errors()[0]["msg"]) from None
    if parameter.bounds is not None and not parameter.bounds.hold(found):
        raise UsageError(
            "params.invalid",
            f"{owner}: {parameter.name}={value!r} is not valid: it may be {parameter.bounds}",
            f"{parameter.name}: {parameter.doc}",
        )
    return found


def _invalid(owner: str, parameter: Parameter, value: Any, reason: str) -> UsageError:
    return UsageError(
        "params.invalid",
        f"{owner}: {parameter.name}={value!r} is not valid: {reason}",
        f"{parameter.name} is {parameter.type_name}: {parameter.doc}",
    )


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a type, or one of a union, is ``kind``."""
    return annotation is kind or any(_takes(part, kind) for part in typing.get_args(annotation))


def _numbers(value: Any) -> Iterator[float]:
    """The numbers that a value is or holds; not NaN, which is refused elsewhere."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and value == value:
        yield float(value)
