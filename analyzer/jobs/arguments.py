"""A command's arguments: texts as parameters and layouts.

Belongs here: from text to values. Not here: files of inputs (``analyzer.data``), rules (``rule_options``), explaining
(``explain_files``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from analyzer.errors import UsageError
from analyzer.evaluation import registry as metric_registry
from analyzer.methods import registry
from analyzer.nearest import did_you_mean


def parse_params(
    texts: Sequence[str], methods: Sequence[str], metrics: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """``KEY=VALUE`` and ``OWNER.KEY=VALUE`` as method or metric -> parameter -> value, read as JSON where it can be.

    Raises
    ------
    UsageError
        ``params.syntax``, ``params.unknown``, ``params.ambiguous`` for a key that methods and metrics have.
    """
    kinds = {"method": {name: registry.get(name).parameters for name in methods}}
    if metrics:
        kinds["metric"] = {name: metric_registry.get(name).parameters for name in metrics}
    owners = {name: parameters for kind in kinds.values() for name, parameters in kind.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in owners}
    for text in texts:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise UsageError("params.syntax", f"parameter {text!r} is not KEY=VALUE", "as in -p steps=20")
        value = parse_value(raw)
        owner, dot, name = key.partition(".")
        if dot and owner in found:
            found[owner][name] = value
            continue
        having = {kind: [each for each, parameters in own.items() if key in parameters] for kind, own in kinds.items()}
        for each in _only_kind(key, having, owners):
            found[each][key] = value
    return found


def _only_kind(key: str, having: Mapping[str, list[str]], owners: Mapping[str, Collection[str]]) -> list[str]:
    """All methods, or all metrics, that have a parameter."""
    kinds = [kind for kind, names in having.items() if names]
    if len(kinds) > 1:
        first, second = (having[kind][0] for kind in kinds)
        raise UsageError(
            "params.ambiguous", f"the method {first} and the metric {second} have a parameter {key!r}",
            f"write {first}.{key}=… or {second}.{key}=…",
        )  # fmt: skip
    if not kinds:
        known = sorted({parameter for parameters in owners.values() for parameter in parameters})
        raise UsageError(
            "params.unknown",
            f"no chosen {' or '.join(having)} has a parameter {key!r}{did_you_mean(key, known)}",
            f"their parameters: {', '.join(known) or 'none'}",
        )
    return having[kinds[0]]


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``KEY=VALUE,VALUE,…`` as key -> values; a JSON list holds values with commas.

    Raises
    ------
    UsageError
        ``params.syntax``.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, raw = text.partition("=")
        key = key.strip()
        if not equals or not key or not raw.strip():
            raise UsageError("params.syntax", f"grid {text!r} is not KEY=VALUE,VALUE", "as in --grid gamma=0,0.25,1")
        if key in found:
            raise UsageError("params.syntax", f"grid {key!r} is given twice", "give all its values at once")
        whole = parse_value(raw) if raw.lstrip().startswith("[") else None
        values = whole if isinstance(whole, list) else [parse_value(part.strip()) for part in raw.split(",")]
        if any(value == "" for value in values):
            raise UsageError("params.syntax", f"grid {text!r} has an empty value", "as in --grid gamma=0,0.25,1")
        found[key] = values
    return found


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as key -> value, read as JSON where it can be.

    Raises
    ------
    UsageError
        ``params.syntax``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, raw = text.partition("=")
        if not equals or not key.strip():
            raise UsageError("params.syntax", f"parameter {text!r} is not KEY=VALUE", "as in -p steps=20")
        found[key.strip()] = parse_value(raw)
    return found


def parse_layout(texts: Sequence[str]) -> str | dict[str, str] | None:
    """``LETTERS`` for the first input, or ``NAME=LETTERS`` for each.

    Raises
    ------
    UsageError
        ``layout.syntax`` for both together.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    parts = [text.rpartition("=") for text in texts]
    if not all(equals for _, equals, _ in parts):
        raise UsageError(
            "layout.syntax", "a layout for each input needs its name", "as in --layout x=NTC --layout y=NC"
        )
    return {name: letters for name, _, letters in parts} or None


def parse_value(raw: str) -> Any:
    """A value as text: truth values, ``none``, JSON, numbers with commas between, an array's file; else the text itself."""
    if raw.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[raw.lower()]
    try:
        return json.loads(raw)
    except ValueError:
        pass
    parts = raw.split(",")
    if len(parts) > 1:
        try:
            return [json.loads(part) for part in parts]
        except ValueError:
            pass
    if raw.endswith(".npy") and not raw.startswith(("image:", "samples:")):  # those are read later, to fit the input
        from analyzer.inputs import read_array

        return read_array(raw).values
    return raw
