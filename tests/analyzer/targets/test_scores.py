"""Which value is explained: squashing operators at the end, classifiers, several outputs, transposed axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

import analyzer
from analyzer.errors import UnsupportedError, UsageError
from analyzer.targets.resolve import scored_value
from analyzer.targets.scores import Scored, probabilities_of, scored_in
from tests.common.models import assemble

W = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
X = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)
LINEAR = helper.make_node("MatMul", ["x", "w"], ["logits"], name="linear")


def model(
    *tail: NodeProto, output: str = "y", dims: Any = None, opset: int = 17, **weights: np.ndarray
) -> onnx.ModelProto:
    """A linear layer and what follows it."""
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    return assemble([LINEAR, *tail], shapes, {output: (TensorProto.FLOAT, dims)}, {"w": W, **weights}, opset)


def node(op: str, source: str, result: str, *more: str, **attributes: Any) -> NodeProto:
    """A node with one result."""
    return helper.make_node(op, [source, *more], [result], **attributes)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_what_squashes_is_taken_off_or_kept(op: str) -> None:
    graph = model(node(op, "logits", "y")).graph
    assert scored_in(graph, None, "logit") == Scored("y", "logits", "logit", op)
    assert scored_in(graph, "y", "logit") == Scored("y", "logits", "logit", op)
    kept = "log-probability" if op == "LogSoftmax" else "probability"
    assert scored_in(graph, None, "probability") == Scored("y", "y", kept)


def test_logarithms_of_probabilities_are_not_called_probabilities() -> None:
    loaded = analyzer.load(model(node("LogSoftmax", "logits", "y")), "cpu")
    e = loaded.explain(X, method="occlusion", target=2, score="probability")
    assert e.score_kind == e.record["prediction"]["kind"] == "log-probability"
    np.testing.assert_allclose(e.score, loaded.predict(X)["y"][:, 2], rtol=1e-5)


TAILS = {
    "reshape": (
        [node("Softmax", "logits", "p"), node("Reshape", "p", "y", "shape")], {"shape": np.array([-1, 3, 1, 1])},
    ),
    "cast": ([node("Softmax", "logits", "p"), node("Cast", "p", "y", to=TensorProto.FLOAT)], {}),
    "identity": ([node("Softmax", "logits", "p"), node("Identity", "p", "q"), node("Identity", "q", "y")], {}),
    "flatten": ([node("Softmax", "logits", "p"), node("Flatten", "p", "y")], {}),
    "squeeze": (
        [node("Unsqueeze", "logits", "u", "ax"), node("Sigmoid", "u", "p"), node("Squeeze", "p", "y", "ax")],
        {"ax": np.array([2])},
    ),
    "unsqueeze": ([node("Softmax", "logits", "p"), node("Unsqueeze", "p", "y", "ax")], {"ax": np.array([2])}),
    "dropout": ([node("LogSoftmax", "logits", "p"), node("Dropout", "p", "y")], {}),
    "several": (
        [
            node("Softmax", "logits", "p"), node("Identity", "p", "q"), node("Reshape", "q", "r", "shape"),
            node("Cast", "r", "y", to=TensorProto.FLOAT),
        ],
        {"shape": np.array([-1, 3, 1])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(TAILS))
def test_operators_that_only_move_values_are_looked_through(kind: str) -> None:
    tail, weights = TAILS[kind]
    proto = model(*tail, **weights)
    found = scored_in(proto.graph, None, "logit")
    assert found.kind == "logit"
    assert found.squashed_by in ("Softmax", "Sigmoid", "LogSoftmax")
    loaded = analyzer.load(proto, "cpu")
    done = loaded.explain(X, method="gradient", target=2)
    np.testing.assert_allclose(done.score, X @ W[:, 2], rtol=1e-4)
    np.testing.assert_allclose(done.attribution, np.broadcast_to(W[:, 2], (4, 6)), rtol=1e-5)
    explained = loaded.explain(X, method="occlusion", target=2, score="probability")
    assert explained.score_kind == ("log-probability" if found.squashed_by == "LogSoftmax" else "probability")
    expected = loaded.predict(X)["y"].reshape(4, 3)[:, 2]
    np.testing.assert_allclose(explained.score, expected, rtol=1e-6)


@pytest.mark.parametrize("op", ["Relu", "Tanh", "Neg", "Exp", "Softplus"])
def test_other_operators_at_the_end_belong_to_the_scores(op: str) -> None:
    graph = model(node("Softmax", "logits", "p"), node(op, "p", "y")).graph
    assert scored_in(graph, None, "logit") == Scored("y", "y", "logit")
    assert scored_in(graph, None, "probability") == Scored("y", "y", "value")


def test_a_squashing_operator_of_another_domain_is_another_operator() -> None:
    graph = model(node("Softmax", "logits", "y", domain="made.up")).graph
    assert scored_in(graph, None, "logit").squashed_by is None


def test_a_linear_end_is_itself_the_score() -> None:
    graph = model(output="logits").graph
    assert scored_in(graph, None, "logit") == Scored("logits", "logits", "logit")
    assert scored_in(graph, None, "probability").kind == "value"


def test_an_identity_at_the_end_changes_nothing() -> None:
    proto = model(node("Identity", "logits", "y"), dims=["n", 3])
    assert scored_in(proto.graph, None, "logit") == Scored("y", "y", "logit")
    assert probabilities_of(proto.graph, "y") == "y"
    assert str(analyzer.load(proto, "cpu").outputs["y"]) == "float32 [n, 3]"


# --- axes transposed after the softmax ------------------------------------------------------------------------------


def pixels(*tail: NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    """A 1x1 convolution of (n, 2, 4, 4) to four channels and what follows it, so that axes can be mistaken."""
    kernel = np.random.default_rng(3).standard_normal((4, 2, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "k"], ["logits"]), *tail]
    shapes = {"x": (TensorProto.FLOAT, ["n", 2, 4, 4])}
    return assemble(nodes, shapes, {"y": (TensorProto.FLOAT, None)}, {"k": kernel, **weights}, 17)


PICTURE = np.random.default_rng(4).standard_normal((3, 2, 4, 4)).astype(np.float32)


TRANSPOSED = {
    "once": (
        [node("Softmax", "logits", "p", axis=1), node("Transpose", "p", "y", perm=[0, 2, 3, 1])],
        lambda logits: logits.transpose(0, 2, 3, 1),
    ),
    "twice": (
        [
            node("Softmax", "logits", "p", axis=1),
            node("Transpose", "p", "q", perm=[0, 2, 3, 1]),
            node("Identity", "q", "r"),
            node("Transpose", "r", "y", perm=[0, 3, 2, 1]),
        ],
        lambda logits: logits.transpose(0, 2, 3, 1).transpose(0, 3, 2, 1),
    ),
    "around": (
        [
            node("Transpose", "logits", "t", perm=[0, 2, 3, 1]),
            node("Softmax", "t", "p", axis=3),
            node("Transpose", "p", "y", perm=[0, 3, 1, 2]),
        ],
        lambda logits: logits,
    ),
}


@pytest.mark.parametrize("kind", list(TRANSPOSED))
@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_an_index_means_the_outputs_axes_where_they_are_transposed(kind: str, method: str) -> None:
    tail, laid_out = TRANSPOSED[kind]
    loaded = analyzer.load(pixels(*tail), "cpu")
    logits = loaded.values({"x": PICTURE}, ["logits"])["logits"]
    done = loaded.explain(PICTURE, method=method, target="y[:,3,1,2]")
    assert done.score_kind == "logit"
    np.testing.assert_allclose(done.score, laid_out(logits)[:, 3, 1, 2], rtol=1e-6)
    explained = loaded.explain(PICTURE, method=method, target="y[:,3,1,2]", score="probability")
    np.testing.assert_allclose(explained.score, loaded.predict(PICTURE)["y"][:, 3, 1, 2], rtol=1e-5)
    if method == "gradient":  # a 1x1 convolution: one pixel counts, the same for logit and probability
        nonzero = [np.abs(e.attribution).sum(axis=1) > 1e-7 for e in (done, explained)]
        assert (nonzero[0].reshape(3, -1).sum(axis=1) == 1).all()
        np.testing.assert_array_equal(*nonzero)


def test_top_is_named_by_the_outputs_axes() -> None:
    tail = [node("Softmax", "logits", "p", axis=1), node("Transpose", "p", "y", perm=[0, 2, 3, 1])]
    loaded = analyzer.load(pixels(*tail), "cpu")
    done = loaded.explain(PICTURE, method="gradient")
    logits = loaded.values({"x": PICTURE}, ["logits"])["logits"].transpose(0, 2, 3, 1)
    index = np.unravel_index(logits[0].argmax(), logits.shape[1:])
    assert done.target[0] == f"element [{','.join(map(str, index))}]"
    assert done.score[0] == logits[0].max()


def test_axes_transposed_and_reshaped_keep_the_softmax() -> None:
    tail = [
        node("Softmax", "logits", "p", axis=1), node("Transpose", "p", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t", "y", "shape"),
    ]  # fmt: skip
    proto = pixels(*tail, shape=np.array([0, -1, 4]))
    assert scored_in(proto.graph, None, "logit") == Scored("y", "y", "probability")
    loaded = analyzer.load(proto, "cpu")
    done = loaded.explain(PICTURE, method="gradient", target="y[:,5,2]")
    np.testing.assert_allclose(done.score, loaded.predict(PICTURE)["y"][:, 5, 2], rtol=1e-5)


def test_rows_folded_into_the_batch_keep_the_softmax() -> None:
    """Old exporters take the softmax of (batch · words, classes): those rows are no samples."""
    tail = [node("Reshape", "logits", "rows", "flat"), node("Softmax", "rows", "p"), node("Reshape", "p", "y", "back")]
    weights = {"flat": np.array([-1, 4]), "back": np.array([-1, 4, 4, 4])}
    loaded = analyzer.load(pixels(*tail, **weights), "cpu")
    done = loaded.explain(PICTURE, method="gradient", target="y[:,1,2,3]")
    assert done.score_kind == "probability"
    np.testing.assert_allclose(done.score, loaded.predict(PICTURE)["y"][:, 1, 2, 3], rtol=1e-5)
    assert done.attribution.shape == PICTURE.shape


# --- which output ---------------------------------------------------------------------------------------------------


def test_the_first_floating_output_is_explained_unless_another_is_named() -> None:
    nodes = [
        LINEAR,
        node("ArgMax", "logits", "label", axis=1, keepdims=0),
        node("Softmax", "logits", "probabilities"),
        node("ReduceSum", "logits", "total", keepdims=0),
    ]
    outputs = {
        "label": (TensorProto.INT64, ["n"]),
        "probabilities": (TensorProto.FLOAT, ["n", 3]),
        "total": (TensorProto.FLOAT, None),
    }
    proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 6])}, outputs, {"w": W}, 11)
    assert scored_in(proto.graph, None, "logit") == Scored("probabilities", "logits", "logit", "Softmax")
    assert scored_in(proto.graph, "total", "logit") == Scored("total", "total", "logit")
    done = analyzer.load(proto, "cpu").explain(X, method="gradient", target="probabilities[:,1]")
    np.testing.assert_allclose(done.attribution, np.broadcast_to(W[:, 1], (4, 6)), rtol=1e-5)


def test_a_model_without_floating_output_has_no_scores() -> None:
    nodes = [LINEAR, node("ArgMax", "logits", "label", axis=1)]
    proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 6])}, {"label": (TensorProto.INT64, None)}, {"w": W})
    with pytest.raises(UnsupportedError) as caught:
        scored_in(proto.graph, None, "logit")
    assert caught.value.code == "model.no_scores"
    with pytest.raises(UnsupportedError):
        analyzer.load(proto, "cpu").explain(X, method="occlusion")


def test_unknown_names_are_refused() -> None:
    graph = model(output="logits").graph
    with pytest.raises(UsageError) as caught:
        scored_in(graph, "nowhere", "logit")
    assert caught.value.code == "target.unknown_output"
    assert "logits" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        scored_in(graph, "w", "logit")
    assert caught.value.code == "target.unknown_output"
    with pytest.raises(UsageError) as caught:
        scored_in(graph, None, "margin")
    assert caught.value.code == "score.unknown"


def test_outputs_of_half_and_double_precision_are_floating() -> None:
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
        nodes = [LINEAR, node("ArgMax", "logits", "label", axis=1), node("Cast", "logits", "y", to=kind)]
        outputs = {"label": (TensorProto.INT64, None), "y": (kind, None)}
        proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 6])}, outputs, {"w": W})
        assert scored_in(proto.graph, None, "logit").output == "y"


def test_a_graph_that_reads_its_own_result_does_not_hang() -> None:
    graph = model(node("Identity", "y", "y")).graph
    assert scored_in(graph, None, "logit").squashed_by is None


# --- scikit-learn ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flowers() -> tuple[np.ndarray, np.ndarray]:
    """Three clusters in four columns."""
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1, 2], 20)
    return (rng.standard_normal((60, 4)) + 2 * np.eye(4)[y]).astype(np.float32), y


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("kind", ["logistic", "forest", "pipeline"])
def test_classifiers_of_scikit_learn_are_explained_by_probability(
    flowers: Any, kind: str, zipmap: bool, words: bool
) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = flowers
    y = np.array(["iris", "rose", "tulip"])[y] if words else y
    made: Any = {
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(5, max_depth=3, random_state=0),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    }[kind].fit(x, y)
    options = {id(made): {"zipmap": zipmap}}
    proto = skl2onnx.to_onnx(made, x[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    loaded = analyzer.load(proto, "cpu")
    scored = scored_value(loaded)
    assert scored.kind == "probability" or scored.squashed_by
    assert (scored.output == "output_probability") is zipmap
    expected = made.predict_proba(x[:5])
    np.testing.assert_allclose(loaded.predict(x[:5])[scored.output], expected, atol=1e-5)
    done = loaded.explain(x[:5], method="occlusion", target=1, score="probability", window=1, fill=0.5)
    np.testing.assert_allclose(done.score, expected[:, 1], atol=1e-5)
    for column in range(4):
        without = x[:5].copy()
        without[:, column] = 0.5
        drop = expected[:, 1] - made.predict_proba(without)[:, 1]
        np.testing.assert_allclose(done.attribution[:, column], drop, atol=1e-5)
    ranked = loaded.explain(x[:5], method="occlusion")
    assert ranked.classes == tuple(expected.argmax(axis=1))


def test_a_regressor_of_scikit_learn_is_a_value(flowers: Any) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LinearRegression

    x, y = flowers
    made = LinearRegression().fit(x, y)
    loaded = analyzer.load(skl2onnx.to_onnx(made, x[:1], target_opset={"": 17, "ai.onnx.ml": 3}), "cpu")
    done = loaded.explain(x[:5], method="occlusion", window=1)
    assert done.target == ("value",) * 5
    np.testing.assert_allclose(done.score, made.predict(x[:5]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(done.attribution, x[:5] * made.coef_, rtol=1e-3, atol=1e-5)
