"""What reproduces a run of the gate.

Belongs here: the digests and versions that go into results, baselines and evidence. Not here: writing them.
"""

from __future__ import annotations

import platform
from typing import Any

from analyzer.gate.context import GateContext
from analyzer.versions import version


def record_of(gate: GateContext) -> dict[str, Any]:
    """What reproduces a run: digests of policy, models and data, seed, versions, device; the same before and after it."""
    names = ("onnxplain", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "torch")
    versions = {name: found for name in names if (found := version(name, ""))}
    reference = gate.reference
    return {
        "policy": {"sha256": gate.policy.digest},
        "model": {"path": str(gate.model.path), "sha256": gate.model.sha256},
        "reference": None if reference is None else {"path": str(reference.path), "sha256": reference.sha256},
        "data": {"path": gate.policy.data.path, "sha256": gate.dataset.digest, "inputs": len(gate.dataset)},
        "method": {"name": gate.method[0], "sha256": gate.policy.method_digest},
        "seed": gate.seed,
        "device": gate.model.device,
        "versions": {"python": platform.python_version(), **versions},
    }
