"""Cases of known truth for the checks of one model's explanations: the sample classifier, and faults in it or its maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import analyzer
from analyzer.explanation import Result
from analyzer.importer import table
from analyzer.importer.table import operator
from analyzer.methods import registry
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method
from benchmarks.gate import ROOT, Case

PATH = ROOT / "models" / "shapes_cnn.onnx"
LRP = {"method": "lrp", "preset": "epsilon-gamma-box"}


def shapes() -> analyzer.Model:
    """The sample classifier."""
    return analyzer.load(PATH, "cpu", threads=1)


# faults of models -------------------------------------------------------------------------------------------------------------


def _edited(edit: Callable[[onnx.GraphProto], None], **domains: int) -> analyzer.Model:
    proto = onnx.load(PATH)
    edit(proto.graph)
    for domain, version in domains.items():
        proto.opset_import.append(helper.make_opsetid(f"com.{domain}", version))
    return analyzer.load(proto, "cpu", threads=1, preprocess=str(PATH.with_suffix(".preprocess.toml")))


def _behind(graph: onnx.GraphProto, nodes: Callable[[str, str], list[onnx.NodeProto]], **constants: float) -> None:
    """Put nodes between the last layer and the output: from (what comes in, what must come out)."""
    output = graph.output[0].name
    last = next(node for node in graph.node if output in node.output)
    last.output[0] = "before"
    graph.node.extend(nodes("before", output))
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())


def misread() -> analyzer.Model:
    """Through an operator that the trace takes for a thousandth more than it is."""

    def edit(graph: onnx.GraphProto) -> None:
        _behind(graph, lambda a, b: [helper.make_node("SampleOp", [a], [b], name="strange", domain="com.microsoft")])

    return _edited(edit, microsoft=1)


@contextmanager
def misreading() -> Iterator[None]:
    """The operator's wrong function."""

    @operator("SampleOp", domain="com.microsoft")
    def sample_op(node: Any, x: Any) -> Any:
        return x * 1.001

    try:
        yield
    finally:
        del table._TABLE["com.microsoft", "SampleOp"]


def noisy() -> analyzer.Model:
    """Scores with random numbers of a ten-thousandth added."""
    return _edited(
        lambda graph: _behind(
            graph,
            lambda a, b: [
                helper.make_node("RandomNormalLike", [a], ["noise"], name="noise"),
                helper.make_node("Mul", ["noise", "little"], ["faint"], name="faint"),
                helper.make_node("Add", [a, "faint"], [b], name="sum"),
            ],
            little=1e-4,
        )
    )


def overflowing() -> analyzer.Model:
    """A value that overflows where the largest score is above 3.4, and whose sigmoid is added to the scores."""
    return _edited(
        lambda graph: _behind(
            graph,
            lambda a, b: [
                helper.make_node("Mul", [a, "large"], ["far"], name="far"),
                helper.make_node("Sigmoid", ["far"], ["step"], name="step"),
                helper.make_node("Add", [a, "step"], [b], name="sum"),
            ],
            large=1e38,
        )
    )


def rippled() -> analyzer.Model:
    """Pixels with ripples of a thousandth: the same answers, and a gradient that jumps under noise that nobody sees."""

    def edit(graph: onnx.GraphProto) -> None:
        name = graph.input[0].name
        for node in graph.node:
            node.input[:] = ["rippled" if each == name else each for each in node.input]
        nodes = [
            helper.make_node("Mul", [name, "often"], ["angle"], name="angle"),
            helper.make_node("Sin", ["angle"], ["wave"], name="wave"),
            helper.make_node("Mul", ["wave", "little"], ["ripple"], name="ripple"),
            helper.make_node("Add", [name, "ripple"], ["rippled"], name="rippled"),
        ]
        for node in reversed(nodes):
            graph.node.insert(0, node)
        constants = {"often": 1e4, "little": 1e-3}
        graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for n, v in constants.items())

    return _edited(edit)


# faults of explanations -------------------------------------------------------------------------------------------------------


def _method(name: str, maps: Callable[[Any], Any], promises: bool = False) -> Callable[[], Any]:
    @contextmanager
    def registered() -> Iterator[None]:
        def run(context: Any) -> Result:
            """A map with a planted fault."""
            found = maps(context)
            return per_input(context, found, completeness=context.complete(found, context.score) if promises else None)

        run.__annotations__ = {}
        method(name, "gradient", source="nowhere", complete=promises)(run)
        try:
            yield
        finally:
            del registry._METHODS[name]

    return registered


def _gradient_x_input(context: Any) -> Any:
    found = context.engine.gradient().relevance
    return {name: value * context.inputs[name] for name, value in found.items()}


def _edges(context: Any) -> Any:
    from scipy.ndimage import sobel

    return {n: np.hypot(sobel(v, 2), sobel(v, 3)).astype(np.float32) for n, v in context.inputs.items()}


def _chance(context: Any) -> Any:
    drawn = np.random.default_rng([int(value.sum() * 1e3) for value in context.inputs.values()])
    return {n: drawn.standard_normal(v.shape).astype(np.float32) for n, v in context.inputs.items()}


promising = _method("promising", _gradient_x_input, promises=True)
edges = _method("edges", _edges)
chance = _method("chance", _chance)
reversed_ = _method("reversed", lambda context: {n: -v for n, v in _gradient_x_input(context).items()})
inputs_alone = _method("inputs-alone", lambda context: {n: np.abs(v - 0.5) for n, v in context.inputs.items()})

PARITY = {"kind": "output_parity", "rtol": 1e-4, "atol": 1e-5, "stat": "max", "layerwise": True}
DETERMINISM = {
    "kind": "determinism",
    "repeats": 2,
    "vary": ["threads", "batch"],
    "atol": 1e-6,
    "explanation_spearman": 0.9999,
}
FINITE = {"kind": "finite"}
CONSERVATION = {"kind": "conservation", "max_rel_error": 0.05, "max_abs_over_output": 10.0, "mostly": 0.95}
CONTINUITY = {"kind": "continuity", "radius_px": 2, "samples": 3, "stat": "p95", "max": 1.0}
FLIPPING = {"kind": "pixel_flipping", "steps": 4, "baseline": ["blur", "mean"], "min_margin": 0.05, "mostly": 0.8}
MPRT = {"kind": "mprt", "variant": "efficient", "max_spearman": 0.5, "min_entropy_rise": 0.0, "draws": 1}
LOGIT = {"kind": "random_logit", "max_similarity": 0.9}
_GOOD = "shapes_cnn, lrp epsilon-gamma-box"

CASES = [
    *(
        Case(f"{check['kind']}.good", True, _GOOD, check, shapes, LRP)
        for check in (PARITY, DETERMINISM, FINITE, CONSERVATION, CONTINUITY, FLIPPING, MPRT, LOGIT)
    ),
    Case("output_parity.bad", False, "an operator that the trace takes for 1.001 times itself", PARITY, misread, LRP,
         within=misreading),
    Case("determinism.bad", False, "random numbers of 1e-4 added to the scores", DETERMINISM, noisy, LRP),
    Case("finite.bad", False, "an overflow behind a sigmoid", FINITE, overflowing, LRP),
    Case("conservation.bad", False, "gradient × input that promises the score", CONSERVATION, shapes, {"method": "promising"},
         within=promising),
    Case("conservation.cancelling", False, "lrp epsilon, whose parts cancel", CONSERVATION, shapes,
         {"method": "lrp", "preset": "epsilon"}),
    Case("continuity.bad", False, "ripples of 1e-3 on the pixels, gradient", CONTINUITY, rippled, {"method": "gradient"}),
    Case("pixel_flipping.edges", False, "an edge filter", FLIPPING, shapes, {"method": "edges"}, within=edges),
    Case("pixel_flipping.random", False, "a map of chance", FLIPPING, shapes, {"method": "chance"}, within=chance),
    Case("pixel_flipping.reversed", False, "gradient × input reversed", FLIPPING, shapes, {"method": "reversed"},
         within=reversed_),
    Case("mprt.bad", False, "a map of the input alone", MPRT, shapes, {"method": "inputs-alone"},
         within=inputs_alone),
    Case("random_logit.bad", False, "guided backpropagation", LOGIT, shapes, {"method": "guided-backprop"}),
]  # fmt: skip
