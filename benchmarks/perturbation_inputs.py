"""What both sides of ``benchmarks.perturbation`` are given: the picture, its segments, the windows, a session on one thread.

Runs in the peers' environment too, so it imports nothing of onnxplain. Not here: what is done with them
(``perturbation_worker``, ``perturbation_peers``).
"""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime

#: Window and stride of occlusion (225 windows), of a call with fewer evaluations than that (49), segments of kernel SHAP.
WINDOW, STRIDE, SEGMENTS = 28, 14, 100
FEW, WIDE = 100, 2
_Session = onnxruntime.InferenceSession  # peers' side puts another in its place


def picture(dtype: str = "float32") -> np.ndarray:
    """A picture with coloured discs on a gradient and some noise, (1, 3, 224, 224), values in 0..1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:224, :224] / 224
    image = np.stack([x, y, 1 - x]) * 0.8 + rng.normal(0, 0.04, (3, 224, 224))
    for centre, radius, colour in (((0.3, 0.4), 0.2, (0.9, 0.1, 0.1)), ((0.7, 0.6), 0.15, (0.1, 0.8, 0.2))):
        image[:, (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = np.array(colour)[:, None]
    return image.clip(0, 1)[None].astype(dtype)


def blocks() -> np.ndarray:
    """Segments for LIME, the same for all sides: 10 x 10 blocks of about 22 elements, (224, 224)."""
    side = np.arange(224) * 10 // 224
    return side[:, None] * 10 + side


@functools.cache
def bare_session(path: str) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return _Session(path, options, providers=["CPUExecutionProvider"])
