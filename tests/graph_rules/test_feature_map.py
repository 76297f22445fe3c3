"""Which layer class activation maps are read at, on recorded graphs."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from graph_rules.cam import NoFeatureMapError, in_the_way_of_cam, last_feature_map, layout
from tests.graph_rules.graphs import aten, record, tensor

W, V = tensor(4, 3, 3, 3, seed=1), tensor(6, 4, 3, 3, seed=2)


def chosen(function: Callable[[Tensor], Tensor], *shape: int) -> tuple[object, tuple[int, ...]]:
    graph = record(function, tensor(*shape))
    node = last_feature_map(graph.output, tuple(graph.placeholders))
    return node.target, tuple(node.meta["shape"])


def backbone(x: Tensor) -> Tensor:
    return F.relu(F.conv2d(F.relu(F.conv2d(x, W)), V))


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "max-pool": lambda x: F.max_pool2d(backbone(x), 2).flatten(1),
    "average-pool": lambda x: F.avg_pool2d(backbone(x), 2).flatten(1),
    "global-max": lambda x: backbone(x).amax((2, 3)),
    "flatten": lambda x: backbone(x).flatten(1) @ tensor(6 * 64, 3),
    "one-by-one": lambda x: torch.sigmoid(F.conv2d(backbone(x).mean((2, 3), keepdim=True), tensor(5, 6, 1, 1))),
    "squeeze-excite": lambda x: (backbone(x) * 1.0).mean((2, 3)),
    "last-step-of-tokens": lambda x: backbone(x).flatten(2).transpose(1, 2) @ tensor(6, 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_map_before_the_head(name: str) -> None:
    """Whatever the head is, the map is the backbone's: 6 channels on 8 x 8 places."""
    target, shape = chosen(HEADS[name], 1, 3, 12, 12)
    assert shape == (1, 6, 8, 8)
    assert target in (aten.relu.default, aten.mul.Tensor)


def test_concatenated_maps_count() -> None:
    def inception(x: Tensor) -> Tensor:
        h = F.relu(F.conv2d(x, W))
        return torch.cat([h, F.relu(F.conv2d(h, tensor(2, 4, 1, 1)))], 1).mean((2, 3))

    assert chosen(inception, 1, 3, 12, 12) == (aten.cat.default, (1, 6, 10, 10))


def test_maps_of_one_row_count() -> None:
    """Networks for several signals at once work on (batch, channels, 1, time)."""
    target, shape = chosen(lambda x: F.relu(F.conv2d(x, tensor(4, 1, 3, 5))).flatten(1), 2, 1, 3, 30)
    assert (target, shape) == (aten.relu.default, (2, 4, 1, 26))


def test_tokens_are_a_feature_map() -> None:
    """Patches as tokens are (batch, tokens, width): the last ones before their mean, not the patch embedding."""

    def vision_transformer(x: Tensor) -> Tensor:
        tokens = F.conv2d(x, tensor(6, 3, 4, 4), stride=4).flatten(2).transpose(1, 2)
        q = tokens.reshape(-1, 6) @ tensor(6, 6, seed=3)
        mixed = torch.softmax(q.reshape(1, 9, 6) @ tokens.transpose(1, 2), -1) @ tokens
        tokens = F.layer_norm(tokens + mixed, (6,))
        return tokens.mean(1) @ tensor(6, 3, seed=4)

    assert chosen(vision_transformer, 1, 3, 12, 12) == (getitem, (1, 9, 6))


def test_channels_last_blocks_are_a_feature_map() -> None:
    def block(x: Tensor) -> Tensor:
        h = F.conv2d(x, W)
        y = F.gelu(F.layer_norm(h.permute(0, 2, 3, 1), (4,)))
        return y.mean((1, 2))

    assert chosen(block, 1, 3, 12, 12) == (aten.gelu.default, (1, 10, 10, 4))


def attended(x: Tensor, seed: int = 0) -> Tensor:
    """A block of attention with projections of queries, keys and values, on (batch, tokens, 6)."""
    h = F.layer_norm(x, (6,))
    q, k, v = (h @ tensor(6, 6, seed=seed + n).expand(len(x), 6, 6) + tensor(6, seed=9) for n in range(3))
    return x + torch.softmax(q * 0.4 @ k.transpose(1, 2), -1) @ v


def test_only_attention_mixes_before_a_class_token() -> None:
    """The last block's normalised input: not its projections, not what comes behind, where only one token is read."""

    def net(x: Tensor) -> Tensor:
        tokens = F.conv2d(x, tensor(6, 3, 4, 4), stride=4).flatten(2).transpose(1, 2) + tensor(1, 9, 6, seed=2)
        tokens = torch.cat([tensor(1, 2, 6, seed=3).expand(len(x), 2, 6), tokens], 1)
        tokens = F.layer_norm(attended(attended(tokens), 5), (6,))
        return tokens[:, 0] @ tensor(6, 3, seed=4)

    graph = record(net, tensor(2, 3, 12, 12))
    node = last_feature_map(graph.output, tuple(graph.placeholders))
    norms = [each for each in graph.of(getitem) if each.args[1] == 0]
    assert node is norms[1]
    found = layout(node, graph.output, tuple(graph.placeholders))
    assert found is not None
    assert (found.grid, found.before, found.after, found.channels) == ((3, 3), 2, 0, 6)


def test_samples_may_come_second() -> None:
    """Transformers that work on (tokens, batch, width)."""

    def net(x: Tensor) -> Tensor:
        tokens = F.conv2d(x, tensor(6, 3, 4, 4), stride=4).flatten(2).permute(2, 0, 1)
        return F.layer_norm(tokens, (6,)).mean(0) @ tensor(6, 3, seed=4)

    for batch in (1, 2):
        graph = record(net, tensor(batch, 3, 12, 8))
        node = last_feature_map(graph.output, tuple(graph.placeholders))
        found = layout(node, graph.output, tuple(graph.placeholders))
        assert found is not None
        value = tensor(6, batch, 6, seed=7)
        whole, _ = found.split(value)
        assert torch.equal(whole, value.permute(1, 2, 0).reshape(batch, 6, 3, 2))
        assert np.array_equal(found.joined(whole.numpy(), None), value.numpy())


def test_patches_that_are_cut_by_reshaping() -> None:
    """No convolution: the picture is cut into patches of 4 x 2, and a matrix product makes the tokens."""

    def net(x: Tensor) -> Tensor:
        cut = x.reshape(-1, 3, 3, 4, 5, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 15, 24)
        tokens = cut @ tensor(24, 6, seed=2).expand(len(x), 24, 6)
        return torch.tanh(tokens).mean(1) @ tensor(6, 3)

    graph = record(net, tensor(2, 3, 12, 10))
    node = last_feature_map(graph.output, tuple(graph.placeholders))
    found = layout(node, graph.output, tuple(graph.placeholders))
    assert node.target is aten.tanh.default
    assert found is not None
    assert (found.grid, found.channels) == ((3, 5), 6)


def test_a_segmentation_is_seen_before_its_last_mixing() -> None:
    """Not at the output convolution, nor at what only places by themselves follow."""

    def net(x: Tensor) -> Tensor:
        h = F.relu(F.conv2d(x, W, padding=1))
        h = torch.tanh(F.conv2d(h, V, padding=1))
        return F.interpolate(F.conv2d(h, tensor(5, 6, 1, 1)), scale_factor=2.0, mode="bilinear")

    assert chosen(net, 1, 3, 12, 12) == (aten.relu.default, (1, 4, 12, 12))


def test_a_learned_upsampling_of_scores_is_no_reason_to_read_them() -> None:
    def net(x: Tensor) -> Tensor:
        scores = F.conv2d(F.relu(F.conv2d(x, W, padding=1)), tensor(5, 4, 1, 1))
        return F.conv_transpose2d(scores, tensor(5, 5, 4, 4), stride=2, padding=1)

    assert chosen(net, 1, 3, 12, 12) == (aten.relu.default, (1, 4, 12, 12))


def test_a_detector_is_seen_where_all_its_grids_come_from() -> None:
    """Two heads of convolutions whose grids are put one after the other; boxes are weighted means of bins."""

    def head(h: Tensor) -> Tensor:
        mixed = F.silu(F.conv2d(h, tensor(6, 6, 3, 3, seed=3), padding=1))
        return F.conv2d(mixed, tensor(11, 6, 1, 1, seed=4)).flatten(2)

    def net(x: Tensor) -> Tensor:
        h = backbone(x)
        neck = F.silu(F.conv2d(h, tensor(6, 6, 3, 3, seed=5), padding=1))
        small = F.silu(F.conv2d(neck, tensor(6, 6, 3, 3, seed=6), stride=2, padding=1))
        both = torch.cat([head(neck), head(small)], 2)
        bins, classes = both.split([8, 3], 1)
        bins = torch.softmax(bins.reshape(-1, 2, 4, 80).transpose(1, 2), 1)
        boxes = F.conv2d(bins, tensor(1, 4, 1, 1)).reshape(-1, 2, 80)
        return torch.cat([boxes, torch.sigmoid(classes)], 1)

    graph = record(net, tensor(1, 3, 12, 12))
    node = last_feature_map(graph.output, tuple(graph.placeholders))
    assert node is graph.of(aten.silu.default)[0]


@pytest.mark.parametrize(
    "function", [lambda x: x.relu().mean((2, 3)), lambda x: F.conv2d(x, tensor(2, 3, 12, 12)).flatten(1)]
)
def test_no_map(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NoFeatureMapError):
        chosen(function, 1, 3, 12, 12)


def test_what_is_in_the_way() -> None:
    def head(x: Tensor) -> Tensor:
        pooled = F.relu(F.conv2d(x, W)).mean((2, 3))
        return torch.relu(pooled @ tensor(4, 3)) @ tensor(3, 2)

    graph = record(head, tensor(1, 3, 12, 12))
    layer, inner = graph.of(aten.relu.default)
    assert in_the_way_of_cam(layer, graph.output) == [inner]
    assert in_the_way_of_cam(inner, graph.output) == []
