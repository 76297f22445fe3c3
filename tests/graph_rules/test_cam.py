"""Class activation maps: which layer is chosen, and CAM beside Grad-CAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer import load
from analyzer.errors import AnalyzerError, UnsupportedError
from tests.graph_rules.graphs import tensor
from tests.graph_rules.nets import (
    ResNetLike,
    SeriesNet,
    SqueezeNetLike,
    VGGLike,
    exported,
    file_of,
    pictures,
    seeded,
)

W, V = tensor(4, 3, 3, 3, seed=1), tensor(6, 4, 3, 3, seed=2)
PLACES = {"image": (2, 3, 12, 12), "series": (2, 2, 20)}


@pytest.mark.parametrize(
    ("net", "shape", "layer", "size"),
    [(VGGLike, "image", "/features/features.6/Relu", (8, 6, 6)),
        (ResNetLike, "image", "/blocks/blocks.1/relu2/Relu", (8, 6, 6)),
     (SqueezeNetLike, "image", "/relus.4/Relu", (5, 2, 2)), (SeriesNet, "series", "/Relu_1", (6, 16))],
)  # fmt: skip
def test_the_chosen_layer(net: type[nn.Module], shape: str, layer: str, size: tuple[int, ...]) -> None:
    x = pictures(*PLACES[shape])
    found = exported(seeded(net), x).explain(x, method="grad-cam", target=1)
    assert found.record["layer"] == layer
    assert found.raw.shape == (2, 1, *size[1:])
    assert found.attribution.shape == (2, 1, *x.shape[2:])


@pytest.mark.parametrize(
    ("net", "shape", "places"), [(ResNetLike, "image", 36), (SqueezeNetLike, "image", 4), (SeriesNet, "series", 16)]
)
def test_cam_is_grad_cam_times_the_number_of_places(net: type[nn.Module], shape: str, places: int) -> None:
    x = pictures(*PLACES[shape])
    model = exported(seeded(net), x)
    cam, grad_cam = (
        model.explain(x, method=method, target=[0, 3], relu=False, precision="float64").raw
        for method in ("cam", "grad-cam")
    )
    assert np.abs(cam).max() > 1e-6
    np.testing.assert_allclose(cam, grad_cam * places, rtol=1e-10, atol=1e-12)


def test_cam_sums_to_the_score_less_the_bias() -> None:
    """Global average pooling and a linear layer: mean of the map + bias = score."""
    x = pictures(*PLACES["image"])
    net = seeded(ResNetLike)
    found = exported(net, x).explain(x, method="cam", target=[2, 4], precision="float64")
    bias = net.fc.bias.detach().numpy()[[2, 4]]
    np.testing.assert_allclose(found.raw.mean((1, 2, 3)) + bias, found.score, rtol=1e-5)


def test_cam_is_refused_where_more_than_averaging_follows() -> None:
    x = pictures(*PLACES["image"])
    with pytest.raises(UnsupportedError, match=r"/features/features\.7/MaxPool") as caught:
        exported(seeded(VGGLike), x).explain(x, method="cam")
    assert caught.value.code == "method.unsuitable"


class FlatHead(nn.Module):
    """A linear head, but one that knows the place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 100, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.relu(self.conv(x)).flatten(1))
        return out


class SquaredHead(nn.Module):
    """Pooled features are squared: not linear, although the gradient is the same at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        out: Tensor = self.fc(pooled * pooled)
        return out


@pytest.mark.parametrize("net", [FlatHead, SquaredHead])
def test_cam_is_refused_where_the_head_does_not_average(net: type[nn.Module]) -> None:
    x = pictures(*PLACES["image"])
    with pytest.raises(UnsupportedError) as caught:
        exported(seeded(net), x).explain(x, method="cam")
    assert caught.value.code == "method.unsuitable"


class Dense(nn.Module):
    """No convolution at all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


def test_a_model_without_feature_maps_is_refused() -> None:
    x = pictures(2, 6)
    with pytest.raises(UnsupportedError) as caught:
        exported(seeded(Dense), x).explain(x, method="grad-cam")
    assert caught.value.code == "layer.none"


def test_a_layer_without_places_is_refused() -> None:
    x = pictures(*PLACES["image"])
    with pytest.raises(AnalyzerError) as caught:
        exported(seeded(ResNetLike), x).explain(x, method="grad-cam", layer="/fc/Gemm")
    assert caught.value.code == "layer.not_spatial"


def test_an_unknown_layer_names_the_near_one() -> None:
    x = pictures(*PLACES["image"])
    with pytest.raises(AnalyzerError, match="/stem/Conv") as caught:
        exported(seeded(ResNetLike), x).explain(x, method="grad-cam", layer="/stem/Cnov")
    assert caught.value.code == "layer.unknown"


class TwoHeads(nn.Module):
    """Two outputs; the second one's layers don't lead to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Conv2d(4, 2, 3)
        self.relu_right = nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.stem(x))
        right = self.relu_right(self.right(h))
        return torch.relu(self.left(h)).mean((2, 3)), right.mean((2, 3)) * 2


@pytest.mark.parametrize("layer", ["/left/Conv", "/stem/Conv"])
def test_a_layer_of_the_explained_head(layer: str) -> None:
    x = pictures(*PLACES["image"])
    found = exported(seeded(TwoHeads), x).explain(x, method="grad-cam", target=1, layer=layer, relu=False)
    assert np.abs(found.raw).max() > 0


@pytest.mark.parametrize(("target", "layer"), [("y0[:,1]", "/Relu_1"), ("y1[:,1]", "/relu_right/Relu")])
def test_the_chosen_layer_is_of_the_explained_head(target: str, layer: str) -> None:
    x = pictures(*PLACES["image"])
    assert exported(seeded(TwoHeads), x).explain(x, method="grad-cam", target=target).record["layer"] == layer


@pytest.mark.parametrize("layer", ["/right/Conv", "/relu_right/Relu"])
def test_a_layer_that_the_score_does_not_depend_on_is_refused_by_name(layer: str) -> None:
    x = pictures(*PLACES["image"])
    with pytest.raises(AnalyzerError, match=layer):
        exported(seeded(TwoHeads), x).explain(x, method="grad-cam", target=1, layer=layer)


class Normalised(nn.Module):
    """The last feature map is a convolution's with its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.bn.running_mean = torch.tensor([0.5, -0.5, 0.2, 0.1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.bn(self.conv(x)).mean((2, 3)))
        return out


def test_the_layer_on_record_can_be_asked_for() -> None:
    """What was chosen automatically has a name that the user can give back, and then gives the same map."""
    x = pictures(*PLACES["image"])
    # the exporter folds normalisation itself unless the network is exported as in training
    model = load(file_of(seeded(Normalised), x, training=True), device="cpu")
    assert "BatchNormalization" in [node.op_type for node in model.proto.graph.node]
    auto = model.explain(x, method="grad-cam", target=1)
    again = model.explain(x, method="grad-cam", target=1, layer=auto.record["layer"])
    assert np.array_equal(auto.raw, again.raw)


def test_a_layer_that_was_folded_is_not_called_unknown() -> None:
    """The convolution's own output exists nowhere any more, but the model has such a node: say so, or explain it."""
    x = pictures(*PLACES["image"])
    model = load(file_of(seeded(Normalised), x, training=True), device="cpu")
    name = next(node.name for node in model.proto.graph.node if node.op_type == "Conv")
    try:
        model.explain(x, method="grad-cam", target=1, layer=name)
    except AnalyzerError as problem:
        assert problem.code != "layer.unknown"
        assert "fold" in f"{problem}"
