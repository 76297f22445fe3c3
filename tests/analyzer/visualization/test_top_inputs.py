"""Top inputs against brute force with onnxruntime; a run that is killed and resumed gives the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import analyzer
from analyzer.data.dataset import Dataset, open_dataset
from analyzer.errors import InconclusiveError, UnsupportedError, UsageError
from analyzer.visualization import ledger
from analyzer.visualization.top_inputs import TopInputs
from tests.analyzer.visualization.models import model

#: No biases, so that gradient-x-input sums to the unit.
NETWORK = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 1, 6, 6] x) => (float[n, 3] logits) {
    [conv] maps = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, k)
    [relu] fired = Relu (maps)
    [pool] pooled = GlobalAveragePool (fired)
    [flat] flat = Flatten (pooled)
    [head] logits = MatMul (flat, w)
}"""
HEAD = '<ir_version: 8, opset_import: ["": 17]>'
COUNT = 200


def network(seed: int = 4) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = {"k": rng.standard_normal((4, 1, 3, 3)), "w": rng.standard_normal((4, 3))}
    return model(NETWORK, **{name: value.astype(np.float32) for name, value in weights.items()})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    found = np.random.default_rng(6).standard_normal((COUNT, 1, 6, 6)).astype(np.float32)
    found[150] = found[17]  # equal scores: the earlier sample goes first
    return found


@pytest.fixture
def archive(images: np.ndarray, tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=images, label=np.arange(COUNT) % 3)
    return tmp_path / "data.npz"


def brute(x: np.ndarray, name: str, proto: onnx.ModelProto | None = None) -> np.ndarray:
    """A value of all samples at once."""
    wider = onnx.ModelProto()
    wider.CopyFrom(proto or network())
    del wider.graph.output[:]
    wider.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(wider.SerializeToString())
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float64)


ASKED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "channel, largest place": ({"layer": "relu", "channel": 2}, "fired", lambda v: v[:, 2].max(axis=(1, 2))),
    "channel, mean": ({"layer": "relu", "channel": 2, "reduce": "mean"}, "fired", lambda v: v[:, 2].mean(axis=(1, 2))),
    "unit of a map": ({"layer": "maps", "unit": (1, 2, 0)}, "maps", lambda v: v[:, 1, 2, 0]),
    "unit of a vector": ({"layer": "flat", "unit": 3}, "flat", lambda v: v[:, 3]),
    "layer": ({"layer": "fired"}, "fired", lambda v: v.mean(axis=(1, 2, 3))),
    "class": ({"of_class": 1}, "logits", lambda v: v[:, 1]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ASKED)
def test_top_and_bottom_are_those_of_brute_force(kind: str, archive: Path, images: np.ndarray) -> None:
    asked, name, reduced = ASKED[kind]
    found = analyzer.load(network()).top_inputs(archive, **asked, k=7, method=None)
    scores = reduced(brute(images, name))
    assert found.count == COUNT
    for side, sign in ((found.top, -1), (found.bottom, 1)):
        order = np.argsort(sign * np.round(scores, 5), kind="stable")[:7]
        assert [each.at for each in side] == order.tolist()
        assert [each.score for each in side] == pytest.approx(scores[order], abs=1e-5)
        assert [each.label for each in side] == (order % 3).tolist()
        assert [each.id for each in side] == [f"data.npz[{at}]" for at in order]


@pytest.mark.parametrize("kind", ASKED)
def test_relevance_is_of_the_unit(kind: str, archive: Path) -> None:
    asked = ASKED[kind][0]
    found = analyzer.load(network()).top_inputs(archive, **asked, k=2)
    places = {"channel, mean": 9, "layer": 36}.get(kind, 1)  # a target sums where the score is a mean
    for each in (*found.top, *found.bottom):
        assert each.explanation is not None
        assert each.explanation.attribution.sum() / places == pytest.approx(each.score, abs=1e-4)
        if each.box is not None:
            beyond = each.explanation.attribution[0, 0].copy()
            beyond[each.box] = 0
            assert not beyond.any()
    assert all((each.box is not None) == (kind in ("channel, largest place", "unit of a map")) for each in found.top)


def test_the_crop_is_what_the_channel_sees_at_its_largest_place(archive: Path, images: np.ndarray) -> None:
    found = analyzer.load(network()).top_inputs(archive, "relu", channel=2, k=5, method=None)
    fired = brute(images, "fired")
    for each in found.top:
        row, column = np.unravel_index(np.argmax(fired[each.at, 2]), (3, 3))
        assert each.index == (2, row, column)
        box = [(max(2 * at - 1, 0), min(2 * at + 2, 6)) for at in (int(row), int(column))]
        assert [(part.start, part.stop) for part in each.box or ()] == box


def test_the_digits_of_the_sample_model(sample_models: Path, tmp_path: Path) -> None:
    from models.digits.data import split

    _, (x, labels) = split()
    np.savez(tmp_path / "digits.npz", x=x, label=labels)
    path = sample_models / "digits_cnn.onnx"
    found = analyzer.load(path).top_inputs(tmp_path / "digits.npz", "layers.6", channel=5, k=9, method=None)
    value = "/layers/layers.6/Relu_output_0"
    scores = brute(x, value, onnx.load(path))[:, 5].max(axis=(1, 2))
    assert [each.score for each in found.top] == pytest.approx(np.sort(scores)[::-1][:9], rel=1e-4)
    assert {each.at for each in found.top} == set(np.argsort(-scores)[:9].tolist())
    of_three = analyzer.load(path).top_inputs(tmp_path / "digits.npz", of_class=3, k=9, method=None)
    assert {each.label for each in of_three.top} == {3}
    logits = brute(x, "logits", onnx.load(path))[:, 3]
    assert {each.at for each in of_three.top} == set(np.argsort(-logits)[:9].tolist())


# Resuming.


def same(one: TopInputs, other: TopInputs) -> None:
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


class Killed(BaseException):
    """Stands for a signal."""


def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions that are read from now on."""
    seen: list[int] = []
    read = Dataset.read
    monkeypatch.setattr(Dataset, "read", lambda self, i: (seen.append(i), read(self, i))[1])
    return seen


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_run_that_was_cut_off_goes_on_and_gives_the_same(
    how: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "EVERY", 0.0)
    loaded, file, kept = analyzer.load(network()), tmp_path / "ledger.json", tmp_path / "kept.json"
    asked: dict[str, Any] = {"layer": "relu", "channel": 1, "k": 6, "method": None}
    whole = loaded.top_inputs(archive, **asked)

    def stop(done: float, total: float) -> None:
        if done >= 96:
            if file.exists():
                shutil.copy(file, kept)
            raise Killed

    with pytest.raises(Killed):
        loaded.top_inputs(archive, **asked, ledger=file, progress=stop)
    if how == "killed":  # without the last words of a process that is asked to end
        shutil.copy(kept, file)
    seen = reads(monkeypatch)
    same(loaded.top_inputs(archive, **asked, ledger=file), whole)
    assert min(seen[: COUNT - 96]) == 96
    seen.clear()
    same(loaded.top_inputs(archive, **asked, ledger=file), whole)
    assert len(set(seen)) <= 12  # those found are read once more, nothing else


@pytest.mark.parametrize("changed", ["model", "data set", "k", "unit", "preprocessing"])
def test_a_ledger_of_another_run_is_refused(changed: str, archive: Path, images: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    asked: dict[str, Any] = {"layer": "relu", "channel": 1, "k": 6, "method": None, "ledger": file}
    analyzer.load(network()).top_inputs(archive, **asked)
    before = file.read_bytes()
    proto = network(5 if changed == "model" else 4)
    if changed == "data set":
        np.savez(archive, x=images[::-1], label=np.arange(COUNT) % 3)
    again = {**asked, **({"k": 7} if changed == "k" else {"channel": 2} if changed == "unit" else {})}
    loaded = analyzer.load(proto, preprocess="unit" if changed == "preprocessing" else None)
    with pytest.raises(UsageError, match=f"another {changed}") as caught:
        loaded.top_inputs(archive, **again)
    assert caught.value.code == "ledger.other"
    assert file.read_bytes() == before


def test_a_file_that_is_no_ledger_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text("[1]")
    with pytest.raises(UsageError, match="no ledger of a run") as caught:
        analyzer.load(network()).top_inputs(archive, "relu", ledger=tmp_path / "ledger.json")
    assert caught.value.code == "ledger.unreadable"


# What can't be used.


def test_files_that_cannot_be_read_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at in range(8):
        Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).save(folder / f"{at}.png")
    (folder / "3.png").write_bytes(b"no picture")
    (folder / "9.png").write_bytes(b"nor this")
    loaded = analyzer.load(network())
    found = loaded.top_inputs(folder, "conv", channel=0, k=20, method=None, ledger=tmp_path / "ledger.json")
    assert found.count == 8 - 1
    assert list(found.unreadable) == ["3.png", "9.png"]
    assert sorted(each.id for each in found.top) == sorted(each.id for each in found.bottom)
    assert [each.id for each in found.top] == [each.id for each in found.bottom][::-1]
    same(loaded.top_inputs(folder, "conv", channel=0, k=20, method=None, ledger=tmp_path / "ledger.json"), found)


def test_scores_that_are_not_finite_are_counted_and_named(tmp_path: Path) -> None:
    text = f"{HEAD} net (float[n, 3] x) => (float[n, 3] y) {{ [log] y = Log (x) }}"
    np.save(tmp_path / "x.npy", np.array([[1, 1, 2], [3, 1, -1], [0, 1, 1], [2, 2, 2]], np.float32))
    loaded = analyzer.load(model(text))
    found = loaded.top_inputs(tmp_path / "x.npy", "log", unit=0, k=2, method=None)
    assert ([each.at for each in found.top], found.nonfinite, found.count) == ([1, 3], ["x.npy[2]"], 3)
    with pytest.raises(InconclusiveError, match="no score is finite"):
        np.save(tmp_path / "x.npy", -np.ones((2, 3), np.float32))
        loaded.top_inputs(tmp_path / "x.npy", "log", unit=0, method=None)


def test_where_there_is_no_relevance_the_notes_say_why(archive: Path) -> None:
    found = analyzer.load(network()).top_inputs(archive, of_class=0, k=1, method="grad-cam")
    assert found.notes == []
    assert found.top[0].explanation is not None
    flat = "net (float[n, 1, 6, 6] x) => (float[n, 36] y) { y = Flatten (x) }"
    without = analyzer.load(model(f"{HEAD} {flat}")).top_inputs(archive, of_class=0, k=1, method="cam")
    assert without.top[0].explanation is None
    assert without.notes[0].startswith("no relevance by cam: ")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "unit.unclear"),
        ({"layer": "relu", "of_class": 1}, "unit.unclear"),
        ({"layer": "relu", "channel": 1, "unit": 2}, "unit.unclear"),
        ({"of_class": 1, "channel": 1}, "unit.unclear"),
        ({"layer": "relu", "channel": 4}, "unit.out_of_range"),
        ({"layer": "relu", "unit": 4}, "unit.out_of_range"),
        ({"layer": "relu", "unit": (1, 3, 0)}, "unit.out_of_range"),
        ({"of_class": 3}, "unit.out_of_range"),
        ({"of_class": "cat"}, "target.unknown_label"),
        ({"layer": "rleu"}, "layer.unknown"),
        ({"layer": "relu", "k": 0}, "params.invalid"),
        ({"layer": "relu", "reduce": "sum"}, "unit.reduce"),
        ({"layer": "relu", "method": "grad-cam"}, "params.invalid"),
        ({"layer": "relu", "steps": 3}, "params.unknown"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_no_ledger(
    asked: dict[str, Any], code: str, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        analyzer.load(network()).top_inputs(archive, **asked, ledger=tmp_path / "ledger.json")
    assert caught.value.code == code
    assert not (tmp_path / "ledger.json").exists()


def test_a_value_that_does_not_count_samples_is_refused(archive: Path) -> None:
    proto = network()
    proto.graph.node.append(onnx.helper.make_node("ReduceMean", ["flat"], ["all"], keepdims=0))
    with pytest.raises(UnsupportedError, match="doesn't count"):
        analyzer.load(proto).top_inputs(open_dataset(analyzer.load(proto), archive), "all")
