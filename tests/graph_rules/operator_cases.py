"""Small models of operators that the onnx package has no node test for, or none with a derivative.

Belongs here: one model per operator and form, and why an operator has none. Not here: assertions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.analyzer.importer.oracle import node_model

Feed = dict[str, np.ndarray]
Form = tuple[onnx.ModelProto, Feed]
MS, ML, NCHWC = "com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc"
_DRAW = np.random.default_rng(0)


def f32(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Numbers of both signs."""
    return (_DRAW.normal(size=shape) * scale).astype(np.float32)


def i32(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def i64(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def numbers(*shape: int) -> list[float]:
    """The same as a list, for attributes."""
    return [float(v) for v in f32(*shape).reshape(-1)]


def standard(op: str, feed: Feed, outputs: int = 1, opset: int = 21, baked: str = "", **attributes: Any) -> Form:
    """One node of the standard domain; every array is an input but the one that is baked in."""
    model = node_model(op, feed, outputs, opset, initializers=(baked,) if baked else (), **attributes)
    return model, {k: v for k, v in feed.items() if k != baked}


def microsoft(op: str, inputs: dict[str, np.ndarray | None], outputs: int = 1, **attributes: Any) -> Form:
    """One node of onnxruntime's domain; None leaves an input out."""
    feed = {k: v for k, v in inputs.items() if v is not None}
    model = node_model(op, feed, outputs, 21, MS, (), {MS: 1}, **attributes)
    del model.graph.node[0].input[:]
    model.graph.node[0].input.extend(k if v is not None else "" for k, v in inputs.items())
    return model, feed


def learned(op: str, feed: Feed, outputs: int = 1, since: int = 3, **attributes: Any) -> Form:
    """One node of the domain of classical models."""
    model = node_model(op, feed, outputs, 17, ML, (), {ML: since}, **attributes)
    model.ir_version = 8
    return model, feed


def blocked(op: str, feed: Feed, **attributes: Any) -> Form:
    """One node on blocked channels; weights are baked in."""
    baked = tuple(name for name in feed if name != "x")
    model = node_model(op, feed, 1, 17, NCHWC, baked, {NCHWC: 1}, **attributes)
    model.ir_version = 8
    return model, {"x": feed["x"]}


def branching() -> Form:
    """If: the branch that the condition takes."""
    out = [onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [2, 3])]
    branches = {
        name: onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], ["b"])], name, [], out)
        for name, op in (("then_branch", "Tanh"), ("else_branch", "Sigmoid"))
    }
    node = onnx.helper.make_node("If", ["c"], ["y0"], **branches)
    feed = {"x": f32(2, 3), "c": np.array(True)}
    given = [
        onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feed.items()
    ]
    result = [onnx.helper.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, [2, 3])]
    graph = onnx.helper.make_graph([node], "g", given, result)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), feed


BLOCKED = f32(1, 64, 4, 4)  # a multiple of every processor's block
X, W = f32(2, 4, 6, 6), f32(8, 4, 3, 3, scale=0.3)
IMAGE = f32(1, 3, 6, 7)
LAST = X.transpose(0, 2, 3, 1).copy()
ROWS = f32(5, 4)
ROIS = np.array([[0, 0, 0, 4, 4], [1, 1, 2, 5, 5]], np.float32)
SEQUENCE = f32(2, 5, 8)
HEADS = {"q": f32(2, 5, 8), "k": f32(2, 5, 8), "v": f32(2, 5, 8)}
KERNELS = {"LINEAR": [0.0, 0.0, 3.0], "POLY": [0.3, 0.5, 3.0], "RBF": [0.2, 0.0, 3.0], "SIGMOID": [0.1, 0.2, 3.0]}
GROUPED = {
    "q": f32(2, 5, 64), "k": f32(2, 5, 32), "v": f32(2, 5, 32), "pk": None, "pv": None, "last": i32(4, 4),
    "total": np.array(5, np.int32), "cos": f32(8, 8), "sin": f32(8, 8),
}  # fmt: skip
PACKED = {
    "a": f32(2, 3, 32), "b": _DRAW.integers(0, 256, (8, 2, 8)).astype(np.uint8), "s": np.abs(f32(8, 2)) * 0.1,
}  # fmt: skip

#: (domain, operator) -> its forms.
FORMS: dict[tuple[str, str], list[Form]] = {
    ("", "Affine"): [standard("Affine", {"x": IMAGE}, opset=7, alpha=2.0, beta=-1.0)],
    ("", "Cast"): [standard("Cast", {"x": f32(2, 3)}, to=onnx.TensorProto.DOUBLE)],
    ("", "CastLike"): [standard("CastLike", {"x": f32(2, 3), "like": np.array([1.0])}, baked="like")],
    ("", "Crop"): [standard("Crop", {"x": IMAGE}, opset=7, border=[1, 2, 1, 1])],
    ("", "ImageScaler"): [standard("ImageScaler", {"x": IMAGE}, opset=7, scale=0.5, bias=[1.0, 2.0, 3.0])],
    ("", "ParametricSoftplus"): [standard("ParametricSoftplus", {"x": IMAGE}, opset=7, alpha=2.0, beta=0.5)],
    ("", "Scale"): [standard("Scale", {"x": IMAGE}, opset=7, scale=3.0)],
    ("", "ScaledTanh"): [standard("ScaledTanh", {"x": IMAGE}, opset=7, alpha=2.0, beta=0.5)],
    ("", "GlobalLpPool"): [standard("GlobalLpPool", {"x": IMAGE}, p=p) for p in (1, 2, 3)],
    ("", "MaxRoiPool"): [standard("MaxRoiPool", {"x": X, "r": ROIS}, baked="r", pooled_shape=[2, 2])],
    ("", "SimplifiedLayerNormalization"): [standard("SimplifiedLayerNormalization", {"x": SEQUENCE, "g": f32(8)})],
    ("", "Trilu"): [standard("Trilu", {"x": f32(4, 5), "k": np.array(1)}), standard("Trilu", {"x": f32(4, 5)}, upper=0)],
    ("", "If"): [branching()],
    (NCHWC, "ReorderInput"): [blocked("ReorderInput", {"x": BLOCKED})],
    (NCHWC, "ReorderOutput"): [blocked("ReorderOutput", {"x": BLOCKED}, channels=50)],
    (NCHWC, "Conv"): [blocked("Conv", {"x": BLOCKED, "w": f32(64, 64, 3, 3, scale=0.1), "b": f32(64)}, activation="Relu")],
    (NCHWC, "MaxPool"): [blocked("MaxPool", {"x": BLOCKED}, kernel_shape=[2, 2], strides=[2, 2])],
    (NCHWC, "AveragePool"): [blocked("AveragePool", {"x": BLOCKED}, kernel_shape=[2, 2], strides=[1, 1])],
    (NCHWC, "GlobalMaxPool"): [blocked("GlobalMaxPool", {"x": BLOCKED})],
    (NCHWC, "GlobalAveragePool"): [blocked("GlobalAveragePool", {"x": BLOCKED})],
    (NCHWC, "Upsample"): [blocked("Upsample", {"x": BLOCKED}, scales=[1, 1, 2, 2])],
    (ML, "ArrayFeatureExtractor"): [learned("ArrayFeatureExtractor", {"x": ROWS, "i": i64(2, 0)}, since=1)],
    (ML, "FeatureVectorizer"): [
        learned("FeatureVectorizer", {"x": f32(5, 2), "z": f32(5, 3)}, since=1, inputdimensions=[2, 3])
    ],
    (ML, "Imputer"): [
        learned("Imputer", {"x": ROWS}, since=1, imputed_value_floats=[0.5], replaced_value_float=float("nan"))
    ],
    (ML, "LinearClassifier"): [
        learned("LinearClassifier", {"x": ROWS}, 2, since=1, coefficients=numbers(3, 4), intercepts=numbers(3),
                classlabels_ints=[7, 3, 5], post_transform=how)
        for how in ("NONE", "SOFTMAX", "LOGISTIC")
    ],
    (ML, "LinearRegressor"): [
        learned("LinearRegressor", {"x": ROWS}, since=1, coefficients=numbers(2, 4), intercepts=numbers(2), targets=2)
    ],
    (ML, "Normalizer"): [learned("Normalizer", {"x": ROWS}, since=1, norm=norm) for norm in ("MAX", "L1", "L2")],
    (ML, "Scaler"): [learned("Scaler", {"x": ROWS}, since=1, offset=numbers(4), scale=numbers(4))],
    (ML, "SVMRegressor"): [
        learned("SVMRegressor", {"x": ROWS}, since=1, coefficients=numbers(6), support_vectors=numbers(6, 4),
                n_supports=6, rho=[0.3], kernel_type=kernel, kernel_params=params)
        for kernel, params in KERNELS.items()
    ],
    (ML, "SVMClassifier"): [
        learned("SVMClassifier", {"x": ROWS}, 2, since=1, coefficients=numbers(2, 9), support_vectors=numbers(9, 4),
                vectors_per_class=[3, 2, 4], rho=numbers(3), kernel_type="RBF", kernel_params=KERNELS["RBF"],
                classlabels_ints=[0, 1, 2])  # coupled probabilities have the minimum's derivative: test_ops_ml_trees
    ],
    (ML, "ZipMap"): [learned("ZipMap", {"x": ROWS}, since=1, classlabels_int64s=[0, 1, 2, 3])],
    (MS, "Attention"): [
        microsoft("Attention", {"x": SEQUENCE, "w": f32(8, 24, scale=0.4), "b": f32(24), "m": mask}, num_heads=2,
                  unidirectional=causal)
        for mask, causal in ((None, 0), (i32(3, 5), 1))
    ],
    (MS, "MultiHeadAttention"): [
        microsoft("MultiHeadAttention", {**HEADS, "b": f32(24), "m": None, "a": f32(2, 2, 5, 5)}, num_heads=2)
    ],
    (MS, "GroupQueryAttention"): [
        microsoft("GroupQueryAttention", GROUPED, 3, num_heads=4, kv_num_heads=2, do_rotary=1)
    ],
    (MS, "RotaryEmbedding"): [
        microsoft("RotaryEmbedding", {"x": f32(2, 3, 16), "p": i64(2), "c": f32(10, 4), "s": f32(10, 4)}, interleaved=i)
        for i in (0, 1)
    ],
    (MS, "BiasAdd"): [microsoft("BiasAdd", {"x": SEQUENCE, "b": f32(8), "s": f32(2, 5, 8)})],
    (MS, "BiasDropout"): [microsoft("BiasDropout", {"x": SEQUENCE, "b": f32(8), "r": f32(2, 5, 8)})],
    (MS, "BiasGelu"): [microsoft("BiasGelu", {"x": SEQUENCE, "b": f32(8)})],
    (MS, "FastGelu"): [microsoft("FastGelu", {"x": SEQUENCE, "b": f32(8)})],
    (MS, "Gelu"): [microsoft("Gelu", {"x": SEQUENCE})],
    (MS, "QuickGelu"): [microsoft("QuickGelu", {"x": SEQUENCE}, alpha=1.3)],
    (MS, "BiasSoftmax"): [
        microsoft("BiasSoftmax", {"x": f32(2, 3, 4, 5), "b": f32(2, 1, 1, 5)}, axis=3, is_inner_broadcast=1)
    ],
    (MS, "BiasSplitGelu"): [microsoft("BiasSplitGelu", {"x": SEQUENCE, "b": f32(8)})],
    (MS, "CDist"): [
        microsoft("CDist", {"a": f32(3, 4), "b": f32(5, 4)}, metric=metric) for metric in ("euclidean", "sqeuclidean")
    ],
    (MS, "ComplexMul"): [microsoft("ComplexMul", {"a": f32(3, 4, 2), "b": f32(3, 4, 2)})],
    (MS, "ComplexMulConj"): [microsoft("ComplexMulConj", {"a": f32(3, 4, 2), "b": f32(3, 4, 2)})],
    (MS, "ConvTransposeWithDynamicPads"): [
        microsoft("ConvTransposeWithDynamicPads", {"x": X, "w": f32(4, 8, 3, 3), "p": i64(1, 0, 1, 0)})
    ],
    (MS, "DequantizeLinear"): [
        microsoft("DequantizeLinear", {"x": i32(-3, 5, 9), "s": np.array(0.3, np.float32), "z": np.array(2, np.int32)})
    ],
    (MS, "EmbedLayerNormalization"): [
        microsoft("EmbedLayerNormalization", {"ids": i32([1, 2, 3], [4, 5, 0]), "seg": None, "words": f32(10, 8),
                  "pos": f32(6, 8), "kinds": None, "g": f32(8), "be": f32(8)}, 2, epsilon=1e-5)
    ],
    (MS, "ExpandDims"): [microsoft("ExpandDims", {"x": f32(2, 3), "axis": np.array(1, np.int32)})],
    (MS, "FusedConv"): [
        microsoft("FusedConv", {"x": X, "w": W, "b": f32(8), "z": f32(2, 8, 4, 4)}, activation=name)
        for name in ("Relu", "Tanh")
    ],
    (MS, "NhwcConv"): [
        microsoft("NhwcConv", {"x": LAST, "w": W.transpose(0, 2, 3, 1).copy(), "b": f32(8)}, pads=[1, 1, 1, 1])
    ],
    (MS, "NhwcFusedConv"): [
        microsoft("NhwcFusedConv", {"x": LAST, "w": W, "b": f32(8)}, pads=[1, 1, 1, 1], activation="Relu")
    ],
    (MS, "FusedGemm"): [
        microsoft("FusedGemm", {"a": f32(3, 4), "b": f32(4, 5), "c": f32(5)}, activation="Tanh", alpha=0.7, beta=1.3)
    ],
    (MS, "FusedMatMul"): [microsoft("FusedMatMul", {"a": f32(2, 4, 3), "b": f32(2, 4, 5)}, transA=1, alpha=0.5)],
    (MS, "FusedMatMulActivation"): [
        microsoft("FusedMatMulActivation", {"a": f32(2, 3, 4), "b": f32(2, 4, 5)}, activation="Tanh")
    ],
    (MS, "TransposeMatMul"): [microsoft("TransposeMatMul", {"a": f32(2, 4, 3), "b": f32(2, 4, 5)}, transA=1)],
    (MS, "GatherND"): [microsoft("GatherND", {"x": f32(3, 4), "i": i64([0, 1], [2, 3])})],
    (MS, "GridSample"): [
        microsoft("GridSample", {"x": f32(1, 2, 4, 4), "g": f32(1, 3, 3, 2, scale=0.4)}, align_corners=1)
    ],
    (MS, "Inverse"): [microsoft("Inverse", {"x": f32(2, 3, 3) + 3 * np.eye(3, dtype=np.float32)})],
    (MS, "MatMulNBits"): [microsoft("MatMulNBits", PACKED, K=32, N=8, bits=4, block_size=16)],
    (MS, "Pad"): [microsoft("Pad", {"x": f32(3, 4), "p": i64(0, 1, 2, 0), "v": np.array([1.5], np.float32)})],
    (MS, "SimplifiedLayerNormalization"): [
        microsoft("SimplifiedLayerNormalization", {"x": SEQUENCE, "g": f32(8)}, 2)
    ],
    (MS, "SkipLayerNormalization"): [
        microsoft("SkipLayerNormalization", {"x": SEQUENCE, "s": f32(2, 5, 8), "g": f32(8), "be": f32(8)}, 4)
    ],
    (MS, "SkipSimplifiedLayerNormalization"): [
        microsoft("SkipSimplifiedLayerNormalization", {"x": SEQUENCE, "s": f32(2, 5, 8), "g": f32(8)})
    ],
    (MS, "Trilu"): [microsoft("Trilu", {"x": f32(4, 5)}, upper=1)],
    (MS, "Unique"): [microsoft("Unique", {"x": np.array([2, 1, 1, 3, 4, 3], np.float32)}, 3)],
}  # fmt: skip

#: Operators without a derivative to check -> why, by domain.
WITHOUT: dict[str, dict[str, str]] = {
    "": {
        "truth values, bits or integers come out": (
            "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor ConvInteger Equal Greater "
            "GreaterOrEqual IsInf IsNaN Less LessOrEqual MatMulInteger NonMaxSuppression NonZero Not Or Shape Size Xor"
        ),
        "the bits of a number, read as another": "BitCast",
        "what comes out doesn't depend on numbers that can vary": (
            "Constant ConstantOfShape EyeLike MelWeightMatrix Range Hardmax"
        ),
        "rounding hands gradients straight through, which differences don't: held to its definition in test_kinds": (
            "DynamicQuantizeLinear QLinearConv QLinearMatMul QuantizeLinear"
        ),
        "sequences come out or go in; their elements are checked by the operators that made them": (
            "ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
            "SequenceMap SplitToSequence"
        ),
    },
    ML: {
        "steps: constant wherever they have a derivative": (
            "Binarizer LabelEncoder OneHotEncoder TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor"
        ),
    },
    MS: {
        "truth values or integers come out": "IsAllFinite MulInteger",
        "what comes out doesn't depend on numbers that can vary": "Range",
        "rounding hands gradients straight through, which differences don't": (
            "DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulIntegerToFloat QAttention QGemm QLinearAdd "
            "QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul "
            "QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear"
        ),
        "its values are integers of 8 bits": "NhwcMaxPool",
    },
}
