"""Strings and numbers as safe, readable text.

Belongs here: taking the teeth out of strings that come from models and files, shortening, and writing
numbers. Not here: HTML escaping (jinja2's autoescape does that) and anything that measures glyphs
(``canvas``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

# Terminal sequences: OSC and friends up to their end, CSI, then any other two-character escape.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_JOINERS = "\u200c\u200d"  # invisible, but Persian, Indic scripts and emoji need them


def clean(text: object, limit: int = 300) -> str:
    """One harmless line: no terminal escapes, control, bidi or other invisible characters, at most ``limit``
    long.

    Parameters
    ----------
    text
        Anything; ``str`` of it is taken.
    limit
        Largest number of characters; what is cut ends in an ellipsis.

    Returns
    -------
    str
        Encodable in UTF-8 (lone surrogates and private-use characters become U+FFFD), white space collapsed.
    """
    raw = str(text)
    raw = raw[: 8 * limit + 64]  # nothing beyond can matter, and a hostile string may be huge
    cleaned: list[str] = []
    for char in _ESCAPES.sub("", raw):
        category = unicodedata.category(char)
        if char.isspace() or category in {"Zl", "Zp", "Zs"}:
            cleaned.append(" ")
        elif category in {"Cs", "Co"}:
            cleaned.append("\ufffd")
        elif category == "Cc" or (category == "Cf" and char not in _JOINERS):
            continue
        else:
            cleaned.append(char)
    return shorten(" ".join("".join(cleaned).split()), limit)


def shorten(text: str, limit: int) -> str:
    """``text``, cut to ``limit`` characters with an ellipsis at its end where it is longer."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def number(value: float, digits: int = 4) -> str:
    """A number to read: ``digits`` significant digits, a true minus sign, exponents only where needed."""
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def score_text(value: float, kind: str) -> str:
    """A score by its kind: probabilities as percentages, anything else as a number."""
    if kind != "probability" or not math.isfinite(value):
        return number(value)
    percent = 100 * value
    if 0 < percent < 0.01:
        return f"{number(percent, 2)} %"
    return f"{percent:.2f} %" if percent < 1 else f"{percent:.1f} %"


def bytes_text(size: int) -> str:
    """A file size: ``532 B``, ``4.9 MB`` (powers of 1000)."""
    if size < 1000:
        return f"{size} B"
    amount, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.3g} {units[0]}"


def value_text(value: Any, limit: int = 40) -> str:
    """A parameter or feature value on one short line."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array {' × '.join(str(side) for side in value.shape)}"
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return shorten(str(value) if abs(value) < 10**15 else f"{value:#x}", limit).replace("-", "−")
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}: {value_text(inner, limit)}" for key, inner in list(value.items())[:20])
    elif isinstance(value, list | tuple):
        value = ", ".join(value_text(inner, limit) for inner in value[:20])
    return clean(value, limit)


def params_text(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters as ``key=value``, in their own order, without those left at None."""
    return tuple(f"{clean(key, 40)}={value_text(value)}" for key, value in params.items() if value is not None)
