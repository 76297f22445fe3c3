"""The proof that a difference is rounding: planted flips pass, planted errors don't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor

import analyzer
from tests import kinks
from tests.common.engines import torch_engine
from tests.common.models import Array, assemble, cnn, mlp
from tests.kinks import Watch, equal_up_to_flips

RNG = np.random.default_rng(0)
W, B, V = (RNG.standard_normal(shape).astype(np.float32) for shape in ((6, 8), (8,), (8, 3)))
#: Two samples; the first one's units 2 and 5 stand at the kink as near as float32 can put them, if asked.
X = RNG.standard_normal((2, 6)).astype(np.float32)


def model(at_kink: tuple[int, ...] = ()) -> analyzer.Model:
    """Gemm, ReLU, MatMul; some of the first sample's units at zero."""
    bias = B.copy()
    z = X[0].astype(np.float64) @ W
    for unit in at_kink:
        bias[unit] = -z[unit]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], name="first"),
        helper.make_node("Relu", ["z"], ["a"], name="relu"),
        helper.make_node("MatMul", ["a", "v"], ["y"], name="second"),
    ]
    proto = assemble(nodes, {"x": (1, ["n", 6])}, {"y": (1, ["n", 3])}, {"w": W, "b": bias, "v": V})
    return analyzer.load(proto, "cpu", threads=1)


def gradient(net: analyzer.Model) -> Callable[[], Array]:
    return lambda: net.explain(X, method="gradient", target=0, backend="torch").raw


def share(*units: int) -> Array:
    """What units of the first sample put into its gradient."""
    moved = np.zeros_like(X)
    for unit in units:
        moved[0] += W[:, unit] * V[unit, 0]
    return moved


def flipped(net: analyzer.Model, want: Array, *units: int) -> Array:
    """The gradient with units of the first sample on the other side, by hand."""
    on = net.values({"x": X}, ["a"])["a"][0] > 0
    found = want.copy()
    for unit in units:
        near = [want - share(unit), want + share(unit)]
        without = gradient_by_hand(net, on & (np.arange(8) != unit))
        found += (near[0] if np.allclose(without, near[0][0], atol=1e-5) else near[1]) - want
    return found


def gradient_by_hand(net: analyzer.Model, on: Array) -> Array:
    return np.asarray((W[:, on] * V[on, 0]).sum(axis=1))


@pytest.mark.parametrize("units", [(2,), (2, 5)])
def test_units_at_their_kink_are_found_and_explain_the_difference(units: tuple[int, ...]) -> None:
    net = model((2, 5))
    want = gradient(net)()
    proof = equal_up_to_flips(flipped(net, want, *units), want, gradient(net))
    assert proof.gap > 1e-2
    assert len(proof.flips) == len(units)
    for unit in units:
        assert any(f"relu #0 [0,{unit}]" in flip for flip in proof.flips), proof


def test_a_near_map_needs_no_second_look() -> None:
    def never() -> Array:
        raise AssertionError("asked again")

    want = gradient(model())()
    assert equal_up_to_flips(want * (1 + 5e-5), want, never).gap <= 1e-4


def test_a_wrong_map_without_a_kink_fails() -> None:
    net = model()
    want = gradient(net)()
    for wrong in (want * 1.001, want + 1e-3 * np.abs(want).max() * (np.arange(6) == 4), np.roll(want, 1, axis=1)):
        with pytest.raises(AssertionError, match=r"no proof was found.*; 0 units stand at a kink"):
            equal_up_to_flips(wrong, want, gradient(net), what="planted")


def test_a_flip_of_a_unit_that_stands_at_no_kink_fails() -> None:
    net = model((2,))
    want = gradient(net)()
    with pytest.raises(AssertionError, match="no proof was found"):
        equal_up_to_flips(want + share(3), want, gradient(net))


@pytest.mark.parametrize("also", [True, False])
@pytest.mark.parametrize("kind", ["scaled", "elsewhere", "half a share", "another sample"])
def test_a_wrong_map_beside_an_unrelated_kink_fails(kind: str, also: bool) -> None:
    net = model((2,))
    want = gradient(net)()
    size = np.abs(want).max()
    error = {
        "scaled": 1e-3 * want,
        "elsewhere": 1e-3 * size * (np.arange(6) == 4) * np.ones((2, 1)),
        "half a share": share(2) / 2,
        "another sample": share(2)[::-1],
    }[kind]
    wrong = (flipped(net, want, 2) if also else want) + error
    with pytest.raises(AssertionError, match=r"no proof was found.*; [12] units stand at a kink: relu #0 \[0,2\]"):
        equal_up_to_flips(wrong, want, gradient(net))


def test_what_the_message_says() -> None:
    net = model()
    want = gradient(net)()
    with pytest.raises(AssertionError) as caught:
        equal_up_to_flips(want * 1.01, want, gradient(net), what="gradient of it")
    for part in (
        "gradient of it",
        "1.0e-02 of the largest",
        "rounding moves an element by up to",
        "units stand at a kink",
    ):
        assert part in str(caught.value)


def test_shapes_names_and_what_is_not_finite() -> None:
    want = gradient(model())()
    for wrong in ({"x": want, "y": want}, {"x": want[:, :3]}, {"x": np.where(want == want.max(), np.nan, want)}):
        with pytest.raises(AssertionError):
            equal_up_to_flips(wrong, {"x": want}, lambda: {"x": want})


def test_a_torch_side_that_does_not_repeat_proves_nothing() -> None:
    want = gradient(model())()
    with pytest.raises(AssertionError, match="when run again"):
        equal_up_to_flips(want * 1.01, want, lambda: want * 1.02)


# --- a sum that nearly cancels --------------------------------------------------------------------------------------


def test_rounding_of_a_denominator_near_zero_is_no_flip() -> None:
    x, rng = np.ones((1, 64), np.float32), np.random.default_rng(3)
    w = rng.standard_normal((64, 4)).astype(np.float32)
    w[0, 1] -= w[:, 1].sum(dtype=np.float64) - 2e-4  # relevance of unit 1 is shared by a sum of 2e-4
    v = np.array([[3.0], [2e-4], [1.0], [1.0]], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="first"),
        helper.make_node("Add", ["z", "one"], ["a"], name="add"),
        helper.make_node("MatMul", ["a", "v"], ["y"], name="second"),
    ]
    proto = assemble(
        nodes, {"x": (1, [1, 64])}, {"y": (1, [1, 1])}, {"w": w, "v": v, "one": np.ones((1, 1), np.float32)}
    )
    net = analyzer.load(proto, "cpu", threads=1)

    def relevance(precision: str = "float32") -> Array:
        return net.explain(
            x, method="lrp", composite="epsilon", target=0, backend="torch", initial="one", precision=precision
        ).raw

    want, exact = relevance(), relevance("float64")
    scale = np.abs(want).max()
    assert np.abs(exact - want).max() <= 1e-2 * scale
    proof = equal_up_to_flips(exact, want, relevance, rtol=1e-7)
    assert not proof.flips
    with pytest.raises(AssertionError, match="no proof was found"):
        equal_up_to_flips(want * 1.05, want, relevance, rtol=1e-7)


# --- every kind of kink ---------------------------------------------------------------------------------------------

M = torch.from_numpy(RNG.standard_normal((9, 9)).astype(np.float32))


def _pool(z: Tensor) -> Tensor:
    return torch.nn.functional.max_pool2d(z.reshape(1, 1, 3, 3), 2, 1).flatten() * torch.arange(1.0, 5.0)


def _padded(z: Tensor) -> Tensor:
    return torch.nn.functional.max_pool1d(z.reshape(1, 1, 9), 3, 2, padding=1).flatten() * torch.arange(1.0, 6.0)


#: Function of nine units -> where unit 4 stands at a kink: at a number, or beside unit 3.
FORMS: dict[str, tuple[Callable[[Tensor], Tensor], float | None]] = {
    "relu": (torch.relu, 0.0), "leaky": (lambda z: torch.nn.functional.leaky_relu(z, 0.1), 0.0), "abs": (torch.abs, 0.0),
    "relu6 above": (torch.nn.functional.relu6, 6.0), "relu6 below": (torch.nn.functional.relu6, 0.0),
    "clip": (lambda z: z.clamp(-0.5, 1.5), 1.5), "clip below": (lambda z: z.clamp(min=-0.5), -0.5),
    "clip above": (lambda z: z.clamp(max=0.7), 0.7), "clip by tensors": (lambda z: torch.minimum(z, torch.ones(9)), 1.0),
    "hardswish": (torch.nn.functional.hardswish, 3.0), "hardsigmoid": (torch.nn.functional.hardsigmoid, -3.0),
    "threshold": (lambda z: torch.nn.functional.threshold(z, 0.3, 0.3), 0.3),
    "where": (lambda z: torch.where(z > 0.25, 2 * z, z + 0.25), 0.25),
    "where of two": (lambda z: torch.where(z[4:] >= z[3:8], z[4:], 2 * z[3:8])[0] + z.sum(), None),
    "sign": (lambda z: torch.sign(z) * z**2 + torch.sign(z) * z, 0.0), "max": (lambda z: z[3:5].max(), None),
    "amin": (lambda z: z[3:5].amin(0), None), "max of rows": (lambda z: z[1:7].reshape(3, 2).max(1).values, None),
    "maximum": (lambda z: torch.maximum(z[3], z[4]) + z.sum(), None), "max pool": (_pool, None), "padded pool": (_padded, None),
    "round": (lambda z: z * torch.round(z), 0.5), "floor": (lambda z: z * torch.floor(z), 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_kind_of_kink(name: str) -> None:
    form, kink = FORMS[name]
    x, shift = torch.linspace(-1, 1, 9), torch.zeros(9)
    for unit in (3, 4) if kink is None else (4,):  # two beside each other stand above all others, or below
        place = (-5.0 if name == "amin" else 5.0) if kink is None else kink
        shift[unit] = place - (M @ x)[unit]
        shift[unit] += place - (M @ x + shift)[unit]

    def slope(by: float) -> Callable[[], Array]:
        def run() -> Array:
            leaf = x.clone().requires_grad_(True)
            z = M @ leaf + shift
            z = z + by * (torch.arange(9) == 4)
            form(z).sum().backward()
            return np.asarray(leaf.grad)

        return run

    step = 5e-7 if kink is not None else 1.2e-6
    want, got = slope(-step)(), slope(step)()
    assert np.abs(got - want).max() > 1e-2 * np.abs(want).max(), "the planted flip moves nothing"
    proof = equal_up_to_flips(got, want, slope(-step))
    assert proof.flips
    with pytest.raises(AssertionError):
        equal_up_to_flips(got + 1e-3 * np.abs(want).max(), want, slope(-step))
    with pytest.raises(AssertionError):
        equal_up_to_flips(slope(0.3)() + slope(-0.3)(), want, slope(-step))


# --- what the proof rests on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "mlp", "digits_cnn", "shapes_cheater"])
def test_random_roundings_are_larger_than_torchs_own(name: str, sample_models: Path) -> None:
    rng = np.random.default_rng(1)
    made: dict[str, Any] = {"cnn": cnn, "mlp": mlp}
    net = analyzer.load(made[name]() if name in made else sample_models / f"{name}.onnx", "cpu", threads=1)
    shape = {"cnn": (4, 3, 8, 8), "mlp": (64, 6), "digits_cnn": (4, 1, 8, 8), "shapes_cheater": (2, 3, 64, 64)}[name]
    x = rng.random(shape).astype(np.float32)

    def run(precision: str = "float32") -> Array:
        return net.explain(x, method="gradient", backend="torch", precision=precision).raw

    run(), run("float64")
    with Watch() as single:
        want = run()
    with Watch() as double:
        exact = run("float64")
    moved = np.zeros(want.shape)
    for draw in range(kinks.DRAWS):
        with Watch(single.calls, draw=draw):
            moved = np.maximum(moved, np.abs(run() - want.astype(np.float64)))
    pairs, last = [(moved, np.abs(want - exact))], np.finfo(np.float32).eps
    wide = [call for call in double.calls if call.edge.distance.dtype == torch.float64]  # others verify the trace
    for one, two in zip(single.calls, wide, strict=True):
        real = torch.isfinite(one.edge.distance)
        error = (one.edge.distance - two.edge.distance).abs()[real]
        digit = last * two.edge.distance.abs()[real]  # of a sum without cancellation the draws may miss the last digit
        pairs.append((one.spread[real].numpy(), (error - digit).clamp(min=0).numpy()))
    for spread, error in pairs:
        assert np.mean(error > kinks.REACH * spread + 1e-12) <= 1e-3
        assert np.sqrt(np.mean(error**2)) <= np.sqrt(np.mean(spread**2.0)) + 1e-12
        assert np.sqrt(np.mean(spread**2.0)) <= 30 * np.sqrt(np.mean(error**2)) + 1e-6, "far more than rounding"


def test_inputs_and_constants_are_left_as_they_were() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "v"], ["y"])]
    proto = assemble(nodes, {"x": (1, ["n", 8])}, {"y": (1, ["n", 3])}, {"v": V})
    net = analyzer.load(proto, "cpu", threads=1)
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8)
    before = x.copy()

    engine = torch_engine(net, {"x": x}, "y", np.array([[1.0, 0.0, 0.0]] * 2))  # not verified: flips are meant to show

    def run() -> Array:
        return engine.gradient().relevance["x"]

    want = run()
    with Watch() as seen:
        run()
    seen.calls[0].spread.fill_(1.0)
    units = seen.calls[0].near()
    assert len(units) == 16
    with Watch(seen.calls, flips=units):
        assert np.abs(run() - want).max() > 0.1
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(run(), want)


def test_a_unit_halfway_between_two_kinks_stays() -> None:
    x = torch.linspace(-1, 1, 9)
    shift = torch.full((9,), 3.0) - M @ x  # halfway between 0 and 6 rounding decides which is the nearer

    def run() -> Array:
        leaf = x.clone().requires_grad_(True)
        (torch.nn.functional.relu6(M @ leaf + shift) ** 2).sum().backward()
        return np.asarray(leaf.grad)

    want = run()
    with Watch() as seen:
        run()
    for draw in range(kinks.DRAWS):
        with Watch(seen.calls, draw=draw):
            assert np.abs(run() - want).max() <= 1e-5 * np.abs(want).max()
    assert not seen.calls[0].near()
