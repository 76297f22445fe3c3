"""Detections explained: every perturbation method finds the patch that a box's score depends on, whatever the outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs.decode import Decode
from analyzer.targets.detection.finding import Found
from analyzer.targets.detection.proposals import Decoder
from analyzer.targets.detection.target import resolve_detections
from tests.analyzer.methods.perturbation.test_rise import naive
from tests.analyzer.targets.detection.nets import BOXES, PATCHES, SIDE, SPECS, detector, picture, probability
from tests.analyzer.targets.detection.test_proposals import ANCHORS, CLASSES, ROW, SIZE, STRIDES, cells, outputs_in
from tests.analyzer.targets.detection.test_target import naive_similarity
from tests.common.models import assemble

Array = NDArray[Any]
FORMS = tuple(SPECS)
METHODS: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 4, "stride": 4}, "rise": {"masks": 300, "grid": 4},
    "lime": {"samples": 100, "segments": "grid:4", "fill": 0}, "kernel-shap": {"samples": 100, "segments": "grid:4"},
    "bubbles": {"samples": 300, "count": 4}, "feature-ablation": {"segments": "grid:4"},
}  # fmt: skip


def model_of(form: str, batch: int | str = "n", **more: Any) -> analyzer.Model:
    return analyzer.load(detector(form, batch), "cpu", decode=SPECS[form] | more)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("box", [0, 1])
def test_every_perturbation_method_finds_the_patch(method: str, box: int) -> None:
    made = model_of("rows").explain(picture(), method, f"detection:{box}:0", **METHODS[method])
    drawn = made.attribution[0].sum(axis=0)
    inside = np.zeros(drawn.shape, bool)
    inside[PATCHES[box]] = True
    assert np.unravel_index(drawn.argmax(), drawn.shape) in [tuple(at) for at in np.argwhere(inside)]
    assert drawn[inside].min() > 0
    assert drawn[inside].mean() > 5 * np.abs(drawn[~inside]).mean()


@pytest.mark.parametrize("form", FORMS)
def test_occlusion_is_the_drop_of_the_similarity(form: str) -> None:
    """The box stands fast and is the only one there: IoU 1, so that the closed form is cosine times trust."""
    x = picture()
    made = model_of(form).explain(x, "occlusion", "detection:0:0", window=4, stride=4)

    def score(pixels: Array) -> float:
        p = probability(0, pixels)[0]
        if form in ("ready", "owned", "single"):
            return float(p) if form == "ready" or p > 0.3 else 0.0
        low = 1 / (1 + np.exp(4.0))  # the other class's logit is -4 for every picture
        first = np.array([probability(0, x)[0], low])
        now = np.array([p, low])
        return float(first @ now / np.linalg.norm(first) / np.linalg.norm(now) * p)

    assert made.score[0] == pytest.approx(score(x), rel=1e-5)
    for line in range(4):
        for column in range(4):
            changed = x.copy()
            at = (slice(line * 4, line * 4 + 4), slice(column * 4, column * 4 + 4))
            changed[:, :, *at] = 0
            np.testing.assert_allclose(made.attribution[0, 0, *at], score(x) - score(changed), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, "n"])
def test_fixed_and_free_batches_agree(form: str, batch: int | str) -> None:
    expected = model_of(form).explain(picture(), "rise", "detection:1", masks=40, grid=4)
    found = model_of(form, batch).explain(picture(), "rise", "detection:1", masks=40, grid=4)
    np.testing.assert_allclose(found.attribution, expected.attribution, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_samples(form: str) -> None:
    x = picture(2)
    x[1, :, *PATCHES[0]] = 0.6
    targets = ["detection:0", "detection:1"]
    if form == "single":
        with pytest.raises(UsageError, match="boxes of 1 pictures, 2 were given"):
            model_of(form).explain(x, "occlusion", targets)
    batch = 1 if form == "single" else "n"
    both = model_of(form, batch).explain(x, "occlusion", targets)
    for sample, target in enumerate(targets):
        single = model_of(form).explain(x[sample : sample + 1], "occlusion", target)
        np.testing.assert_allclose(both.attribution[sample], single.attribution[0], atol=1e-6)
        assert both.target[sample] == single.target[0]
        entry, expected = both.record["detection"][sample], single.record["detection"][0]
        assert entry | {"similarity": 0} == expected | {"similarity": 0}
        assert entry["similarity"] == pytest.approx(expected["similarity"])


def test_the_record_reproduces_it() -> None:
    made = model_of("rows").explain(picture(), "occlusion", "detection:0")
    record = json.loads(json.dumps(made.to_dict()))
    p = probability(0, picture())[0]
    assert record["detection"] == [
        {"box": BOXES[0].tolist(), "class": 0, "label": None, "score": pytest.approx(p), "similarity": pytest.approx(p)}
    ]
    assert record["decode"] == {"row": SPECS["rows"]["row"]}
    assert record["target"] == ["class 0 in 6, 1, 14, 7"]
    assert [entry[:2] for entry in record["prediction"]["top"][0]] == [[0, "0: class 0"], [1, "1: class 1"]]
    assert record["score_kind"] == "value"
    again = analyzer.load(detector("rows"), "cpu", decode=record["decode"]).explain(
        picture(), "occlusion", "detection:0"
    )
    np.testing.assert_array_equal(again.attribution, made.attribution)


@pytest.mark.parametrize("method", ["gradient", "lrp", "meaningful-perturbation"])
@pytest.mark.parametrize(
    ("form", "index"), [("rows", "out[:,0,4]"), ("columns", "out[:,4,0]"), ("split", "logits[:,0,0]")]
)
def test_white_box_methods_explain_the_proposals_class_score(method: str, form: str, index: str) -> None:
    params = {"steps": 5} if method == "meaningful-perturbation" else {}
    expected = model_of(form).explain(picture(), method, index, **params)
    found = model_of(form).explain(picture(), method, "detection:0:0", **params)
    np.testing.assert_array_equal(found.attribution, expected.attribution)
    assert found.score.tolist() == expected.score.tolist()
    assert found.target == ("class 0 in 6, 1, 14, 7",)
    assert any("class score of the detection's proposal" in note for note in found.record["notes"])
    assert found.record["detection"][0]["box"] == BOXES[0].tolist()


def test_white_box_methods_take_each_samples_own_proposal() -> None:
    found = model_of("rows").explain(picture(2), "gradient", ["detection:0:0", "detection:1:0"])
    for sample, index in enumerate(("out[:,0,4]", "out[:,1,5]")):
        single = model_of("rows").explain(picture(), "gradient", index)
        np.testing.assert_allclose(found.attribution[sample], single.attribution[0], rtol=1e-6)


def test_white_box_methods_on_a_box_of_ones_own() -> None:
    found = model_of("rows").explain(picture(), "gradient", "detection:1:0,8,9,16")
    expected = model_of("rows").explain(picture(), "gradient", "out[:,1,5]")
    np.testing.assert_array_equal(found.attribution, expected.attribution)
    with pytest.raises(UsageError, match="no proposal there") as caught:
        model_of("rows").explain(picture(), "gradient", "detection:15,0,16,1")
    assert caught.value.code == "target.detection"


@pytest.mark.parametrize("form", ["ready", "owned", "single"])
def test_ready_detections_have_no_class_score_for_white_box_methods(form: str) -> None:
    with pytest.raises(UsageError, match="white-box methods could explain: the model's own suppression") as caught:
        model_of(form).explain(picture(), "gradient", "detection:0")
    assert caught.value.code == "target.detection"
    assert "occlusion" in caught.value.hint


def test_a_detection_needs_a_spec() -> None:
    with pytest.raises(UsageError, match="nothing says how this model's outputs are read") as caught:
        analyzer.load(detector("rows"), "cpu").explain(picture(), "occlusion", "detection:0")
    assert caught.value.code == "target.detection"
    assert "--decode" in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"boxes": "boks"}, "names output 'boks', which isn't there"),
        ({"boxes": "boxes", "scores": "skores"}, "names output 'skores', which isn't there"),
        ({"decode": "ssd", "row": ["cx", "cy", "w", "h"], "priors": "anchors"}, "the model has no value 'anchors'"),
        ({"decode": "ssd", "row": ["cx", "cy", "w", "h"], "priors": "limit"}, "holds no rows of 4 numbers"),
        ({"decode": "ssd", "row": ["cx", "cy", "w", "h"], "priors": "w"}, "768 priors, the output has 2"),
    ],
)
def test_a_spec_for_another_model(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        model_of("split", **spec).explain(picture(), "occlusion", "detection:0")
    assert caught.value.code == "config.decode"


@pytest.mark.parametrize("source", ["weight", "value", "list"])
def test_priors_from_the_model(source: str) -> None:
    """Deltas of 0 with priors cx, cy, w, h: the boxes are the priors."""
    rows = [[8.0, 8, 6, 4], [3, 3, 2, 2]]
    proto = detector("split")
    proto.graph.initializer.append(numpy_helper.from_array(np.array(rows, np.float32), "priors"))
    proto.graph.node.add(op_type="Identity", input=["priors"], output=["copied"])
    proto.graph.node.add(op_type="Sub", input=["boxes", "boxes"], output=["zeros"])
    next(output for output in proto.graph.output if output.name == "boxes").name = "zeros"
    spec = {
        "boxes": "zeros",
        "scores": "logits",
        "activation": "sigmoid",
        "row": ["cx", "cy", "w", "h"],
        "decode": "ssd",
    }
    priors = {"weight": "priors", "value": "copied", "list": rows}[source]
    made = analyzer.load(proto, "cpu", decode=spec | {"priors": priors}).explain(
        picture(), "occlusion", "detection:0:0"
    )
    np.testing.assert_allclose(made.record["detection"][0]["box"], [5, 6, 11, 10])


def test_detections_are_no_target_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        analyzer.compile(model_of("rows"), method="gradient", target="detection:0", output=tmp_path / "c.onnx")
    assert caught.value.code == "target.detection"
    assert "\n" not in str(caught.value)


def test_a_detection_is_no_target_of_an_inner_value() -> None:
    for method in ("occlusion", "gradient"):
        with pytest.raises(UsageError) as caught:
            model_of("rows").explain(picture(), method, "detection:0", layer="row")
        assert caught.value.code == "layer.twice"


def test_channels_last_and_whole_numbers() -> None:
    """The TensorFlow object detection API: uint8 (n, H, W, 3), corners y first as fractions, padded to a count."""
    n = helper.make_node
    nodes = [
        n("Cast", ["image"], ["x"], to=TensorProto.FLOAT), n("Mul", ["x", "w"], ["lit"]),
        n("ReduceSum", ["lit", "axes"], ["sum"], keepdims=0), n("Unsqueeze", ["sum", "one"], ["score"]),
        n("Concat", ["score", "score"], ["detection_scores"], axis=1), n("Mul", ["detection_scores", "nought"], ["zeros"]),
        n("Add", ["zeros", "classes"], ["detection_classes"]),
        n("Unsqueeze", ["zeros", "two"], ["wide"]), n("Add", ["wide", "corners"], ["detection_boxes"]),
        n("Mul", ["sum", "nought"], ["none"]), n("Add", ["none", "once"], ["num_detections"]),
    ]  # fmt: skip
    light = np.zeros((1, 8, 16, 3), np.float32)
    light[:, 2:4, 12:16] = 1 / 24 / 200
    kind = TensorProto.FLOAT
    proto = assemble(
        nodes, {"image": (TensorProto.UINT8, ["n", 8, 16, 3])},
        {"detection_boxes": (kind, ["n", 2, 4]), "detection_classes": (kind, ["n", 2]), "detection_scores": (kind, ["n", 2]),
         "num_detections": (kind, ["n"])},
        {"w": light, "axes": np.int64([1, 2, 3]), "one": np.int64([1]), "two": np.int64([2]), "nought": np.zeros(1, np.float32),
         "classes": np.float32([[3, 3]]), "once": np.float32([1]),
         "corners": np.float32([[[0.25, 0.5, 0.75, 1], [0, 0, 1, 1]]])},
    )  # fmt: skip
    x = np.full((1, 8, 16, 3), 180, np.uint8)
    model = analyzer.load(proto, "cpu", decode="tensorflow")
    made = model.explain(x, "occlusion", "detection:0", window=(2, 4), stride=(2, 4))
    np.testing.assert_allclose(made.record["detection"][0]["box"], [8, 2, 16, 6])
    assert made.score[0] == pytest.approx(0.9)
    expected = np.zeros((8, 16))
    expected[2:4, 12:16] = 0.9
    np.testing.assert_allclose(made.attribution[0].squeeze(-1), expected, atol=1e-6)
    with pytest.raises(UsageError, match="1 score at least"):  # the second is padding
        model.explain(x, "occlusion", "detection:1")


@pytest.mark.parametrize("layout", ["ACHW", "AHWC", "HWAC"])
def test_the_class_score_of_a_grid_with_levels(layout: str) -> None:
    """The detections of two samples: one on each level, or both on one, at elements that loops find again."""
    rng = np.random.default_rng(6)
    outputs = []
    for sample in range(2):
        raw = {cell: rng.normal(-3, 1, 5 + CLASSES).astype(np.float32) for cell in cells("AHW", True)}
        raw[1, 2, sample, 1][4:] = [5, 1, 1, 6, 1]  # the best of class 2, on the second level
        raw[sample, 1, 0, 1][4:] = [5, 1, 6, 1, 1]  # the best of class 1, on another level for each sample
        outputs.append(outputs_in(layout, raw)[0])
    got = {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
    spec = Decode.model_validate(
        {"row": ROW, "decode": "yolov5", "strides": STRIDES, "anchors": ANCHORS, "activation": "sigmoid",
         "layout": "NC" if layout == "AHWC" else layout}
    )  # fmt: skip
    decoder = Decoder(spec, tuple(got), SIZE, "x")
    model = model_of("rows")
    resolved, proposals = resolve_detections("detection:2:0", decoder, got, 2, None)
    name, found = Found(model, resolved, proposals, got).class_scores()
    assert name == "out1"
    for sample in range(2):
        (index,) = np.argwhere(found.weights[sample])
        column = 5 + 2
        expected = {
            "ACHW": (2 * (5 + CLASSES) + column, sample, 1), "AHWC": (2, sample, 1, column),
            "HWAC": (sample, 1, 2 * (5 + CLASSES) + column),
        }[layout]  # fmt: skip
        assert tuple(index) == expected
        assert got[name][(sample, *index)] == 6
    resolved, proposals = resolve_detections("detection:1:0", decoder, got, 2, None)
    with pytest.raises(UsageError, match="lie in different outputs"):
        Found(model, resolved, proposals, got).class_scores()


def test_rise_is_the_naive_d_rise() -> None:
    """Masks one by one, the model through plain onnxruntime, similarities in loops, the weighted sum of the masks."""
    import onnxruntime

    rng = np.random.default_rng(8)
    x = rng.uniform(0.5, 1.2, (1, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(detector("rows").SerializeToString(), providers=["CPUExecutionProvider"])
    (clean,) = session.run(None, {"x": x})[0]
    wanted = clean[int(clean[:, 4:].max(axis=1).argmax())]
    total = np.zeros((SIDE, SIDE))
    for mask in naive((SIDE, SIDE), 4, 0.5, 64, 0):
        (rows,) = session.run(None, {"x": x * mask})[0]
        best = max(naive_similarity((wanted[:4], wanted[4:]), row[:4], row[4:], max(row[4:])) for row in rows)
        total += best * mask
    made = model_of("rows").explain(x, "rise", "detection:0", masks=64, grid=4, centre=False)
    np.testing.assert_allclose(made.attribution[0, 0], total / 64 / 0.5, rtol=1e-4)
