"""Signals: DFT, STFT and the mel matrix.

A Fourier transform is a linear layer, so it is written as one: a matrix product (DFT) or a convolution (STFT) with
constant sines and cosines, which every relevance rule for linear layers can walk through.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analyzer.importer.graph import Node
from analyzer.importer.ops.casting import torch_dtype
from analyzer.importer.recorder import concrete, integers
from analyzer.importer.table import operator


def _waves(length: int, bins: int, sign: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and ``sign`` times sines, each (length, bins)."""
    turns = torch.outer(torch.arange(length), torch.arange(bins)) % length
    angles = turns.to(torch.float64) * (2 * math.pi / length)
    return torch.cos(angles).to(dtype), (sign * torch.sin(angles)).to(dtype)


def _complex_matrix(real: Tensor, imaginary: Tensor, parts: int) -> Tensor:
    """The real matrix (length * parts, bins * 2) that multiplies interleaved numbers by complex ones."""
    from_real = torch.stack([real, imaginary], -1)  # (length, bins, 2)
    rows = [from_real] if parts == 1 else [from_real, torch.stack([-imaginary, real], -1)]
    return torch.stack(rows, 1).reshape(real.shape[0] * parts, -1)


def _real_inverse(bins: int, length: int, parts: int, dtype: torch.dtype) -> Tensor:
    """The matrix (bins * parts, length) from a one-sided spectrum to the real signal."""
    used = min(bins, length // 2 + 1)
    real, imaginary = _waves(length, length, 1, torch.float64)
    weight = torch.full((used, 1), 2.0, dtype=torch.float64)
    weight[0] = 1
    if length % 2 == 0 and used == length // 2 + 1:
        weight[-1] = 1
    rows = [real[:used] * weight / length, -imaginary[:used] * weight / length]
    matrix = torch.zeros(bins, parts, length, dtype=torch.float64)
    for part in range(parts):
        matrix[:used, part] = rows[part]
    return matrix.reshape(bins * parts, length).to(dtype)


def _dft(node: Node, x: Tensor, length: Tensor | None, axis: int) -> Tensor:
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    axis %= x.dim()
    size, parts = x.shape[axis], x.shape[-1]
    count = integers(length)[0] if length is not None else 2 * (size - 1) if inverse and onesided else size
    x = torch.movedim(x, axis, -2)
    if inverse and onesided:
        matrix, width = _real_inverse(size, count, parts, x.dtype), 1
    else:
        if size > count:
            x = torch.narrow(x, -2, 0, count)
        used = min(size, count)
        bins = count // 2 + 1 if onesided else count
        cosines, sines = _waves(count, bins, 1 if inverse else -1, torch.float64)
        scale = count if inverse else 1
        matrix = _complex_matrix(cosines[:used] / scale, sines[:used] / scale, parts).to(x.dtype)
        width = 2
    rows = math.prod(x.shape[:-2])
    out = torch.mm(x.reshape(rows, matrix.shape[0]), matrix)
    return torch.movedim(out.reshape(*x.shape[:-2], -1, width), -2, axis)


@operator("DFT", since=17)
def dft_attribute(node: Node, x: Tensor, length: Tensor | None = None) -> Tensor:
    return _dft(node, x, length, int(node.attr("axis", 1)))


@operator("DFT", since=20)
def dft_input(node: Node, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    return _dft(node, x, length, integers(axis)[0] if axis is not None else -2)


@operator("STFT", since=17)
def stft(node: Node, x: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
    """One convolution: windowed waves slide over the signal; (batch, frames, bins, 2)."""
    signal = x.unsqueeze(-1) if x.dim() == 2 else x
    size = signal.shape[1]
    if window is not None:
        size = window.shape[0]
    elif length is not None:
        size = integers(length)[0]
    parts = signal.shape[-1]
    bins = size // 2 + 1 if node.attr("onesided", 1) else size
    cosines, sines = _waves(size, bins, -1, signal.dtype)
    if window is not None:
        cosines, sines = cosines * window.unsqueeze(1), sines * window.unsqueeze(1)
    kernel = _complex_matrix(cosines, sines, parts).reshape(size, parts, bins * 2).permute(2, 1, 0).contiguous()
    out = torch.conv1d(signal.transpose(1, 2), kernel, stride=integers(step)[0])
    return out.transpose(1, 2).reshape(out.shape[0], out.shape[2], bins, 2)


@operator("MelWeightMatrix", since=17)
def mel_weight_matrix(
    node: Node, bands: Tensor, length: Tensor, rate: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """Triangles on the mel scale over the bins of a one-sided spectrum; (bins, bands)."""
    count, size, samples = (integers(v)[0] for v in (bands, length, rate))
    low, high = (2595 * math.log10(1 + float(concrete(v).reshape(-1)[0]) / 700) for v in (lowest, highest))
    mels = low + np.arange(count + 2) * ((high - low) / (count + 2))
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = np.floor((size + 1) * hertz / samples).astype(np.int64)
    matrix = np.zeros((size // 2 + 1, count))
    for band, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        matrix[left : centre + 1, band] = np.arange(centre + 1 - left) / max(centre - left, 1)
        matrix[centre, band] = 1
        matrix[centre:right, band] = (right - np.arange(centre, right)) / max(right - centre, 1)
    return torch.from_numpy(matrix).to(torch_dtype(node.attr("output_datatype", 1), node))
