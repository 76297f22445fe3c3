"""White-box explanations of the benchmark networks by this project, zennit and captum, as functions to call.

Belongs here: how each library is asked for the same relevance. Not here: what is measured (``rules``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.networks import Add

LOW, HIGH, TARGET = -3.0, 3.0, 7
FORWARD, GRADIENT, CAM = "forward", "gradient", "grad-cam"
ZPLUS, GAMMA, ALPHA_BETA = "z-plus (EpsilonPlus)", "gamma + box (EpsilonGammaBox)", "alpha-beta (EpsilonAlpha2Beta1)"
Case = Callable[[], np.ndarray]
Cases = dict[str, Case]


def image(batch: int) -> np.ndarray:
    """Seeded noise in the box."""
    return np.clip(np.random.default_rng(0).standard_normal((batch, 3, 224, 224)), LOW, HIGH).astype(np.float32)


def ours(path: Path, x: np.ndarray, precision: str = "float32") -> Cases:
    """This project on the ONNX file; the forward pass is the trace's, nothing kept."""
    import analyzer
    from analyzer.compiler.subject import Subject
    from analyzer.engines import protocol
    from analyzer.engines.protocol import TableSpec
    from graph_rules import composites, sweep
    from graph_rules.composite_params import CompositeParams

    weights = np.zeros((len(x), 1000))
    weights[:, TARGET] = 1.0
    model = analyzer.load(path, "cpu")
    engine = model.backends.torch(Subject({"image": x}, "logits", weights), precision, verify=False)
    traced = engine.traced
    plain = sweep.plan(traced.trace.module, (), traced.output, {})
    tensor = torch.from_numpy(x).to(getattr(torch, precision))
    params = CompositeParams(low=LOW, high=HIGH)

    def table(name: str) -> TableSpec:
        return TableSpec.of("lrp", {"composite": name}, lambda: composites.composite(name, params))

    tables = {
        GRADIENT: protocol.GRADIENT,
        ZPLUS: table("epsilon-plus"),
        GAMMA: table("epsilon-gamma-box"),
        ALPHA_BETA: table("epsilon-alpha2-beta1"),
    }
    cases: Cases = {FORWARD: lambda: sweep.forward(plain, [tensor]).value.numpy()}
    cases |= {name: (lambda spec=spec: engine.sweep(spec).relevance["image"]) for name, spec in tables.items()}

    def grad_cam() -> np.ndarray:
        found = engine.at_layer("auto")
        weights_ = found.gradients.mean(axis=(2, 3), keepdims=True)
        return np.maximum((weights_ * found.values).sum(axis=1, keepdims=True), 0)

    return cases | {CAM: grad_cam}


class ZennitAdd(nn.Module):
    """A residual sum that zennit sees."""

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.sum(torch.stack([a, b], dim=-1))  # type: ignore[no-any-return]


def zennit(net: nn.Module, x: np.ndarray) -> Cases:
    """zennit's composites on the torch network, whose sums are replaced."""
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonGammaBox, EpsilonPlus

    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, Add):
                setattr(module, name, ZennitAdd())
    tensor = torch.from_numpy(x).to(next(net.parameters()).dtype)
    seed = torch.eye(1000, dtype=tensor.dtype)[[TARGET] * len(x)]

    def run(composite: Any) -> np.ndarray:
        with Gradient(model=net, composite=composite) as attributor:
            return attributor(tensor.clone().requires_grad_(), seed)[1].numpy()  # type: ignore[no-any-return]

    return {
        ZPLUS: lambda: run(EpsilonPlus()),
        GAMMA: lambda: run(EpsilonGammaBox(low=LOW, high=HIGH)),
        ALPHA_BETA: lambda: run(EpsilonAlpha2Beta1()),
    }


def captum(net: nn.Module, x: np.ndarray) -> Cases:
    """captum's gradient on the torch network, and the network's own forward pass."""
    from captum.attr import Saliency

    method, tensor = Saliency(net), torch.from_numpy(x).to(next(net.parameters()).dtype)

    def forward() -> np.ndarray:
        with torch.no_grad():
            return net(tensor).numpy()  # type: ignore[no-any-return]

    return {
        FORWARD: forward,
        GRADIENT: lambda: method.attribute(tensor.clone().requires_grad_(), target=TARGET, abs=False).numpy(),
    }
