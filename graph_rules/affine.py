"""A linear node (convolution or matrix product with constant weights) as the rules need it: apply, transpose, weights.

Belongs here: running the operator forwards and transposed with other weights, and the cache of modified weights. Not
here: any formula of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from graph_rules.in_place import InPlace
from graph_rules.kinds import weight_position
from graph_rules.operators import aten
from graph_rules.rule import Call

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "w": lambda w: w,
    "w+": lambda w: w.clamp(min=0),
    "w-": lambda w: w.clamp(max=0),
    "|w|": torch.abs,
    "w2": lambda w: w**2,
    "1": torch.ones_like,
    "0": torch.zeros_like,
}


#: Up to this many input channels, a transposed convolution costs about the same with several weights side by side.
NARROW = 16


@dataclass(frozen=True)
class Affine:
    """z = W x + b for one call.

    Attributes
    ----------
    x
        The active operand.
    z
        What the operator gave, bias included.
    """

    call: Call
    x: Tensor
    z: Tensor
    input_position: int
    weight_position: int
    bias_position: int | None

    @classmethod
    def of(cls, call: Call) -> Affine:
        """The linear view of a call; only for nodes of kind ``convolution`` or ``linear``."""
        positions = weight_position(call.node, call.plan.active)
        if positions is None:
            raise TypeError(f"{call.node.target} is not linear in one operand here")
        at, weight = positions
        target = call.node.target
        bias: int | None = 2 if target is aten.convolution.default else None
        if target in (aten.addmm.default, aten.baddbmm.default, aten.addmv.default):
            bias = 0
        return cls(call, call.args[at].detach(), call.output.detach(), at, weight, bias)

    @property
    def weight(self) -> Tensor:
        """The constant operand, times the factor that the operator may have."""
        value: Tensor = self.call.args[self.weight_position]
        alpha = self.call.kwargs.get("alpha", 1)
        return value if alpha == 1 else value * alpha

    @property
    def bias(self) -> Tensor | None:
        """The constant summand, broadcastable to the output; None where there is none."""
        value = self.call.argument(self.bias_position) if self.bias_position is not None else None
        if value is None:
            return None
        if self.call.node.target is aten.convolution.default:
            return value.reshape(1, -1, *[1] * (self.z.ndim - 2))  # type: ignore[no-any-return]
        return value * self.call.kwargs.get("beta", 1)  # type: ignore[no-any-return]

    @property
    def fan_in(self) -> int:
        """How many inputs contribute to one output."""
        weight = self.call.args[self.weight_position]
        if self.call.node.target is aten.convolution.default:
            transposed = bool(self.call.args[6])
            return int(weight.shape[0] // self.call.args[8] if transposed else weight[0].numel())
        return int(self.x.shape[-1] if self.input_position < self.weight_position else self.x.shape[0])

    @property
    def in_place(self) -> InPlace:
        """Arithmetic on tensors that the rule made itself."""
        return InPlace(not self.call.plan.static)

    def weights(self, name: str, make: Callable[..., Tensor] | None = None, *parameters: float) -> Tensor:
        """The weights in a modified form, computed once per plan for constants of the graph.

        Of a form with parameters, ``make(w, *parameters)``, only that of the last parameters is stored.
        """
        function = make or WEIGHTS[name]
        if name == "w":
            return self.weight
        value: Tensor = self.cached((self._source, name), lambda: function(self.weight, *parameters), parameters)
        return value

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any], parameters: tuple[Any, ...] = ()) -> Any:
        """What follows from weights and ``parameters``: computed once where the weights are constants of the graph.

        Only what was made with the last parameters is stored.
        """
        weight = self.call.args[self.weight_position]
        if not (isinstance(self._source, fx.Node) and self._source.op == "get_attr"):
            return make()
        key = (*key, self.call.kwargs.get("alpha", 1), weight.dtype, weight.device)
        return self.call.plan.cached(key, make, parameters)

    @property
    def _source(self) -> Any:
        return self.call.node.args[self.weight_position]

    def biases(self, name: str) -> Tensor | float:
        """The bias in a modified form; 0 where there is none."""
        return 0.0 if self.bias is None else WEIGHTS[name](self.bias)

    def apply(self, x: Tensor, w: Tensor) -> Tensor:
        """W x without bias."""
        target, args = self.call.node.target, self.call.args
        if target is aten.convolution.default:
            return aten.convolution.default(x, w, None, *args[3:])  # type: ignore[no-any-return]
        product = (x, w) if self.input_position < self.weight_position else (w, x)
        return _product(target)(*product)

    def transpose(self, s: Tensor, w: Tensor) -> Tensor:
        """W^T s, shaped like the input; a fresh tensor."""
        target, args = self.call.node.target, self.call.args
        if target is aten.convolution.default:
            if self._pointwise and not self.call.plan.static:
                return self._transpose_pointwise(s, w)
            return aten.convolution_backward.default(  # type: ignore[no-any-return]
                s.contiguous(), self.x, w, None, *args[3:], [True, False, False]
            )[0]
        product = _product(target)
        if product is torch.mv:
            back = torch.outer(s, w) if self.input_position < self.weight_position else w.mT @ s
        elif product is torch.dot:
            back = s * w
        elif self.input_position < self.weight_position:
            back = product(s, w.mT)
        else:
            back = product(w.mT, s)
        return back

    def transposes(self, s: Tensor, names: Sequence[str]) -> Sequence[Tensor]:
        """W^T s for several forms of the weights; in one pass for a convolution of few channels in one group."""
        if self.call.node.target is not aten.convolution.default:
            return [self.transpose(s, self.weights(name)) for name in names]
        *_, transposed, _, groups = self.call.args[3:9]
        if transposed or groups != 1 or self.x.shape[1] > NARROW:
            return [self.transpose(s, self.weights(name)) for name in names]
        joined = self.weights(" ".join(names), lambda w: torch.cat([WEIGHTS[name](w) for name in names], 1))
        channels = self.x.shape[1]
        shape = (self.x.shape[0], channels * len(names), *self.x.shape[2:])
        args = (s.contiguous(), s.new_empty(shape), joined, None, *self.call.args[3:], [True, False, False])
        return aten.convolution_backward.default(*args)[0].split(channels, 1)  # type: ignore[no-any-return]

    @property
    def _pointwise(self) -> bool:
        """Whether the operator is a convolution with a kernel of one element: a matrix product transposes it faster."""
        weight, (_, padding, _, transposed, _, groups) = self.call.args[self.weight_position], self.call.args[3:9]
        return weight[0, 0].numel() == 1 and not any(padding) and not transposed and groups == 1

    def _transpose_pointwise(self, s: Tensor, w: Tensor) -> Tensor:
        stride = self.call.args[3]
        back = (w.flatten(1).mT @ s.flatten(2)).reshape(s.shape[0], w.shape[1], *s.shape[2:])
        if all(step == 1 for step in stride):
            return back
        spread = back.new_zeros(self.x.shape)
        read = spread
        for axis, step in enumerate(stride, 2):
            read = read[(slice(None),) * axis + (slice(None, None, step),)]
        read.copy_(back)
        return spread


def _product(target: object) -> Callable[..., Tensor]:
    if target in (aten.mm.default, aten.addmm.default):
        return torch.mm
    if target in (aten.bmm.default, aten.baddbmm.default):
        return torch.bmm
    if target in (aten.mv.default, aten.addmv.default):
        return torch.mv
    return torch.dot
