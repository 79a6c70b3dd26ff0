"""Picking the reader, checking what it read, and streaming."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netsmith.data import Loader, StreamedImages, load, reading, split
from netsmith.errors import DataError


def colour(label: int, number: int) -> tuple[int, int, int]:
    return 80 * label, 10 * number, 7


def make_folder(root: Path, classes: int = 3, each: int = 6, size: tuple[int, int] = (12, 10)) -> Path:
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", size, colour(label, number)).save(folder / f"{number}.png")
    return root


def test_folder_round_trip(tmp_path: Path) -> None:
    loaded = load(make_folder(tmp_path / "set"))
    assert loaded.test is None
    assert loaded.skipped == ()
    assert loaded.train.label_names == ("class0", "class1", "class2")
    assert loaded.train.input_shape == (3, 10, 12)
    assert loaded.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    pixels = loaded.train.fetch(torch.tensor([8, 0]))
    assert pixels[0, :, 5, 5].tolist() == list(colour(1, 2))
    assert pixels[1, :, 0, 0].tolist() == list(colour(0, 0))


def test_mixed_sizes_modes_and_other_files(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set")
    Image.new("L", (40, 30), 5).save(root / "class0" / "x.bmp")
    Image.new("RGBA", (9, 9), (1, 2, 3, 0)).save(root / "class1" / "x.webp", lossless=True)
    (root / "class1" / "notes.txt").write_text("mine")
    (root / "class1" / ".hidden.png").write_text("not seen")
    deep = root / "class2" / "deeper"
    deep.mkdir()
    Image.new("RGB", (12, 10)).save(deep / "y.gif")
    loaded = load(root, image_size=16)
    assert loaded.train.input_shape == (3, 16, 16)
    assert len(loaded.train) == 21
    assert [Path(skip.path).name for skip in loaded.skipped] == ["notes.txt"]


def test_train_and_test_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "set" / "train")
    make_folder(tmp_path / "set" / "val", each=2)
    loaded = load(tmp_path / "set")
    assert loaded.test is not None
    assert (len(loaded.train), len(loaded.test)) == (18, 6)
    make_folder(tmp_path / "set" / "test", classes=2, each=1)
    loaded = load(tmp_path / "set")
    assert loaded.test is not None
    assert (len(loaded.train), len(loaded.test)) == (24, 2)


def test_own_test_source_is_matched_by_name(tmp_path: Path) -> None:
    train = make_folder(tmp_path / "a")
    test = tmp_path / "b"
    (test / "class2").mkdir(parents=True)
    Image.new("L", (50, 50), 9).save(test / "class2" / "0.png")
    loaded = load(train, test=test)
    assert loaded.test is not None
    assert loaded.test.labels.tolist() == [2]
    assert loaded.test.input_shape == loaded.train.input_shape
    (test / "class2").rename(test / "other")
    with pytest.raises(DataError, match=r"test part has classes .* other"):
        load(train, test=test)


def test_bad_images_are_an_error_or_listed(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", size=(64, 64))
    (root / "class0" / "bad.png").write_bytes(b"nothing")
    noise = tmp_path / "noise.jpg"
    Image.effect_noise((64, 64), 80).save(noise)
    (root / "class1" / "cut.jpg").write_bytes(noise.read_bytes()[:700])  # the header is whole, the pixels not
    with pytest.raises(DataError, match=r"1 of 20 images .*--skip-bad.*bad\.png"):
        load(root)
    loaded = load(root, skip_bad=True)
    assert len(loaded.train) == 18
    assert {Path(skip.path).name for skip in loaded.skipped} == {"bad.png", "cut.jpg"}
    (root / "class0" / "bad.png").unlink()
    with pytest.raises(DataError, match=r"cut\.jpg: .*truncated"):
        load(root)


def test_empty_and_single_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", classes=2)
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="1 of 3 classes have no images: empty"):
        load(root)
    loaded = load(root, skip_bad=True)
    assert loaded.train.label_names == ("class0", "class1")
    assert loaded.skipped[-1] == ("empty", "the class has no images")
    with pytest.raises(DataError, match="have 1 class"):
        load(make_folder(tmp_path / "one", classes=1))


@pytest.mark.parametrize("name", ["absent", "set.zip", "a.png", "flat", "nothing"])
def test_unknown_sources_say_what_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    (tmp_path / "flat").mkdir()
    (tmp_path / "nothing").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8)).save(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match="accepted: 'digits'"):
        load(tmp_path / name)


def test_other_types_are_refused() -> None:
    with pytest.raises(DataError, match="from a int"):
        load(3)  # type: ignore[arg-type]


def test_digits() -> None:
    loaded = load("digits")
    assert len(loaded.train) == 1797
    assert loaded.train.input_shape == (1, 8, 8)
    assert int(loaded.train.fetch(torch.arange(1797)).max()) == 255
    assert loaded.train.label_names == tuple("0123456789")


@pytest.fixture
def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StreamedImages, Path]:
    root = make_folder(tmp_path / "set")
    monkeypatch.setattr(reading, "STREAM_BYTES", 100)
    images = load(root).train
    assert isinstance(images, StreamedImages)
    return images, root


def test_streamed_images_equal_those_in_memory(
    streamed: tuple[StreamedImages, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, root = streamed
    monkeypatch.undo()
    memory = load(root).train
    places = torch.tensor([17, 3, 3, 9, 0])
    assert torch.equal(images.fetch(places), memory.fetch(places))
    subset = images.subset(torch.tensor([5, 12]))
    assert torch.equal(subset.fetch(torch.tensor([1])), memory.fetch(torch.tensor([12])))
    assert torch.equal(images.labels, memory.labels)


def test_streamed_batches_equal_those_in_memory(
    streamed: tuple[StreamedImages, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, root = streamed
    monkeypatch.undo()
    loaders = [
        Loader(part, 5, mean=(0.5,) * 3, std=(0.2,) * 3, seed=3) for part in (images, load(root).train)
    ]
    for (x, y), (expected, labels) in zip(*(loader.epoch(1) for loader in loaders), strict=True):
        assert torch.equal(x, expected)
        assert torch.equal(y, labels)


def test_leaving_a_streamed_epoch_early_ends_its_thread(streamed: tuple[StreamedImages, Path]) -> None:
    loader = Loader(streamed[0], 2, mean=(0.5,) * 3, std=(0.2,) * 3)
    epoch = loader.epoch(0)
    next(epoch)
    assert any(thread.name == "netsmith-loader" for thread in threading.enumerate())
    epoch.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "netsmith-loader" for thread in threading.enumerate())


def test_a_streamed_image_that_changed_is_named(streamed: tuple[StreamedImages, Path]) -> None:
    images, root = streamed
    (root / "class1" / "3.png").write_bytes(b"overwritten")
    loader = Loader(images, 4, mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(DataError, match=r"3\.png.*changed since"):
        list(loader.epoch(0))
    assert not any(thread.name == "netsmith-loader" for thread in threading.enumerate())


def test_streamed_bad_images_are_found_when_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "set")
    noise = tmp_path / "noise.jpg"
    Image.effect_noise((64, 64), 80).save(noise)
    (root / "class1" / "cut.jpg").write_bytes(noise.read_bytes()[:700])
    monkeypatch.setattr(reading, "STREAM_BYTES", 100)
    loaded = load(root, skip_bad=True)
    assert isinstance(loaded.train, StreamedImages)
    assert len(loaded.train) == 18
    parts = split(loaded, 0)
    every = np.concatenate([part.places.numpy() for part in (parts.train, parts.validation, parts.test)])  # type: ignore[union-attr]
    assert len(set(every.tolist())) == 18
