"""A command, run in this process as the shell would, and a small finished design to run it on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netsmith.cli import main


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture(scope="session", autouse=True)
def wide() -> Iterator[None]:
    """Tables as wide as they want to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture
def netsmith(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``netsmith`` with these arguments."""

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["netsmith", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as left:
            status = int(left.code or 0)
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders, as a user has it: small PNGs, dark and bright halves."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, rows in (("sky", slice(0, 4)), ("ground", slice(4, 8))):
        (root / label).mkdir()
        for number in range(60):
            pixels = rng.integers(0, 90, (8, 8), dtype=np.uint8)
            pixels[rows] += 120
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration file that makes the space small."""
    path = tmp_path / "small.toml"
    path.write_text(
        "width = 0.5\n"
        "stages = [{ width = 16, blocks = 2, stride = 1 }, { width = 24, blocks = 2, stride = 2 }]\n"
    )
    return path
