"""Every example runs, in its quick form, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import netsmith

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NETSMITH_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {
        "own_dataset.py",
        "own_images.py",
        "own_module.py",
        "own_stages.toml",
    }


def test_own_images(cache: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 90, (10, 12, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    out = tmp_path / "design"
    said = run(
        cache, EXAMPLES / "own_images.py", tmp_path / "images", "--device", "fake", "--out", out, "--quick"
    )
    design = netsmith.load(out)
    assert f"test accuracy {design.accuracy:.4f}" in said
    assert "within the budget" in said
    assert "blue" in said
    assert (out / "exported.onnx").read_bytes() == design.exported.read_bytes()


def test_own_dataset(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "design"
    said = run(
        cache, EXAMPLES / "own_dataset.py", "--count", "200", "--device", "fake", "--out", out, "--quick"
    )
    design = netsmith.load(out)
    assert f"{design.latency_ms:.4g} ms measured" in said
    assert said.count("validation accuracy") == len(design.front)


def test_own_stages(cache: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "own_stages.toml", tmp_path / "design"
    text = (EXAMPLES / "own_stages.toml").read_text()
    config.write_text(text.replace('"onnxruntime:threads=1"', '"fake"'))
    command = ("-c", "from netsmith.cli import main; main()", "design", "--config", config, "--out", out)
    said = run(cache, *command, "--search-epochs", "2", "--epochs", "1")
    assert "budget met by measurement" in said
    assert len(netsmith.load(out).arch.choices) == 5


def test_own_module(cache: Path) -> None:
    lines = run(cache, EXAMPLES / "own_module.py", "--device", "fake").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["kernel 3", "kernel 5", "kernel 7"]
