"""The request of one explanation.

Belongs here: the request, nothing else. Not here: carrying it out (``pipeline``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.explain.backends import Shared
    from analyzer.targets.language import Place, TargetLike

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """One requested explanation; the attributes are the parameters of :meth:`analyzer.model.Model.explain`.

    Attributes
    ----------
    place
        Where the inputs lie in a larger batch that the target is about; None where they are the batch.
    shared
        What explanations of several targets of the same input share.
    """

    method: str
    params: Mapping[str, Any]
    target: TargetLike = "top1"
    score: str = "logit"
    seed: int = 0
    backend: str = "auto"
    precision: str = "float32"
    progress: Progress | None = field(default=None, repr=False)
    layer: str | None = None
    at: str | None = None
    place: Place | None = field(default=None, repr=False)
    shared: Shared | None = field(default=None, repr=False)

    @classmethod
    def of(cls, method: str, **options: Any) -> Request:
        """A request from one call's options; what isn't one of its own attributes is a parameter of the method."""
        own = {each.name for each in dataclasses.fields(cls)} - {"method", "params", "place", "shared"}
        params = {name: value for name, value in options.items() if name not in own}
        return cls(method, params, **{name: value for name, value in options.items() if name in own})
