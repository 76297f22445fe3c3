"""Activation maximization: an input that drives a class, unit, channel, layer or direction as strongly as possible.

Belongs here: from a model and a goal to inputs with the scores that onnxruntime gives them. Not here: steps (``search``),
parametrisations, regularisers, pictures and files (``analyzer.jobs``).

``max log p(c|x) - l2 ‖x‖²`` (Simonyan, Vedaldi and Zisserman 2014), or among the codes of a generator
``max log p(c|g(z)) - l2 ‖z‖²`` (Nguyen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import InputError, UsageError
from analyzer.explain.backends import Backends
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.domain import Domain, domain_of
from analyzer.visualization.maximized import Maximized, Wish
from analyzer.visualization.network import Network
from analyzer.visualization.objectives import Goal, Objective, objective_of
from analyzer.visualization.parametrisation import Code, Parametrisation, parametrised
from analyzer.visualization.regularisers import Regularisers
from analyzer.visualization.search import Ascent, Search
from analyzer.visualization.starts import best_codes, sensitive, started

Array = NDArray[Any]
#: Scores of trace and onnxruntime that differ by more than this share are told.
_AGREES = 1e-3


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
        begun = started(wish, domain, objective, model, given, notes)
        start = torch.from_numpy(begun.astype(np.float32)).to(network.device)
        if isinstance(wish.start, str) and wish.start == "noise":
            start = sensitive(start, domain, lambda x: score(wish.regularisers.shaped(x)), wish.seed)
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

    how = Code(generate, best_codes(codes, wish, device, lambda z: score(wish.regularisers.shaped(generate(z)))))
    return how, replace(wish.regularisers, l2=0.0), wish.regularisers.l2


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
