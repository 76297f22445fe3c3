"""The request of one explanation.

Belongs here: the request, nothing else. Not here: carrying it out (``pipeline``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyzer.errors import UsageError
from analyzer.nearest import did_you_mean

if TYPE_CHECKING:
    from analyzer.explain.backends import Shared
    from analyzer.targets.language import Place, TargetLike

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """One requested explanation; the attributes are the parameters of :meth:`analyzer.model.Model.explain`.

    Attributes
    ----------
    inputs
        Names of the inputs that are explained; None for those that are by default.
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
    inputs: tuple[str, ...] | None = None
    place: Place | None = field(default=None, repr=False)
    shared: Shared | None = field(default=None, repr=False)

    @classmethod
    def of(cls, method: str, **options: Any) -> Request:
        """A request from one call's options; what isn't one of its own attributes is a parameter of the method."""
        own = {each.name for each in dataclasses.fields(cls)} - {"method", "params", "place", "shared"}
        params = {name: value for name, value in options.items() if name not in own}
        given = {name: value for name, value in options.items() if name in own}
        if given.get("inputs") is not None:
            given["inputs"] = (
                (given["inputs"],) if isinstance(given["inputs"], str) else tuple(map(str, given["inputs"]))
            )
        return cls(method, params, **given)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments beside the method's name that make this request again."""
        own = ("target", "score", "seed", "backend", "precision", "layer", "at", "inputs")
        return {**{name: getattr(self, name) for name in own}, **self.params}

    def require_inputs(self, known: Mapping[str, Any]) -> None:
        """Refuse chosen inputs that the model doesn't have.

        Parameters
        ----------
        known
            The model's inputs by name.

        Raises
        ------
        UsageError
            ``inputs.unknown``, ``inputs.none``.
        """
        if self.inputs is None:
            return
        hint = f"its inputs: {', '.join(known)}"
        for name in self.inputs:
            if name not in known:
                message = f"the model has no input {name!r}{did_you_mean(name, known)}"
                raise UsageError("inputs.unknown", message, hint)
        if not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise UsageError("inputs.none", "inputs names no input of the model, or one of them twice", hint)
