"""Where tokens are explained: at what the first layer reads of them, and at nothing that is computed from it."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer import load
from analyzer.errors import UsageError
from analyzer.model import Model

IDS = np.array([[1, 4, 2, 0], [3, 3, 5, 1]])


class Words(nn.Module):
    """Word embeddings and a head that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions, self.kinds = nn.Embedding(6, 3), nn.Embedding(9, 3), nn.Embedding(2, 3)
        self.mix = nn.Linear(3, 3)

    def head(self, x: Tensor) -> Tensor:
        """Scores."""
        return self.mix(x.tanh()).mean(1)


class Scaled(Words):
    def embedded(self, ids: Tensor) -> Tensor:
        """Words, scaled, beside constant positions."""
        return self.words(ids) * 3**0.5 + self.positions.weight[:4]

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedded(ids))


class Counted(Scaled):
    def embedded(self, ids: Tensor) -> Tensor:
        """Positions counted over the tokens that are not padding."""
        return self.positions(torch.cumsum((ids != 0).to(torch.int64), 1)) + self.words(ids)


class Deep(Scaled):
    def embedded(self, ids: Tensor) -> Tensor:
        """The first sum is a layer's result already."""
        return self.words(ids)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedded(ids)
        return self.head(x + self.mix(x))


class Normalised(Scaled):
    """Words, counted positions and a normalisation at once, as RoBERTa and most sentence encoders begin."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)

    def added(self, ids: Tensor) -> Tensor:
        """What is added to the words."""
        return self.positions(torch.cumsum((ids != 0).to(torch.int64), 1))

    def head(self, x: Tensor) -> Tensor:
        return super().head(self.norm(x))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.added(ids) + self.words(ids))


class Masked(Words):
    """Words, types and a mask, named as usual."""

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        return self.mix(((self.words(ids) + self.kinds(types)) * mask[..., None]).tanh()).mean(1)


class Typed(Words):
    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        return self.head(self.words(ids) + self.kinds(kinds) + self.positions.weight[:4])


def onnx_of(net: nn.Module, *inputs: np.ndarray, names: tuple[str, ...] = ("ids", "kinds")) -> Model:
    buffer, given = io.BytesIO(), tuple(torch.from_numpy(x) for x in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), given, buffer, opset_version=17, dynamo=False, input_names=list(names)[: len(given)]
        )
    return load(buffer.getvalue(), device="cpu")


def test_additions_of_what_tokens_select_belong_to_the_embedding() -> None:
    for make in (Scaled, Counted, Deep):
        net = make()
        e = onnx_of(net, IDS).explain(IDS, method="gradient-x-input", target=1)
        leaf = net.embedded(torch.from_numpy(IDS)).detach().requires_grad_()
        out = net.head(leaf + net.mix(leaf)) if make is Deep else net.head(leaf)
        out[:, 1].sum().backward()
        assert leaf.grad is not None
        np.testing.assert_allclose(e.raw, (leaf * leaf.grad).detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(e.attribution, e.raw.sum(-1), rtol=1e-5, atol=1e-7)


def test_two_token_inputs_keep_their_own_embeddings() -> None:
    net, kinds = Typed(), np.array([[0, 0, 1, 1], [1, 0, 1, 0]])
    e = onnx_of(net, IDS, kinds).explain({"ids": IDS, "kinds": kinds}, method="gradient-x-input", target=0)
    words, types = net.words(torch.from_numpy(IDS)), net.kinds(torch.from_numpy(kinds))
    leaf = (words + types + net.positions.weight[:4]).detach().requires_grad_()
    net.head(leaf)[:, 0].sum().backward()
    assert leaf.grad is not None
    for name, part in (("ids", words), ("kinds", types)):
        expected = (part * leaf.grad).sum(-1).detach().numpy()
        np.testing.assert_allclose(e.attributions[name], expected, rtol=1e-4, atol=1e-6)


def test_of_a_sum_that_is_normalised_at_once_the_words_are_explained() -> None:
    """The sum's own size means nothing to the network: gradient times sum is zero, and so is its integral."""
    net = Normalised()
    ids, model = torch.from_numpy(IDS), onnx_of(net, IDS)
    words, rest = net.words(ids).detach(), net.added(ids).detach()
    leaf = words.clone().requires_grad_()
    net.head(leaf + rest)[:, 1].sum().backward()
    assert leaf.grad is not None
    assert ((words + rest) * leaf.grad).sum(-1).abs().max() < 1e-4 * (words * leaf.grad).abs().max()
    e = model.explain(IDS, method="gradient-x-input", target=1)
    np.testing.assert_allclose(e.raw, (words * leaf.grad).numpy(), rtol=1e-3, atol=1e-6)
    path = model.explain(IDS, method="integrated-gradients", target=1, steps=200)
    difference = (net.head(words + rest) - net.head(rest))[:, 1].detach().numpy()
    np.testing.assert_allclose(path.attribution.sum(1), difference, rtol=1e-2, atol=1e-4)
    assert path.completeness is not None
    np.testing.assert_allclose(path.completeness.expected, difference, rtol=1e-3, atol=1e-5)


def test_a_gradient_that_sums_to_nothing_is_given_by_its_norm() -> None:
    model = onnx_of(Normalised(), IDS)
    for method, params in (("gradient", {}), ("smoothgrad", {"samples": 3, "reduce": "mean"})):
        e = model.explain(IDS, method, 1, **params)
        np.testing.assert_allclose(e.attribution, np.linalg.norm(e.raw, axis=-1), rtol=1e-4)
        assert any("its norm" in note for note in e.record["notes"])
    plain = onnx_of(Scaled(), IDS).explain(IDS, "gradient", 1)
    np.testing.assert_allclose(plain.attribution, plain.raw.sum(-1), rtol=1e-5, atol=1e-7)
    assert not plain.record["notes"]


def test_baselines_of_tokens_are_ids_in_the_models_own_embedding() -> None:
    net, model = Normalised(), onnx_of(Normalised(), IDS)
    ids, pad = torch.from_numpy(IDS), torch.zeros_like(torch.from_numpy(IDS))
    rest = net.added(ids)
    difference = (net.head(net.words(ids) + rest) - net.head(net.words(pad) + rest))[:, 1].detach().numpy()
    methods = {"integrated-gradients": {"steps": 200}, "deeplift": {}}
    for method, params in methods.items():
        forms = ("id:0", np.zeros((2, 4), np.int64), np.zeros((2, 4, 1), np.int32), [0, 0, 0, 0])
        found = [model.explain(IDS, method, 1, baseline=form, **params).attribution for form in forms]
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])
        np.testing.assert_allclose(found[0].sum(1), difference, rtol=1e-2, atol=1e-4)
    shap = model.explain(IDS, "gradient-shap", 1, baselines="id:0", samples=400)
    np.testing.assert_allclose(shap.attribution.sum(1), difference, atol=0.1 * np.abs(difference).max())


@pytest.mark.parametrize("baseline", ["id:", "id:-1", "id:6", "pad", np.zeros((3, 5), np.int64)])
def test_what_is_no_baseline_is_said_in_a_line(baseline: object) -> None:
    with pytest.raises(UsageError) as caught:
        onnx_of(Normalised(), IDS).explain(IDS, "integrated-gradients", 1, baseline=baseline)
    assert caught.value.code == "params.invalid"


def test_masks_and_types_are_held_fixed() -> None:
    net, types, mask = Masked(), np.array([[0, 0, 1, 1], [1, 0, 1, 0]]), np.ones((2, 4), np.float32)
    names = ("input_ids", "token_type_ids", "attention_mask")
    feed = dict(zip(names, (IDS, types, mask), strict=True))
    model = onnx_of(net, IDS, types, mask, names=names)
    for method in ("gradient-x-input", "integrated-gradients", "lrp"):
        assert list(model.explain(feed, method, target=0).attributions) == ["input_ids"]
