"""Decoding image files: any Pillow format, mode, size and orientation, as uint8 (C, H, W).

The files are outside input. Formats that hand them to other programs are left out, sizes are checked before
pixels are allocated, and whatever a decoder raises becomes one :class:`BadImageError`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from netsmith.data.sources.part import BadImageError, Bytes, Header, Shape
from netsmith.errors import DataError

#: Most pixels of one image; a file that claims more is refused before any are allocated.
MAX_PIXELS = 80_000_000
#: Most bytes of one image file.
MAX_FILE_BYTES = 256 * 2**20
#: The sides, in pixels, that a design works at.
LEAST_SIDE, MOST_SIDE = 8, 224

# EPS and WMF run other programs on the file; the rest are stubs that need a handler nobody registered.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
_EXIF_ORIENTATION = 0x0112
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def formats() -> tuple[str, ...]:
    """Return the Pillow formats that are read."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _REFUSED)


@cache
def suffixes() -> frozenset[str]:
    """Return the lower-case file suffixes of those formats, with the dot."""
    Image.init()
    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in formats())


@contextmanager
def _opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open without decoding; every failure inside becomes a :class:`BadImageError`."""
    try:
        if isinstance(file, Path) and file.stat().st_size > MAX_FILE_BYTES:
            raise BadImageError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
        with Image.open(file, formats=formats()) as image:
            check_pixels(image.height, image.width)
            yield image
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError("not an image in a format that is read here") from None
    except Exception as error:  # decoders of damaged files raise nearly every built-in exception
        raise BadImageError(f"cannot be decoded ({type(error).__name__}: {str(error)[:200]})") from error


def check_pixels(height: int, width: int) -> None:
    """Raise :class:`BadImageError` for an image without pixels or with more than :data:`MAX_PIXELS`."""
    if not 0 < height * width <= MAX_PIXELS:
        raise BadImageError(
            f"it claims {width}x{height} pixels; at least 1 and at most {MAX_PIXELS} are read"
        )


def read_header(file: Path | IO[bytes]) -> Header:
    """Read an image's upright size and whether it is grey, decoding no pixels."""
    with _opened(file) as image:
        return header_of(image)


def header_of(image: Image.Image) -> Header:
    """Return the header of an open image."""
    height, width = image.height, image.width
    # Asking a PNG without the chunk for its EXIF would decode all of it.
    if image.format != "PNG" or "exif" in image.info:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        if isinstance(orientation, int) and 5 <= orientation <= 8:
            height, width = width, height
    return Header(height, width, _is_grey(image))


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def read_pixels(file: Path | IO[bytes], shape: Shape) -> Bytes:
    """Decode an image as ``shape`` (C, H, W), uint8.

    It is turned upright by its EXIF orientation, laid on white where it is transparent, and scaled until it
    covers the shape, the overhang cut off evenly. Of several frames the first is taken; 16-bit modes keep
    their upper eight bits, and floating-point ones are cut to 0..255.
    """
    with _opened(file) as image:
        return to_pixels(image, shape)


def to_pixels(image: Image.Image, shape: Shape) -> Bytes:
    """Turn an open image into ``shape`` (C, H, W), uint8, as :func:`read_pixels` does."""
    channels, height, width = shape
    side = max(height, width)
    image.draft(None, (side, side))  # lets JPEG decode at a fraction of its size, never below this one
    upright = ImageOps.exif_transpose(image)
    flat = _flatten(_eight_bits(upright)).convert("L" if channels == 1 else "RGB")
    if flat.size != (width, height):
        flat = ImageOps.fit(flat, (width, height), Image.Resampling.BILINEAR)
    array = np.asarray(flat, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0).clip(0, 255)
        return Image.fromarray(values.round().astype(np.uint8))
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8))
    return image


def _flatten(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    canvas = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(canvas, image.convert("RGBA"))


def resize_arrays(images: Bytes, shape: Shape) -> Bytes:
    """Bring images (N, C, H, W) to ``shape`` (C, H, W): scaled to cover it, cut evenly, grey or RGB."""
    channels, height, width = shape
    if images.shape[1:] == shape:
        return images
    out = np.empty((len(images), *shape), dtype=np.uint8)
    for start in range(0, len(images), 1024):  # bounds the floating-point copy
        batch = torch.from_numpy(images[start : start + 1024].astype(np.float32))
        if batch.shape[1] == 3 and channels == 1:
            batch = (batch * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        scale = max(height / batch.shape[2], width / batch.shape[3])
        size = max(height, round(batch.shape[2] * scale)), max(width, round(batch.shape[3] * scale))
        if size != tuple(batch.shape[2:]):
            batch = torch.nn.functional.interpolate(batch, size, mode="bilinear", antialias=True)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        batch = batch[:, :, top : top + height, left : left + width].expand(-1, channels, -1, -1)
        out[start : start + 1024] = batch.round().clamp(0, 255).to(torch.uint8).numpy()
    return out


@dataclass(frozen=True)
class ArrayPictures:
    """Pictures that are one uint8 array (N, C, H, W) already."""

    array: Bytes
    origin: str

    def __len__(self) -> int:
        return len(self.array)

    def name(self, index: int) -> str:
        return f"{self.origin}[{index}]"

    def header(self, index: int) -> Header:
        channels, height, width = self.array.shape[1:]
        return Header(height, width, grey=channels == 1)

    def pixels(self, index: int, shape: Shape) -> Bytes:
        image: Bytes = resize_arrays(self.array[index : index + 1], shape)[0]
        return image


def choose_shape(headers: Sequence[Header], image_size: int | tuple[int, int] | None) -> Shape:
    """Choose the shape (C, H, W) that all images are brought to.

    Grey where every image is, else RGB. ``image_size``, a side or (height, width), decides the size where it
    is given. Else images of one size keep it; those of much the same proportions take their median height
    and width; others a square of the median shorter side. All are kept within 8 to 224 pixels a side.
    """
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if not (LEAST_SIDE <= height <= 1024 and LEAST_SIDE <= width <= 1024):
            raise DataError(
                f"image_size is a side or (height, width) of {LEAST_SIDE} to 1024 pixels; got {image_size}"
            )
        return channels, height, width
    heights, widths = [h.height for h in headers], [h.width for h in headers]
    aspect = statistics.median(w / h for h, w in zip(heights, widths, strict=True))
    alike = sum(abs(w / h / aspect - 1) <= 0.1 for h, w in zip(heights, widths, strict=True))
    if alike >= 0.8 * len(headers):
        height, width = round(statistics.median(heights)), round(statistics.median(widths))
    else:
        height = width = round(statistics.median(map(min, heights, widths)))
    scale = min(1.0, MOST_SIDE / max(height, width))
    return channels, max(LEAST_SIDE, round(height * scale)), max(LEAST_SIDE, round(width * scale))
