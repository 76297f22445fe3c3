"""Activation maximization: an input that drives a class, unit, channel, layer or direction as strongly as possible.

Belongs here: from a model and a goal to inputs with the scores that onnxruntime gives them. Not here: steps (``search``),
parametrisations, regularisers, pictures and files (``analyzer.jobs``).

``max log p(c|x) - l2 ‖x‖²`` (Simonyan, Vedaldi and Zisserman 2014), or among the codes of a generator
``max log p(c|g(z)) - l2 ‖z‖²`` (Nguyen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.data.dataset import Dataset
from analyzer.errors import InputError, UsageError
from analyzer.explain.backends import Backends
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.domain import Domain, domain_of
from analyzer.visualization.network import Network
from analyzer.visualization.objectives import Goal, Objective, objective_of
from analyzer.visualization.parametrisation import Code, Kind, Parametrisation, parametrised
from analyzer.visualization.regularisers import Regularisers
from analyzer.visualization.search import Ascent, Search, Steps
from analyzer.visualization.survey import survey

Array = NDArray[Any]
Start = Literal["noise", "mean", "best"] | Array | Mapping[str, Array]
#: Noise at the start has this standard deviation, in halves of the valid range.
_NOISE = 0.1
#: So often other noise is tried where the score doesn't change with the input.
_TRIES = 16
#: So many normal codes are tried to find one to start from.
_CODES = 32
#: Scores of trace and onnxruntime that differ by more than this share are told.
_AGREES = 1e-3


@dataclass(frozen=True, eq=False)
class Maximized:
    """What was found, best first.

    Attributes
    ----------
    x
        (results, …) in the model's layout and type.
    scores
        (results,) float64: of those inputs, by onnxruntime.
    kind
        What the score is.
    goal
        What was maximised.
    traced
        (results,): the scores by the trace that gave the gradients.
    probabilities
        (results,): of the class, by onnxruntime; None where none is known.
    starts
        (results,): the scores at the start.
    history
        (steps, results): the score at each step, as the step saw the input.
    frames
        (step, input) pairs on the way of the best result.
    codes
        (results, …): what the generator made them from; None without one.
    domain
        Among which inputs.
    notes
        What a reader should know.
    record
        Everything that asks for the same again; JSON-ready.
    """

    x: Array
    scores: Array
    kind: str
    goal: Goal
    traced: Array
    probabilities: Array | None
    starts: Array
    history: Array
    frames: list[tuple[int, Array]]
    codes: Array | None
    domain: Domain
    notes: list[str]
    record: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"<Maximized {self.goal}: {self.kind} {self.scores[0]:.4g} of {len(self.x)} results>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: everything but the inputs."""
        return {
            **self.record, "kind": self.kind, "scores": self.scores.tolist(), "scores_by_trace": self.traced.tolist(),
            "probabilities": None if self.probabilities is None else self.probabilities.tolist(),
            "scores_at_start": self.starts.tolist(), "history": self.history.tolist(), "notes": self.notes,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Wish:
    """Everything that a search depends on beside the model and the goal.

    Attributes
    ----------
    start
        ``noise``; ``mean`` of the data, or the middle of the range without any; ``best`` of the data; an input.
    dataset
        Data to start from.
    results, restarts
        So many inputs, each the best of so many ascents.
    bounds
        The valid range; None for that of the preprocessing.
    input
        Name of the input that is changed; the others stay as in ``start``.
    """

    start: Start = "noise"
    dataset: Dataset | None = None
    results: int = 1
    restarts: int = 1
    parametrisation: Kind = "pixels"
    decorrelate: bool = False
    regularisers: Regularisers = Regularisers()
    steps: Steps = Steps()
    bounds: tuple[float, float] | None = None
    input: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("results", "restarts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256:
                raise UsageError("params.invalid", f"{name}={value!r} is no whole number from 1 to 256")
        if isinstance(self.start, str) and self.start not in ("noise", "mean", "best"):
            raise UsageError("params.invalid", f"unknown start {self.start!r}", "use noise, mean, best, or an input")
        if isinstance(self.start, str) and self.start == "best" and self.dataset is None:
            raise UsageError("maximize.no_data", "the best data point needs data", "give a data set")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; an input to start from by its shape."""
        given = self.start if isinstance(self.start, str) else "an input"
        return {
            "start": given, "data_digest": None if self.dataset is None else self.dataset.digest,
            "results": self.results, "restarts": self.restarts, "parametrisation": self.parametrisation,
            "decorrelate": self.decorrelate, "regularisers": self.regularisers.to_dict(),
            "steps": self.steps.steps, "rate": self.steps.rate, "optimizer": self.steps.optimizer,
            "patience": self.steps.patience, "bounds": None if self.bounds is None else list(self.bounds),
            "input": self.input, "seed": self.seed,
        }  # fmt: skip


def maximize(
    backends: Backends,
    goal: Goal,
    wish: Wish,
    generator: Backends | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Maximized:
    """Inputs that make a goal large.

    Parameters
    ----------
    generator
        A model whose codes are looked through instead of inputs.
    progress
        Called with (steps done, steps).

    Raises
    ------
    UnsupportedError
        ``maximize.*``, ``op.unsupported``, ``model.no_gradient``.
    UsageError
        ``params.invalid``, ``target.*``, ``unit.*``, ``layer.*``, ``maximize.*``.
    ParityError
        The trace disagrees with onnxruntime.
    """
    model = backends.model
    given = _given(model, wish)
    domain = domain_of(model, wish.input, given, wish.bounds)
    feed = _example(model, domain, given)
    objective = objective_of(model, goal, feed)
    network = Network(backends, objective.value, domain.name, feed)
    notes = [*domain.notes, *objective.notes]
    half = torch.from_numpy(np.asarray(domain.half)).to(network.device, torch.float32)

    def score(x: Tensor) -> Tensor:
        return objective.score(network(domain.to_model(x)))

    if generator is None:
        begun = _started(wish, domain, objective, model, given, notes)
        start = torch.from_numpy(begun.astype(np.float32)).to(network.device)
        if isinstance(wish.start, str) and wish.start == "noise":
            start = _sensitive(start, domain, lambda x: score(wish.regularisers.shaped(x)), wish.seed)
        how = parametrised(domain, start, wish.parametrisation, decorrelate=wish.decorrelate)
        regularisers, code_l2 = wish.regularisers, 0.0
    else:
        how, regularisers, code_l2 = _coded(generator, domain, wish, network.device, score)
    search = Search(how, score, regularisers, half, wish.steps, wish.results, code_l2, wish.seed)
    ascent = search.run(progress)
    return _finished(model, goal, wish, domain, objective, network, ascent, notes, generator, search)


def _given(model: OnnxModel, wish: Wish) -> dict[str, Array] | None:
    """The input to start from, by the names of the model's inputs; that of the data's first sample without one."""
    if not isinstance(wish.start, str):
        return model.feed(wish.start)
    if wish.dataset is not None and len(wish.dataset):
        for at in range(len(wish.dataset)):
            try:
                return model.feed(wish.dataset.read(at).feed)
            except InputError:
                continue
    return None


def _example(model: OnnxModel, domain: Domain, given: Mapping[str, Array] | None) -> dict[str, Array]:
    """One sample in the middle of the range, or as many as the model takes; other inputs as given."""
    rows = model.fixed_batch or 1
    middle = np.broadcast_to(domain.middle, (1, *domain.canonical)).astype(np.float32)
    own = domain.to_model(torch.from_numpy(middle)).numpy().astype(domain.dtype)
    others: dict[str, Array] = {}
    if given is not None:
        axes = model.batch_axes(given, model.batch_of(given))
        others = {k: v if axes[k] is None else v.take(np.zeros(rows, int), axes[k])
                  for k, v in given.items() if k != domain.name}  # fmt: skip
    return model.feed({**others, domain.name: np.repeat(own, rows, 0)})


def _started(
    wish: Wish, domain: Domain, objective: Objective, model: OnnxModel, given: Mapping[str, Array] | None, notes: list[str]
) -> Array:
    """(restarts · results, channels, *places): where the ascents begin; but for the first, with noise."""
    rows = wish.results * wish.restarts
    draw = np.random.default_rng(wish.seed)
    noise = draw.standard_normal((rows, *domain.canonical)) * _NOISE * domain.half
    if isinstance(wish.start, str) and wish.start == "noise":
        begun: Array = domain.middle + noise
    elif isinstance(wish.start, str) and wish.dataset is not None:
        data = survey(model, wish.dataset, domain, objective, wish.results)
        notes.append(f"started from {wish.start} of {data.count} samples" +
                     (f": {', '.join(data.names[:3])}" if wish.start == "best" else ""))  # fmt: skip
        chosen = data.mean[None] if wish.start == "mean" else data.best
        begun = _repeated(domain.from_model(chosen), noise, wish.results)
    elif isinstance(wish.start, str):
        begun = _repeated(np.broadcast_to(domain.middle, (1, *domain.canonical)), noise, wish.results)
    else:
        assert given is not None
        begun = _repeated(domain.from_model(given[domain.name]), noise, wish.results)
    return np.clip(begun, domain.low, domain.high)


def _sensitive(start: Tensor, domain: Domain, score: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """Noise at which the score changes with the input: where a network is silent, as with all its units below zero, other
    noise is tried, brighter or darker and stronger.
    """
    draw = np.random.default_rng([seed, 1])
    for attempt in range(_TRIES):
        leaf = start.clone().requires_grad_()
        (slope,) = torch.autograd.grad(score(leaf).sum(), leaf)
        silent = (slope.reshape(len(slope), -1) == 0).all(1).cpu().numpy()
        if not silent.any():
            break
        level = draw.uniform(-1, 1, (int(silent.sum()), *(1,) * len(domain.canonical)))
        strength = _NOISE * 2.0 ** (attempt % 4)
        noise = draw.standard_normal((len(level), *domain.canonical)) * strength
        other = np.clip(domain.middle + (level + noise) * domain.half, domain.low, domain.high)
        start = start.clone()
        start[torch.from_numpy(silent)] = torch.from_numpy(other).to(start)
    return start


def _repeated(chosen: Array, noise: Array, results: int) -> Array:
    """Starts for all rows: the first of each as it is, later ones with noise."""
    rows = np.arange(len(noise))
    later = (rows >= results) | (rows % results >= len(chosen))
    found: Array = chosen[rows % results % len(chosen)] + noise * later.reshape(-1, *(1,) * (noise.ndim - 1))
    return found


def _coded(
    generator: Backends, domain: Domain, wish: Wish, device: torch.device, score: Callable[[Tensor], Tensor]
) -> tuple[Parametrisation, Regularisers, float]:
    """Codes of a generator as what is optimised; ``l2`` is about them.

    Raises
    ------
    UsageError
        ``generator.size`` where what it makes isn't what the model takes.
    """
    model = generator.model
    codes = domain_of(model)
    feed = _example(model, codes, None)
    output = next(iter(model.outputs))
    made = np.asarray(model.values(feed, [output])[output])
    size = int(np.prod(domain.shape))
    if made[0].size != size:
        message = f"the generator makes {list(made.shape[1:])}, the model takes {list(domain.shape)}"
        raise UsageError("generator.size", message, "give a generator of the model's inputs")
    network = Network(generator, output, codes.name, feed)

    def generate(z: Tensor) -> Tensor:
        shaped = network(codes.to_model(z)).reshape(len(z), *domain.shape).to(device)
        return _canonical(shaped, domain)

    how = Code(generate, _best_codes(codes, wish, device, lambda z: score(wish.regularisers.shaped(generate(z)))))
    return how, replace(wish.regularisers, l2=0.0), wish.regularisers.l2


def _best_codes(codes: Domain, wish: Wish, device: torch.device, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Codes to start from: the best of several normal ones for each row, for ascents among codes end in near optima."""
    draw, rows = np.random.default_rng(wish.seed), wish.results * wish.restarts
    best, found = torch.full((rows,), -torch.inf, device=device), torch.zeros((rows, *codes.canonical), device=device)
    for _ in range(_CODES):
        drawn = np.clip(draw.standard_normal((rows, *codes.canonical)), codes.low, codes.high)
        z = torch.from_numpy(drawn.astype(np.float32)).to(device)
        with torch.no_grad():
            scores = score(z)
        better = scores > best
        best, found = torch.where(better, scores, best), torch.where(better.reshape(-1, *(1,) * (z.ndim - 1)), z, found)
    return found


def _canonical(value: Tensor, domain: Domain) -> Tensor:
    moved = value.permute(0, *(1 + axis for axis in domain.order))
    return moved if domain.channels else moved[:, None]


def _finished(
    model: OnnxModel, goal: Goal, wish: Wish, domain: Domain, objective: Objective, network: Network, ascent: Ascent,
    notes: list[str], generator: Backends | None, search: Search,
) -> Maximized:  # fmt: skip
    """The best restart of each result, with what onnxruntime says of it."""
    found = domain.to_model(ascent.best.cpu()).numpy().astype(domain.dtype)
    exact, chances = objective.of(network.exact(found))
    with torch.no_grad():
        traced = objective.score(network(domain.to_model(ascent.best))).cpu().double().numpy()
        penalties = traced - ascent.gained.cpu().double().numpy()  # the score less what was gained
    worth = np.where(np.isfinite(exact), exact - penalties, -np.inf).reshape(wish.restarts, wish.results)
    chosen = worth.argmax(0) * wish.results + np.arange(wish.results)
    chosen = chosen[np.argsort(-worth.max(0), kind="stable")]
    apart = np.abs(traced - exact)[chosen]
    if (apart > _AGREES * (1 + np.abs(exact[chosen]))).any():
        notes.append(f"trace and onnxruntime differ by up to {apart.max():.3g} in the score; onnxruntime's counts")
    taken = len(ascent.history) - 1
    if ascent.interrupted:
        notes.append(f"interrupted after {taken} of {wish.steps.steps} steps: the best so far")
    history = np.stack(ascent.history)[:, chosen]
    if taken and not bool((ascent.gained > ascent.begun).any()):
        notes.append("nothing was gained over the start: the score may not change with the input there")
    frames = [(step, domain.to_model(x[chosen[:1]]).numpy()[0]) for step, x in ascent.frames]
    record = {
        "model": str(model.path or "model"), "sha256": model.sha256, "goal": goal.to_dict(), **wish.to_dict(),
        "steps_taken": taken, "generator": None if generator is None else generator.model.sha256,
    }  # fmt: skip
    return Maximized(
        found[chosen], exact[chosen], objective.kind, goal, traced[chosen],
        None if chances is None else chances[chosen], history[0], history, frames,
        None if ascent.code is None else ascent.code.cpu().numpy()[chosen], domain, notes, record,
    )  # fmt: skip
