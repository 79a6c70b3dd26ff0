"""NAS-Bench-Macro (Su et al. 2021): chains of eight layers, trained on CIFAR-10 three times each."""

from __future__ import annotations

import json
from pathlib import Path

from netsmith.plan import Block
from netsmith.published.table import PublishedTable, read_whole
from netsmith.spaces.chain import ChainSpace

# Of the eight layers: channels in and out, pixels a side, stride.
_LAYERS = ((32, 64, 32, 2), (64, 64, 16, 1), (64, 128, 16, 2), (128, 128, 8, 1), (128, 128, 8, 1),
           (128, 256, 8, 2), (256, 256, 4, 1), (256, 256, 4, 1))  # fmt: skip


def macro() -> ChainSpace:
    """Return the space: of each layer the identity (1x1 where shapes differ), MBConv e3 k3 or MBConv e6 k5.

    Parameters and multiply-adds are those published, arch for arch.
    """
    edges = []
    for channels, width, size, stride in _LAYERS:
        shape, same = (channels, width, size, size), channels == width
        first = Block("skip", *shape) if same else Block("conv", *shape, stride=stride)
        others = (
            Block("mbconv", *shape, kernel=kernel, stride=stride, hidden=expansion * channels, shortcut=same)
            for expansion, kernel in ((3, 3), (6, 5))
        )
        edges.append((first, *others))
    stem, head = Block("conv", 3, 32, 32, 32, kernel=3), Block("head", 256, 10, 4, 4, hidden=1280)
    return ChainSpace("nas-bench-macro", (stem,), tuple(edges), (head,))


def read_nas_bench_macro(path: Path) -> PublishedTable:
    """Read the published JSON: ``error`` (1 - mean test accuracy of three trainings), ``params``, ``macs``.

    Raises :class:`netsmith.errors.TableError`.
    """
    return read_whole(path, _read)


def _read(path: Path) -> PublishedTable:
    rows = {
        tuple(map(int, digits)): {
            "error": 1 - float(row["mean_acc"]) / 100,
            "params": float(row["params"]),
            "macs": float(row["flops"]),
        }
        for digits, row in json.loads(path.read_text(encoding="utf-8")).items()
    }
    return PublishedTable("nas-bench-macro", macro(), rows)
