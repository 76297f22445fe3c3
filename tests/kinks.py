"""Whether two attributions are equal up to rounding, where rounding decides the side of a kink.

Belongs here: the proof that a difference is one of rounding. Not here: which attributions are held side by side.

Two runtimes, or one on two processors, round differently. Where a unit stands within rounding of the kink of a ReLU, or two
places of a window within rounding of each other, they take different sides and the unit's whole share moves; where a rule
divides by a sum that nearly cancels, the sum's rounding is blown up. Both are right. No tolerance tells this from an error,
so it is proved, by running the torch side again with its roundings under control:

1. *What rounding is.* A float32 sum of n terms t has an error of n roundings of partial sums, each at most eps / 2 times
   sum|t|; they are independent and a processor adds in lanes, so its size is about eps * sum|t| for the thousands of terms of
   a layer. :data:`DRAWS` runs add such an error, uniform up to eps * sum|t|, to the result of every operator that sums (sum|t|
   is the operator on absolute values) and eps / 2 of the value to that of any other. The errors travel through the network as
   a runtime's own do.
2. *What stands at a kink.* A unit whose distance from its kink is at most :data:`REACH` times the largest movement of that
   distance over the draws; a unit that no rounding reaches (an exact zero of a ReLU before) doesn't.
3. *What smooth rounding explains.* In the draws no unit may change sides. An element may differ by the tolerance and by
   :data:`REACH` times the most that it moved in them, no more.
4. *What flips explain.* Units at a kink are put on its other side, one after the other, and stay there if that brings the
   torch side nearer. In the end every single element must agree as in 3. A flip moves its own pattern by its own amount, so
   an error elsewhere, or of another size, is not explained by it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from analyzer.importer import parity

Array = NDArray[Any]
Maps = Mapping[str, Array]

#: Runs with random roundings. The largest of 8 draws is above 0.4 standard deviations in all but one of 10,000 elements.
DRAWS = 8
#: How often the largest of the draws' movements a runtime's own may be. The largest of the draws is itself two to ten times
#: the root mean square of torch's own error beside double precision, as ``test_kinks`` holds on the processor at hand.
REACH = 2.0
#: So many units at kinks are tried; more make no proof.
MOST = 400
#: A flip counts where it takes away this share of what differs.
LEAST = 1e-3
#: Where rounding moves more of an attribution than this share of it, nothing can be proved.
WHOLE = 0.2


@dataclass
class Proof:
    """Why two attributions are equal.

    Attributes
    ----------
    gap
        Largest difference, relative to the largest value.
    smooth
        How far rounding moves an element without a flip, relative to the largest value.
    flips
        The units that the two sides put on different sides of a kink.
    """

    gap: float
    smooth: float = 0.0
    flips: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.flips:
            return "at a kink: " + "; ".join(self.flips)
        return f"rounding alone moves an element by {self.smooth:.0e}"


def equal_up_to_flips(
    got: Array | Maps, want: Array | Maps, again: Callable[[], Array | Maps], rtol: float = 1e-4, what: str = ""
) -> Proof:
    """Assert that two attributions are equal up to ``rtol`` of the largest value, or differ by rounding as proved here.

    Parameters
    ----------
    got, want
        An array, or arrays by name. ``want`` is torch's.
    again
        Computes ``want`` once more, by torch in this thread; only called where the two differ by more than ``rtol``.
    what
        Named in the message.

    Raises
    ------
    AssertionError
        With what was looked for.
    """
    gots, wants = _named(got), _named(want)
    assert gots.keys() == wants.keys(), f"{what}: {sorted(gots)} for {sorted(wants)}"
    for name, value in wants.items():
        assert gots[name].shape == value.shape, f"{what} {name}: {gots[name].shape} for {value.shape}"
    scales = {name: float(np.abs(v[np.isfinite(v)]).max(initial=0)) or 1e-12 for name, v in wants.items()}
    gap = _worst(gots, wants, scales)
    if gap <= rtol:
        return Proof(gap)
    return _Trial(gots, again, scales, rtol, f"{what} differs by {gap:.1e} of the largest value").proof(wants, gap)


class _Trial:
    """The search for a proof."""

    def __init__(
        self, gots: Maps, again: Callable[[], Array | Maps], scales: Mapping[str, float], rtol: float, what: str
    ) -> None:
        self.gots, self.again, self.scales, self.rtol, self.what = gots, again, scales, rtol, what

    def proof(self, wants: Maps, gap: float) -> Proof:
        assert math.isfinite(gap), f"{self.what}: not finite where the other is"
        self.again()  # whatever is made once is made now, so that all runs do the same
        seen = Watch()
        off = _worst(self.run(seen), wants, self.scales)
        assert off <= self.rtol, f"{self.what}, and torch itself by {off:.1e} when run again"
        moved = {name: np.zeros(value.shape) for name, value in wants.items()}
        for draw in range(DRAWS):
            for name, value in self.run(Watch(seen.calls, draw=draw)).items():
                moved[name] = np.maximum(moved[name], np.abs(np.asarray(value, np.float64) - wants[name]))
                assert np.nansum(moved[name]) <= WHOLE * np.nansum(np.abs(wants[name])), (
                    f"{self.what}, and rounding moves so much of {name!r} that equality can't be told"
                )
            smooth = max(float(np.max(v, initial=0)) / self.scales[name] for name, v in moved.items())
            allowed = {name: self.rtol * self.scales[name] + REACH * value for name, value in moved.items()}
            left = self.left(wants, allowed)
            if left <= 1:  # further draws would only allow more
                return Proof(gap, smooth)
        units = sorted((unit for call in seen.calls for unit in call.near()), key=lambda unit: unit.rank)
        flipped, rest = self.search(wants, units[:MOST], seen, allowed)
        if rest <= 1:
            return Proof(gap, smooth, [str(unit) for unit in flipped])
        raise AssertionError(
            f"{self.what}, and no proof was found that this is rounding: without flips rounding moves an element by up to "
            f"{smooth:.1e}, and some element differs {left:.3g} times as much as tolerance and rounding allow; "
            f"{len(units)} units stand at a kink{': ' if units else ''}{'; '.join(map(str, units[:5]))}; "
            f"{len(flipped)} of them on the other side leave {rest:.3g} times as much"
        )

    def run(self, watch: Watch) -> Maps:
        """Once more, not held against onnxruntime: roundings and flips are meant to differ, and only the sweep is watched."""

        def agreed(model: Any, *_: Any) -> parity.Parity:
            return parity.Parity(0.0, model.tolerance)

        with mock.patch("analyzer.engines.parity.hold_against_runtime", agreed), watch:
            return _named(self.again())

    def left(self, now: Maps, allowed: Maps) -> float:
        """Largest ratio of difference to what is allowed."""
        return max(float(np.max(self.gaps(now, name) / allowed[name], initial=0)) for name in allowed)

    def gaps(self, now: Maps, name: str) -> Array:
        return np.nan_to_num(np.abs(np.asarray(self.gots[name], np.float64) - now[name]), nan=0.0)

    def far(self, now: Maps) -> float:
        """Sum of all differences."""
        return sum(float(self.gaps(now, name).sum()) / scale for name, scale in self.scales.items())

    def search(self, wants: Maps, units: Sequence[Unit], seen: Watch, allowed: Maps) -> tuple[list[Unit], float]:
        """The flips that bring torch nearest, and what they leave."""
        chosen: list[Unit] = []
        best, rest = self.far(wants), self.left(wants, allowed)
        open_, found = list(units), True
        while found and rest > 1:
            found = False
            for unit in list(open_):
                now = self.run(Watch(seen.calls, flips=[*chosen, unit]))
                far = self.far(now)
                if far < (1 - LEAST) * best:
                    chosen, best, rest, found = [*chosen, unit], far, self.left(now, allowed), True
                    open_ = [u for u in open_ if not u.same(unit)]
                    if rest <= 1:
                        break
        return chosen, rest


def _named(value: Array | Maps) -> Maps:
    return dict(value) if isinstance(value, Mapping) else {"": np.asarray(value)}


def _worst(gots: Maps, wants: Maps, scales: Mapping[str, float]) -> float:
    worst = 0.0
    for name, value in wants.items():
        a, b = np.asarray(gots[name], np.float64), np.asarray(value, np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            return math.inf
        worst = max(worst, float(np.max(np.abs(a[finite] - b[finite]), initial=0)) / scales[name])
    return worst


# --- units and their kinks ----------------------------------------------------------------------------------------


@dataclass
class Edge:
    """Units of one call before their kinks: ``distance = x - kink``, or ``x[runner] - x[winner]`` of a window.

    Without either it is the distance from another value, whose own roundings count.
    """

    x: Tensor
    distance: Tensor
    kink: Tensor | None = None
    runner: Tensor | None = None
    winner: Tensor | None = None

    def again(self, other: Edge) -> Edge:
        """The same kinks and pairs of places in another run: the nearest may be others there."""
        x = other.x
        if self.kink is not None:
            return Edge(x, x - self.kink, self.kink)
        if self.runner is None or self.winner is None:
            return other
        flat = x.reshape(-1)
        return Edge(x, flat[self.runner] - flat[self.winner], None, self.runner, self.winner)

    def place(self, x: Tensor, unit: int, of: Tensor | None = None) -> tuple[int, ...]:
        """Where in ``x`` a unit's value lies."""
        of = self.runner if of is None else of
        number = unit if of is None else int(of.reshape(-1)[unit])
        return tuple(int(i) for i in np.unravel_index(number, tuple(x.shape)))

    def now(self, unit: int) -> float:
        """A unit's distance; of a window's pair as it is now, as another window may have moved one of them."""
        if self.winner is None:
            return float(self.distance.reshape(-1)[unit])
        return float(self.x[self.place(self.x, unit)] - self.x[self.place(self.x, unit, self.winner)])


@dataclass
class KinkCall:
    """One call of an operator with kinks, as the first run saw it and as rounding moved it."""

    number: int
    name: str
    edge: Edge
    spread: Tensor

    def near(self) -> list[Unit]:
        d = self.edge.distance.abs()
        units = torch.nonzero(((d <= REACH * self.spread) & (self.spread > 0)).reshape(-1)).reshape(-1).tolist()
        found = []
        for unit in units:
            distance, spread = (float(v.reshape(-1)[unit]) for v in (self.edge.distance, self.spread))
            to = [-distance] if distance else [spread, -spread]
            found += [Unit(self, unit, distance, spread, value) for value in to]
        return found


@dataclass
class Unit:
    """A unit at a kink and the distance that puts it on the other side."""

    call: KinkCall
    number: int
    distance: float
    spread: float
    to: float

    @property
    def rank(self) -> float:
        return abs(self.distance) / self.spread

    def same(self, other: Unit) -> bool:
        return (self.call.number, self.number) == (other.call.number, other.number)

    def __str__(self) -> str:
        place = np.unravel_index(self.number, tuple(self.call.edge.distance.shape))
        where = ",".join(str(int(i)) for i in place)
        return f"{self.call.name} #{self.call.number} [{where}] at {self.distance:.0e} (rounding {self.spread:.0e})"


class Watch(TorchDispatchMode):
    """Sees every operator that torch runs; lists kinks, adds roundings, or puts units on the other side.

    Parameters
    ----------
    calls
        Those of the first run. None: this is the first.
    draw
        Seed of random roundings; units stay on the first run's side, and their movement is noted in ``calls``.
    flips
        Units to put on the other side.
    """

    def __init__(
        self, calls: list[KinkCall] | None = None, draw: int | None = None, flips: Sequence[Unit] = ()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first, self.calls = calls is None, [] if calls is None else calls
        self.draw, self.flips, self.count = draw, flips, 0
        self.changed: list[tuple[Tensor, tuple[Any, ...], Tensor]] = []
        self.noise: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)  # type: ignore[no-untyped-call]
        for x, place, value in reversed(self.changed):  # it may be a constant or the user's own array
            x[place] = value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        with torch.no_grad():
            for edge in KINKS[name](*args, **kwargs) if name in KINKS else ():
                self._at(name, edge)
            out = func(*args, **kwargs)
            return out if self.draw is None else self._rounded(name, func, args, kwargs, out)

    def _at(self, name: str, edge: Edge) -> None:
        number, self.count = self.count, self.count + 1
        if self.first:
            kept = replace(edge, x=edge.x.new_empty(0))
            self.calls.append(KinkCall(number, name, kept, torch.zeros_like(edge.distance)))
            return
        call = self.calls[number]
        assert (call.name, call.edge.distance.shape) == (name, edge.distance.shape), "two runs do different things"
        base = call.edge
        edge = base.again(edge)
        if self.draw is not None:
            real = torch.isfinite(base.distance) & torch.isfinite(edge.distance)
            moved = torch.where(real, (edge.distance - base.distance).abs(), 0)
            torch.maximum(call.spread, moved, out=call.spread)
            self._hold(edge, base, real)
        for flip in self.flips:
            if flip.call.number == number:
                self._move(edge, flip.number, flip.to)

    def _hold(self, edge: Edge, base: Edge, real: Tensor) -> None:
        """Put units that rounding moved to another side back to where the first run had them."""
        for _ in range(4):  # windows share places: what one puts back another may have to put back again
            crossed = real & (torch.sign(edge.distance) != torch.sign(base.distance))
            units = torch.nonzero(crossed.reshape(-1)).reshape(-1).tolist()
            for unit in units:
                self._move(edge, unit, float(base.distance.reshape(-1)[unit]))
            if edge.runner is None or not units:
                return
            edge = base.again(edge)

    def _move(self, edge: Edge, unit: int, to: float) -> None:
        x = edge.x.data  # another version counter: a tape that holds the value doesn't mind
        place = edge.place(x, unit)
        self.changed.append((x, place, x[place].clone()))
        x[place] += to - edge.now(unit)

    def _rounded(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
        parts = out if isinstance(out, (tuple, list)) else (out,)
        if name in EXACT or func._schema.is_mutable or any(r.alias_info is not None for r in func._schema.returns):
            return out
        if not any(isinstance(part, Tensor) and part.is_floating_point() for part in parts):
            return out
        terms: Any = None
        if name in SUMS:
            terms = SUMS[name](func, *_absolute(args), **_absolute(kwargs))
            terms = terms if isinstance(terms, (tuple, list)) else (terms,)
        for index, part in enumerate(parts):
            if isinstance(part, Tensor) and part.is_floating_point():
                size = part.abs() / 2 if terms is None else terms[index].abs()
                size = torch.where(torch.isfinite(size), size, 0) * torch.finfo(part.dtype).eps
                part.data.add_(size * self._noise(f"{name}{index}", part))
        return out

    def _noise(self, name: str, like: Tensor) -> Tensor:
        """Uniform in -1 to 1; the same for equal calls, as rounding is, so that equal values stay equal."""
        key = (name, tuple(like.shape))
        if key not in self.noise:
            made = torch.Generator(like.device).manual_seed(zlib.crc32(repr((self.draw, key)).encode()))
            self.noise[key] = torch.empty_like(like.detach()).uniform_(-1, 1, generator=made)
        return self.noise[key]


def _absolute(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.abs() if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(_absolute(v) for v in value)
    return {k: _absolute(v) for k, v in value.items()} if isinstance(value, dict) else value


def _itself(func: Any, *args: Any, **kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _added(func: Any, a: Any, b: Any, alpha: float = 1, **_: Any) -> Tensor:
    return a + abs(alpha) * abs(b)  # type: ignore[no-any-return]


def _scaled(func: Any, *args: Any, beta: float = 1, alpha: float = 1, **kwargs: Any) -> Any:
    return func(*args, beta=abs(beta), alpha=abs(alpha), **kwargs)


#: Operator that sums -> the operator on absolute values.
SUMS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ["convolution", "convolution_backward", "mm", "bmm", "mv", "dot", "sum", "mean", "cumsum", "avg_pool2d", "avg_pool3d",
         "avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward",
         "max_pool2d_with_indices_backward", "index_add", "scatter_add", "col2im", "upsample_bilinear2d",
         "upsample_bilinear2d_backward", "upsample_nearest2d_backward", "_upsample_bilinear2d_aa", "linear", "einsum"],
        _itself,
    ),
    **dict.fromkeys(["add", "sub", "rsub"], _added),
    **dict.fromkeys(["addmm", "baddbmm", "addmv"], _scaled),
}  # fmt: skip
#: Operators that choose, move or make values, without a rounding.
EXACT = frozenset(
    ["relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "threshold_backward", "hardtanh_backward", "abs",
     "neg", "sign", "sgn", "floor", "ceil", "round", "trunc", "maximum", "minimum", "max", "min", "amax", "amin", "sort",
     "topk", "max_pool2d_with_indices", "max_pool3d_with_indices", "where", "masked_fill", "cat", "stack", "constant_pad_nd",
     "pad", "reflection_pad2d", "replication_pad2d", "index", "index_select", "gather", "scatter", "embedding", "flip",
     "repeat", "clone", "contiguous", "_to_copy", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "arange",
     "empty", "empty_like", "new_zeros", "new_empty", "new_ones", "new_full", "scalar_tensor", "lift_fresh_copy", "tril",
     "triu", "roll", "select_backward", "slice_backward", "nan_to_num", "copy", "eye", "one_hot", "tensor",
     "upsample_nearest2d", "im2col"]
)  # fmt: skip


# --- where operators have kinks -----------------------------------------------------------------------------------


def _usable(x: Any) -> bool:
    """Whether single values of a tensor can be moved."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.numel() == 0 or not torch.isfinite(x).any():
        return False
    return all(stride or size == 1 for stride, size in zip(x.stride(), x.shape, strict=True))


def _at(x: Any, *kinks: Any) -> list[Edge]:
    """Units at the nearest of fixed kinks."""
    places = [float(k) for k in kinks if isinstance(k, (int, float)) and math.isfinite(k)]
    if not _usable(x) or not places:
        return []
    kink = torch.full_like(x, places[0])
    for place in places[1:]:
        kink = torch.where((x - place).abs() < (x - kink).abs(), place, kink)
    return [Edge(x, x - kink, kink)]


def _zero(x: Any, *_: Any, **__: Any) -> list[Edge]:
    return _at(x, 0.0)


def _bounded(x: Any, low: Any = None, high: Any = None, **named: Any) -> list[Edge]:
    low, high = named.get("min", named.get("min_val", low)), named.get("max", named.get("max_val", high))
    tensors = [e for bound in (low, high) if isinstance(bound, Tensor) for e in _between(x, bound)]
    return tensors + _at(x, low, high)


def _between(a: Any, b: Any, *_: Any, **__: Any) -> list[Edge]:
    """Two values beside each other: comparisons and the larger of two."""
    if not isinstance(b, Tensor):
        return _at(a, b)
    if not isinstance(a, Tensor):
        return _at(b, a)
    if b.ndim == 0 and a.ndim:
        return _at(a, float(b))
    shape = torch.broadcast_shapes(a.shape, b.shape)
    for x, other in ((a, b), (b, a)):
        if _usable(x) and x.shape == shape and other.is_floating_point():
            return [Edge(x, x - other)]
    return []


def _whole(x: Any, *_: Any, **__: Any) -> list[Edge]:
    return [Edge(x, x - torch.round(x), torch.round(x))] if _usable(x) else []


def _half(x: Any, *_: Any, **__: Any) -> list[Edge]:
    return [Edge(x, x - (torch.floor(x) + 0.5), torch.floor(x) + 0.5)] if _usable(x) else []


def _pairs(x: Tensor, rows: Tensor, places: Tensor, sign: float = 1.0) -> list[Edge]:
    """The first two of each row; ``places`` says where they lie in ``x``."""
    if rows.shape[-1] < 2 or rows.numel() == 0:
        return []
    at = torch.topk(sign * rows, 2, dim=-1).indices
    chosen = torch.gather(places.expand(rows.shape), -1, at)
    winner, runner = chosen[..., 0].clamp(min=0), chosen[..., 1].clamp(min=0)  # padding has -1, and no finite distance
    flat = x.reshape(-1)
    distance = torch.where(torch.isfinite(torch.gather(rows, -1, at)).all(-1), flat[runner] - flat[winner], -torch.inf)
    return [Edge(x, distance, None, runner, winner)]


def _windows(
    x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> list[Edge]:
    """Windows whose two largest values are near each other."""
    if not _usable(x):
        return []
    sizes = list(kernel) if isinstance(kernel, (list, tuple)) else [kernel]
    count = len(sizes) if len(sizes) > 1 else max(x.ndim - 2, 1)

    def each(value: Any, default: Any) -> list[int]:
        given = list(value) if isinstance(value, (list, tuple)) else [value]
        given = given or list(default)
        return given * count if len(given) == 1 else given

    sizes = each(kernel, ())
    strides, pads, steps = each(stride, sizes), each(padding, ()), each(dilation, ())
    rows, places = x, torch.arange(x.numel(), device=x.device).reshape(x.shape)
    around = [
        v for p, s in zip(reversed(pads), reversed(strides), strict=True) for v in (p, p + (s - 1 if ceil else 0))
    ]
    rows = torch.constant_pad_nd(rows, around, -torch.inf)
    places = torch.constant_pad_nd(places, around, -1)
    for offset, (size, stride_, step) in enumerate(zip(sizes, strides, steps, strict=True)):
        axis = x.ndim - count + offset
        rows, places = (v.unfold(axis, (size - 1) * step + 1, stride_)[..., ::step] for v in (rows, places))
    return _pairs(x, rows.flatten(x.ndim), places.flatten(x.ndim))


def _extreme(sign: float) -> Callable[..., list[Edge]]:
    def edges(x: Any, dim: Any = (), *_: Any, **__: Any) -> list[Edge]:
        if isinstance(dim, Tensor):
            return _between(x, dim)
        if not _usable(x) or x.ndim == 0:
            return []
        axes = [dim] if isinstance(dim, int) else list(dim or range(x.ndim))
        axes = [a % x.ndim for a in axes]
        kept = [a for a in range(x.ndim) if a not in axes]
        places = torch.arange(x.numel(), device=x.device).reshape(x.shape)
        rows, places = (v.permute(*kept, *axes).flatten(len(kept)) for v in (x, places))
        return _pairs(x, rows, places, sign)

    return edges


#: Operator -> the kinks of its input.
KINKS: dict[str, Callable[..., list[Edge]]] = {
    **dict.fromkeys(["relu", "relu_", "leaky_relu", "elu", "prelu", "_prelu_kernel", "abs", "sign", "sgn"], _zero),
    **dict.fromkeys(["clamp", "clamp_", "clamp_min", "clamp_max"], _bounded),
    **dict.fromkeys(["gt", "lt", "ge", "le", "maximum", "minimum", "fmax", "fmin"], _between),
    **dict.fromkeys(["floor", "ceil", "trunc"], _whole),
    **dict.fromkeys(["max_pool2d_with_indices", "max_pool3d_with_indices"], _windows),
    **dict.fromkeys(["max", "amax", "argmax"], _extreme(1.0)),
    **dict.fromkeys(["min", "amin", "argmin"], _extreme(-1.0)),
    "clamp_max": lambda x, high: _bounded(x, high),
    "hardtanh": lambda x, low=-1.0, high=1.0: _at(x, low, high),
    "threshold": lambda x, kink, _: _at(x, kink),
    **dict.fromkeys(["hardswish", "hardsigmoid"], lambda x: _at(x, -3.0, 3.0)),
    **dict.fromkeys(["hardshrink", "softshrink"], lambda x, by=0.5: _at(x, -float(by), float(by))),
    "round": _half,
}
