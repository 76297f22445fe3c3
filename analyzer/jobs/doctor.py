"""What this installation can do: versions, providers, devices, and a small end-to-end check.

Belongs here: facts about the machine. Not here: printing it (``cli``).
"""

from __future__ import annotations

import os
import platform
from typing import Any

from analyzer.versions import version

_PACKAGES = (
    "onnxplain", "onnx", "onnxruntime-gpu", "onnxruntime", "onnx2torch", "torch", "torchvision", "numpy", "pillow",
    "scikit-image", "scikit-learn", "matplotlib",
)  # fmt: skip


def diagnose() -> dict[str, Any]:
    """Versions, providers, devices, and the checks' results (``ok`` or the error). Imports everything."""
    import onnxruntime

    from analyzer.executor import devices

    return {
        "versions": {name: version(name, "not installed") for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "providers": list(onnxruntime.get_available_providers()),
        "cuda_devices": devices.cuda_devices(),
        "device": devices.resolve("auto"),
        "checks": {"perturbation (onnxruntime)": _try("occlusion"), "white box (torch)": _try("gradient")},
    }


def _try(method: str) -> str:
    """Explain a two-weight model; its attribution is known."""
    import numpy as np
    import onnx

    from analyzer.errors import AnalyzerError
    from analyzer.model import load

    weight = onnx.numpy_helper.from_array(np.array([[2.0, 0.0], [-3.0, 0.0]], np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "check",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])], [weight],
    )  # fmt: skip
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    try:
        found = load(proto).explain(np.ones((1, 2), np.float32), method=method, target=0).attribution
    except Exception as problem:  # any error is a result of the check
        return str(problem) if isinstance(problem, AnalyzerError) else f"{type(problem).__name__}: {problem}"
    return "ok" if np.allclose(found, [[2.0, -3.0]], atol=1e-6) else f"wrong result {found.tolist()}"
