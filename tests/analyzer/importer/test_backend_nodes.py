"""The onnx package's own backend node tests: one small model each, with inputs and expected outputs.

By default two cases per operator run; ``-m slow`` runs every case, those that onnxruntime doesn't pass included. What
falls short is named in :data:`KNOWN` with the reason.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.defs import get_all_schemas

from tests.analyzer.importer.backend_cases import node_tests
from tests.analyzer.importer.oracle import table

#: Operators that are no inference on numeric tensors, by reason.
LEFT_OUT = {
    "sequences have no place in a trace": (
        "SequenceInsert SequenceAt SequenceMap SequenceConstruct SequenceLength SequenceErase SequenceEmpty "
        "SplitToSequence ConcatFromSequence"
    ),
    "optional values have no place in a trace": "Optional OptionalGetElement OptionalHasElement",
    "text": "StringNormalizer StringConcat StringSplit RegexFullMatch TfIdfVectorizer LabelEncoder",
    "pictures from files": "ImageDecoder",
    "random numbers": ("Bernoulli RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial"),
    "training": "Adagrad Adam Momentum Gradient NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
}
OUTSIDE = {name for names in LEFT_OUT.values() for name in names.split()}

#: Cases that fall short -> why.
KNOWN = {
    name: reason
    for reason, names in {
        "float16 rounded after each operator is two units in the last place off": (
            "attention_4d_causal_fp16 attention_4d_causal_fp16_expanded"
        ),
        "onnxruntime gives other numbers, and the trace follows it": (
            "maxunpool_export_with_output_shape resize_downsample_scales_cubic_align_corners "
            "resize_downsample_scales_linear_align_corners"
        ),
        "a masked score is the lowest float, as in onnxruntime, where the case has minus infinity": (
            "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal "
            "attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal"
        ),
        "a 4-bit float as model input has no torch type": (
            "cast_FLOAT4E2M1_to_FLOAT cast_FLOAT4E2M1_to_FLOAT16 castlike_FLOAT16_to_FLOAT4E2M1 "
            "castlike_FLOAT16_to_FLOAT4E2M1_expanded castlike_FLOAT4E2M1_to_FLOAT castlike_FLOAT4E2M1_to_FLOAT16 "
            "castlike_FLOAT4E2M1_to_FLOAT16_expanded castlike_FLOAT4E2M1_to_FLOAT_expanded "
            "castlike_FLOAT_to_FLOAT4E2M1 castlike_FLOAT_to_FLOAT4E2M1_expanded "
            "dequantizelinear_float4e2m1 quantizelinear_float4e2m1"
        ),
    }.items()
    for name in (f"test_{short}" for short in names.split())
}


@dataclass(frozen=True)
class Case:
    """One case: the model, what goes in and what must come out."""

    name: str
    op: str
    model: onnx.ModelProto
    feed: dict[str, np.ndarray]
    expected: list[np.ndarray]
    rtol: float
    atol: float

    def passes(self, got: list[np.ndarray]) -> bool:
        """Whether outputs have the expected shapes and values."""
        return len(got) >= len(self.expected) and all(
            np.shape(mine) == theirs.shape
            and np.allclose(_comparable(mine), _comparable(theirs), self.rtol, self.atol, equal_nan=True)
            for mine, theirs in zip(got, self.expected, strict=False)
        )


@functools.cache
def cases() -> dict[str, Case]:
    """All numeric cases by name; they take seconds: so not while collecting."""
    found = {}
    for case in node_tests():
        nodes = case.model.graph.node
        domains = {node.domain for node in nodes} - {"", "ai.onnx"}
        if domains or OUTSIDE & {node.op_type for node in nodes} or "training" in case.name or "_train_" in case.name:
            continue
        inputs, outputs = ([_array(value) for value in values] for values in case.data_sets[0])
        if all(value is not None for value in (*inputs, *outputs)):
            feed = {given.name: value for given, value in zip(case.model.graph.input, inputs, strict=False)}
            op = nodes[0].op_type if len(nodes) == 1 else ""
            rtol, atol = max(case.rtol, 1e-3), max(case.atol, 1e-5)
            if any(value.dtype.name == "bfloat16" for value in outputs):
                rtol = 2.0**-6  # two units in the last place
            found[case.name] = Case(case.name, op, _readable(case.model, outputs), feed, outputs, rtol, atol)
    return found


def _comparable(value: np.ndarray) -> np.ndarray:
    return value if np.dtype(value.dtype).isbuiltin == 1 else value.astype(np.float32)


def _array(value: Any) -> np.ndarray | None:
    """A numeric input or output as an array; None for text, sequences and complex numbers."""
    if isinstance(value, onnx.TensorProto):
        if value.data_type == onnx.TensorProto.STRING:
            return None
        value = numpy_helper.to_array(value)
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiubV":
        return None
    return np.asarray(value)


def _readable(model: onnx.ModelProto, outputs: list[np.ndarray]) -> onnx.ModelProto:
    """The model with outputs of types that numpy lacks (bfloat16, float8, int4, ...) cast to float32."""
    if all(np.dtype(value.dtype).isbuiltin == 1 for value in outputs):
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value, output in zip(wide.graph.output, outputs, strict=True):
        if np.dtype(output.dtype).isbuiltin != 1:
            cast = onnx.helper.make_node("Cast", [value.name], [f"{value.name}_wide"], to=onnx.TensorProto.FLOAT)
            wide.graph.node.append(cast)
            value.CopyFrom(onnx.ValueInfoProto(name=f"{value.name}_wide"))
    return wide


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by operator, which costs nothing; by case only where the slow tests are asked for."""
    if "op" in metafunc.fixturenames:
        metafunc.parametrize("op", sorted({schema.name for schema in get_all_schemas() if not schema.domain} - OUTSIDE))
    if "name" in metafunc.fixturenames:
        expression = metafunc.config.option.markexpr
        wanted = not expression or "slow" in expression.replace("not slow", "")
        marked = [
            pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=KNOWN[name])) if name in KNOWN else name
            for name in (cases() if wanted else ())
        ]
        metafunc.parametrize("name", marked)


def test_two_cases_of_each_operator(op: str) -> None:
    """The operator's first and last case by name."""
    mine = [case for case in cases().values() if case.op == op and case.name not in KNOWN]
    if not mine:
        pytest.skip(f"the onnx package has no numeric case of {op}")
    for case in {mine[0].name: mine[0], mine[-1].name: mine[-1]}.values():
        assert case.passes(table(case.model, case.feed)), case.name


@pytest.mark.slow
def test_every_case(name: str) -> None:
    case = cases()[name]
    assert case.passes(table(case.model, case.feed))


def test_reasons_name_cases_that_exist() -> None:
    assert set(KNOWN) <= set(cases())
