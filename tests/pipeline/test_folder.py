"""One process, one design and enough room: found out before any work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from netsmith.errors import FolderError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work

Make = Callable[..., Settings]


def test_a_second_holder_is_refused_until_the_first_is_done(small: Make, tmp_path: Path) -> None:
    with DesignFolder(tmp_path, small()), pytest.raises(FolderError, match="another process is designing"):
        run(small(), tmp_path)
    with DesignFolder(tmp_path, small()):
        pass


def test_another_design_is_refused_and_the_difference_named(small: Make, finished: Design) -> None:
    with pytest.raises(FolderError) as caught:
        run(small(seed=3, epochs=7), finished.folder)
    message = str(caught.value)
    assert "seed: 0 there, 3 asked" in message
    assert "epochs: 2 there, 7 asked" in message
    assert "device" not in message


def test_changed_images_are_refused(small: Make, images: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copyfile(images, tmp_path / "mine.npz"))
    settings = small(data=str(mine))
    with DesignFolder(tmp_path / "out", settings) as folder:
        first = Work(folder, settings.data, Silent()).splits
        assert Work(folder, settings.data, Silent()).splits.digest == first.digest
    with np.load(mine) as held:
        pixels, labels = held["images"], held["labels"]
    pixels[0, 0, 0] ^= 1
    np.savez(mine, images=pixels, labels=labels)
    with pytest.raises(FolderError, match=r"the images of .* are not those"):
        run(settings, tmp_path / "out")


def test_another_device_is_refused(small: Make, tmp_path: Path) -> None:
    settings = small()
    with DesignFolder(tmp_path, settings) as folder:
        folder.journal.write("bench", fingerprint={"processor": "another"}, reference_ms=1.0)
        with pytest.raises(FolderError, match="not the device at hand"):
            _ = Work(folder, settings.data, Silent()).bench


def test_a_folder_that_cannot_be_made_is_found_at_once(small: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderError, match="cannot write to"):
        run(small(), tmp_path / "file" / "out")


def test_a_nearly_full_disk_is_found_at_once(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(FolderError, match="3 MiB free; a design needs 200"):
        run(small(), tmp_path / "out")
    assert not (tmp_path / "out" / "journal").exists()


def test_a_disk_that_fills_up_is_an_error_and_leaves_no_half_file(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with DesignFolder(tmp_path, small()) as folder:
        folder.write_bytes("arch.json", b"old")
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(FolderError, match="No space left on device"):
            folder.write_bytes("arch.json", b"new")
        assert (tmp_path / "arch.json").read_bytes() == b"old"
        assert not list(tmp_path.glob("*.new"))


def test_half_a_last_line_of_the_journal_does_not_count(small: Make, tmp_path: Path) -> None:
    with DesignFolder(tmp_path, small()) as folder:
        folder.journal.write("warning", text="whole")
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"event":"warning","te')
    with DesignFolder(tmp_path, small()) as folder:
        folder.journal.write("warning", text="next")
    assert [record["text"] for record in read(tmp_path / "journal")] == ["whole", "next"]
