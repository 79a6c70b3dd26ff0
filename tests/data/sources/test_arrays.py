"""IDX, CIFAR and npz: round trips, and files that are damaged or lie."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netsmith.data import ImageSet, LoadedSet, load
from netsmith.errors import DataError

RNG = np.random.default_rng(0)
SHARED = Path(__file__).parents[4] / "shared" / "data" / "fashion_mnist"


def pixels(loaded: LoadedSet) -> np.ndarray:
    assert isinstance(loaded.train, ImageSet)
    return loaded.train.images.numpy()


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_idx(
    folder: Path, packed: bool, parts: tuple[str, ...] = ("train", "t10k")
) -> tuple[np.ndarray, ...]:
    folder.mkdir(exist_ok=True)
    images = RNG.integers(0, 256, (20, 9, 11), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 4
    for part in parts:
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return images, labels


@pytest.mark.parametrize("packed", [True, False])
def test_idx_round_trip(tmp_path: Path, packed: bool) -> None:
    images, labels = make_idx(tmp_path, packed)
    loaded = load(tmp_path)
    assert np.array_equal(pixels(loaded)[:, 0], images)
    assert loaded.train.labels.tolist() == labels.tolist()
    assert loaded.test is not None
    assert len(loaded.test) == 20
    resized = load(tmp_path, image_size=16)
    assert resized.train.input_shape == (1, 16, 16)


def test_idx_without_companion_or_with_wrong_count(tmp_path: Path) -> None:
    make_idx(tmp_path, packed=False, parts=("train",))
    assert load(tmp_path).test is None
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    with pytest.raises(DataError, match=r"20 images but .* 19 labels"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="has no train labels"):
        load(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**15, 2**15), "claims"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 8, 8) + bytes(100), "claims 128 bytes|claims 2x8x8"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 8, 8) + bytes(129), "holds more"),
        (bytes((0, 0, 13, 3)) + struct.pack(">3I", 2, 8, 8) + bytes(512), "not an IDX file"),
        (b"", "not an IDX file"),
    ],
)
def test_idx_that_lies(tmp_path: Path, packed: bool, content: bytes, message: str) -> None:
    make_idx(tmp_path, packed, parts=("train",))
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_idx_damaged_gz(tmp_path: Path) -> None:
    make_idx(tmp_path, packed=True, parts=("train",))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)


def test_two_sets_of_idx_files(tmp_path: Path) -> None:
    make_idx(tmp_path, packed=False)
    (tmp_path / "letters-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="more than one set"):
        load(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="Fashion-MNIST is not beside the project")
def test_fashion_mnist() -> None:
    loaded = load(SHARED)
    assert loaded.train.input_shape == (1, 28, 28)
    assert loaded.test is not None
    assert (len(loaded.train), len(loaded.test)) == (60_000, 10_000)
    assert torch.bincount(loaded.train.labels).tolist() == [6000] * 10


@pytest.mark.parametrize(("classes", "label_bytes"), [(10, 1), (100, 2)])
def test_cifar_round_trip(tmp_path: Path, classes: int, label_bytes: int) -> None:
    images = RNG.integers(0, 256, (2 * classes, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(2 * classes) % classes
    heads = np.stack([np.zeros_like(labels)] * (label_bytes - 1) + [labels], 1).astype(np.uint8)
    content = np.concatenate([heads, images.reshape(len(images), -1)], 1)
    names = ["data_batch_1.bin", "data_batch_2.bin"] if classes == 10 else ["train.bin"]
    for name, part in zip(names, np.array_split(content, len(names)), strict=True):
        (tmp_path / name).write_bytes(part.tobytes())
    (tmp_path / ("test_batch.bin" if classes == 10 else "test.bin")).write_bytes(content[:3].tobytes())
    loaded = load(tmp_path)
    assert np.array_equal(pixels(loaded), images)
    assert loaded.train.labels.tolist() == labels.tolist()
    assert loaded.test is not None
    assert len(loaded.test) == 3
    assert len(loaded.train.label_names) == classes
    first = tmp_path / names[0]
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DataError, match="not a whole number of records"):
        load(tmp_path)
    content[0, label_bytes - 1] = 200
    first.write_bytes(content.tobytes())
    with pytest.raises(DataError, match="label 200"):
        load(tmp_path)


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "shape", [(12, 9, 10), (12, 9, 10, 1), (12, 1, 9, 10), (12, 9, 10, 3), (12, 3, 9, 10)]
)
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(12) % 3
    path = write_npz(tmp_path / "a.npz", images=images, labels=labels)
    loaded = load(path)
    found = pixels(loaded)
    assert found.shape[2:] == (9, 10)
    expected = images if images.ndim == 3 else images[..., 0] if shape[-1] in (1, 3) else images[:, 0]
    assert np.array_equal(found[:, 0], expected)
    assert loaded.train.label_names == ("0", "1", "2")


def test_npz_names_strings_and_test(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    words = np.array(["dog", "cat"] * 3)
    loaded = load(write_npz(tmp_path / "a.npz", images=images, labels=words))
    assert loaded.train.label_names == ("cat", "dog")
    assert loaded.train.labels.tolist() == [1, 0] * 3
    path = write_npz(
        tmp_path / "b.npz",
        images=images,
        labels=np.array([[0], [1]] * 3),
        test_images=images[:2],
        test_labels=np.array([1, 1]),
        label_names=np.array(["x", "y"]),
    )
    loaded = load(path)
    assert loaded.train.label_names == ("x", "y")
    assert loaded.test is not None
    assert loaded.test.labels.tolist() == [1, 1]


def test_npz_errors(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2
    path = tmp_path / "a.npz"
    cases: list[tuple[dict[str, object], str]] = [
        ({"images": images}, "no array 'labels'"),
        ({"images": images, "labels": labels[:5]}, "6 images but 5 labels"),
        ({"images": images / 255, "labels": labels}, "must be uint8"),
        ({"images": np.zeros((6, 3, 8, 3), np.uint8), "labels": labels}, "can be read as"),
        ({"images": np.zeros((6, 8, 8, 4), np.uint8), "labels": labels}, "is none of"),
        ({"images": images, "labels": labels * 0.5}, "labels must be one integer"),
        (
            {"images": images, "labels": labels + 1, "label_names": np.array(["x", "y"])},
            "outside the 2 label",
        ),
        ({"images": images, "labels": labels, "label_names": np.array(["x", "y", "z"])}, "no images: z"),
        ({"images": images, "labels": np.array([object()] * 6)}, "pickled"),
    ]
    for arrays, message in cases:
        with pytest.raises(DataError, match=message):
            load(write_npz(path, **arrays))
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
        load(path)


def test_npz_header_that_lies(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", head.getvalue() + bytes(100))
    with pytest.raises(DataError, match="more than the archive holds"):
        load(path)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 100),
)
def test_any_damage_to_npz_is_a_data_error_or_images(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    path = write_npz(tmp_path / "a.npz", images=np.zeros((6, 8, 8), np.uint8), labels=np.arange(6) % 2)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: len(content) - cut]))
    with contextlib.suppress(DataError):
        assert len(load(path).train) > 0
