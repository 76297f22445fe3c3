"""onnxplain's public API: explain any model that can be exported to ONNX.

Everything public is named here; importing this package loads neither torch nor onnxruntime, and turns off the latter's
telemetry unless ``ORT_DISABLE_TELEMETRY`` is set.

>>> import analyzer
>>> model = analyzer.load("squeezenet.onnx")
>>> e = model.explain(x, method="lrp", composite="epsilon-plus", target=281)
>>> e.save("cat.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from analyzer.errors import (
    AnalyzerError,
    InconclusiveError,
    InputError,
    ParityError,
    UnsupportedError,
    UsageError,
)
from analyzer.telemetry import turn_off as _turn_off_telemetry

if TYPE_CHECKING:
    from analyzer.evaluation.agreement import Comparison
    from analyzer.evaluation.comparison import compare
    from analyzer.evaluation.evaluate import evaluate
    from analyzer.evaluation.measure import Evaluation
    from analyzer.evaluation.registry import MetricInfo, metrics
    from analyzer.explanation import Completeness, Explanation
    from analyzer.export.compile import Compiled, compile  # noqa: A004
    from analyzer.gate.outcome import CheckResult, GateResult
    from analyzer.gate.run import run_gate
    from analyzer.importer.parity import Parity
    from analyzer.jobs.rule_assignment import RuleRow, rules
    from analyzer.methods.parameters import Parameter
    from analyzer.methods.registry import MethodInfo, methods  # the package is callable and stands for it
    from analyzer.model import Model, load
    from analyzer.tensor_spec import TensorSpec

_turn_off_telemetry()

#: The installed package's, "unknown" where its metadata is missing.
__version__: str

_PUBLIC = {
    "compile": "analyzer.export.compile",
    "Compiled": "analyzer.export.compile",
    "compare": "analyzer.evaluation.comparison",
    "Comparison": "analyzer.evaluation.agreement",
    "evaluate": "analyzer.evaluation.evaluate",
    "Evaluation": "analyzer.evaluation.measure",
    "metrics": "analyzer.evaluation.registry",
    "MetricInfo": "analyzer.evaluation.registry",
    "run_gate": "analyzer.gate.run",
    "GateResult": "analyzer.gate.outcome",
    "CheckResult": "analyzer.gate.outcome",
    "load": "analyzer.model",
    "Model": "analyzer.model",
    "TensorSpec": "analyzer.tensor_spec",
    "Explanation": "analyzer.explanation",
    "Completeness": "analyzer.explanation",
    "Parity": "analyzer.importer.parity",
    "RuleRow": "analyzer.jobs.rule_assignment",
    "rules": "analyzer.jobs.rule_assignment",
    "MethodInfo": "analyzer.methods.registry",
    "Parameter": "analyzer.methods.parameters",
}

__all__ = [
    "AnalyzerError",
    "CheckResult",
    "Comparison",
    "Compiled",
    "Completeness",
    "Evaluation",
    "Explanation",
    "GateResult",
    "InconclusiveError",
    "InputError",
    "MethodInfo",
    "MetricInfo",
    "Model",
    "Parameter",
    "Parity",
    "ParityError",
    "RuleRow",
    "TensorSpec",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "compare",
    "compile",
    "evaluate",
    "load",
    "methods",
    "metrics",
    "rules",
    "run_gate",
]


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives, on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name == "__version__":
        return importlib.import_module("analyzer.versions").version("onnxplain")
    if name == "methods":  # the package, which is callable
        return importlib.import_module("analyzer.methods")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
