"""Recurrent networks: relevance against LSTM-LRP and GRU-LRP written out step by step in numpy (Arras et al. 2017)."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analyzer import load
from analyzer.model import Model

EPSILON = 1e-3
Array = np.ndarray


class Reader(nn.Module):
    """A recurrent layer and a linear one on its last states."""

    def __init__(self, cell: str, both: bool, layers: int = 1) -> None:
        super().__init__()
        self.cell = getattr(nn, cell)(4, 5, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(10 if both else 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = self.cell(x)[1]
        states = states[0] if isinstance(states, tuple) else states
        last = torch.cat([states[-2], states[-1]], 1) if self.cell.bidirectional else states[-1]
        out: Tensor = self.head(last)
        return out


def reader(cell: str, both: bool) -> Reader:
    torch.manual_seed(1)
    return Reader(cell, both).eval()


def onnx_of(net: nn.Module, x: Array, dynamo: bool = False) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(net, (torch.from_numpy(x),), opset_version=18, dynamo=True, verbose=False)
            assert program is not None
            return load(program.model_proto.SerializeToString(), device="cpu")
        buffer = io.BytesIO()
        torch.onnx.export(net, (torch.from_numpy(x),), buffer, opset_version=17, dynamo=False)
    return load(buffer.getvalue(), device="cpu")


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def linear(a: Array, w: Array, z: Array, relevance: Array) -> Array:
    """LRP-epsilon of the part a w of the sum z."""
    return a * (w @ (relevance / stabilised(z)))


def stabilised(z: Array) -> Array:
    return z + EPSILON * np.where(z >= 0, 1, -1)


def parameters(net: Reader, suffix: str) -> list[Array]:
    named = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(net.cell, f"{name}_l0{suffix}").detach().double().numpy() for name in named]


def lstm(net: Reader, suffix: str, x: Array, relevance: Array) -> Array:
    """Relevance of one sequence (time, features) from that of the last state; torch's gates are i, f, g, o."""
    wx, wh, bx, bh = parameters(net, suffix)
    size = wh.shape[1]
    g_rows = slice(2 * size, 3 * size)
    h, c, steps = np.zeros(size), np.zeros(size), []
    for value in x:
        i, f, g, o = np.split(wx @ value + bx + wh @ h + bh, 4)
        new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        steps.append((value, h, c, sigmoid(i) * np.tanh(g), sigmoid(f) * c, g, new))
        h, c = sigmoid(o) * np.tanh(new), new
    found = np.zeros_like(x)
    r_h, r_c = relevance, np.zeros(size)
    for t in reversed(range(len(x))):
        value, before, _, written, kept, g, new = steps[t]
        r_c = r_c + r_h  # the output gate takes nothing
        r_g, r_c = written * r_c / stabilised(new), kept * r_c / stabilised(new)
        found[t] = linear(value, wx[g_rows].T, g, r_g)
        r_h = linear(before, wh[g_rows].T, g, r_g)
    return found


def gru(net: Reader, suffix: str, x: Array, relevance: Array) -> Array:
    """Likewise; torch's gates are r, z, n, and r gates the state's part of n."""
    wx, wh, bx, bh = parameters(net, suffix)
    size = wh.shape[1]
    n_rows = slice(2 * size, 3 * size)
    h, steps = np.zeros(size), []
    for value in x:
        xr, xz, xn = np.split(wx @ value + bx, 3)
        hr, hz, hn = np.split(wh @ h + bh, 3)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        n = np.tanh(xn + r * hn)
        steps.append((value, h, xn, hn, r, (1 - z) * n, z * h))
        h = (1 - z) * n + z * h
    found = np.zeros_like(x)
    r_h = relevance
    for t in reversed(range(len(x))):
        value, before, xn, hn, r, fresh, kept = steps[t]
        total = stabilised(fresh + kept)
        r_n, r_kept = fresh * r_h / total, kept * r_h / total
        mixed = xn + r * hn
        found[t] = linear(value, wx[n_rows].T, xn, r_n * xn / (mixed + 1e-6 * np.where(mixed >= 0, 1, -1)))
        r_state = r_n * r * hn / (mixed + 1e-6 * np.where(mixed >= 0, 1, -1))
        r_h = r_kept + linear(before, wh[n_rows].T, hn, r_state)
    return found


def expected(net: Reader, cell: str, x: Array, target: int) -> Array:
    with torch.no_grad():
        states = net.double().cell(torch.from_numpy(x).double())[1]
        states = states[0] if isinstance(states, tuple) else states
        last = torch.cat(list(states), 1)
        scores = net.head(last).numpy()
    walk = lstm if cell == "LSTM" else gru
    w = net.head.weight.detach().double().numpy()
    found = []
    for sample, state, score in zip(x.astype(np.float64), last.numpy(), scores, strict=True):
        relevance = np.zeros_like(score)
        relevance[target] = score[target]
        r_last = linear(state, w.T, score, relevance)
        total = walk(net, "", sample, r_last[:5])
        if net.cell.bidirectional:
            total = total + walk(net, "_reverse", sample[::-1], r_last[5:])[::-1]
        found.append(total)
    net.float()
    return np.stack(found)


@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_gates_take_nothing_and_signals_all(cell: str, both: bool) -> None:
    net, x = reader(cell, both), np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    e = onnx_of(net, x).explain(
        x, method="lrp", composite="epsilon", epsilon=EPSILON, initial="logit", target=1, precision="float64"
    )
    reference = expected(net, cell, x, 1)
    np.testing.assert_allclose(e.raw, reference, rtol=1e-4, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_both_exporters_agree(cell: str) -> None:
    net, x = reader(cell, True), np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)
    for name in ("epsilon", "attn-lrp"):
        found = [
            np.asarray(onnx_of(net, x, dynamo).explain(x, method="lrp", composite=name, target=1).raw)
            for dynamo in (False, True)
        ]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4 * np.abs(found[0]).max())
