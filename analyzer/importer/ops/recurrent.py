"""Recurrent layers: LSTM, GRU and RNN, unrolled so that every gate is a node of its own in the trace.

Belongs here: the three layers, what they share (directions, lengths, layouts, initial states) and their activations by
name. Not here: control flow (``control``).

The input projection is one ``addmm`` over all steps, the recurrent projection one ``addmm`` per step (two for a
GRU that resets before its projection), followed by explicit activations and products. So a relevance rule can
distinguish a gate (the activated factor) from the signal that it multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer import recorder
from analyzer.importer.graph import Node
from analyzer.importer.table import operator

Activation = Callable[[Tensor], Tensor]

#: Name in lower case -> function of (x, alpha, beta), default alpha, default beta; None where there is no
#: such parameter.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float | None, float | None]] = {
    "sigmoid": (lambda x, a, b: torch.sigmoid(x), None, None),
    "tanh": (lambda x, a, b: torch.tanh(x), None, None),
    "relu": (lambda x, a, b: torch.relu(x), None, None),
    "softsign": (lambda x, a, b: F.softsign(x), None, None),
    "softplus": (lambda x, a, b: F.softplus(x, threshold=1e4), None, None),
    "leakyrelu": (lambda x, a, b: F.leaky_relu(x, a), 0.01, None),
    "elu": (lambda x, a, b: F.elu(x, a), 1.0, None),
    "thresholdedrelu": (lambda x, a, b: F.threshold(x, a, 0.0), 1.0, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: torch.clamp(a * x + b, 0.0, 1.0), 0.2, 0.5),
}


@dataclass(frozen=True)
class Layer:
    """One direction of a recurrent layer.

    Attributes
    ----------
    w, r
        Input and recurrent weights, transposed: (inputs, gates · hidden) and (hidden, gates · hidden).
    wb, rb
        Their biases, (gates · hidden), or None.
    state
        Initial values, each (batch, hidden): the output and, for an LSTM, the cell.
    backwards
        Whether time runs from the last step to the first.
    functions
        The activations, in the operator's order.
    peepholes
        Weights from the cell to the gates i, o, f, or None.
    rounding
        Applied to the input of a projection first, where the layer multiplies integers.
    """

    w: Tensor
    r: Tensor
    wb: Tensor | None
    rb: Tensor | None
    state: tuple[Tensor, ...]
    backwards: bool
    functions: tuple[Activation, ...]
    clip: float | None
    peepholes: tuple[Tensor, ...] | None = None
    rounding: Activation | None = None

    def recurrent(self, hidden: Tensor) -> Tensor:
        """The recurrent projection of all gates."""
        return _affine(hidden if self.rounding is None else self.rounding(hidden), self.r, self.rb)

    def bounded(self, x: Tensor) -> Tensor:
        """The input of an activation: clipped where the layer clips."""
        return x if self.clip is None else torch.clamp(x, -self.clip, self.clip)


Step = Callable[[Layer, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


@operator("LSTM")
def lstm(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, ...]:
    return run_lstm(node, x, w, r, b, lengths, (h, c), p)


def run_lstm(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    initial: tuple[Tensor | None, Tensor | None],
    p: Tensor | None,
    rounding: Activation | None = None,
) -> tuple[Tensor, ...]:
    """Long short-term memory: Y, Y_h, Y_c. Gates in the order i, o, f, c."""
    coupled = bool(node.attr("input_forget", 0))

    def step(layer: Layer, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, cell = state
        f, g, out = layer.functions
        gates = gates + layer.recurrent(hidden)
        zi, zo, zf, zc = gates.chunk(4, -1)
        if layer.peepholes is not None:
            zi, zf = zi + layer.peepholes[0] * cell, zf + layer.peepholes[2] * cell
        i = f(layer.bounded(zi))
        forget = 1.0 - i if coupled else f(layer.bounded(zf))
        cell = forget * cell + i * g(layer.bounded(zc))
        if layer.peepholes is not None:
            zo = zo + layer.peepholes[1] * cell
        return f(layer.bounded(zo)) * out(cell), cell

    return _recurrent(node, x, w, r, b, lengths, initial, step, ("Sigmoid", "Tanh", "Tanh"), p, rounding)


@operator("GRU")
def gru(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gated recurrent unit: Y, Y_h. Gates in the order z (update), r (reset), h (hidden)."""
    after = bool(node.attr("linear_before_reset", 0))

    def step(layer: Layer, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = state
        f, g = layer.functions
        size = hidden.shape[-1]
        xz, xr, xh = gates.chunk(3, -1)
        if after:
            hz, hr, hh = layer.recurrent(hidden).chunk(3, -1)
            z, reset = f(layer.bounded(xz + hz)), f(layer.bounded(xr + hr))
            new = g(layer.bounded(xh + reset * hh))
        else:
            biases = (None, None) if layer.rb is None else (layer.rb[: 2 * size], layer.rb[2 * size :])
            hz, hr = _affine(hidden, layer.r[:, : 2 * size], biases[0]).chunk(2, -1)
            z, reset = f(layer.bounded(xz + hz)), f(layer.bounded(xr + hr))
            new = g(layer.bounded(xh + _affine(reset * hidden, layer.r[:, 2 * size :], biases[1])))
        return ((1.0 - z) * new + z * hidden,)

    return _recurrent(node, x, w, r, b, lengths, (h,), step, ("Sigmoid", "Tanh"))


@operator("RNN")
def rnn(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Elman network: Y, Y_h."""

    def step(layer: Layer, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (layer.functions[0](layer.bounded(gates + layer.recurrent(state[0]))),)

    return _recurrent(node, x, w, r, b, lengths, (h,), step, ("Tanh",))


def _recurrent(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    step: Step,
    defaults: tuple[str, ...],
    peepholes: Tensor | None = None,
    rounding: Activation | None = None,
) -> tuple[Tensor, ...]:
    """Run every direction and stack the outputs: Y, then the final states."""
    batch_first = bool(node.attr("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        initial = [None if value is None else value.transpose(0, 1) for value in initial]
    directions, batch, hidden = w.shape[0], x.shape[1], r.shape[2]
    direction = str(node.attr("direction", "forward")).lower()
    if directions != (2 if direction == "bidirectional" else 1):
        raise InputError(
            "op.bad_attribute", f"{node}: weights for {directions} directions, but it is {direction}", "re-export it"
        )
    masks = _masks(lengths, x)
    zeros = torch.zeros(batch, hidden, dtype=x.dtype, device=x.device)
    states = [tuple(zeros if value is None else value[d] for value in initial) for d in range(directions)]
    layers = _layers(node, (w, r, b), states, defaults, peepholes, rounding)
    sequences, finals = zip(*(_direction(layer, x, masks, step) for layer in layers), strict=True)
    y = torch.stack(sequences, 1)
    last = [torch.stack(values) for values in zip(*finals, strict=True)]
    if batch_first:
        return (y.permute(2, 0, 1, 3), *(value.transpose(0, 1) for value in last))
    return (y, *last)


def _layers(
    node: Node,
    weights: tuple[Tensor, Tensor, Tensor | None],
    states: Sequence[tuple[Tensor, ...]],
    defaults: tuple[str, ...],
    peepholes: Tensor | None,
    rounding: Activation | None,
) -> Iterator[Layer]:
    """The node's directions; ``states`` are the initial ones of each, ``defaults`` its activations if the node has none."""
    w, r, b = weights
    functions = list(activations(node, defaults * len(states)))
    clip = float(node.attr("clip", 0.0)) or None
    reverse = str(node.attr("direction", "forward")).lower() == "reverse"
    for d, state in enumerate(states):
        wb, rb = (None, None) if b is None else b[d].chunk(2)
        yield Layer(
            w[d].T,
            r[d].T,
            wb,
            rb,
            state,
            reverse or d == 1,
            tuple(functions[d * len(defaults) : (d + 1) * len(defaults)]),
            clip,
            None if peepholes is None else tuple(peepholes[d].chunk(3)),
            rounding,
        )


def _direction(layer: Layer, x: Tensor, masks: list[Tensor] | None, step: Step) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction: the outputs of all steps (steps, batch, hidden) and the final states."""
    steps, batch, width = x.shape
    x = x if layer.rounding is None else layer.rounding(x)
    projected = _affine(x.reshape(steps * batch, width), layer.w, layer.wb).view(steps, batch, -1)
    state, outputs = layer.state, []
    for t in range(steps - 1, -1, -1) if layer.backwards else range(steps):
        new = step(layer, projected[t], state)
        if masks is None:
            state = new
            outputs.append(new[0])
        else:
            state = tuple(torch.where(masks[t], a, b) for a, b in zip(new, state, strict=True))
            outputs.append(torch.where(masks[t], new[0], 0.0))
    return torch.stack(outputs[::-1] if layer.backwards else outputs), state


def _masks(lengths: Tensor | None, x: Tensor) -> list[Tensor] | None:
    """Per step, which samples (batch, 1) are still running; None where all run to the end."""
    if lengths is None:
        return None
    numbers = recorder.integers(lengths)
    if all(n == x.shape[0] for n in numbers):
        return None
    return [torch.tensor([[t < n] for n in numbers], device=x.device) for t in range(x.shape[0])]


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)


def activations(node: Node, defaults: tuple[str, ...]) -> Iterator[Activation]:
    """The node's activations; alphas and betas are handed out in order to those that have such a parameter."""
    names = [str(name) for name in node.attr("activations") or defaults]
    if len(names) != len(defaults):
        raise InputError(
            "op.bad_attribute", f"{node}: {len(names)} activations, {len(defaults)} are needed", "re-export the model"
        )
    alphas = iter(node.attr("activation_alpha") or ())
    betas = iter(node.attr("activation_beta") or ())
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise InputError(
                "op.bad_attribute",
                f"{node}: unknown activation {name!r}",
                f"known ones: {', '.join(sorted(_ACTIVATIONS))}",
            )
        function, alpha, beta = _ACTIVATIONS[name.lower()]
        a = float(next(alphas, alpha)) if alpha is not None else 0.0
        b = float(next(betas, beta)) if beta is not None else 0.0
        yield _bind(function, a, b)


def _bind(function: Callable[[Tensor, float, float], Tensor], a: float, b: float) -> Activation:
    return lambda x: function(x, a, b)
