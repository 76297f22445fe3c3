"""What peers do in ``benchmarks.perturbation``: DIANNA, captum's occlusion, the lime package, the shap package.

Runs in an environment of its own, which ``make bench`` makes; imports nothing of onnxplain. Peers that make their sessions
themselves get one thread as everybody does.

Belongs here: calls of other libraries and counting their evaluations. Not here: answering (``perturbation_worker``).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.perturbation_inputs import SEGMENTS, STRIDE, WINDOW, bare_session, blocks, picture

_Session = onnxruntime.InferenceSession
_counted = {"evaluations": 0}


class _OneThread(_Session):  # type: ignore[misc]
    """onnxruntime's session on one thread, counting what it evaluates."""

    def __init__(self, source: Any, sess_options: Any = None, **more: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        super().__init__(source, options, providers=["CPUExecutionProvider"], **more)

    def run(self, outputs: Any, feed: Any, *more: Any) -> Any:
        _counted["evaluations"] += len(next(iter(feed.values())))
        return super().run(outputs, feed, *more)


def _timed(function: Callable[[dict[str, Any]], float | None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A case from a call that gives the seconds to leave out, or None."""

    @functools.wraps(function)
    def case(asked: dict[str, Any]) -> dict[str, Any]:
        onnxruntime.InferenceSession = _OneThread
        _counted["evaluations"] = 0
        began = time.process_time()
        left_out = function(asked) or 0.0
        seconds = time.process_time() - began - left_out
        return {"seconds": seconds, "evaluations": _counted["evaluations"], "left_out": left_out}

    return case


@_timed
def dianna_rise(asked: dict[str, Any]) -> None:
    """RISE from a model's path, batches of 100 as by default, keep given: to find it takes 900 evaluations more."""
    import dianna

    dianna.explain_image(
        asked["model"], picture()[0], "RISE", labels=[asked["target"]], n_masks=asked["n"], p_keep=0.5,
        axis_labels={0: "channels"},
    )  # fmt: skip


@_timed
def dianna_lime(asked: dict[str, Any]) -> None:
    """LIME from a model's path on given segments: lime's own quickshift takes seconds of its own."""
    from dianna.methods.lime_image import LIMEImage

    LIMEImage(axis_labels={0: "channels"}, random_state=0).explain(
        asked["model"], picture()[0], [asked["target"]], num_samples=asked["n"], return_masks=False,
        segmentation_fn=lambda image: blocks(),
    )  # fmt: skip


@_timed
def dianna_kernel_shap(asked: dict[str, Any]) -> float:
    """Kernel SHAP on a model with a single class: it fills a map for each class, an element at a time.

    The fill of this one map, which doesn't depend on the number of evaluations, is left out.
    """
    import dianna
    import dianna.methods.kernelshap_image as module

    fill, took = module._create_heatemaps, [0.0]

    def filling(*given: Any) -> Any:
        began = time.process_time()
        try:
            return fill(*given)
        finally:
            took[0] += time.process_time() - began

    module._create_heatemaps = filling
    try:
        dianna.explain_image(
            asked["model"], picture()[0], "KernelSHAP", labels=[0], nsamples=asked["n"], n_segments=SEGMENTS, sigma=1.0,
            axis_labels={0: "channels"},
        )  # fmt: skip
    finally:
        module._create_heatemaps = fill
    return took[0]


@functools.cache
def _twin(network: str) -> Any:
    """The torch module of a benchmark network, on one thread."""
    import torch

    from benchmarks.networks import folded, seeded

    torch.set_num_threads(1)
    return folded(seeded(network)).eval()


@functools.cache
def _best_captum_batch(network: str) -> int:
    """Windows at once that cost least."""
    return min((1, 8, 32), key=lambda size: _occlude(network, size, 0))


def _occlude(network: str, size: int, target: int) -> float:
    import torch
    from captum.attr import Occlusion

    net, x = _twin(network), torch.from_numpy(picture())
    began = time.process_time()
    with torch.inference_mode():
        Occlusion(net).attribute(
            x, (3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), target=target, perturbations_per_eval=size
        )
    return time.process_time() - began


def captum_occlusion(asked: dict[str, Any]) -> dict[str, Any]:
    """captum's occlusion on the torch module, at the batch that costs least; held against the file first."""
    import torch

    net, size = _twin(asked["network"]), _best_captum_batch(asked["network"])
    session = bare_session(asked["model"])
    with torch.inference_mode():
        made = net(torch.from_numpy(picture())).numpy()
    want = session.run(None, {session.get_inputs()[0].name: picture()})[0]
    if np.abs(made - want).max() > 1e-3 * np.abs(want).max():
        raise ValueError("the torch module and the file disagree")
    places = ((224 - WINDOW) // STRIDE + 1) ** 2
    return {"seconds": _occlude(asked["network"], size, asked["target"]), "evaluations": places, "batch": size}


@_timed
def lime_package(asked: dict[str, Any]) -> None:
    """The lime package over one session that its user made, batches of 10 as by default, on given segments."""
    from lime.lime_image import LimeImageExplainer

    session = onnxruntime.InferenceSession(asked["model"])
    name = session.get_inputs()[0].name

    def predict(images: np.ndarray) -> np.ndarray:
        return session.run(None, {name: np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float32)})[0]

    LimeImageExplainer(random_state=0).explain_instance(
        np.moveaxis(picture()[0], 0, -1).astype(np.float64), predict, labels=[asked["target"]], top_labels=None,
        num_samples=asked["n"], segmentation_fn=lambda image: blocks(),
    )  # fmt: skip


def shap_values(asked: dict[str, Any]) -> dict[str, Any]:
    """Kernel SHAP of the shap package on a table of coalitions' features, for several seeds.

    ``l1`` is its ``l1_reg``: by default it keeps ten features at most, False keeps all.
    """
    import shap

    session = bare_session(str(Path(asked["model"])))
    name = session.get_inputs()[0].name
    x = np.array(asked["x"], np.float32)
    ids = None if asked["ids"] is None else np.array(asked["ids"])
    count = x.size if ids is None else int(ids.max()) + 1
    runs = [0]

    def score(kept: np.ndarray) -> np.ndarray:
        runs[0] += len(kept)
        mask = kept.astype(np.float32)
        mask = mask.reshape(-1, *x.shape[1:]) if ids is None else mask[:, ids]
        return session.run(None, {name: x * mask})[0].reshape(len(kept), -1)[:, 0].astype(np.float64)

    values = []
    for seed in asked["seeds"]:
        np.random.seed(seed)  # noqa: NPY002 - the shap package draws from it
        explainer = shap.KernelExplainer(score, np.zeros((1, count)))
        values.append(
            explainer.shap_values(np.ones((1, count)), nsamples=asked["n"], l1_reg=asked["l1"], silent=True)[0].tolist()
        )
    return {"values": values, "evaluations": runs[0] / len(asked["seeds"])}


PEERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "DIANNA RISE": dianna_rise,
    "DIANNA LIME": dianna_lime,
    "DIANNA KernelSHAP": dianna_kernel_shap,
    "captum Occlusion": captum_occlusion,
    "lime package": lime_package,
    "shap package": shap_values,
}
