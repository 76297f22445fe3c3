"""What becomes of a model that is explained and compiled: compiled, refused in words, or failed.

Belongs here: trying one model. Not here: which models are tried, what is demanded of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

import analyzer
from tests.kinks import equal_up_to_flips

METHODS: dict[str, dict[str, Any]] = {"gradient": {}, "lrp": {"composite": "epsilon-plus"}}
TOLERANCE = 1e-4
Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What became of one method on one model.

    Attributes
    ----------
    kind
        ``ok``; ``refused``, an error for users; ``failed``, another exception or other numbers; ``unexplained``, torch explains
        it no more than a file does.
    """

    name: str
    method: str
    kind: str
    says: str = ""

    def __str__(self) -> str:
        return f"{self.kind:11} {self.name} {self.method}: {self.says}"


def outcomes(name: str, make: Callable[[], tuple[Any, Feed]]) -> list[Outcome]:
    """All methods on a model; ``make`` gives it, as a file or its bytes, and its inputs."""
    try:
        content, feed = make()
        model = analyzer.load(content, device="cpu", threads=1)
        feed = {key: feed[key] for key in model.inputs if key in feed}
    except Exception as problem:
        return [Outcome(name, method, "unexplained", f"{type(problem).__name__}: {problem}") for method in METHODS]
    return [outcome(name, model, feed, method) for method in METHODS]


def outcome(name: str, model: analyzer.Model, feed: Feed, method: str) -> Outcome:
    """One method on a loaded model."""

    def explained() -> dict[str, np.ndarray]:
        found = model.explain(feed, method=method, backend="torch", **METHODS[method])
        return {key: np.asarray(value) for key, value in found.raws.items()}

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            want = explained()
        except Exception as problem:
            return Outcome(name, method, "unexplained", f"{type(problem).__name__}: {problem}")
        try:
            compiled = analyzer.compile(model, method, example=feed, verify=False, **METHODS[method])
            got = run(compiled, feed)
            return Outcome(name, method, "ok", str(equal_up_to_flips(got, want, explained, TOLERANCE, name)))
        except analyzer.AnalyzerError as problem:
            return Outcome(name, method, "refused", str(problem))
        except AssertionError as problem:
            return Outcome(name, method, "failed", f"{problem}")
        except Exception as problem:
            return Outcome(name, method, "failed", f"{type(problem).__name__}: {problem}")


def run(compiled: analyzer.Compiled, feed: Feed) -> dict[str, np.ndarray]:
    """The relevances of a compiled explanation, by input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(compiled.proto.SerializeToString(), options, ["CPUExecutionProvider"])
    read = {value.name for value in session.get_inputs()}
    names = list(compiled.relevances)
    found = session.run([compiled.relevances[key] for key in names], {k: v for k, v in feed.items() if k in read})
    return dict(zip(names, found, strict=True))
