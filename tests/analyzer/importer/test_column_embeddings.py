"""Categories looked up column by column: one embedding for all of them, and the same gradients as in the framework."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analyzer

CATEGORIES, NUMBERS = np.array([[1, 0, 3], [4, 2, 2]]), np.array([[0.3, -1.0], [2.0, 0.5]], np.float32)


class Tabular(nn.Module):
    """Embeddings of different widths beside numbers, into a network that isn't linear."""

    def __init__(self, sizes: tuple[int, ...] = (5, 3, 4), widths: tuple[int, ...] = (4, 2, 3)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.Embedding(*each) for each in zip(sizes, widths, strict=True))
        self.body = nn.Sequential(nn.Linear(sum(widths) + 2, 6), nn.Tanh(), nn.Linear(6, 2))

    def embedded(self, categories: Tensor) -> list[Tensor]:
        """The rows that each column selects."""
        return [table(categories[:, at]) for at, table in enumerate(self.tables)]

    def scores(self, embedded: list[Tensor], numbers: Tensor) -> Tensor:
        """From what was looked up."""
        return self.body(torch.cat([*embedded, numbers], 1))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        return self.scores(self.embedded(categories), numbers)


class Sliced(Tabular):
    def embedded(self, categories: Tensor) -> list[Tensor]:
        """Columns that keep their axis."""
        return [table(categories[:, at : at + 1]).flatten(1) for at, table in enumerate(self.tables)]


class Unbound(Tabular):
    def embedded(self, categories: Tensor) -> list[Tensor]:
        """All columns at once."""
        return [table(column.flatten()) for table, column in zip(self.tables, categories.split(1, 1), strict=True)]


class Late(Tabular):
    """What one column selects is worked on before the next one is looked up."""

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        found = [self.tables[0](categories[:, 0])]
        bent = torch.tanh(found[0])
        found += self.embedded(categories)[1:]
        return self.scores([bent, *found[1:]], numbers)

    def scores_from(self, embedded: list[Tensor], numbers: Tensor) -> Tensor:
        """The oracle's way."""
        return self.scores([torch.tanh(embedded[0]), *embedded[1:]], numbers)


class Gap(Tabular):
    """A column that nothing reads."""

    def __init__(self) -> None:
        super().__init__((5, 4), (4, 3))

    def embedded(self, categories: Tensor) -> list[Tensor]:
        """The first and the last."""
        return [self.tables[0](categories[:, 0]), self.tables[1](categories[:, 2])]


class Hot(Tabular):
    """Codes written out, and a column that is looked up twice."""

    def __init__(self) -> None:
        super().__init__((5, 5, 4), (4, 2, 3))

    def embedded(self, categories: Tensor) -> list[Tensor]:
        """Two rows of the first column, none of the second."""
        return [self.tables[0](categories[:, 0]), self.tables[1](categories[:, 0]), self.tables[2](categories[:, 2])]


def exported(net: nn.Module, dynamo: bool) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"categories": {0: "n"}, "numbers": {0: "n"}}
        example = (torch.tensor(CATEGORIES), torch.tensor(NUMBERS))
        if dynamo:
            program = torch.onnx.export(net, example, dynamo=True, verbose=False, input_names=["categories", "numbers"])
            assert program is not None
            program.save(buffer)
        else:
            torch.onnx.export(
                net, example, buffer, dynamo=False, input_names=["categories", "numbers"], dynamic_axes=axes
            )
    return buffer.getvalue()


def by_column(net: Tabular, groups: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Gradient x value of the second score by autograd: (batch, 3) of the categories, (batch, 2) of the numbers.

    ``groups`` says for every column which of the network's lookups are its.
    """
    numbers = torch.tensor(NUMBERS, requires_grad=True)
    found = [each.detach().requires_grad_() for each in net.embedded(torch.tensor(CATEGORIES))]
    scores = net.scores_from(found, numbers) if isinstance(net, Late) else net.scores(found, numbers)
    scores[:, 1].sum().backward()
    products = [(each.grad * each).sum(1).detach().numpy() for each in found if each.grad is not None]
    zero = np.zeros(len(CATEGORIES), np.float32)
    table = [sum((products[at] for at in group), zero) for group in groups]
    assert numbers.grad is not None
    return np.stack(table, 1), (numbers.grad * numbers).detach().numpy()


NETS = {
    "selected": (Tabular, [[0], [1], [2]]), "sliced": (Sliced, [[0], [1], [2]]), "split": (Unbound, [[0], [1], [2]]),
    "late": (Late, [[0], [1], [2]]), "gap": (Gap, [[0], [], [1]]), "twice": (Hot, [[0, 1], [], [2]]),
}  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("which", NETS)
def test_every_column_has_the_gradient_of_what_it_selects(which: str, dynamo: bool) -> None:
    kind, groups = NETS[which]
    net = kind().eval()
    model = analyzer.load(exported(net, dynamo), "cpu")
    x = {"categories": CATEGORIES, "numbers": NUMBERS}
    assert model.verify(x).ok
    want = by_column(net, groups)
    for backend in ("torch", "onnxruntime"):
        e = model.explain(x, "gradient-x-input", target=1, backend=backend)
        for name, expected in zip(x, want, strict=True):
            np.testing.assert_allclose(e.attributions[name], expected, atol=1e-6, err_msg=f"{which}, {backend}, {name}")


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift", "lrp"])
def test_categories_and_numbers_share_one_sum(method: str) -> None:
    model = analyzer.load(exported(Tabular().eval(), False), "cpu")
    x = {"categories": CATEGORIES, "numbers": NUMBERS}
    e = model.explain(x, method, target=1, **({"composite": "epsilon", "zero_bias": True} if method == "lrp" else {}))
    assert e.completeness is not None
    total = sum(value.reshape(2, -1).sum(1) for value in e.attributions.values())
    np.testing.assert_allclose(total, e.completeness.total, rtol=1e-5)
    np.testing.assert_allclose(total, e.completeness.expected, rtol=2e-3, atol=1e-4)
    assert e.raws["categories"].shape == (2, 3, 4)


def test_an_input_of_one_column_is_joined_too() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.table, self.end = nn.Embedding(5, 3), nn.Linear(3, 2)

        def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
            return self.end(self.table(categories.squeeze(1)).tanh()) + numbers

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ["categories", "numbers"]
        torch.onnx.export(
            One().eval(),
            (torch.tensor(CATEGORIES[:, :1]), torch.tensor(NUMBERS)),
            buffer,
            dynamo=False,
            input_names=names,
        )
    e = analyzer.load(buffer.getvalue(), "cpu").explain(
        {"categories": CATEGORIES[:, :1], "numbers": NUMBERS}, "deeplift", target=0
    )
    assert e.attributions["categories"].shape == (2, 1)
    assert np.abs(e.attributions["categories"]).min() > 0
