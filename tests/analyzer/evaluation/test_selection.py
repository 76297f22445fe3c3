"""The best combination is found where there is one, and nothing is claimed where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.data.dataset import Dataset, open_dataset
from analyzer.errors import InconclusiveError, UsageError
from analyzer.evaluation import selection
from analyzer.evaluation.candidates import Candidate
from analyzer.evaluation.judging import Cell, Judgement
from analyzer.evaluation.selection import LEAST, select, split
from analyzer.model import Model
from tests.common.models import assemble

FLIPPING = {"pixel-flipping": {"steps": 8, "fill": 0}}


@pytest.fixture
def linear() -> Model:
    """``y = x w``: gradient-x-input is exact."""
    from onnx import TensorProto, helper

    w = np.random.default_rng(0).standard_normal((16, 1)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return analyzer.load(
        assemble([node], {"x": (TensorProto.FLOAT, ["n", 16])}, {"y": (TensorProto.FLOAT, ["n", 1])}, {"w": w})
    )


def data(model: Model, tmp_path: Path, count: int = 40, **more: Any) -> Dataset:
    x = np.random.default_rng(1).standard_normal((count, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, **more)
    return open_dataset(model, tmp_path / "d.npz")


def test_the_exact_explanation_wins_and_is_confirmed(linear: Model, tmp_path: Path) -> None:
    """Taking away what adds most to a sum lowers it fastest: no order of columns has less area than that of w x."""
    candidates = [Candidate("gradient"), Candidate("saliency"), Candidate("gradient-x-input")]
    found = select(linear, data(linear, tmp_path), candidates, FLIPPING)
    assert found.winner == Candidate("gradient-x-input")
    assert [each.ranks["pixel-flipping"] for each in found.ranking[:2]] == [1, 2]
    assert found.ranking[0].to_best["pixel-flipping"].mean == 0
    assert all(each.to_best["pixel-flipping"].low > 0 for each in found.ranking[1:])
    (confirmed,) = found.confirmations
    assert (confirmed.role, confirmed.better) == ("second", True)
    assert confirmed.difference.high < 0
    assert not set(found.judgement.ids) & set(found.held_out.ids)
    assert len(found.judgement.ids) == len(found.held_out.ids) == 20


def test_equal_explanations_are_not_told_apart(linear: Model, tmp_path: Path) -> None:
    """LRP-epsilon of a linear layer is gradient times input."""
    lrp = Candidate("lrp", {"composite": "epsilon", "epsilon": 1e-12})
    found = select(linear, data(linear, tmp_path), [Candidate("gradient-x-input"), lrp], FLIPPING)
    (confirmed,) = found.confirmations
    assert confirmed.better is False
    assert found.ranking[1].to_best["pixel-flipping"].mean == pytest.approx(0, abs=1e-6)


def test_a_parameter_without_effect_is_named(linear: Model, tmp_path: Path) -> None:
    candidates = [Candidate("lrp", {"gamma": gamma}) for gamma in (0.1, 0.9)]
    found = select(linear, data(linear, tmp_path), candidates, FLIPPING)
    assert any("lrp gamma=0.1 and lrp gamma=0.9 have the same values on every input" in note for note in found.notes)
    assert all(each.better is False for each in found.confirmations)


def test_what_cannot_be_used_is_told_and_does_not_stop_the_rest(linear: Model, tmp_path: Path) -> None:
    candidates = [Candidate("gradient"), Candidate("grad-cam", {"layer": "nowhere"}), Candidate("gradient-x-input")]
    found = select(linear, data(linear, tmp_path), candidates, FLIPPING)
    assert found.winner.method == "gradient-x-input"
    assert list(found.unranked) == [1]
    assert "nowhere" in found.unranked[1]
    with pytest.raises(UsageError, match="nowhere"):
        select(linear, data(linear, tmp_path), candidates[1:2] * 2, FLIPPING)


def test_several_metrics_are_put_together_by_ranks(
    monkeypatch: pytest.MonkeyPatch, linear: Model, tmp_path: Path
) -> None:
    """pixel-flipping (less is better) ranks 1 2 3; an invented metric where more is better ranks 2 1 3."""
    planted = {"pixel-flipping": [0.0, 1.0, 2.0], "test-more": [1.0, 2.0, 0.0], "sparseness": [0.0, 0.0, 0.0]}
    _plant(monkeypatch, lambda number, metric, rng, count: planted[metric][number] + 0.01 * rng.standard_normal(count))
    candidates = [Candidate("gradient"), Candidate("saliency"), Candidate("sensitivity")]
    found = select(linear, data(linear, tmp_path), candidates, {**FLIPPING, "test-more": {}, "sparseness": {}})
    assert [each.rank for each in found.ranking] == [1.5, 1.5, 3]
    assert [dict(each.ranks) for each in found.ranking] == [
        {"pixel-flipping": 1, "test-more": 2}, {"pixel-flipping": 2, "test-more": 1}, {"pixel-flipping": 3, "test-more": 3},
    ]  # fmt: skip
    assert found.winner == candidates[0]
    verdicts = {(each.metric, each.role): each.better for each in found.confirmations}
    assert verdicts == {("pixel-flipping", "second"): True, ("test-more", "second"): False}
    assert any("sparseness only describes" in note for note in found.notes)


def test_nothing_is_confirmed_among_equals_and_a_better_one_is(
    monkeypatch: pytest.MonkeyPatch, linear: Model, tmp_path: Path
) -> None:
    """60 choices of the luckiest of ten that are all alike; then of ten of which one is better by one standard deviation."""
    candidates = [Candidate("lrp", {"epsilon": 10.0**-at}) for at in range(10)]
    dataset = data(linear, tmp_path, 60)

    def confirmed(shift: float, seed: int) -> tuple[Candidate, bool | None]:
        def drawn(number: int, metric: str, rng: np.random.Generator, count: int) -> Any:
            return rng.standard_normal(count) - shift * (number == 7)

        _plant(monkeypatch, drawn, seed)
        found = select(linear, dataset, candidates, FLIPPING, seed=seed)
        return found.winner, found.confirmations[-1].better

    assert sum(confirmed(0.0, seed)[1] is True for seed in range(60)) <= 6
    assert sum(confirmed(1.0, seed) == (candidates[7], True) for seed in range(60)) >= 48


def _plant(monkeypatch: pytest.MonkeyPatch, draw: Any, seed: int = 0) -> None:
    """Let values be drawn in place of explanations, the same for a combination wherever it is judged."""
    from analyzer.evaluation import registry

    known = registry.get("pixel-flipping")
    infos = {"test-more": (True,), "sparseness": (None,), "pixel-flipping": (False,)}

    class Info:
        def __init__(self, better: bool | None) -> None:
            self.higher_is_better = better

    monkeypatch.setattr(selection.metrics, "get", lambda name: Info(*infos[name]) if known else known)
    state = np.random.default_rng([seed, 99])

    def judged(model: Any, dataset: Dataset, candidates: Any, chosen: Any, *, at: Any, **_: Any) -> Judgement:
        base = np.random.default_rng(seed).standard_normal(len(dataset))  # what all have in common: inputs differ
        cells = {}
        for number, candidate in enumerate(candidates):
            for metric in chosen:
                own = draw(_number_of(candidate), metric, state, len(at))
                cells[number, metric] = Cell({}, base[list(at)] + own)
        ids = tuple(dataset.ids[each] for each in at)
        return Judgement(tuple(candidates), tuple(chosen), ids, [""] * len(ids), cells)

    monkeypatch.setattr(selection, "judge", judged)


def _number_of(candidate: Candidate) -> int:
    if candidate.method == "lrp":
        return round(-np.log10(candidate.params["epsilon"])) if candidate.params else -1
    return ["gradient", "saliency", "sensitivity"].index(candidate.method)


def test_inputs_are_parted_by_the_seed_and_by_class(linear: Model, tmp_path: Path) -> None:
    dataset = data(linear, tmp_path, 40, label=np.repeat([0, 1], [30, 10]))
    inside, outside = split(dataset, 0.5, 0)
    assert sorted([*inside, *outside]) == list(range(40))
    assert sum(dataset.labels[at] == 1 for at in inside) == sum(dataset.labels[at] == 1 for at in outside) == 5
    assert split(dataset, 0.5, 0) == (inside, outside) != split(dataset, 0.5, 1)
    assert len(split(dataset, 0.25, 0)[1]) == 10


def test_too_few_inputs_are_inconclusive(linear: Model, tmp_path: Path) -> None:
    candidates = [Candidate("gradient"), Candidate("gradient-x-input")]
    with pytest.raises(InconclusiveError, match=rf"at least {LEAST}.*give {2 * LEAST} inputs.*selection\.too_few"):
        select(linear, data(linear, tmp_path, 2 * LEAST - 2), candidates, FLIPPING)
    select(linear, data(linear, tmp_path, 2 * LEAST), candidates, FLIPPING)


@pytest.mark.parametrize(
    ("candidates", "chosen", "options", "said"),
    [
        (2, {"sparseness": {}}, {}, "only describes"), (1, FLIPPING, {}, "nothing to choose from"),
        (2, FLIPPING, {"held_out": 1.0}, "held_out=1.0"), (2, FLIPPING, {"held_out": "x"}, "held_out='x'"),
    ],
)  # fmt: skip
def test_wrong_choices_are_refused(
    linear: Model, tmp_path: Path, candidates: int, chosen: Any, options: Any, said: str
) -> None:
    all_ = [Candidate("gradient"), Candidate("gradient-x-input")]
    with pytest.raises(UsageError, match=said):
        select(linear, data(linear, tmp_path), all_[:candidates], chosen, **options)
