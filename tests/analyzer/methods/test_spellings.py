"""One layer, written as exporters and people write it: every spelling gets the same explanation.

Each group holds spellings of one function between two layers, as ONNX text. All are computed in double precision.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from analyzer import Model, load

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("gradient", {}), ("guided-backprop", {}), ("deconvnet", {}), ("deep-taylor", {}), ("deeplift", {}),
    ("deeplift", {"pooling": "exact"}), ("deeplift", {"variant": "reveal-cancel"}),
    *(("lrp", {"composite": name}) for name in ("epsilon", "epsilon-plus", "alpha-beta", "gamma", "excitation-backprop",
                                                "attn-lrp", "w2")),
]  # fmt: skip
ROOT, TANH = math.sqrt(0.5), math.sqrt(2 / math.pi)


def number(name: str, value: float) -> str:
    return f"{name} = Constant <value_float = {value:.9f}> ()"


ZERO, HALF, ONE, TWO = (number(n, v) for n, v in (("zero", 0.0), ("half", 0.5), ("one", 1.0), ("two", 2.0)))
THREE, SIX = number("three", 3.0), number("six", 6.0)
SOFTPLUS = f"{ONE}; e = Exp(z); f = Add(one, e); p = Log(f)"

#: Elementwise functions of z, (2, 4).
FUNCTIONS: dict[str, list[str]] = {
    "relu": [
        "h = Relu(z)", f"{ZERO}; h = Max(zero, z)", f"{ZERO}; h = Clip(z, zero)",
        f"{ZERO}; m = Greater(z, zero); h = Where(m, z, zero)",
    ],
    "leaky": [
        "h = LeakyRelu <alpha = 0.1> (z)", f"{number('a', 0.1)}; s = Mul(a, z); h = Max(z, s)",
        f"{number('a', 0.1)}; {ZERO}; m = Less(z, zero); s = Mul(z, a); h = Where(m, s, z)",
        f"{number('a', 0.1)}; p = Relu(z); n = Neg(z); q = Relu(n); s = Mul(a, q); h = Sub(p, s)",
    ],
    "relu6": [
        f"{ZERO}; {SIX}; h = Clip(z, zero, six)", f"{SIX}; r = Relu(z); h = Min(r, six)",
        f"{ZERO}; {SIX}; r = Min(z, six); h = Max(r, zero)",
    ],
    "gelu": [
        "h = Gelu(z)", f"{ONE}; {HALF}; {number('r', ROOT)}; a = Mul(z, r); b = Erf(a); c = Add(b, one); "
        "d = Mul(z, c); h = Mul(d, half)",
        f"{ONE}; {HALF}; {number('r', 1 / ROOT)}; a = Div(z, r); b = Erf(a); c = Add(one, b); d = Mul(c, half); h = Mul(d, z)",
        f"{ONE}; {HALF}; {number('r', ROOT)}; u = Mul(z, half); a = Mul(z, r); b = Erf(a); c = Add(b, one); h = Mul(u, c)",
    ],
    "gelu-tanh": [
        'h = Gelu <approximate = "tanh"> (z)',
        f"{ONE}; {HALF}; {THREE}; {number('k', 0.044715)}; {number('r', TANH)}; a = Pow(z, three); b = Mul(k, a); "
        f"c = Add(z, b); "
        "d = Mul(r, c); e = Tanh(d); f = Add(one, e); g = Mul(half, z); h = Mul(g, f)",
        f"{ONE}; {HALF}; {number('k', 0.044715)}; {number('r', TANH)}; s = Mul(z, z); a = Mul(k, s); b = Add(a, one); "
        f"c = Mul(z, b); "
        "d = Mul(c, r); e = Tanh(d); f = Add(e, one); g = Mul(f, z); h = Mul(g, half)",
    ],
    "silu": ["s = Sigmoid(z); h = Mul(z, s)", f"{ONE}; n = Neg(z); e = Exp(n); d = Add(one, e); h = Div(z, d)"],
    "hard-swish": [
        "h = HardSwish(z)", "s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (z); h = Mul(z, s)",
        f"{ZERO}; {THREE}; {SIX}; a = Add(z, three); b = Clip(a, zero, six); c = Mul(z, b); h = Div(c, six)",
        f"{ZERO}; {THREE}; {SIX}; a = Add(three, z); b = Clip(a, zero, six); c = Div(b, six); h = Mul(c, z)",
    ],
    "hard-sigmoid": [
        "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (z)",
        f"{ZERO}; {THREE}; {SIX}; a = Add(z, three); b = Clip(a, zero, six); h = Div(b, six)",
    ],
    "sigmoid": ["h = Sigmoid(z)", f"{ONE}; n = Neg(z); e = Exp(n); d = Add(one, e); h = Div(one, d)",
                f"{ONE}; n = Neg(z); e = Exp(n); d = Add(e, one); h = Reciprocal(d)"],
    "softplus": ["h = Softplus(z)", f"{SOFTPLUS}; h = Identity(p)"],
    "mish": ["h = Mish(z)", "p = Softplus(z); t = Tanh(p); h = Mul(z, t)", f"{SOFTPLUS}; t = Tanh(p); h = Mul(t, z)"],
    "elu": [
        "h = Elu <alpha = 0.7> (z)",
        f"{ZERO}; {ONE}; {number('a', 0.7)}; e = Exp(z); f = Sub(e, one); g = Mul(a, f); m = Greater(z, zero); "
        f"h = Where(m, z, g)",
    ],
    "soft-shrink": [
        "h = Shrink <lambd = 0.2, bias = 0.2> (z)",
        f"{ZERO}; {number('l', 0.2)}; a = Abs(z); b = Sub(a, l); c = Relu(b); s = Sign(z); h = Mul(s, c)",
        f"{number('l', 0.2)}; a = Sub(z, l); p = Relu(a); n = Neg(z); b = Sub(n, l); q = Relu(b); h = Sub(p, q)",
    ],
    "absolute": ["h = Abs(z)", "n = Neg(z); h = Max(z, n)"],
    "subtracted": [f"{THREE}; n = Neg(three); s = Add(z, n); h = Relu(s)", f"{THREE}; s = Sub(z, three); h = Relu(s)"],
    "turned": [f"{ONE}; n = Neg(z); s = Add(one, n); h = Relu(s)", f"{ONE}; s = Sub(one, z); h = Relu(s)"],
    "divided": [f"{HALF}; s = Div(z, half); h = Relu(s)", f"{TWO}; s = Mul(two, z); h = Relu(s)"],
    "normalised": [
        "s = BatchNormalization <epsilon = 0.5> (z, G, B, M, V); h = Relu(s)",
        f"{HALF}; c = Sub(z, M); w = Add(V, half); r = Sqrt(w); d = Div(c, r); k = Mul(d, G); s = Add(k, B); h = Relu(s)",
        "one_ = Constant <value_ints = [1, 1]> (); p, q = Split <axis = 0> (z, one_); "
        "t = BatchNormalization <epsilon = 0.5> (p, G, B, M, V); u = BatchNormalization <epsilon = 0.5> (q, G, B, M, V); "
        "s = Concat <axis = 0> (t, u); h = Relu(s)",
        "two_ = Constant <value_ints = [2]> (); p = Split <axis = 0> (z, two_); "
        "s = BatchNormalization <epsilon = 0.5> (p, G, B, M, V); h = Relu(s)",
    ],
    "softmax": [
        "h = Softmax <axis = -1> (z)",
        "a = Constant <value_ints = [-1]> (); m_ = ReduceMax <keepdims = 1> (z, a); s = Sub(z, m_); e = Exp(s); "
        "t = ReduceSum <keepdims = 1> (e, a); h = Div(e, t)",
    ],
    "gated": [
        "a, s = Split <axis = 1, num_outputs = 2> (z); g_ = Sigmoid(s); p = Mul(a, g_); h = Concat <axis = 1> (p, p)",
        "n = Constant <value_ints = [0]> (); t = Constant <value_ints = [2]> (); f = Constant <value_ints = [4]> (); "
        "o = Constant <value_ints = [1]> (); a = Slice(z, n, t, o); s = Slice(z, t, f, o); g_ = Sigmoid(s); p = Mul(a, g_); "
        "h = Concat <axis = 1> (p, p)",
        "i = Constant <value_ints = [0, 1]> (); j = Constant <value_ints = [2, 3]> (); a = Gather <axis = 1> (z, i); "
        "s = Gather <axis = 1> (z, j); g_ = Sigmoid(s); p = Mul(g_, a); h = Concat <axis = 1> (p, p)",
    ],
    "summed-by-index": [
        "r = Relu(z); i = Constant <value = int64[2, 4] {0, 1, 1, 3, 0, 1, 1, 3}> (); "
        "y_ = Constant <value = float[2, 4] {0, 0, 0, 0, 0, 0, 0, 0}> (); "
        'h = ScatterElements <axis = 1, reduction = "add"> (y_, i, r)',
        "r = Relu(z); i = Constant <value = int64[4, 1] {0, 1, 1, 3}> (); t = Transpose(r); "
        "y_ = Constant <value = float[4, 2] {0, 0, 0, 0, 0, 0, 0, 0}> (); "
        'u = ScatterND <reduction = "add"> (y_, i, t); h = Transpose(u)',
    ],
}  # fmt: skip
TIED = "r = Relu(z); s_ = Constant <value_ints = [2, 2, 2, 1]> (); q = Reshape(r, s_)"  # with rows of zeros
FUNCTIONS["maxima"] = [
    f"{TIED}; a = Constant <value_ints = [2, 3]> (); k = ReduceMax <keepdims = 0> (q, a); h = Concat <axis = 1> (k, k)",
    f"{TIED}; g_ = GlobalMaxPool(q); k = Flatten(g_); h = Concat <axis = 1> (k, k)",
    f"{TIED}; g_ = MaxPool <kernel_shape = [2, 1]> (q); k = Flatten(g_); h = Concat <axis = 1> (k, k)",
    f"{TIED}; o = Constant <value_ints = [1]> (); g_, w_ = TopK <axis = 2> (q, o); k = Flatten(g_); "
    f"h = Concat <axis = 1> (k, k)",
]
FUNCTIONS["means"] = [
    f"{TIED}; a = Constant <value_ints = [2, 3]> (); k = ReduceMean <keepdims = 0> (q, a); h = Concat <axis = 1> (k, k)",
    f"{TIED}; g_ = GlobalAveragePool(q); k = Flatten(g_); h = Concat <axis = 1> (k, k)",
    f"{TIED}; g_ = AveragePool <kernel_shape = [2, 1]> (q); k = Flatten(g_); h = Concat <axis = 1> (k, k)",
    f"{TIED}; {TWO}; a = Constant <value_ints = [2, 3]> (); p = ReduceSum <keepdims = 0> (q, a); k = Div(p, two); "
    f"h = Concat <axis = 1> (k, k)",
]


@functools.cache
def spelled(body: str) -> Model:
    """Layer, function, layer."""
    rng = np.random.default_rng(3)
    text = (
        '<ir_version: 9, opset_import: ["" : 20]> net (float[2, 5] x) => (float[2, 3] y) '
        f"{{ z = Gemm(x, W0, C0); {body}; y = Gemm(h, W1, C1) }}"
    )
    model = parser.parse_model(text.replace(";", "\n"))
    for name, value in {
        "W0": 2 * rng.standard_normal((5, 4)), "C0": rng.standard_normal(4), "W1": rng.standard_normal((4, 3)),
        "C1": rng.standard_normal(3), "G": rng.uniform(0.5, 1.5, 4), "B": rng.standard_normal(4),
        "M": rng.standard_normal(4), "V": rng.uniform(0.5, 1.5, 4),
    }.items():  # fmt: skip
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.checker.check_model(model)
    return load(model, "cpu")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_spellings_of_one_function(name: str) -> None:
    x = np.random.default_rng(5).standard_normal((2, 5)).astype(np.float32)
    models = [spelled(body) for body in FUNCTIONS[name]]
    outputs = [model.predict(x)["y"] for model in models]
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=1e-4, atol=1e-5)
    for method, params in METHODS:
        first, *others = (m.explain(x, method, 1, precision="float64", **params).raw for m in models)
        assert np.abs(first).max() > 0, method
        for number_, other in enumerate(others, 1):
            gap = np.abs(other - first).max() / np.abs(first).max()
            assert gap < 1e-5, f"{method} {params}: spelling {number_} differs by {gap:.1e}"
