"""Decoding any format, mode and orientation; refusing what is hostile."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from netsmith.data import decode
from netsmith.data.decode import Header, choose_shape, read_header, read_pixels, resize_arrays
from netsmith.data.sources.part import BadImageError
from netsmith.errors import DataError


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "colour", "grey", "expected"),
    [
        ("1", 1, True, (255, 255, 255)),
        ("L", 90, True, (90, 90, 90)),
        ("LA", (0, 0), True, (255, 255, 255)),
        ("I;16", 90 * 257, True, (90, 90, 90)),
        ("RGB", (10, 20, 30), False, (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), False, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), False, (10, 20, 30)),
        ("RGBA", (0, 0, 0, 51), False, (204, 204, 204)),
    ],
)
def test_modes(tmp_path: Path, mode: str, colour: object, grey: bool, expected: tuple[int, int, int]) -> None:
    path = saved(tmp_path / "a.png", Image.new(mode, (9, 8), colour))  # type: ignore[arg-type]
    assert read_header(path) == Header(8, 9, grey)
    pixels = read_pixels(path, (3, 8, 9))
    assert pixels.dtype == np.uint8
    assert (pixels == np.array(expected).reshape(3, 1, 1)).all()


def test_palettes(tmp_path: Path) -> None:
    for palette, grey in (([0, 0, 0, 7, 7, 7], True), ([0, 0, 0, 9, 0, 0], False)):
        image = Image.new("P", (8, 8), 1)
        image.putpalette(palette)
        path = saved(tmp_path / "p.png", image)
        assert read_header(path).grey is grey
        assert read_pixels(path, (3, 8, 8))[:, 0, 0].tolist() == palette[3:]


def test_floating_point_and_cmyk(tmp_path: Path) -> None:
    values = np.array([[-5.0, 100.4], [300.0, np.nan]], dtype=np.float32)
    path = saved(tmp_path / "f.tiff", Image.fromarray(values))
    assert read_pixels(path, (1, 2, 2)).tolist() == [[[0, 100], [255, 0]]]
    path = saved(tmp_path / "c.tiff", Image.new("CMYK", (8, 8), (0, 0, 0, 0)))
    assert (read_pixels(path, (3, 8, 8)) == 255).all()


def test_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8), (255, 0, 0))
    image.paste((0, 0, 255), (8, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    path = saved(tmp_path / "a.jpg", image, exif=exif, quality=95)
    assert read_header(path) == Header(16, 8, False)
    pixels = read_pixels(path, (3, 16, 8)).astype(int)
    assert pixels[0, 2, 4] > 200 > 60 > pixels[2, 2, 4]
    assert pixels[2, 13, 4] > 200 > 60 > pixels[0, 13, 4]


def test_covers_the_shape_and_cuts_evenly(tmp_path: Path) -> None:
    image = Image.new("L", (32, 8), 0)
    image.paste(200, (12, 0, 20, 8))
    assert (read_pixels(saved(tmp_path / "a.png", image), (1, 8, 8)) == 200).all()
    array = np.asarray(image)[None, None]
    assert (resize_arrays(array, (1, 8, 8)) == 200).all()
    assert (resize_arrays(array, (3, 4, 4))[:, :, :, 1:3] == 200).all()


def test_resizing_agrees_with_pillow() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (1, 3, 40, 40), dtype=np.uint8)
    image = Image.fromarray(array[0].transpose(1, 2, 0))
    expected = decode.to_pixels(image, (3, 17, 17)).astype(int)
    assert np.abs(resize_arrays(array, (3, 17, 17))[0] - expected).max() <= 2
    grey = decode.to_pixels(image, (1, 40, 40)).astype(int)
    assert np.abs(resize_arrays(array, (1, 40, 40))[0] - grey).max() <= 1


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_100, 12_000, 60_000])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    for read in (read_header, lambda p: read_pixels(p, (1, 8, 8))):
        with pytest.raises(BadImageError, match=r"pixels|decompression bomb"):
            read(path)


def test_damaged_files_name_the_reason(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.jpg", Image.effect_noise((64, 64), 50)).read_bytes()
    for name, content in {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "text.png": b"hello",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadImageError, match=r"truncated|not an image"):
            read_pixels(path, (1, 32, 32))


def test_formats_that_run_programs_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.eps", Image.new("RGB", (8, 8)))
    with pytest.raises(BadImageError, match="not an image in a format"):
        read_header(path)
    assert ".eps" not in decode.suffixes()
    assert {".png", ".jpg", ".webp", ".bmp"} <= decode.suffixes()


def headers(*sizes: tuple[int, int], grey: bool = True) -> list[Header]:
    return [Header(height, width, grey) for height, width in sizes]


def test_choosing_the_shape() -> None:
    assert choose_shape(headers((28, 28), (28, 28)), None) == (1, 28, 28)
    assert choose_shape([*headers((28, 28)), Header(28, 28, False)], None) == (3, 28, 28)
    assert choose_shape(headers((4, 4)), None) == (1, 8, 8)
    assert choose_shape(headers((448, 896)), None) == (1, 112, 224)
    # much the same proportions: medians; different ones: a square of the median shorter side
    assert choose_shape(headers((30, 40), (60, 80), (45, 60)), None) == (1, 45, 60)
    assert choose_shape(headers((30, 40), (40, 30), (50, 90), (90, 50)), None) == (1, 40, 40)
    assert choose_shape(headers((30, 40)), 16) == (1, 16, 16)
    assert choose_shape(headers((30, 40)), (16, 24)) == (1, 16, 24)
    for size in (0, 7, 5000):
        with pytest.raises(DataError, match="image_size"):
            choose_shape(headers((30, 40)), size)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 400),
)
@pytest.mark.filterwarnings("ignore")
def test_any_damage_is_a_reason_or_pixels(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((24, 20)).convert("RGB").save(out, kind)
    content = bytearray(out.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    damaged = bytes(content[: len(content) - cut])
    for read in (read_header, lambda file: read_pixels(file, (3, 10, 10)).shape):
        with contextlib.suppress(BadImageError):
            assert len(read(io.BytesIO(damaged))) == 3
