"""A folder of class folders of images, optionally under ``train``, ``val`` and ``test``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netsmith.data.decode import read_header, read_pixels, suffixes
from netsmith.data.sources.part import Bytes, Header, Part, Shape, Skip, Source, part_word
from netsmith.errors import DataError

_LAYOUT = "expected one folder a class, such as cats/1.jpg and dogs/1.jpg"


@dataclass(frozen=True)
class FilePictures:
    """Pictures that are files of their own."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def header(self, index: int) -> Header:
        return read_header(self.paths[index])

    def pixels(self, index: int, shape: Shape) -> Bytes:
        return read_pixels(self.paths[index], shape)


def read_folder(root: Path) -> Source:
    """Read a folder whose sub-folders are the classes, in alphabetical order.

    With ``train`` and any of ``val``, ``validation`` and ``test`` instead, each holding class folders, the
    test part is ``test``, or the validation folder where that is the only other; beside a test folder it
    joins ``train``, since Netsmith draws its own validation part. Raises :class:`DataError`.
    """
    folders = _sub_folders(root)
    words = {folder: part_word(folder.name) for folder in folders}
    if "train" not in words.values() or None in words.values():
        return Source(_read_classes([root]))
    train = [folder for folder, word in words.items() if word == "train"]
    validation = [folder for folder, word in words.items() if word == "validation"]
    test = [folder for folder, word in words.items() if word == "test"]
    if not test:
        test, validation = validation, []
    return Source(_read_classes(train + validation), _read_classes(test) if test else None)


def _sub_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_classes(roots: Sequence[Path]) -> Part:
    names = sorted({folder.name for root in roots for folder in _sub_folders(root)})
    if not names:
        raise DataError(f"{roots[0]} has no sub-folders; {_LAYOUT}")
    paths: list[Path] = []
    labels: list[int] = []
    ignored: list[Skip] = []
    for root in roots:
        for label, name in enumerate(names):
            found, others = _image_files(root / name)
            paths += found
            labels += [label] * len(found)
            ignored += [Skip(str(path), "not named as an image") for path in others]
    if not paths:
        raise DataError(f"{roots[0]} holds no images in its sub-folders; {_LAYOUT}")
    return Part(
        FilePictures(tuple(paths)), np.array(labels, dtype=np.int64), tuple(names), ignored=tuple(ignored)
    )


def _image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files under a folder that are named as images, and those that are not, hidden ones aside."""
    images: list[Path] = []
    others: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(place, name)
                (images if path.suffix.lower() in suffixes() else others).append(path)
    return images, others
