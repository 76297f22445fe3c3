"""Data sets in all their forms: ids, labels, slices, drawing, digests, and that nothing is read before it is wanted."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analyzer
from analyzer.data import reading
from analyzer.data.dataset import Dataset, open_dataset
from analyzer.data.drawing import draw
from analyzer.errors import InconclusiveError, InputError, UsageError
from analyzer.model import Model
from tests.common.models import LABELS, cnn, mlp, two_inputs


@pytest.fixture(scope="module")
def model() -> Model:
    """Takes pictures of 8 x 8."""
    return analyzer.load(cnn(), labels=LABELS)


@pytest.fixture(scope="module")
def table() -> Model:
    """Takes rows of numbers."""
    return analyzer.load(mlp(), labels=LABELS)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def feeds(data: Dataset) -> list[Any]:
    return [next(iter(data.read(at).feed.values())) for at in range(len(data))]


# folders ------------------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_recursively_in_order_and_its_folders_are_classes(model: Model, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat/2.png", "cat/10.png", "Ant/1.png", "1/x.png", "other/y.png", "z.png")):
        picture(tmp_path / name, seed)
    (tmp_path / ".DS_Store").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    picture(tmp_path / ".hidden" / "a.png")
    data = open_dataset(model, tmp_path)
    assert data.ids == ("1/x.png", "Ant/1.png", "cat/10.png", "cat/2.png", "other/y.png", "z.png")
    assert data.labels == (1, 0, 2, 2, None, None)
    sample = data.read(2)
    assert (sample.id, sample.label, sample.mask, dict(sample.groups)) == ("cat/10.png", 2, None, {})
    expected = np.asarray(Image.open(tmp_path / "cat/10.png"), np.float64).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(sample.feed["x"], expected, atol=1e-7)
    assert sample.source is not None
    assert sample.source.picture is not None
    assert sample.notes == ("no preprocessing given: assumed RGB in [0, 1]",)


def test_a_folder_that_is_no_class_is_not_taken_for_one(model: Model, tmp_path: Path) -> None:
    for name in ("c/a.png", "7/a.png", "images/cat/a.png", "-1/a.png"):
        picture(tmp_path / name)
    found = dict(zip(*(lambda d: (d.ids, d.labels))(open_dataset(model, tmp_path)), strict=True))
    assert found == {"c/a.png": None, "7/a.png": None, "images/cat/a.png": 2, "-1/a.png": None}


def test_links_to_folders_are_followed_once(model: Model, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "bee").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(data, target_is_directory=True)
    assert open_dataset(model, data).ids == ("bee/a.png",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_what_cannot_be_read_stays_and_says_so(model: Model, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture at all")
    (tmp_path / "c.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "d.png")
    np.save(tmp_path / "e.npy", np.zeros((2, 3, 8, 8), np.float32))
    data = open_dataset(model, tmp_path)
    codes = {}
    for at in range(len(data)):
        try:
            data.read(at)
        except InputError as problem:
            codes[data.ids[at]] = problem.code
    assert codes == {
        "b.png": "data.image_unreadable", "c.png": "data.missing", "d.png": "data.not_regular", "e.npy": "data.several"
    }  # fmt: skip
    assert len(data.digest) == 64  # doesn't hang on the pipe


def test_nothing_is_read_before_it_is_wanted(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(30):
        (tmp_path / f"{at:02}.png").write_bytes(b"")
    picture(tmp_path / "29.png")
    opened: list[str] = []
    real = reading.read_input
    monkeypatch.setattr(
        reading, "read_input", lambda path, *a, **k: opened.append(Path(path).name) or real(path, *a, **k)
    )
    data = open_dataset(model, tmp_path, samples=20, seed=1)
    part = open_dataset(model, tmp_path).subset([29])
    assert opened == []
    assert part.read(0).id == "29.png"
    assert opened == ["29.png"]
    assert len(data) == 20


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.geteuid() == 0, reason="permissions don't bind everybody")
def test_a_folder_without_permission_is_named(model: Model, tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "a.png")
    (tmp_path / "cat").chmod(0)
    try:
        with pytest.raises(UsageError, match=r"cat can't be read.*data\.missing"):
            open_dataset(model, tmp_path)
    finally:
        (tmp_path / "cat").chmod(0o700)


# bad paths ----------------------------------------------------------------------------------------------------------------


def test_bad_paths_are_refused_as_the_readers_do(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.*data\.missing"):
        open_dataset(model, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"nowhere.*data\.missing"):
        open_dataset(model, [picture(tmp_path / "a.png"), tmp_path / "nowhere"])
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(InputError, match=r"data\.not_regular"):
            open_dataset(model, tmp_path / "pipe.csv")
        with pytest.raises(InputError, match=r"data\.not_regular"):
            open_dataset(model, "/dev/zero")


def test_an_empty_data_set_is_inconclusive(model: Model, table: Model, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "d.npz", x=np.zeros((0, 3, 8, 8), np.float32))
    width = int(next(iter(table.inputs.values())).shape[1])
    header = csv(tmp_path / "header.csv", ",".join(f"c{at}" for at in range(width)))
    manifest = csv(tmp_path / "list.csv", "path,label")
    cases: list[tuple[Model, Any]] = [
        (model, tmp_path / "folder"),
        (model, []),
        (model, tmp_path / "d.npz"),
        (model, manifest),
        (table, header),
    ]
    for loaded, path in cases:
        with pytest.raises(InconclusiveError, match=r"data\.empty") as caught:
            open_dataset(loaded, path)
        assert caught.value.exit_code == 4


# manifests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["path", "file", "File"])
def test_a_manifest_names_files_relative_to_itself(model: Model, tmp_path: Path, column: str) -> None:
    folder = tmp_path / "there"
    for seed, name in enumerate(("a.png", "b.png")):
        picture(folder / "images" / name, seed)
    far = picture(tmp_path / "far.png", 2)
    lines = (
        f"{column},label,scanner,sex",
        "images/a.png,cat,S1,f",
        f"{far},1,S2,",
        "images/b.png,,S1,m",
        "images/a.png,0.0,S1,f",
    )
    data = open_dataset(model, csv(folder / "list.csv", *lines))
    assert data.ids == ("images/a.png", str(far), "images/b.png", "images/a.png-2")
    assert data.labels == (2, 1, None, 0)
    assert data.groups == {"scanner": ("S1", "S2", "S1", "S1"), "sex": ("f", "", "m", "f")}
    assert data.read(1).groups == {"scanner": "S2", "sex": ""}
    np.testing.assert_array_equal(data.read(0).feed["x"], data.read(3).feed["x"])
    np.testing.assert_array_equal(
        data.read(2).feed["x"], open_dataset(model, folder / "images" / "b.png").read(0).feed["x"]
    )


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("dog", "no class is called 'dog'"),
        ("3", "no class 3"),
        ("cats", "did you mean cat"),
        ("-1", "no class -1"),
        ("0.5", "no class 0.5"),
    ],
)
def test_a_label_that_is_no_class_is_named_with_its_row(model: Model, tmp_path: Path, label: str, said: str) -> None:
    picture(tmp_path / "a.png")
    manifest = csv(tmp_path / "list.csv", "path,label", "a.png,0", f"a.png,{label}")
    with pytest.raises(InputError, match=rf"list.csv, row 2.*{said}.*data\.label"):
        open_dataset(model, manifest)


def test_names_of_classes_need_labels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="no class names are known; give --labels"):
        open_dataset(analyzer.load(cnn()), csv(tmp_path / "list.csv", "path,label", "a.png,cat"))


def test_a_missing_file_of_a_manifest_is_an_item_that_cannot_be_read(model: Model, tmp_path: Path) -> None:
    data = open_dataset(model, csv(tmp_path / "list.csv", "path", "gone.png"))
    with pytest.raises(InputError, match=r"gone.png.*data\.missing"):
        data.read(0)


def test_a_table_with_a_column_twice_or_a_row_without_a_path(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two columns 'a'"):
        open_dataset(model, csv(tmp_path / "list.csv", "path,a,a", "x.png,1,2"))
    with pytest.raises(InputError, match="row 2: no path"):
        open_dataset(model, csv(tmp_path / "list.csv", "path,a", "x.png,1", ",2"))


# archives -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_has_inputs_labels_masks_and_slices(model: Model, tmp_path: Path, save: Any) -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.random((5, 3, 8, 8), np.float32), rng.random((5, 8, 8)) > 0.5
    save(tmp_path / "d.npz", x=np.asfortranarray(x) if save is np.savez else x, y=np.array([0, 2, 1, 1, 0]), mask=mask,
         site=np.array(list("aabbc")), dose=np.arange(5.0), extra=np.zeros((7, 7)))  # fmt: skip
    data = open_dataset(model, tmp_path / "d.npz")
    assert data.ids == tuple(f"d.npz[{at}]" for at in range(5))
    assert data.labels == (0, 2, 1, 1, 0)
    assert data.groups == {"site": tuple("aabbc"), "dose": ("0.0", "1.0", "2.0", "3.0", "4.0")}
    for at in range(5):
        sample = data.read(at)
        np.testing.assert_array_equal(sample.feed["x"], x[at : at + 1])
        np.testing.assert_array_equal(sample.mask, mask[at])


def test_labels_of_an_archive_may_be_names(model: Model, tmp_path: Path) -> None:
    x = np.zeros((3, 3, 8, 8), np.float32)
    np.savez(tmp_path / "d.npz", input=x, labels=np.array([b"cat", b"bee", b""]))
    assert open_dataset(model, tmp_path / "d.npz").labels == (2, 1, None)
    np.savez(tmp_path / "d.npz", x=x, labels=np.array([[1.0], [np.nan], [2.0]]))
    assert open_dataset(model, tmp_path / "d.npz").labels == (1, None, 2)
    np.savez(tmp_path / "d.npz", x=x, label=np.eye(3))
    with pytest.raises(InputError, match=r"shape \[3, 3\] for 3 samples.*data\.label"):
        open_dataset(model, tmp_path / "d.npz")


def test_arrays_by_the_names_of_several_inputs(tmp_path: Path) -> None:
    model = analyzer.load(two_inputs())
    arrays = {
        name: np.random.default_rng(at).random([4, *spec.shape[1:]]).astype(spec.dtype)
        for at, (name, spec) in enumerate(model.inputs.items())
    }
    np.savez(tmp_path / "both.npz", **arrays, label=[0, 1, 2, 0])
    data = open_dataset(model, tmp_path / "both.npz")
    assert data.labels == (0, 1, 2, 0)
    for at in range(4):
        feed = data.read(at).feed
        assert list(feed) == list(arrays)
        assert all(np.array_equal(feed[name], arrays[name][at : at + 1]) for name in arrays)
    texts = {}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        texts[name] = tmp_path / f"{name}.npy"
    named = open_dataset(model, texts)
    assert len(named) == 4
    assert all(np.array_equal(named.read(3).feed[name], arrays[name][3:]) for name in arrays)
    first = next(iter(arrays))
    np.savez(tmp_path / "uneven.npz", **{**arrays, first: arrays[first][:2]})
    with pytest.raises(InputError, match=r"different numbers of samples.*data\.bad_shape"):
        open_dataset(model, tmp_path / "uneven.npz")
    np.savez(tmp_path / "one.npz", **{first: arrays[first]})
    with pytest.raises(UsageError, match=r"data\.npz_key"):
        open_dataset(model, tmp_path / "one.npz")


def test_a_single_sample_without_a_batch_axis(model: Model, table: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 8, 8), np.float32))
    data = open_dataset(model, tmp_path / "a.npy")
    assert data.ids == ("a.npy",)
    assert data.read(0).feed["x"].shape == (1, 3, 8, 8)
    width = next(iter(table.inputs.values())).shape[1]
    np.save(tmp_path / "r.npy", np.ones(width, np.float32))
    assert [feed.shape for feed in feeds(open_dataset(table, tmp_path / "r.npy"))] == [(1, width)]


def test_a_model_whose_batch_is_fixed_gets_single_samples(tmp_path: Path) -> None:
    model = analyzer.load(cnn(batch=2))
    picture(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.zeros((3, 3, 8, 8), np.float32))
    for path, count in (("a.png", 1), ("b.npy", 3)):
        assert [feed.shape for feed in feeds(open_dataset(model, tmp_path / path))] == [(1, 3, 8, 8)] * count


# tables -------------------------------------------------------------------------------------------------------------------


def test_rows_of_a_table_and_the_label_that_no_input_takes(table: Model, tmp_path: Path) -> None:
    width = int(next(iter(table.inputs.values())).shape[1])
    names = [f"c{at}" for at in range(width)]
    rows = np.random.default_rng(0).random((3, width)).round(3)
    lines = [",".join([names[0], "label", *names[1:]])]
    lines += [",".join([str(r[0]), label, *map(str, r[1:])]) for r, label in zip(rows, ("bee", "2", ""), strict=True)]
    data = open_dataset(table, csv(tmp_path / "rows.csv", *lines))
    assert data.labels == (1, 2, None)
    assert data.ids == ("rows.csv[0]", "rows.csv[1]", "rows.csv[2]")
    np.testing.assert_allclose(np.concatenate(feeds(data)), rows, atol=1e-7)
    source = data.read(1).source
    assert source is not None
    assert source.feature_names == tuple(names)


def test_columns_that_a_model_names_leave_the_others_for_slices(tmp_path: Path) -> None:
    import json

    import onnx

    proto = mlp()
    width = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    names = [f"f{at}" for at in range(width)]
    onnx.helper.set_model_props(proto, {"feature_names": json.dumps(names)})
    model = analyzer.load(proto)
    lines = [
        ",".join(["site", *reversed(names), "label"]),
        *(f"{s}," + ",".join("123456789"[:width]) + ",1" for s in "ab"),
    ]
    data = open_dataset(model, csv(tmp_path / "rows.csv", *lines))
    assert data.groups == {"site": ("a", "b")}
    assert data.labels == (1, 1)
    assert feeds(data)[0].tolist() == [[float(v) for v in reversed("123456789"[:width])]]
    with pytest.raises(InputError, match=r"data\.missing_column"):
        open_dataset(model, csv(tmp_path / "rows.csv", lines[0].replace("f1", "g1"), *lines[1:]))


def test_a_table_of_the_model_s_own_column_called_label_has_no_labels(tmp_path: Path) -> None:
    import json

    import onnx

    proto = mlp()
    width = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    names = ["label", "path", *[f"f{at}" for at in range(2, width)]]
    onnx.helper.set_model_props(proto, {"feature_names": json.dumps(names)})
    data = open_dataset(
        analyzer.load(proto), csv(tmp_path / "rows.csv", ",".join(names), ",".join("123456789"[:width]))
    )
    assert data.labels == (None,)
    assert feeds(data)[0].tolist() == [[float(v) for v in "123456789"[:width]]]


def test_a_bad_cell_refuses_the_table(table: Model, tmp_path: Path) -> None:
    width = int(next(iter(table.inputs.values())).shape[1])
    with pytest.raises(InputError, match="line 2, column 1"):
        open_dataset(table, csv(tmp_path / "rows.csv", ",".join("1" * width), ",".join(["x", *"1" * (width - 1)])))


# several, parts -----------------------------------------------------------------------------------------------------------


def test_a_list_is_one_data_set_with_unique_ids(model: Model, tmp_path: Path) -> None:
    for seed, name in enumerate(("one/cat/a.png", "two/a.png", "three/cat/a.png")):
        picture(tmp_path / name, seed)
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 8, 8), np.float32), site=np.array(["s", "t"]))
    data = open_dataset(
        model, [tmp_path / "one", tmp_path / "two" / "a.png", tmp_path / "d.npz", tmp_path / "three" / "cat" / "a.png"]
    )
    assert data.ids == ("one/cat/a.png", "a.png", "d.npz[0]", "d.npz[1]", "a.png-2")
    assert data.labels == (2, None, None, None, None)
    assert data.groups == {"site": ("", "", "s", "t", "")}
    np.testing.assert_array_equal(data.read(4).feed["x"], open_dataset(model, tmp_path / "three").read(0).feed["x"])


def test_a_subset_keeps_what_its_samples_are(model: Model, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1, 2, 0, 1, 2], site=np.array(list("abcdef")))
    data = open_dataset(model, tmp_path / "d.npz")
    part = data.subset([4, 1, 3]).subset([2, 0])
    assert part.ids == ("d.npz[3]", "d.npz[4]")
    assert part.labels == (0, 1)
    assert part.groups == {"site": ("d", "e")}
    np.testing.assert_array_equal(np.concatenate(feeds(part)), x[[3, 4]])
    assert part.digest == data.subset([3, 4]).digest != data.subset([4, 3]).digest


def test_the_digest_tells_contents_labels_and_ids(model: Model, tmp_path: Path) -> None:
    a, b = picture(tmp_path / "data" / "cat" / "a.png"), picture(tmp_path / "data" / "cat" / "b.png", 1)
    seen = [open_dataset(model, tmp_path / "data").digest]
    assert open_dataset(model, tmp_path / "data").digest == seen[0]
    content = b.read_bytes()
    b.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    seen.append(open_dataset(model, tmp_path / "data").digest)
    b.write_bytes(content)
    (tmp_path / "data" / "cat").rename(tmp_path / "data" / "bee")
    seen.append(open_dataset(model, tmp_path / "data").digest)
    (tmp_path / "data" / "bee").rename(tmp_path / "data" / "cat")
    a.rename(a.with_name("c.png"))
    seen.append(open_dataset(model, tmp_path / "data").digest)
    assert len(set(seen)) == 4


# drawing ------------------------------------------------------------------------------------------------------------------


def test_so_many_are_drawn_by_the_seed(model: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((40, 3, 8, 8), np.float32), y=np.repeat([0, 1], [30, 10]))
    one, again, other = (open_dataset(model, tmp_path / "d.npz", samples=8, seed=seed).ids for seed in (0, 0, 1))
    assert one == again != other
    assert len(set(one)) == 8
    assert len(open_dataset(model, tmp_path / "d.npz", samples=100)) == 40
    kept = open_dataset(model, tmp_path / "d.npz", samples=8, stratify="label")
    assert Counter(kept.labels) == {0: 6, 1: 2}


def test_every_part_keeps_its_proportion_to_one_sample() -> None:
    strata = ["a"] * 7 + ["b"] * 5 + ["c"] * 3
    for samples in range(1, 15):
        drawn = draw(15, samples, 0, strata)
        assert drawn == sorted(set(drawn))
        assert len(drawn) == samples
        for part, count in Counter(strata).items():
            assert abs(sum(strata[at] == part for at in drawn) - count * samples / 15) < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 0}, "samples=0"), ({"samples": True}, "samples=True"), ({"samples": 2.5}, "samples=2.5"),
        ({"samples": 1, "stratify": "sit"}, "did you mean site"), ({"stratify": "label"}, "no labels"),
        ({"masked": "y"}, "no input 'y'"), ({"samples": 1, "seed": -1}, "seed=-1"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(model: Model, tmp_path: Path, options: Any, said: str) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 8, 8), np.float32), site=np.array(["a", "b"]))
    with pytest.raises(UsageError, match=said):
        open_dataset(model, tmp_path / "d.npz", **options)
