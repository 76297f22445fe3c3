"""Models that no trace can hold: white-box methods say which node is in the way, the others explain them."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from tests.common.checks import each_method, explain, load, registered
from tests.common.models import untraceable

X = np.random.default_rng(7).standard_normal((2, 6)).astype(np.float32)


@each_method
@pytest.mark.parametrize("kind", ["custom", "text"])
def test_the_node_in_the_way_is_named_or_the_model_explained(method: str, kind: str) -> None:
    proto, culprit = untraceable(kind)
    model = load(proto)
    if registered()[method].needs == "runtime":
        found = explain(model, X, method, target=0)
        assert found.attribution.shape == X.shape
        assert np.isfinite(found.attribution).all()
        assert np.abs(found.attribution).max() > 0
        return
    with pytest.raises(analyzer.UnsupportedError, match=f"node '{culprit}'") as caught:
        explain(model, X, method, target=0)
    assert caught.value.code == "op.unsupported"
    assert caught.value.exit_code == 3
    assert "perturbation" in caught.value.hint


@pytest.mark.parametrize("kind", ["custom", "text"])
def test_occlusion_of_an_untraceable_linear_model_is_exact(kind: str) -> None:
    proto, _ = untraceable(kind)
    w = np.frombuffer(proto.graph.initializer[0].raw_data, np.float32).reshape(6, 3)
    found = explain(load(proto), X, "occlusion", target=2, window=1)
    np.testing.assert_allclose(found.attribution, X * w[:, 2], rtol=1e-4, atol=1e-5)
