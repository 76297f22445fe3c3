"""Another device where there is none: sessions "on" it run on the CPU, and what crosses is counted.

Belongs here: putting onnxruntime's CPU in a device's place. Torch's engine can't be stood in for: what reaches it fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest

from analyzer.executor import devices, io_binding, session

DEVICE = "cuda:0"


@dataclass
class StandIn:
    """What was asked of the device.

    Attributes
    ----------
    put
        Shape -> how many arrays of it were put there to stay.
    opened
        For each session whether TF32 was allowed.
    batches
        Lengths of the first axes of what each run was given, one per session of the device, in the order of their opening.
    """

    put: Counter[tuple[int, ...]] = field(default_factory=Counter)
    opened: list[bool] = field(default_factory=list)
    batches: dict[int, list[int]] = field(default_factory=dict)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Make ``cuda:0`` a device that models can be loaded on."""
    seen = StandIn()

    def providers(device: str, tf32: bool = False) -> list[str]:
        if device != "cpu":
            seen.opened.append(tf32)
        return ["CPUExecutionProvider"]

    def put(value: Any, device: str) -> Any:
        assert device == DEVICE
        seen.put[np.shape(value)] += 1
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), "cpu", 0)

    run = session.Session._run

    def counted(self: session.Session, names: Any, feed: Any, held: Any) -> dict[str, Any]:
        if self.device != "cpu":
            lengths = [len(value) for value in feed.values() if np.ndim(value)]
            seen.batches.setdefault(id(self), []).append(lengths[0] if lengths else 0)
        return run(self, names, feed, held)

    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    monkeypatch.setattr(devices, "_available", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(session, "providers", providers)
    monkeypatch.setattr(session, "first_provider", lambda device: "CPUExecutionProvider")
    monkeypatch.setattr(session, "prepare", lambda device: None)
    monkeypatch.setattr(session.Session, "_run", counted)
    monkeypatch.setattr(io_binding, "put", put)
    return seen
