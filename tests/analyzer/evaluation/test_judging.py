"""Values over a data set are those of each input by itself, however inputs are put together; what has none says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.data import batches
from analyzer.data.dataset import Dataset, open_dataset
from analyzer.errors import InconclusiveError, InputError, UsageError
from analyzer.evaluation import registry
from analyzer.evaluation.candidates import Candidate, combinations
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.judging import Judgement, judge
from analyzer.evaluation.measure import Measure
from analyzer.model import Model
from tests.common.models import cnn

CHOSEN = {"pixel-flipping": {"steps": 3}, "sparseness": {}}


@pytest.fixture
def inside() -> Iterator[str]:
    """A metric that needs masks: the share of the absolute relevance inside; without any it has no value."""

    @registry.metric(
        "test-inside", "localisation", needs="mask", higher_is_better=True, range="", cost="", blind_spot="", source=""
    )
    def share(context: MetricContext) -> Measure:
        found: list[float | str] = []
        for sample in range(context.batch):
            ((name, value),) = context.map(sample).items()
            mask = context.masks[name][sample]
            total = np.abs(value).sum()
            found.append(float(np.abs(value * mask).sum() / total) if mask.any() else "empty mask")
        return Measure.of(found)

    yield "test-inside"
    del registry._METRICS["test-inside"]


def data(model: Model, tmp_path: Path, count: int = 7, **more: Any) -> Dataset:
    x = np.random.default_rng(0).random((count, 3, 8, 8), np.float32)
    np.savez(tmp_path / "d.npz", x=x, **more)
    return open_dataset(model, tmp_path / "d.npz")


def values(found: Judgement, metric: str, number: int = 0) -> Any:
    return found.cells[number, metric].values


@pytest.mark.parametrize("most", [1, 2, 32])
def test_values_are_those_of_each_input_however_they_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    model = analyzer.load(cnn())
    dataset = data(model, tmp_path)
    monkeypatch.setattr(batches, "_MOST", most)
    chosen = {**CHOSEN, "pixel-flipping": {"steps": 3, "order": "random"}}
    found = judge(model, dataset, [Candidate("gradient"), Candidate("lrp", {"composite": "epsilon"})], chosen, seed=4)
    evaluations = 0
    for number, (method, params) in enumerate([("gradient", {}), ("lrp", {"composite": "epsilon"})]):
        for at in range(7):
            x = dataset.read(at).feed
            e = model.explain(x, method, **params)
            for metric, given in chosen.items():
                one = analyzer.evaluate(model, x, e, metric, seed=4, start=at, **given)
                np.testing.assert_allclose(values(found, metric, number)[at], one.value, rtol=1e-5, atol=1e-6)
                evaluations += one.n_evaluations
    cell = found.cells[0, "pixel-flipping"]
    assert cell.evaluations == found.cells[1, "pixel-flipping"].evaluations == evaluations / 2 > 0
    assert cell.curves["random"].y.shape == (7, 4)
    assert len(found.targets) == 7
    assert all(found.targets)


def test_inputs_have_random_numbers_of_their_own(tmp_path: Path) -> None:
    model = analyzer.load(cnn())
    np.savez(tmp_path / "d.npz", x=np.repeat(np.random.default_rng(0).random((1, 3, 8, 8), np.float32), 40, 0))
    chosen = {"pixel-flipping": {"steps": 2, "order": "random"}}
    found = values(
        judge(model, open_dataset(model, tmp_path / "d.npz"), [Candidate("gradient")], chosen), "pixel-flipping"
    )
    assert len(np.unique(found.round(6))) > 35


def test_a_fixed_batch_is_filled_up_and_changes_nothing(tmp_path: Path) -> None:
    free, fixed = analyzer.load(cnn()), analyzer.load(cnn(batch=2))
    found = [judge(model, data(model, tmp_path, 3), [Candidate("gradient")], CHOSEN) for model in (free, fixed)]
    for metric in CHOSEN:
        np.testing.assert_allclose(values(found[1], metric), values(found[0], metric), rtol=1e-5, atol=1e-6)


def test_masks_that_are_there_count_and_the_others_are_named(tmp_path: Path, inside: str) -> None:
    model = analyzer.load(cnn())
    mask = np.zeros((4, 8, 8), bool)
    mask[0, :3], mask[2, :, 5:] = True, True
    dataset = data(model, tmp_path, 4)
    (tmp_path / "masks").mkdir()
    for at in (0, 2, 3):
        np.save(tmp_path / "masks" / f"{at}.npy", mask[at])
    dataset = open_dataset(model, tmp_path / "d.npz", masks=tmp_path / "masks")
    cell = judge(model, dataset, [Candidate("gradient")], {inside: {}}).cells[0, inside]
    for at in (0, 2):
        map_ = np.abs(model.explain(dataset.read(at).feed, "gradient").attribution[0])
        np.testing.assert_allclose(cell.values[at], (map_ * mask[at]).sum() / map_.sum(), rtol=1e-5)
    assert cell.reasons == {1: "no mask", 3: "empty mask"}
    assert cell.why_none == {"empty mask": 1, "no mask": 1}
    with pytest.raises(UsageError, match=r"test-inside needs.*no input has a mask.*metric\.mask"):
        judge(model, data(model, tmp_path, 4), [Candidate("gradient")], {inside: {}})


def test_what_cannot_be_read_is_counted_and_moves_nothing(tmp_path: Path) -> None:
    model = analyzer.load(cnn())
    x = np.random.default_rng(0).random((3, 3, 8, 8), np.float32)
    for name, array in (("a", x[0]), ("b", x[1]), ("d", x[2])):
        np.save(tmp_path / f"{name}.npy", array)
    whole = values(judge(model, open_dataset(model, tmp_path), [Candidate("gradient")], CHOSEN), "sparseness")
    (tmp_path / "c.npy").write_bytes(b"nothing")
    np.save(tmp_path / "e.npy", np.full((3, 8, 8), np.nan))
    found = judge(model, open_dataset(model, tmp_path), [Candidate("gradient")], CHOSEN)
    assert {found.ids[row]: problem.code for row, problem in found.unreadable.items()} == {
        "c.npy": "data.array_unreadable", "e.npy": "data.nonfinite",
    }  # fmt: skip
    np.testing.assert_array_equal(values(found, "sparseness"), [*whole[:2], np.nan, whole[2], np.nan])
    assert found.cells[0, "sparseness"].why_none == {
        "it can't be read [data.array_unreadable]": 1, "it can't be read [data.nonfinite]": 1,
    }  # fmt: skip


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    model = analyzer.load(cnn())
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    with pytest.raises(InconclusiveError, match=r"none of 2 inputs could be read.*data\.unreadable"):
        judge(model, open_dataset(model, tmp_path), [Candidate("gradient")], CHOSEN)
    with pytest.raises(InputError, match=r"data\.image_unreadable"):
        judge(model, open_dataset(model, tmp_path / "a.png"), [Candidate("gradient")], CHOSEN)


def test_a_candidate_that_cannot_be_used_is_recorded_if_that_is_wanted(tmp_path: Path) -> None:
    model = analyzer.load(cnn())
    dataset, candidates = data(model, tmp_path, 2), [Candidate("gradient"), Candidate("grad-cam", {"layer": "nowhere"})]
    with pytest.raises(UsageError, match=r"layer\.unknown"):
        judge(model, dataset, candidates, CHOSEN)
    found = judge(model, dataset, candidates, CHOSEN, tolerant=True)
    assert found.usable == [0]
    assert found.refused[1].code == "layer.unknown"
    with pytest.raises(UsageError, match=r"layer\.unknown"):
        judge(model, dataset, candidates[1:], CHOSEN, tolerant=True)


def test_progress_goes_up_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = analyzer.load(cnn())
    monkeypatch.setattr(batches, "_MOST", 2)
    seen: list[tuple[float, float]] = []
    candidates = [Candidate("grad-cam", {"layer": "nowhere"}), Candidate("occlusion")]
    judge(model, data(model, tmp_path, 5), candidates, CHOSEN, tolerant=True, progress=lambda *step: seen.append(step))
    assert {total for _, total in seen} == {5 * 2 * 3}
    done = [step for step, _ in seen]
    assert done == sorted(done)


def test_combinations_of_a_grid() -> None:
    grid = {"method": ["lrp", "gradient"], "gamma": [0, 1], "epsilon": [1e-6]}
    found = combinations(grid, ["lrp"], {"lrp": {"composite": "gamma"}})
    assert found == [
        Candidate("lrp", {"composite": "gamma", "gamma": 0, "epsilon": 1e-6}),
        Candidate("lrp", {"composite": "gamma", "gamma": 1, "epsilon": 1e-6}),
        Candidate("gradient", {}),
    ]
    assert found[1].name == "lrp composite=gamma gamma=1 epsilon=1e-06"
    one = combinations({"method": ["occlusion"], "occlusion.stride": [1, 2], "fill": [0]}, ["rise"], {})
    assert [each.params for each in one] == [{"fill": 0}, {"stride": 1, "fill": 0}, {"stride": 2, "fill": 0}]
    for wrong, said in (
        ({"gama": [1]}, "did you mean gamma"),
        ({"gamma": []}, "no values"),
        ({"rise.gamma": [1]}, "rise.gamma"),
    ):
        with pytest.raises(UsageError, match=said):
            combinations(wrong, ["lrp"], {})
    with pytest.raises(UsageError, match=r"method\.unknown"):
        combinations({"method": ["lpr"]}, [], {})
