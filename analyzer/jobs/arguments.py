"""A command's arguments: texts as parameters and layouts.

Belongs here: from text to values. Not here: files of inputs (``analyzer.data``), rules (``rule_options``), explaining
(``explain_files``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.nearest import did_you_mean


def parse_params(texts: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``KEY=VALUE`` and ``METHOD.KEY=VALUE`` as method -> parameter -> value, read as JSON where it can be.

    Raises
    ------
    UsageError
        ``params.syntax``, ``params.unknown``.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for text in texts:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise UsageError("params.syntax", f"parameter {text!r} is not KEY=VALUE", "as in -p steps=20")
        value = _value(raw)
        method_name, dot, name = key.partition(".")
        if dot and method_name in found:
            found[method_name][name] = value
            continue
        with_parameter = [m for m in methods if key in registry.get(m).parameters]
        if not with_parameter:
            known = sorted({p for m in methods for p in registry.get(m).parameters})
            raise UsageError(
                "params.unknown",
                f"no chosen method has a parameter {key!r}{did_you_mean(key, known)}",
                f"their parameters: {', '.join(known) or 'none'}",
            )
        for method in with_parameter:
            found[method][key] = value
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


def _value(raw: str) -> Any:
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
