"""White-box explanations beside zennit and captum: process CPU time as multiples of one forward pass.

All cases of a network take turns in one process on one thread; each figure is the median of the rounds' ratios. Results are
held against each other before anything is timed.

    python -m benchmarks.rules [--rounds 5] [--batch 1] [--network vgg16]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import analyzer
from analyzer.methods.whitebox import Engine
from benchmarks.networks import Add, export, folded
from graph_rules import composites
from graph_rules.sweep import forward

RESULTS = Path(__file__).parent / "results"
LOW, HIGH = -3.0, 3.0


def ours(path: Path, x: np.ndarray, target: int) -> tuple[dict[str, Callable[[], np.ndarray]], Callable[[], Any]]:
    """Our cases, and one plain forward pass of the trace."""
    from graph_rules.cam import last_feature_map

    model = analyzer.load(path, "cpu")
    weights = np.zeros((len(x), 1000))
    weights[:, target] = 1.0
    engine = Engine.on(model, {"image": x}, "logits", weights, "float32")
    settings = composites.Settings(low=LOW, high=HIGH)
    tables = {
        "gradient": composites.GRADIENT,
        "z-plus (EpsilonPlus)": composites.composite("epsilon-plus", settings),
        "gamma + box (EpsilonGammaBox)": composites.composite("epsilon-gamma-box", settings),
        "alpha-beta (EpsilonAlpha2Beta1)": composites.composite("epsilon-alpha2-beta1", settings),
    }
    cases: dict[str, Callable[[], np.ndarray]] = {
        name: (lambda table=table: engine.sweep(table).relevance["image"]) for name, table in tables.items()
    }
    layer = last_feature_map(engine.output, tuple(s.node for s in engine.sources))

    def grad_cam() -> np.ndarray:
        swept = engine.sweep(composites.GRADIENT, at=[("layer", layer)])
        weights_ = swept.relevance["layer"].mean(axis=(2, 3), keepdims=True)
        return np.maximum((weights_ * swept.values["layer"]).sum(axis=1, keepdims=True), 0)

    cases["grad-cam"] = grad_cam
    bare = engine._plan(composites.RuleTable("none", {"*": composites.r.Pass()}), (engine.sources[0].node,))
    tensor = torch.from_numpy(x)
    return cases, lambda: forward(bare, [tensor])


class ZennitAdd(nn.Module):
    """A residual sum that zennit sees."""

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.sum(torch.stack([a, b], dim=-1))  # type: ignore[no-any-return]


def zennit(net: nn.Module, x: np.ndarray, target: int) -> dict[str, Callable[[], np.ndarray]]:
    """zennit's composites on the torch network."""
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonGammaBox, EpsilonPlus

    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, Add):
                setattr(module, name, ZennitAdd())
    tensor, seed = torch.from_numpy(x), torch.eye(1000)[[target] * len(x)]

    def run(composite: Any) -> np.ndarray:
        with Gradient(model=net, composite=composite) as attributor:
            return attributor(tensor.clone().requires_grad_(), seed)[1].numpy()  # type: ignore[no-any-return]

    return {
        "z-plus (EpsilonPlus)": lambda: run(EpsilonPlus()),
        "gamma + box (EpsilonGammaBox)": lambda: run(EpsilonGammaBox(low=LOW, high=HIGH)),
        "alpha-beta (EpsilonAlpha2Beta1)": lambda: run(EpsilonAlpha2Beta1()),
    }


def captum(net: nn.Module, x: np.ndarray, target: int) -> dict[str, Callable[[], np.ndarray]]:
    """captum's gradient on the torch network."""
    from captum.attr import Saliency

    method, tensor = Saliency(net), torch.from_numpy(x)
    return {
        "gradient": lambda: method.attribute(tensor.clone().requires_grad_(), target=target, abs=False).numpy(),
    }


def measure(name: str, batch: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """All cases of one network."""
    path, net = export(name, folder)
    net = folded(net)
    x = np.clip(np.random.default_rng(0).standard_normal((batch, 3, 224, 224)), LOW, HIGH).astype(np.float32)
    target = 7
    mine, bare = ours(path, x, target)
    theirs = captum(net, x, target)  # before zennit's sums go in
    peers = {k: ("captum", f) for k, f in theirs.items()} | {
        k: ("zennit", f) for k, f in zennit(net, x, target).items()
    }
    errors = {}
    for label, (_, function) in peers.items():
        reference = function()
        errors[label] = float(np.abs(mine[label]() - reference).max() / np.abs(reference).max())
    cases: dict[tuple[str, str], Callable[[], Any]] = {("forward", "ours"): bare}
    cases |= {(label, "ours"): f for label, f in mine.items()}
    cases |= {(label, who): f for label, (who, f) in peers.items()}
    for function in cases.values():
        function()
    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in cases}
    for _ in range(rounds):
        taken = {}
        for key, function in cases.items():
            start = time.process_time()
            function()
            taken[key] = time.process_time() - start
        for key, seconds in taken.items():
            ratios[key].append(seconds / taken["forward", "ours"])
    rows = []
    for label in mine:
        own = statistics.median(ratios[label, "ours"])
        who = peers[label][0] if label in peers else ""
        other = statistics.median(ratios[label, who]) if who else None
        speedup = statistics.median(
            b / a for a, b in zip(ratios[label, "ours"], ratios[label, who], strict=True)
        ) if who else None  # fmt: skip
        rows.append({"network": name, "batch": batch, "case": label, "forwards": own, "peer": who, "peer_forwards": other,
                     "times_faster": speedup, "difference": errors.get(label)})  # fmt: skip
    return rows


def main() -> None:
    """Measure and write ``results/rules.{json,md}``."""
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--rounds", type=int, default=5)
    cli.add_argument("--batch", type=int, action="append")
    cli.add_argument("--network", action="append")
    args = cli.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from analyzer.importer import second_source

    second_source.available()  # lets zennit import torchvision beside a CPU-only torch
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.network or ["vgg16", "resnet50"]:
            for batch in args.batch or [1, 8]:
                rows += measure(name, batch, args.rounds, Path(folder))
    lines = [
        "| network | batch | case | forwards | peer | peer's forwards | times faster | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = (
            f"{row['peer']} | {row['peer_forwards']:.2f} | {row['times_faster']:.2f} | {row['difference']:.0e}"
            if row["peer"]
            else "| | |"
        )
        lines.append(f"| {row['network']} | {row['batch']} | {row['case']} | {row['forwards']:.2f} | {peer} |")
    text = f"Process CPU time on one thread, multiples of one forward pass of our trace, medians of {args.rounds} rounds\n\n"
    text += "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rules.json").write_text(json.dumps(rows, indent=2) + "\n")
    (RESULTS / "rules.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
