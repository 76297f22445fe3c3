"""Passes over a trace: small rewrites that keep the values and make rules see the layers that they are written for.

Belongs here: the passes in their order, running them. Not here: the rewrites (``activations``, ``folding``, ``fusion``,
``rejoining``), what a pass reports (``rewriting``), and anything that changes what the model computes; every pass keeps the
trace equal to onnxruntime, and tests hold it to that.
"""

from __future__ import annotations

import torch
from torch import fx

from analyzer.importer import activations, folding
from analyzer.importer.column_embeddings import join_columns
from analyzer.importer.fusion import fuse_layer_norm, fuse_softmax
from analyzer.importer.rejoining import rejoin
from analyzer.importer.rewriting import Pass, PassResult, Refusal, Refused

aten = torch.ops.aten

PASSES = (
    Pass("rejoin normalised parts", (aten.cat.default,), rejoin),
    Pass("recognise activations", activations.ENDS, activations.recognise),
    Pass("fold constants", (*folding.BATCH_NORMS, *folding.CONSTANTS), folding.fold),
    Pass("fuse layer normalisation", (aten.div.Tensor, aten.mul.Tensor), fuse_layer_norm),
    Pass("fuse softmax", (aten.div.Tensor,), fuse_softmax),
    Pass("join columns", (), join_columns),
)


def run_passes(module: fx.GraphModule) -> tuple[dict[fx.Node, fx.Node], tuple[PassResult, ...]]:
    """Run all passes in place; gives replaced node -> its replacement, and what each pass did."""
    renamed: dict[fx.Node, fx.Node] = {}
    results = tuple(_run(each, module, renamed) for each in PASSES)
    module.graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    for label in [name for name, _ in module.named_buffers() if name not in read]:
        delattr(module, label)
    module.recompile()
    for node in renamed:
        while renamed[node] in renamed:
            renamed[node] = renamed[renamed[node]]
    return renamed, results


def _run(each: Pass, module: fx.GraphModule, renamed: dict[fx.Node, fx.Node]) -> PassResult:
    changes: list[str] = []
    refused: list[Refused] = []
    for node in list(module.graph.nodes):
        if node._erased or not each.starts_at(node):
            continue
        outcome = each.rewrite(module, node)
        if isinstance(outcome, Refusal):
            refused.append(Refused(node.meta.get("onnx", ""), outcome.reason))
        elif outcome is not None:
            if outcome.replacement is not outcome.replaced:
                renamed[outcome.replaced] = outcome.replacement
            changes.append(outcome.change)
    return PassResult(each.name, tuple(changes), tuple(refused))
