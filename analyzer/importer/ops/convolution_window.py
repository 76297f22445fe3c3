"""Sliding windows: kernel, strides, dilations and padding of convolutions and pools as ONNX counts them.

Belongs here: the arithmetic of window positions, ``auto_pad`` and ``ceil_mode``. Not here: tensors of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from analyzer.errors import InputError
from analyzer.importer.graph import Node


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial dimensions of a tensor; every field has one entry per dimension.

    Attributes
    ----------
    begin, end
        Padding before and after the data.
    sizes
        How many positions the window takes.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel)

    @property
    def spans(self) -> tuple[int, ...]:
        """Extent of the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether the padding is the same on both sides."""
        return self.begin == self.end

    def reach(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Padding after the data for exactly ``sizes`` positions; negative where data is left over."""
        return tuple(
            (count - 1) * stride + span - size - before
            for count, stride, span, size, before in zip(
                self.sizes, self.strides, self.spans, spatial, self.begin, strict=True
            )
        )


def window(node: Node, spatial: Sequence[int], kernel: Sequence[int], ceil_mode: bool = False) -> Window:
    """The window that a node's attributes describe over data of the given spatial sizes."""
    dims = len(spatial)
    kernel = tuple(kernel)
    strides = tuple(node.attr("strides") or (1,) * dims)
    dilations = tuple(node.attr("dilations") or (1,) * dims)
    pads = tuple(node.attr("pads") or (0,) * (2 * dims))
    if not len(kernel) == len(strides) == len(dilations) == dims or len(pads) != 2 * dims:
        raise InputError(
            "op.bad_attribute",
            f"{node}: kernel, strides, dilations or pads don't fit data with {dims} spatial dimensions",
            "re-export the model",
        )
    begin, end = pads[:dims], pads[dims:]
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    mode = node.attr("auto_pad", "NOTSET")
    if mode == "VALID":
        begin = end = (0,) * dims
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        needed = [
            max(0, ((size + stride - 1) // stride - 1) * stride + span - size)
            for size, stride, span in zip(spatial, strides, spans, strict=True)
        ]
        begin = tuple(n // 2 if mode == "SAME_UPPER" else (n + 1) // 2 for n in needed)
        end = tuple(n - b for n, b in zip(needed, begin, strict=True))
        ceil_mode = False
    sizes = []
    for size, stride, span, before, after in zip(spatial, strides, spans, begin, end, strict=True):
        room = size + before + after - span
        count = -(-room // stride) + 1 if ceil_mode else room // stride + 1
        if ceil_mode and (count - 1) * stride >= size + before:
            count -= 1  # a window that would start in the padding after the data
        if count <= 0:
            raise InputError(
                "op.bad_attribute",
                f"{node}: the kernel is larger than its padded input",
                "use a larger input",
            )
        sizes.append(count)
    return Window(kernel, strides, dilations, begin, end, tuple(sizes))


def pad_spatial(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad (or, with negative amounts, cut) the spatial dimensions, the last ones of ``x``."""
    if not any(begin) and not any(end):
        return x
    amounts = [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]
    return functional.pad(x, amounts, value=value)
