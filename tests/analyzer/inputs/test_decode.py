"""The decode spec: read from everywhere, refused in one line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs.decode import PRESETS, Decode
from analyzer.inputs.decode_files import discover_decode, load_decode
from tests.analyzer.targets.detection.nets import CORNERS, detector
from tests.conftest import ROOT

CENTRE = ["cx", "cy", "w", "h"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_what_their_record_says(name: str) -> None:
    assert load_decode(name) is PRESETS[name]
    assert load_decode(PRESETS[name].to_dict()) == PRESETS[name]
    json.dumps(PRESETS[name].to_dict())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rows": 1}, "key 'rows' is unknown"),
        ({}, "nothing says how sure a box is"),
        ({"row": [*CENTRE[:3], "classes"]}, "holds no box"),
        ({"row": [*CENTRE, "klass"]}, "holds 'klass'; columns are"),
        ({"row": [*CENTRE, "objectness:2"]}, "holds 'objectness:2'"),
        ({"row": [*CENTRE, "classes", "classes:3"]}, "names a column twice"),
        ({"row": [*CENTRE, "class", "classes"]}, "both a class number and class scores"),
        ({"row": []}, "must be a list of columns"),
        ({"boxes": ["a", "a"], "scores": "s"}, "names an output twice"),
        ({"boxes": 3, "scores": "s"}, "must be an output's name"),
        ({"boxes": ["a", "b"], "scores": "s"}, "different numbers of outputs"),
        ({"scores": "s", "row": [*CENTRE, "classes"]}, "without class and classes"),
        ({"labels": "l"}, "labels needs scores"),
        ({"labels": "l", "scores": "s", "row": [*CORNERS, "class"]}, "holds the box alone"),
        ({"scores": "s", "layout": "NHWC"}, "layout = 'NHWC' is not allowed"),
        ({"scores": "s", "decode": "yolox"}, "decode yolox needs cx, cy, w, h in row"),
        ({"row": [*CENTRE, "classes"], "decode": "yolox"}, "decode yolox needs strides"),
        ({"row": [*CENTRE, "classes"], "decode": "yolov3", "strides": [8]}, "needs anchors, a list for each of the 1"),
        ({"row": [*CENTRE, "classes"], "anchors": [[1, 2]]}, "must be a list of [width, height]"),
        ({"row": [*CENTRE, "classes"], "decode": "ssd"}, "decode ssd needs priors"),
        ({"row": [*CENTRE, "classes"], "priors": [[1, 2, 3]]}, "must name a value"),
        ({"row": [*CENTRE, "classes"], "variances": [1, 2]}, "must be 4 numbers"),
        ({"row": [*CENTRE, "score", "class"], "decode": "yolox", "strides": [8]}, "are ready"),
        ({"row": ["batch", *CENTRE, "classes"]}, "batch goes with ready detections"),
        ({"row": [*CENTRE, "classes"], "strides": [0]}, "strides = 0 should be greater than or equal to 1"),
        ({"row": [*CENTRE, "classes"], "threshold": 2}, "threshold = 2 should be less than or equal to 1"),
        ({"row": [*CENTRE, "classes"], "strides": 8}, "strides = 8 should be a valid tuple"),
        ({"row": [*CENTRE, "classes"], "background": 1.5}, "background = 1.5 should be a valid integer"),
        (
            {"row": [*CENTRE, "classes"], "strides": [8, 16], "anchors": [[[1, 2]]]},
            "anchors has 1 lists, strides 2 levels",
        ),
        ({"preset": "yolo9000"}, "preset 'yolo9000' is unknown"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(values))
    with pytest.raises(UsageError) as caught:
        load_decode(file)
    assert caught.value.code == "config.decode"
    assert says in caught.value.message
    assert str(file) in caught.value.message
    assert "\n" not in str(caught.value)


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("row = [")
    (tmp_path / "b.toml").write_bytes(b"row = \0")
    for source, says in ((tmp_path / "a.toml", "neither TOML nor JSON"), (tmp_path / "b.toml", "NUL"),
                         (tmp_path / "c.toml", "no such file"), ("yolov9000", "no decode spec is called")):  # fmt: skip
        with pytest.raises(UsageError, match=says) as caught:
            load_decode(source)
        assert caught.value.exit_code == 2


def test_a_preset_is_overridden(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "yolov8"\nthreshold = 0.5\nrow = ["cx", "cy", "w", "h", "classes:80", "_:32"]\n')
    spec = load_decode(file)
    assert (spec.layout, spec.threshold, spec.row[-2:]) == ("CN", 0.5, ("classes:80", "_:32"))
    assert dict(spec.columns)["classes"] == 80


def test_a_spec_is_found_beside_the_model_then_in_its_metadata(tmp_path: Path) -> None:
    proto = detector("rows")
    entry = proto.metadata_props.add()
    entry.key, entry.value = "decode", '{"row": ["x0", "y0", "x1", "y1", "classes"], "threshold": 0.5}'
    path = tmp_path / "found.onnx"
    path.write_bytes(proto.SerializeToString())
    carried = analyzer.load(path, "cpu").decode
    assert carried is not None
    assert carried.threshold == 0.5
    (tmp_path / "found.decode.toml").write_text('row = ["x0", "y0", "x1", "y1", "classes"]\nthreshold = 0.75\n')
    beside = analyzer.load(path, "cpu").decode
    assert beside is not None
    assert beside.threshold == 0.75
    given = analyzer.load(path, "cpu", decode="yolov5").decode
    assert given == PRESETS["yolov5"]


def test_metadata_names_a_preset_but_never_a_file(tmp_path: Path) -> None:
    assert discover_decode(None, {"decode": "yolox"}) is PRESETS["yolox"]
    assert discover_decode(None, {}) is None
    secret = tmp_path / "secret.toml"
    secret.write_text('preset = "yolox"')
    with pytest.raises(UsageError, match="neither TOML nor JSON"):
        discover_decode(None, {"decode": str(secret)})


def test_ready() -> None:
    assert Decode.model_validate({"row": [*CORNERS, "score", "class"]}).ready
    assert PRESETS["torchvision"].ready
    assert not PRESETS["yolov8"].ready


def test_the_page_shows_specs_that_are_right_and_names_every_key_and_preset() -> None:
    page = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 9
    for example in examples:
        load_decode(tomllib.loads(example))
    known = [name for name in Decode.model_fields if name != "name"]
    assert all(f"`{name}`" in page.split("| key |")[1] for name in known)
    assert re.findall(r"^\| `(\w+)` \|", page.split("| preset |")[1].split("| key |")[0], re.MULTILINE) == list(PRESETS)
