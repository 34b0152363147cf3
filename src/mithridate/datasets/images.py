"""Encoded images (PNG, JPEG and their like) as 8-bit arrays of one size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mithridate.errors import DataError

Colour = Literal["auto", "grey", "rgb"]
Bytes = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What is decoded. Pillow knows more (EPS starts another program), but nobody trains on those."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
"""File names that are taken for images, lower case."""
MAX_PIXELS = 2**24
"""Largest image that is decoded, 4096 x 4096: a few kilobytes of PNG can claim a thousand times more."""
MAX_BYTES = 2**35
"""Largest set that is held in memory, 32 GiB."""


def decoded(encoded: Iterable[tuple[str, bytes]], count: int, *, size: int | None, colour: Colour) -> Bytes:
    """``count`` images, each given as its place (for sentences) and its bytes, as ``(count, C, H, W)`` uint8.

    With ``colour="auto"`` C is 1 where every image is grey, else 3. Transparency is dropped. Images are resized
    (bilinear) to ``size`` x ``size`` where that is given. Raises :class:`DataError` naming the first image that
    cannot be decoded, is oversized, or differs in size from the first one.
    """
    stack: Bytes | None = None
    row, place = -1, "before the first"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on odd but readable files
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, (place, data) in enumerate(encoded):
            picture = pixels(data, place, size=size, colour=colour)  # (C, H, W)
            stack = _room(count, picture, place) if stack is None else stack
            if picture.shape[1:] != stack.shape[2:]:
                raise DataError(_sizes(place, picture, stack))
            if len(picture) > stack.shape[1]:
                stack = np.repeat(stack, 3, axis=1)  # the first coloured image: (N, 1, H, W) -> (N, 3, H, W)
            stack[row] = picture  # a grey image fills all three channels
    if stack is None or row + 1 != count:
        raise DataError(f"{count} images were expected, but there are {row + 1}; the last one is {place}")
    return stack


def pixels(data: bytes, place: str, *, size: int | None = None, colour: Colour = "auto") -> Bytes:
    """One encoded image as ``(C, H, W)`` uint8. Raises :class:`DataError` beginning with ``place``."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(_oversized(place, f"{image.width} x {image.height} pixels"))
            return picture_array(image, place, size=size, colour=colour)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(_oversized(place, "far too many pixels")) from None
    except Exception as error:  # on damaged bytes Pillow's decoders raise a dozen kinds, SyntaxError among them
        allowed = ", ".join(FORMATS)
        raise DataError(f"{place}: its {len(data)} bytes cannot be decoded as an image (allowed: {allowed})") from error


def picture_array(image: Image.Image, place: str, *, size: int | None = None, colour: Colour = "auto") -> Bytes:
    """A Pillow image as ``(C, H, W)`` uint8. Raises :class:`DataError` for more than 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{place}: images must have 8 bits a channel, but this one has mode {image.mode}")
    mode = {"grey": "L", "rgb": "RGB"}.get(colour) or ("L" if image.mode in ("1", "L", "LA") else "RGB")
    image = image if image.mode == mode else image.convert(mode)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _room(count: int, picture: Bytes, place: str) -> Bytes:
    if count * picture.size > MAX_BYTES:
        raise DataError(
            f"{place}: {count} images of {picture.size} bytes are more than the {MAX_BYTES} bytes that are held in "
            "memory; give size, or fewer rows"
        )
    return np.empty((count, *picture.shape), dtype=np.uint8)


def _sizes(place: str, picture: Bytes, stack: Bytes) -> str:
    (height, width), (first_height, first_width) = picture.shape[1:], stack.shape[2:]
    return (
        f"{place}: this image is {width} x {height} pixels, but the first one is {first_width} x {first_height}; all "
        "must share a size, so give size to resize them"
    )


def _oversized(place: str, found: str) -> str:
    return f"{place}: this image has {found}; at most {MAX_PIXELS} pixels are decoded (4096 x 4096)"
