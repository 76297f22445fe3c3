"""Records that several tests of the report fill in. Not here: tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.report import ModelFacts, Panel, Sample

FACTS = ModelFacts(
    path="models/net.onnx",
    sha256="0123456789abcdef" * 4,
    size_bytes=4_956_208,
    producer="pytorch 2.13",
    ir_version=10,
    opsets={"": 20, "ai.onnx.ml": 3},
    inputs=(("data", "float32 [1, 3, 8, 8]"),),
    outputs=(("out", "float32 [1, 10]"),),
    operators={"Conv": 3, "Relu": 2},
    parameters=1_235_496,
    description="A small network.",
    metadata={"licence": "Apache-2.0"},
)


def panel(attribution: NDArray[Any], signed: bool = True, **more: Any) -> Panel:
    """A panel with a plain heading."""
    known: dict[str, Any] = {"method": "lrp", "params": {"composite": "epsilon"}, "target": "cat (3)", "score": 2.5}
    return Panel(attribution=attribution, signed=signed, **(known | more))


def image_sample(height: int = 8, width: int = 8, name: str = "tiny") -> Sample:
    """A grey ramp with its values in CHW."""
    ramp = np.linspace(40, 200, height * width).reshape(height, width).astype(np.uint8)
    picture = np.repeat(ramp[..., None], 3, axis=2)
    values = picture.transpose(2, 0, 1).astype(np.float32) / 255
    return Sample(name, "image", picture, values, "CHW", top=(("cat", 0.7), ("dog", 0.2)))


def samples_of_every_kind() -> list[tuple[Sample, list[Panel]]]:
    """One sample of each kind with a signed and an unsigned explanation, seeded."""
    draw = np.random.default_rng(0).normal
    words = ("not", "a", "bad", "film", "at", "all")
    kinds = [
        image_sample(),
        Sample("row", "table", None, draw(size=5).astype(np.float32), None, ("age", "pay", "sex", "x1", "x2")),
        Sample("wave", "series", None, draw(size=(2, 30)).astype(np.float32), "CT"),
        Sample("text", "tokens", None, np.arange(len(words)), None, words),
        Sample("latent", "tensor", None, draw(size=(2, 3, 4)).astype(np.float32)),
    ]
    made = []
    for sample in kinds:
        shape = sample.values.shape
        both = [panel(draw(size=shape), seconds=0.25), panel(np.abs(draw(size=shape)), signed=False, method="saliency")]
        made.append((sample, both))
    return made
