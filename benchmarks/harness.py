"""What every benchmark shares: figures against their bars, the table and file of them, timing in turn."""

from __future__ import annotations

import argparse
import json
import operator
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from netsmith.data import ImageSet

_TESTS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Figure:
    """One measured value; ``bar`` is what it must keep, such as ``">= 4"``, or None."""

    name: str
    value: float
    unit: str = ""
    bar: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is kept; None without a bar."""
        if self.bar is None:
            return None
        sign, limit = self.bar.split()
        return _TESTS[sign](self.value, float(limit))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and ``met`` as JSON-ready values."""
        return {**asdict(self), "met": self.met}


def ahead(name: str, gains: Sequence[float]) -> Figure:
    """Return the mean gain in points over seeds; its bar is their spread: ahead is what they do not blur."""
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    return Figure(name, statistics.mean(gains), "points", f">= {spread:.3g}")


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser that knows ``--json FILE``; a benchmark adds its own options."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return made


def data_parser(description: str, name: str) -> argparse.ArgumentParser:
    """Return a parser of a benchmark on Fashion-MNIST: where images, designs and finished pieces are."""
    made = parser(description)
    made.add_argument("--data", type=Path, default=Path("../shared/data/fashion_mnist"))
    made.add_argument("--work", type=Path, default=Path(f"runs/{name}"))
    made.add_argument("--records", type=Path, default=Path(f"benchmarks/records/{name}.json"))
    return made


def publish(figures: Sequence[Figure], path: Path | None = None) -> None:
    """Print ``figures`` as a table and, given ``path``, write them with command, commit and machine."""
    table = Table("figure", "value", "bar", "met")
    for figure in figures:
        met = {None: "", True: "yes", False: "NO"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}".strip(), figure.bar or "", met)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if path is not None:
        content = {
            "figures": [figure.to_dict() for figure in figures],
            "command": command(),
            "commit": commit(),
            "machine": machine(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def command() -> str:
    """Return the command line that runs this benchmark from the project's root."""
    root = Path(__file__).resolve().parents[1]
    script = Path(sys.argv[0]).resolve()
    name = str(script.relative_to(root)) if script.is_relative_to(root) else script.name
    return shlex.join(["python", name, *sys.argv[1:]])


def commit() -> str:
    """Return the commit that stands, marked where files differ from it; 'unknown' outside git."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the memory and the versions that the figures depend on."""
    import psutil
    import torch

    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "load": round(psutil.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def part_of(data: Path, images: int, path: Path) -> Path:
    """Write a part of the training images and all test images as one .npz, once."""
    import numpy as np
    import torch

    from netsmith.data import batch_generator, load

    if not path.exists():
        loaded = load(data)
        assert loaded.test is not None
        chosen = torch.randperm(len(loaded.train), generator=batch_generator(0, "part"))[:images]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            images=loaded.train.fetch(chosen).permute(0, 2, 3, 1).numpy(),
            labels=loaded.train.labels[chosen].numpy(),
            test_images=loaded.test.fetch(torch.arange(len(loaded.test))).permute(0, 2, 3, 1).numpy(),
            test_labels=loaded.test.labels.numpy(),
        )
    return path


def jpegs(path: Path, most: int) -> tuple[Any, Any]:
    """Decode so many images of an .npz of JPEG bytes, drawn once: (N, H, W, C) uint8, and labels int64."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    from netsmith.data import batch_generator

    with np.load(path, allow_pickle=False) as stored:
        data, offset, labels = stored["data"], stored["offset"], stored["label"].astype(np.int64)
    chosen = torch.randperm(len(labels), generator=batch_generator(0, "part"))[:most].numpy()
    decoded = [
        np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]].tobytes()), formats=["JPEG"]))
        for i in chosen
    ]
    return np.stack(decoded), labels[chosen]


def fashion(folder: Path, images: int, others: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return so many training images of Fashion-MNIST, so many others, and its test part."""
    import torch

    from netsmith.data import ImageSet, batch_generator, load

    loaded = load(folder)
    assert loaded.test is not None
    order = torch.randperm(len(loaded.train), generator=batch_generator(0, "part"))[: images + others]
    kept = ImageSet(loaded.train.fetch(order), loaded.train.labels[order], loaded.train.label_names)
    every = torch.arange(len(loaded.test))
    test = ImageSet(loaded.test.fetch(every), loaded.test.labels, loaded.test.label_names)
    return kept.subset(torch.arange(images)), kept.subset(torch.arange(images, len(kept))), test


def cifar(path: Path, images: int, others: int) -> tuple[ImageSet, ImageSet]:
    """Return so many images of a part of CIFAR-10's JPEGs, and so many others, in an order of their own."""
    import torch

    from netsmith.data import ImageSet

    decoded, labels = jpegs(path, images + others)
    pixels = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()
    every = ImageSet(pixels, torch.from_numpy(labels), tuple(map(str, range(10))))
    return every.subset(torch.arange(images)), every.subset(torch.arange(images, len(every)))


def alternate(runs: Sequence[Callable[[], float]], repeats: int, warmups: int = 2) -> list[list[float]]:
    """Call the runs in turn, each giving its own time, ``repeats`` rounds; return each one's times."""
    for _ in range(warmups):
        for run in runs:
            run()
    rounds = [[run() for run in runs] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median over pairs: a machine's drift touches both of a pair alike."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


Record = dict[str, Any]


class Records:
    """Finished pieces by name, on disk after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pieces: dict[str, Record] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, make: Callable[[], Record]) -> Record:
        if name not in self.pieces:
            print(f"{time.strftime('%H:%M:%S')} {name} …", file=sys.stderr, flush=True)
            self.pieces[name] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".new")
            temporary.write_text(json.dumps(self.pieces, indent=1) + "\n")
            temporary.replace(self.path)
            shown = {k: v for k, v in self.pieces[name].items() if k != "plan"}
            print(f"{time.strftime('%H:%M:%S')} {name}: {shown!s:.600}", file=sys.stderr, flush=True)
        return self.pieces[name]
