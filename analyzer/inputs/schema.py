"""`Preprocess`: how a picture becomes a model's input, as data.

Belongs here: the schema, the presets, and applying and inverting them. Not here: reading the schema from files
(``preprocess``), reading pictures (``images``), resizing (``geometry``).

For pixel value p in 0..255 of channel c the model sees ``(p * scale - mean[c]) / std[c]``, in that order.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from analyzer.errors import UsageError
from analyzer.inputs import geometry
from analyzer.inputs.shapes import Dims, ImageShape, image_shape, numpy_dtype, show

CODE = "config.preprocess"
Pixels = NDArray[np.uint8]
DtypeName = Literal["float32", "float16", "uint8"]


def _number(value: Any) -> float:
    if isinstance(value, str) and value.count("/") == 1:
        try:
            over, under = (float(part) for part in value.split("/"))
            value = over / under
        except (ValueError, ZeroDivisionError):
            pass
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError('must be a finite number or a fraction such as "1/255"')
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    numbers = tuple(_number(v) for v in (value if isinstance(value, list | tuple) else [value]))
    if len(numbers) not in (1, 3):
        raise ValueError("must be one number or one per channel (3)")
    return numbers


def _divisor(value: Any) -> Any:
    if any(number == 0 for number in (value if isinstance(value, tuple) else [value])):
        raise ValueError("must not be 0")
    return value


def _size(value: Any) -> tuple[int, int]:
    pair = [value, value] if isinstance(value, int) else value
    integers = isinstance(pair, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
    if not integers or len(pair) != 2 or not all(1 <= v <= 16384 for v in pair):
        raise ValueError("must be [height, width] in pixels, each 1 to 16384")
    return pair[0], pair[1]


Number = Annotated[float, BeforeValidator(_number)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers)]
Size = Annotated[tuple[int, int], BeforeValidator(_size)]
Whole = Annotated[int, Field(strict=True)]


class Preprocess(BaseModel):
    """How a picture becomes a model's input.

    ``layout``, ``color`` and ``dtype`` left out, and a size left out, are taken from the model by `fit`.

    Parameters
    ----------
    layout
        Order of the axes: ``NCHW`` or ``NHWC``.
    color
        Order of the channels: ``RGB``, ``BGR``, or ``L`` for one grey channel.
    resize
        Exact [height, width], whatever the picture's proportions.
    resize_short
        The shorter side gets this many pixels, proportions unchanged.
    crop
        [height, width] of the centre crop after resizing; a picture too small for it is enlarged until it
        covers it.
    follow_model
        Where the model takes another size than ``crop``: crop to the model's, and scale ``resize_short`` along.
    letterbox
        Grey level 0..255 of the border around a picture that keeps its proportions inside ``resize``.
    letterbox_at
        Where the picture sits in the letterbox: ``center`` or ``top-left``.
    scale, mean, std
        ``(p * scale - mean) / std`` for pixel values p in 0..255; mean and std in the order of ``color``.
    interpolation
        ``bilinear``, ``bicubic``, ``nearest`` or ``lanczos``.
    dtype
        ``float32``, ``float16`` or ``uint8`` (values are rounded and clipped).
    name, note
        For the record: which preset this is, which defaults were assumed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["NCHW", "NHWC"] | None = None
    color: Literal["RGB", "BGR", "L"] | None = None
    resize: Size | None = None
    resize_short: Annotated[Whole, Field(ge=1, le=16384)] | None = None
    crop: Size | None = None
    follow_model: Annotated[bool, Field(strict=True)] = False
    letterbox: Annotated[Whole, Field(ge=0, le=255)] | None = None
    letterbox_at: Literal["center", "top-left"] = "center"
    scale: Annotated[Number, BeforeValidator(lambda v: _divisor(_number(v)))] = 1.0
    mean: Numbers = (0.0,)
    std: Annotated[Numbers, BeforeValidator(lambda v: _divisor(_numbers(v)))] = (1.0,)
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] = "bilinear"
    dtype: DtypeName | None = None
    name: str | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Preprocess:
        if self.resize and self.resize_short:
            raise ValueError("resize and resize_short exclude each other")
        if self.letterbox is not None and (self.crop or self.resize_short):
            raise ValueError("letterbox goes with resize, not with crop or resize_short")
        if self.crop and self.resize and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            raise ValueError("crop is larger than resize")
        if self.crop and self.resize_short and min(self.crop) > self.resize_short:
            raise ValueError("crop is larger than resize_short")
        if self.color == "L" and max(len(self.mean), len(self.std)) > 1:
            raise ValueError("mean and std take one number where color is L")
        return self

    @property
    def channels(self) -> int:
        """Channels of the model's input: 1 for ``L``, else 3."""
        return 1 if self.color == "L" else 3

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready record; building a `Preprocess` from it gives the same again."""
        return self.model_dump(mode="json", exclude_none=True)

    def fit(self, shape: Dims, dtype: Any = None) -> Preprocess:
        """The same with everything that was left open taken from a model's input.

        Parameters
        ----------
        shape
            The input's dimensions with the batch axis; free ones as None, a name or 0.
        dtype
            The input's type; ``float32`` where None.

        Raises
        ------
        UsageError
            ``config.preprocess`` where the model contradicts what is set here.
        """
        image = image_shape(shape, self.layout)
        if image is None:
            raise self._misfit(f"input {show(shape)} takes no picture", "give an array file instead of a picture")
        color = self.color or ("L" if image.channels == 1 else "RGB")
        needed = 1 if color == "L" else 3
        if image.channels not in (None, needed):
            hint = "" if self.layout is None else "check layout; "
            raise self._misfit(
                f"color {color} has {needed} channel(s), input {show(shape)} takes {image.channels}", f"{hint}set color"
            )
        if needed == 1 and max(len(self.mean), len(self.std)) > 1:
            raise self._misfit(f"mean and std have 3 numbers, input {show(shape)} takes 1 channel", "give one number")
        model_type = numpy_dtype(dtype).name if dtype is not None else self.dtype or "float32"
        if model_type == "float64":  # computed as float32; the reader widens it
            model_type = "float32"
        if model_type not in ("float32", "float16", "uint8"):
            raise self._misfit(f"input type {model_type} takes no picture", "give an array file")
        if self.dtype not in (None, model_type):
            raise self._misfit(f"dtype is {self.dtype}, the model takes {model_type}", f'set dtype = "{model_type}"')
        update = {"layout": image.layout, "color": color, "dtype": model_type, **self._fit_size(image, shape)}
        return self.model_copy(update=update)

    def _fit_size(self, image: ImageShape, shape: Dims) -> dict[str, Any]:
        declared = self.crop or self.resize
        if declared is None:
            if image.height is None or image.width is None:
                return {}
            key = "crop" if self.resize_short else "resize"
            return {key: (image.height, image.width)}
        wanted = (image.height or declared[0], image.width or declared[1])
        if wanted == declared:
            return {}
        if not self.follow_model or not self.crop:
            raise self._misfit(
                f"pictures become {declared[0]}x{declared[1]}, input {show(shape)} takes {wanted[0]}x{wanted[1]}",
                "set crop or resize to the model's size, or leave it out",
            )
        ratio = min(wanted) / min(self.crop)
        short = round(self.resize_short * ratio) if self.resize_short else None
        return {"crop": wanted, "resize_short": short, "resize": None}

    def _misfit(self, message: str, hint: str) -> UsageError:
        return UsageError(CODE, f"preprocessing{f' {self.name}' if self.name else ''}: {message}", hint)

    def resized(self, image: Any, shape: Dims) -> Pixels:
        """What the model sees of a picture, as uint8 (H, W, 3): resized, cropped, in grey for ``L``; still RGB order.

        Parameters
        ----------
        image
            uint8 (H, W, 3) or (H, W), or anything with such ``pixels`` (a `Picture`).
        shape
            The model input's dimensions with the batch axis.
        """
        fitted = self.fit(shape)
        pixels = np.asarray(getattr(image, "pixels", image))
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise UsageError("data.bad_shape", f"a picture is uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        work = geometry.to_image(pixels, grey=fitted.color == "L")
        height, width = work.height, work.width
        how = fitted.interpolation
        if fitted.letterbox is not None and fitted.resize:
            work = geometry.letterbox(work, fitted.resize, how, fitted.letterbox, fitted.letterbox_at)
        elif fitted.resize:
            work = geometry.resize(work, fitted.resize, how)
        elif fitted.resize_short or fitted.crop:
            work = geometry.resize(work, geometry.cover_size(height, width, fitted.resize_short, fitted.crop), how)
        else:
            model = image_shape(shape, fitted.layout)
            rows, columns = (model.height, model.width) if model else (None, None)
            if rows or columns:  # one side is free: keep the proportions
                rows, columns = rows or max(1, round(height * (columns or 1) / width)), columns
                work = geometry.resize(work, (rows, columns or max(1, round(width * rows / height))), how)
        return geometry.to_pixels(geometry.centre_crop(work, fitted.crop) if fitted.crop else work)

    def apply(self, image: Any, shape: Dims, dtype: Any = None) -> NDArray[Any]:
        """The model's input for one picture, without batch axis: (C, H, W) or (H, W, C).

        Parameters and errors as for `resized` and `fit`.
        """
        fitted = self.fit(shape, dtype)
        return fitted.encode(fitted.resized(image, shape))

    def encode(self, pixels: Pixels) -> NDArray[Any]:
        """Pixels uint8 (H, W, 3) in RGB, already at the model's size, as (C, H, W) or (H, W, C) for the model."""
        planes = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "L": (0,)}[self.color or "RGB"]
        table = self._table()
        stacked = [table[channel][pixels[..., plane]] for channel, plane in enumerate(planes)]
        return np.stack(stacked, axis=-1 if self.layout == "NHWC" else 0)

    def decode(self, array: NDArray[Any]) -> Pixels:
        """The picture uint8 (H, W, 3) in RGB that `encode` would turn into this (C, H, W) or (H, W, C) array.

        Values that no pixel can give are rounded and clipped.
        """
        values = np.asarray(array, dtype=np.float64)
        values = values if self.layout == "NHWC" else np.moveaxis(values, 0, -1)
        pixels = np.clip(np.rint((values * np.array(self.std) + np.array(self.mean)) / self.scale), 0, 255)
        pixels = pixels[..., ::-1] if self.color == "BGR" else pixels
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), dtype=np.uint8)

    def low_high(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The lowest and the highest value that each channel of the model's input can take, two arrays (C,).

        The bounds are attained by pixel values 0 and 255, so they hold exactly in the input's own precision.
        """
        table = self._table()
        return table.min(axis=1), table.max(axis=1)

    def _table(self) -> NDArray[Any]:
        """(C, 256): the model's value for every pixel value; computed in float64, rounded once."""
        target = np.dtype(self.dtype or "float32")
        mean, std = (np.broadcast_to(np.array(v), (self.channels,))[:, None] for v in (self.mean, self.std))
        values = (np.arange(256.0)[None] * self.scale - mean) / std
        if target.kind == "u":
            values = np.clip(np.rint(values), 0, 255)
        return np.asarray(values, dtype=target)


_IMAGENET_SIZE: dict[str, Any] = {"resize_short": 256, "crop": (224, 224), "follow_model": True}

PRESETS: dict[str, Preprocess] = {
    "imagenet": Preprocess(
        name="imagenet",
        color="RGB",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        **_IMAGENET_SIZE,
    ),
    "imagenet-caffe": Preprocess(name="imagenet-caffe", color="BGR", mean=(103.94, 116.78, 123.68), **_IMAGENET_SIZE),
    "unit": Preprocess(name="unit", scale=1 / 255),
    "signed": Preprocess(name="signed", scale=1 / 127.5, mean=(1.0,)),
    "raw": Preprocess(name="raw"),
}
