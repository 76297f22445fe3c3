"""What the axes of a model's input count: samples, channels, places.

Belongs here: reading of shapes (batch, …), and of a layout given as letters. Not here: declared shapes with free dimensions
(``shapes``), resampling (``resampling``), reading it from the graph (``graph_channels``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.errors import UsageError
from analyzer.nearest import did_you_mean
from analyzer.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from analyzer.inputs.schema import Preprocess


#: Letters of axes that count places: time or tokens, depth, rows, columns.
PLACES = "TDHW"
#: So many channels pictures have.
_FEW = (1, 3, 4)


@dataclass(frozen=True)
class Axes:
    """What each axis of an input counts.

    Attributes
    ----------
    letters
        One for every axis: N samples, C channels or features, T time or tokens, D, H and W places.
    """

    letters: str

    @property
    def batch(self) -> int | None:
        """The axis that counts the samples; None where all share the input."""
        return self.letters.index("N") if "N" in self.letters else None

    @property
    def channels(self) -> int | None:
        """The axis of the channels; None where there is none."""
        return self.letters.index("C") if "C" in self.letters else None

    @property
    def places(self) -> tuple[int, ...]:
        """The axes that masks and maps lie along; of an input without any its channels."""
        found = tuple(axis for axis, letter in enumerate(self.letters) if letter in PLACES)
        return found or tuple(axis for axis, letter in enumerate(self.letters) if letter == "C")


def named_axes(given: str | Mapping[str, str] | None, inputs: Mapping[str, TensorSpec]) -> dict[str, Axes]:
    """Layouts as a user gives them: letters for the first input, or input name -> letters.

    Raises
    ------
    UsageError
        ``layout.unknown_input``, ``layout.invalid``.
    """
    if not isinstance(given, str | Mapping | None):
        raise UsageError(
            "layout.invalid", f"{given!r} is no layout", "give letters, as in NTC, or input name -> letters"
        )
    named = {next(iter(inputs), ""): given} if isinstance(given, str) else dict(given or {})
    for name, letters in named.items():
        if name not in inputs:
            message = f"the model has no input {name!r}{did_you_mean(name, inputs)}"
            raise UsageError("layout.unknown_input", message, f"its inputs: {', '.join(inputs)}")
        text, shape = str(letters), inputs[name].shape
        if len(set(text)) != len(text) or not set(text) <= {*PLACES, "N", "C"} or not text:
            message = f"{text[:40]!r} is no layout of input {name!r}"
            raise UsageError("layout.invalid", message, "give each axis one letter of N, C, T, D, H, W, as in NTC")
        if shape and len(text) != len(shape):
            message = f"layout {text!r} has {len(text)} axes, input {name!r} {len(shape)}: {inputs[name]}"
            raise UsageError("layout.invalid", message, "give a letter for each of its axes")
    return {name: Axes(str(letters)) for name, letters in named.items()}


def axes_of(shape: Sequence[int], preprocess: Preprocess | None, read: int | None = None) -> Axes:
    """The axes of an input (batch, …) as the preprocessing, the graph or the sizes say, see :func:`channel_axis`."""
    if len(shape) <= 2:
        return Axes("NC"[: len(shape)])
    places = {3: "T", 4: "HW", 5: "DHW"}.get(len(shape), "TDHW"[: len(shape) - 2])
    channels = channel_axis(shape, preprocess, read)
    return Axes(f"N{places[: channels - 1]}C{places[channels - 1 :]}")


def channel_axis(shape: Sequence[int], preprocess: Preprocess | None, read: int | None = None) -> int:
    """The channel axis of an input (batch, …): 1, or the last one.

    By the preprocessing where it names a layout; else as ``read`` from the graph; else the last axis where it is as short as
    channels are (1, 3 or 4) and axis 1 isn't.
    """
    if preprocess is not None and preprocess.layout is not None and len(shape) == 4:
        return len(shape) - 1 if preprocess.layout == "NHWC" else 1
    if read is not None and read < len(shape):
        return read
    if len(shape) == 3:
        return 2 if shape[2] <= 4 < shape[1] else 1
    return len(shape) - 1 if len(shape) > 3 and shape[-1] in _FEW and shape[1] not in _FEW else 1


def ambiguous(shape: Sequence[int]) -> bool:
    """Whether an input's sizes leave open which axis holds the channels: none is as short as channels are, or both."""
    return len(shape) == 3 or (len(shape) > 3 and (shape[1] in _FEW) == (shape[-1] in _FEW))
