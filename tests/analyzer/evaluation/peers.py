"""Models and maps that libraries of metrics judge beside us. Not here: what is compared."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.analyzer.evaluation.maps import PICTURE, Array, draw, explained, load, two_layers, with_map

FIRST, SECOND = draw(51, 64, 12) * 0.3, draw(52, 12, 3)
X, RELEVANCE = draw(53, 4, *PICTURE), draw(54, 4, *PICTURE)
CLASS = 1


def as_module() -> Any:
    """The network as a torch module."""
    import torch

    layers = [
        torch.nn.Flatten(),
        torch.nn.Linear(64, 12, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 3, bias=False),
    ]
    module = torch.nn.Sequential(*layers).eval()
    with torch.no_grad():
        module[1].weight[:] = torch.from_numpy(FIRST.T.copy())
        module[3].weight[:] = torch.from_numpy(SECOND.T.copy())
    return module


def subject(relevance: Array = RELEVANCE, x: Array = X) -> tuple[Any, Any]:
    """The same network as our model, and an explanation with this map."""
    model = load(two_layers(PICTURE, FIRST, SECOND))
    return model, with_map(explained(model, x, CLASS), relevance)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and prints of others."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def theirs(metric: Any, relevance: Array = RELEVANCE, *, softmax: bool = False, x: Array = X) -> Any:
    """What a metric of Quantus says of the map."""
    with quiet():
        labels = np.full(len(x), CLASS)
        return metric(model=as_module(), x_batch=x, y_batch=labels, a_batch=relevance, device="cpu", softmax=softmax)


def plain(**options: Any) -> dict[str, Any]:
    """Options of a Quantus metric that looks at the map as it is."""
    return {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False, **options}
