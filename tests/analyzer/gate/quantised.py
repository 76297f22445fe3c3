"""Quantised forms of a sample model, and one with a scale that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, x: NDArray[Any]) -> None:
        self._batches = iter([{name: x[at : at + 8]} for at in range(0, len(x), 8)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def quantised(source: Path, target: Path, x: NDArray[np.float32]) -> Path:
    """int8 weights per channel and int8 values, by onnxruntime's static quantiser, calibrated on some inputs."""
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    name = onnx.load(source).graph.input[0].name
    quantize_static(
        str(prepared), str(target), _Reader(name, x), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return target


def with_wrong_scale(source: Path, target: Path, factor: float = 8.0) -> tuple[Path, str]:
    """The same with the scale of one value in the middle too large; also gives that value's name."""
    model = onnx.load(source)
    stored = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    node = stored[len(stored) // 2]
    for tensor in model.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)
            )
    onnx.save(model, target)
    return target, str(node.input[0])
