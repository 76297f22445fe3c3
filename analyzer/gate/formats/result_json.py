"""JSON: everything that was found, for programs; ASCII only, so that nothing in it can do harm."""

from __future__ import annotations

import json

from analyzer.gate.outcome import GateResult


def write(result: GateResult, images: int = 0) -> str:
    """The result as a JSON document."""
    return json.dumps(result.to_dict(), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
