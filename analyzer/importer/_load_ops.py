"""Operators and their attributes, as far as they can be judged without shapes.

Belongs here: which operators exist, how many inputs they take, attribute values that can't be right. Not here: what
needs shapes or types: onnxruntime judges that when it makes its session.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import AttributeProto, NodeProto, OperatorSetIdProto

from analyzer.errors import InputError
from analyzer.importer._load_functions import FunctionKey, called, plain_domain
from analyzer.importer._load_text import did_you_mean, quoted

# Domains that onnxruntime implements and the onnx package has no schemas for: onnxruntime knows the names.
RUNTIME_DOMAINS = frozenset(
    {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc", "ai.onnx.training"}
)
# Experimental operators that the standard dropped with opset 10 and onnxruntime still runs below it.
LEGACY_OPERATORS = frozenset(
    {
        "Affine",
        "Crop",
        "DynamicSlice",
        "ImageScaler",
        "MeanVarianceNormalization",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
        "ThresholdedRelu",
    }
)
LEGACY_UNTIL = 9
# Made by onnxruntime's own optimizer, at any opset.
RUNTIME_OPERATORS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
# Withdrawn by the standard within a version, and run by onnxruntime all the same.
STILL_RUN = frozenset({"GroupNormalization"})
COMPILED_ENGINES = frozenset({"EPContext"})

LARGEST = 2**31 - 1
MOST_AXES = 64
# Attributes of convolutions and poolings whose every number must be at least 1.
AT_LEAST_ONE = frozenset({"group", "strides", "dilations", "kernel_shape"})
WINDOWED = frozenset(
    {
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "QLinearConv",
        "DeformConv",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "MaxUnpool",
        "Im2Col",
        "Col2Im",
        "FusedConv",
        "NhwcConv",
        "NhwcMaxPool",
        "QLinearAveragePool",
    }
)


@dataclass(frozen=True)
class Signature:
    """What an operator's schema asks of a node."""

    required: frozenset[str]
    inputs: tuple[int, int]
    outputs: tuple[int, int]


@dataclass
class Operators:
    """The operators that a model may use: its operator sets and its local functions.

    Parameters
    ----------
    versions
        Domain -> imported version.
    functions
        The model's local functions.
    """

    versions: Mapping[str, int]
    functions: Collection[FunctionKey]
    _seen: dict[tuple[str, str], Signature | None] = field(default_factory=dict)

    def check(self, node: NodeProto, label: str) -> None:
        """Check one node.

        Raises
        ------
        InputError
            ``op.unknown``, ``op.custom_domain``, ``op.unsupported``, ``op.bad_inputs``, ``op.bad_attribute``.
        """
        if self.functions and called(node) in self.functions:
            return
        key = (plain_domain(node.domain), node.op_type)
        if key not in self._seen:
            self._seen[key] = self._signature(*key, label)
        signature = self._seen[key]
        if signature is not None:
            _check_signature(node, signature, label)
        for attribute in node.attribute:
            _check_attribute(node.op_type, attribute, label)

    def _signature(self, domain: str, op_type: str, label: str) -> Signature | None:
        if op_type in COMPILED_ENGINES:
            raise InputError(
                "op.unsupported",
                f"{label} holds an engine compiled for one device",
                "give the model it was compiled from",
            )
        if domain in RUNTIME_DOMAINS:
            return None
        if domain not in schema_names():
            raise InputError(
                "op.custom_domain",
                f"{label} is of the domain {quoted(domain)}, which neither the model nor onnxruntime defines",
                "export it with standard operators, or with the function's body in the model",
            )
        version = self.versions.get(domain, newest_version(domain))
        if signature := schema_signature(domain, op_type, version):
            return signature
        legacy = op_type in RUNTIME_OPERATORS or (op_type in LEGACY_OPERATORS and version <= LEGACY_UNTIL)
        if not domain and legacy:
            return None
        raise _unknown(domain, op_type, version, label)


def imported_versions(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> version of operator sets, ``ai.onnx`` written as ""; of two versions the last."""
    return {plain_domain(entry.domain): entry.version for entry in imports}


@functools.cache
def schema_names() -> Mapping[str, Mapping[str, int]]:
    """Domain -> operators that the installed onnx package knows, at any version -> the newest one's version."""
    names: dict[str, dict[str, int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        known = names.setdefault(schema.domain, {})
        known[schema.name] = max(known.get(schema.name, 0), schema.since_version)
    return names


@functools.cache
def newest_version(domain: str) -> int:
    """The newest version of a domain's operator set that the installed onnx package knows; 1 for unknown domains."""
    released = onnx.defs.onnx_opset_version() if not domain else 1
    return max([released, *schema_names().get(domain, {}).values()])


@functools.cache
def schema_signature(domain: str, op_type: str, version: int) -> Signature | None:
    """The signature of an operator in a version of its operator set; None where that has none, or none any more."""
    if op_type not in schema_names().get(domain, ()):
        return None
    try:
        schema = onnx.defs.get_schema(op_type, min(version, LARGEST), domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated and op_type not in STILL_RUN:
        return None
    required = frozenset(name for name, entry in schema.attributes.items() if entry.required)
    return Signature(required, (schema.min_input, schema.max_input), (schema.min_output, schema.max_output))


def takes_text(domain: str, op_type: str, version: int, position: int) -> bool:
    """Whether an operator's input may hold strings; true where the onnx package has no schema that says."""
    if schema_signature(domain, op_type, version) is None:
        return True
    inputs = onnx.defs.get_schema(op_type, min(version, LARGEST), domain).inputs
    return "tensor(string)" in inputs[min(position, len(inputs) - 1)].types


def _unknown(domain: str, op_type: str, version: int, label: str) -> InputError:
    set_name = f"{quoted(domain)[1:-1] or 'ai.onnx'} {version}"
    if op_type not in schema_names()[domain]:
        near = did_you_mean(op_type, schema_names()[domain])
        return InputError("op.unknown", f"{label}: no operator set of ONNX has it", near or "re-export the model")
    first = min(
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == domain and schema.name == op_type
    )
    if first > version:
        why = f"the operator came with version {first}, the model imports {set_name}"
    else:
        why = f"the operator is no longer part of {set_name}, which the model imports"
    return InputError("op.unknown", f"{label}: {why}", "convert the model with onnx.version_converter or re-export it")


def _check_signature(node: NodeProto, signature: Signature, label: str) -> None:
    for what, count, (least, most) in (
        ("inputs", len(node.input), signature.inputs),
        ("outputs", len(node.output), signature.outputs),
    ):
        if not least <= count <= most:
            allowed = str(least) if least == most else f"{least} to {most}" if most < LARGEST else f"at least {least}"
            raise InputError(
                "op.bad_inputs", f"{label} has {count} {what}, the operator has {allowed}", "re-export the model"
            )
    if signature.required:
        missing = signature.required - {attribute.name for attribute in node.attribute}
        if missing:
            raise InputError(
                "op.bad_attribute",
                f"{label} lacks the attribute {quoted(min(missing))}",
                "re-export the model",
            )


def _check_attribute(op_type: str, attribute: AttributeProto, label: str) -> None:
    name = attribute.name
    if name in AT_LEAST_ONE and op_type in WINDOWED:
        numbers = [attribute.i] if attribute.type == AttributeProto.INT else list(attribute.ints[:MOST_AXES])
        for number in numbers:
            if number < 1 and not attribute.ref_attr_name:
                raise _bad_attribute(label, name, number, "must be at least 1")
            if number > LARGEST:
                raise _bad_attribute(label, name, number, f"must be at most {LARGEST}")
    elif name == "pads" and op_type in WINDOWED:
        for number in attribute.ints[: 2 * MOST_AXES]:
            if abs(number) > LARGEST:
                raise _bad_attribute(label, name, number, f"must be at most {LARGEST}")
    elif name == "axis" or name == "axes":
        numbers = [attribute.i] if attribute.type == AttributeProto.INT else list(attribute.ints[:MOST_AXES])
        for number in numbers:
            if not -MOST_AXES <= number < MOST_AXES:
                raise _bad_attribute(label, name, number, "no tensor has so many axes")


def _bad_attribute(label: str, name: str, number: int, why: str) -> InputError:
    return InputError("op.bad_attribute", f"{label} has {name} {number}: {why}", "re-export the model")
