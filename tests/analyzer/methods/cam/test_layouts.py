"""Maps of layers that aren't (batch, channels, height, width), and which input a map belongs to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import analyzer
from analyzer import UnsupportedError
from tests.analyzer.methods.cam.layout_nets import (
    ChannelsLast,
    Patches,
    Siamese,
    Stacked,
    TextAndPicture,
    Windows,
    at_module,
    exported,
    made,
)

RNG = np.random.default_rng(3)
PICTURE = RNG.normal(size=(2, 3, 12, 16)).astype(np.float32)
LAST = np.ascontiguousarray(PICTURE.transpose(0, 2, 3, 1))
CAMS = ("grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "eigen-cam", "score-cam", "ablation-cam")


def tokens(before: int, after: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """(batch, tokens, width) as (batch, width, 3, 4), by hand."""

    def moved(value: np.ndarray) -> np.ndarray:
        return value[:, before : value.shape[1] - after].transpose(0, 2, 1).reshape(len(value), -1, 3, 4)

    return moved


def last(value: np.ndarray) -> np.ndarray:
    """(batch, height, width, channels) with the channels second."""
    return value.transpose(0, 3, 1, 2)


def windows(value: np.ndarray) -> np.ndarray:
    """Windows of 2 x 2 in a batch, as the picture of 6 x 8 places that they are cut from."""
    return value.reshape(2, 3, 4, 2, 2, -1).transpose(0, 5, 1, 3, 2, 4).reshape(2, -1, 6, 8)


NETS: dict[str, tuple[Callable[[], nn.Module], np.ndarray, str, str, Callable[[np.ndarray], np.ndarray]]] = {
    "class token": (
        lambda: Patches(0, False),
        PICTURE,
        "blocks.1.norm1",
        "blocks.1/norm1/",
        tokens(1),
    ),
    "registers": (lambda: Patches(2, False), PICTURE, "blocks.1.norm1", "blocks.1/norm1/", tokens(3)),
    "registers behind": (
        lambda: Patches(2, False, True),
        PICTURE,
        "blocks.1.norm1",
        "blocks.1/norm1/",
        tokens(0, 3),
    ),
    "mean of tokens": (lambda: Patches(2, True), PICTURE, "norm", "/norm/", tokens(3)),
    "windows": (Windows, PICTURE, "norm", "/norm/", last),
    "channels last": (ChannelsLast, LAST, "final", "/final/", last),
}


def by_hand(method: str, values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The formulas on (batch, channels, height, width), in float64."""
    a, g = values.astype(np.float64), gradients.astype(np.float64)
    if method == "grad-cam":
        return np.asarray((g.mean((2, 3), keepdims=True) * a).sum(1))
    if method == "hires-cam":
        return np.asarray((g * a).sum(1))
    if method == "layer-cam":
        return np.asarray((np.maximum(g, 0) * a).sum(1))
    below = a.sum((2, 3), keepdims=True)
    weights = (g * a).sum((2, 3), keepdims=True) / (below + np.where(below < 0, -1e-7, 1e-7))
    return np.asarray((weights * a).sum(1))


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("which", NETS)
def test_the_chosen_layer_and_its_map(which: str, backend: str) -> None:
    make, x, module, inside, moved = NETS[which]
    net = made(make())
    model = exported(net, {"x": x})
    values, gradients = (moved(each) for each in at_module(net, net.get_submodule(module), {"x": x}, 2))
    for method in ("grad-cam", "hires-cam", "layer-cam", "xgrad-cam"):
        found = model.explain(x, method, target=2, relu=False, backend=backend)
        layer = str(found.record["layer"])
        assert inside in layer, layer
        assert found.raw.shape == (2, 1, *values.shape[2:])
        assert found.attribution.shape == ((2, 12, 16, 1) if x is LAST else (2, 1, 12, 16))
        want = by_hand(method, values, gradients)
        np.testing.assert_allclose(found.raw[:, 0], want, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("which", ["registers", "windows", "channels last"])
def test_every_method_gives_a_picture(which: str, method: str) -> None:
    make, x, *_ = NETS[which]
    model = exported(made(make()), {"x": x})
    found = model.explain(x, method, target=1, relu=False)
    one = model.explain(x[:1], method, target=1, relu=False)
    assert found.raw.shape[:2] == (2, 1)
    assert found.raw.ndim == 4
    assert np.abs(found.raw).max() > 0
    np.testing.assert_allclose(one.raw, found.raw[:1], atol=1e-4 * np.abs(found.raw).max())


def test_windows_are_put_together_again() -> None:
    """A layer inside the windows is a picture too."""
    net = made(Windows())
    values, gradients = at_module(net, net.get_submodule("blocks.0.norm2"), {"x": PICTURE}, 3)
    layer = "/blocks.0/norm2/LayerNormalization"
    found = exported(net, {"x": PICTURE}).explain(PICTURE, "hires-cam", target=3, relu=False, layer=layer)
    want = by_hand("hires-cam", windows(values), windows(gradients))
    np.testing.assert_allclose(found.raw[:, 0], want, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dynamic", [True, False])
def test_ablation_leaves_the_tokens_beside_the_places(batch: int, dynamic: bool) -> None:
    """The drop of the score when a channel's patches are zero, by a hook; class and register tokens are what they were."""
    net, x = made(Patches(2, False)), PICTURE[:batch]
    module = net.get_submodule("blocks.1.norm1")
    values, _ = at_module(net, module, {"x": x}, 2)
    scores = []
    for channel in [None, *range(8)]:

        def without(_: nn.Module, __: object, out: torch.Tensor, channel: int | None = channel) -> torch.Tensor:
            changed = out.clone()
            if channel is not None:
                changed[:, 3:, channel] = 0
            return changed

        handle = module.register_forward_hook(without)
        with torch.no_grad():
            scores.append(net(torch.from_numpy(x))[:, 2].numpy())
        handle.remove()
    drops = (scores[0] - np.stack(scores[1:])).T
    want = (drops[:, :, None, None] / np.abs(scores[0])[:, None, None, None] * tokens(3)(values)).sum(1)
    found = exported(net, {"x": x}, dynamic).explain(x, "ablation-cam", target=2, relu=False)
    np.testing.assert_allclose(found.raw[:, 0], want, atol=1e-3 * np.abs(want).max())


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("call", "source"), [(0, "one"), (-1, "two")])
def test_the_map_is_of_the_picture_that_the_layer_sees(call: int, source: str, backend: str) -> None:
    x = {"one": PICTURE, "two": PICTURE[:, :, ::-1, ::-1].copy() + 0.5}
    net = made(Siamese())
    model = exported(net, x)
    layer = "auto" if source == "two" else "/tower/last/Relu"
    for method in ("grad-cam", "guided-grad-cam"):
        found = model.explain(x, method, target=0, relu=False, layer=layer, backend=backend)
        assert list(found.attributions) == [source]
        assert not any("depends on" in note for note in found.record["notes"])
    found = model.explain(x, "grad-cam", target=0, relu=False, layer=layer, backend=backend)
    want = by_hand("grad-cam", *at_module(net, net.get_submodule("tower.last"), x, 0, call))
    np.testing.assert_allclose(found.raws[source][:, 0], want, atol=2e-4 * np.abs(want).max())


def test_score_cam_masks_the_picture_that_the_layer_sees() -> None:
    x = {"one": PICTURE, "two": PICTURE[:, :, ::-1, ::-1].copy() + 0.5}
    model = exported(made(Siamese()), x)
    swapped = {"one": x["two"], "two": x["one"]}
    first = model.explain(x, "score-cam", target=0, layer="/tower/last/Relu")
    second = model.explain(swapped, "score-cam", target=0)
    assert (list(first.attributions), list(second.attributions)) == (["one"], ["two"])
    np.testing.assert_allclose(first.raw, second.raw, atol=1e-5 * np.abs(first.raw).max())


def test_a_layer_of_two_pictures_is_given_for_both_and_says_so() -> None:
    """The vector feeds the layer too, but has no places."""
    x = {"vector": RNG.normal(size=(2, 3)).astype(np.float32), "one": PICTURE, "two": PICTURE[::-1].copy()}
    found = exported(made(Stacked()), x).explain(x, "grad-cam", target=1, relu=False)
    assert list(found.attributions) == ["one", "two"]
    assert any("'one' and 'two'" in note for note in found.record["notes"])
    assert np.array_equal(found.attributions["one"], found.attributions["two"])


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_picture_beside_a_text(backend: str) -> None:
    x = {"input_ids": np.array([[1, 5, 3, 7]]), "pixel_values": PICTURE[:1]}
    net = made(TextAndPicture())
    found = exported(net, x).explain(x, "grad-cam", target=0, relu=False, backend=backend)
    assert list(found.attributions) == ["pixel_values"]
    want = by_hand("grad-cam", *at_module(net, net.get_submodule("tower.last"), x, 0))
    np.testing.assert_allclose(found.raw[:, 0], want, atol=2e-4 * np.abs(want).max())


def test_a_text_alone_has_no_map_of_its_own_accord() -> None:
    class Text(TextAndPicture):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            out: torch.Tensor = self.out(self.block(self.words(input_ids))[:, 0])
            return out

    x = {"input_ids": np.array([[1, 5, 3, 7]])}
    with pytest.raises(UnsupportedError) as caught:
        exported(made(Text()), x).explain(x, "grad-cam", target=0)
    assert caught.value.code == "layer.none"


@pytest.mark.parametrize("method", ["grad-cam", "guided-grad-cam", "ablation-cam"])
def test_an_empty_map_says_so(method: str) -> None:
    net = made(ChannelsLast())
    with torch.no_grad():
        net.head.weight[0] = -net.head.weight[0].abs()  # type: ignore[index, union-attr, operator]
    model = exported(net, {"x": LAST})
    found = model.explain(LAST, method, target=0)
    assert not found.attribution.any()
    assert any("zero everywhere" in note and "relu=False" in note for note in found.record["notes"])
    assert not any(
        "zero everywhere" in note for note in model.explain(LAST, method, target=0, relu=False).record["notes"]
    )


@pytest.mark.parametrize("which", ["registers", "windows", "channels last"])
def test_a_model_that_explains_itself(which: str) -> None:
    """Exported with its map as an output, for any batch."""
    make, x, *_ = NETS[which]
    model = exported(made(make()), {"x": x})
    content = analyzer.compile(model, "grad-cam", 2).proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 2):
        want = model.explain(x[:count], "grad-cam", target=2).raw
        got = session.run(["relevance"], {"x": x[:count]})[0]
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_cam_reads_channels_last() -> None:
    """Global pooling and a linear layer over the last axis: the class's weights on the channels."""
    net = made(ChannelsLast())
    values, _ = at_module(net, net.get_submodule("final"), {"x": LAST}, 3)
    weights = net.get_parameter("head.weight")[3].detach().numpy()
    found = exported(net, {"x": LAST}).explain(LAST, "cam", target=3)
    np.testing.assert_allclose(found.raw[:, 0], values @ weights, atol=1e-4 * np.abs(values @ weights).max())


def test_a_layer_behind_the_last_attention_says_that_nothing_is_read_there() -> None:
    """Only the class token of the last normalisation is read."""
    model = exported(made(Patches(2, False)), {"x": PICTURE})
    found = model.explain(PICTURE, "grad-cam", target=1, layer="/norm/LayerNormalization")
    assert found.raw.shape == (2, 1, 3, 4)
    assert any("gradient is zero" in note for note in found.record["notes"])


def test_ablation_where_the_texts_are_more_than_the_pictures() -> None:
    """One picture beside two texts: what is run again is the picture's batch."""
    x = {"input_ids": np.array([[1, 5, 3, 7], [2, 2, 9, 4]]), "pixel_values": PICTURE[:1]}
    net = made(TextAndPicture())
    model = exported(net, x)
    scores = []
    for channel in [None, *range(6)]:

        def without(_: nn.Module, __: object, out: torch.Tensor, channel: int | None = channel) -> torch.Tensor:
            return out if channel is None else out * (torch.arange(6) != channel)[:, None, None]

        handle = net.get_submodule("tower.last").register_forward_hook(without)
        with torch.no_grad():
            scores.append(net(*(torch.from_numpy(value) for value in x.values()))[0, 0].item())
        handle.remove()
    values, _ = at_module(net, net.get_submodule("tower.last"), x, 0)
    drops = (scores[0] - np.array(scores[1:])) / abs(scores[0])
    found = model.explain(x, "ablation-cam", target="y[0,0]", relu=False)
    want = (drops[:, None, None] * values[0]).sum(0)
    np.testing.assert_allclose(found.raw[0, 0], want, atol=1e-3 * np.abs(want).max())
