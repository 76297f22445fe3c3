"""What families there are: their registry, filled by the files beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

Shape = tuple[int, ...]
#: Family -> a network and the shape of its input.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {}


def family(*shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Declare a network; its docstring's first word is no name: the class's is."""

    def declare(made: type[nn.Module]) -> type[nn.Module]:
        FAMILIES[made.__name__] = (made, shape)
        return made

    return declare


def head(x: Tensor, linear: nn.Module) -> Tensor:
    """Mean over the places, then a linear layer."""
    return cast(Tensor, linear(x.mean(tuple(range(2, x.ndim)))))
