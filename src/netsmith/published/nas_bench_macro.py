"""NAS-Bench-Macro (Su et al. 2021): chains of eight layers, trained on CIFAR-10 three times each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from netsmith.arch import Arch
from netsmith.plan import Block
from netsmith.published.table import PublishedTable, read_whole
from netsmith.spaces.chain import ChainSpace

# Of the eight layers: channels in and out, pixels a side, stride.
_LAYERS = ((32, 64, 32, 2), (64, 64, 16, 1), (64, 128, 16, 2), (128, 128, 8, 1), (128, 128, 8, 1),
           (128, 256, 8, 2), (256, 256, 4, 1), (256, 256, 4, 1))  # fmt: skip


class GrowingMacro(ChainSpace):
    """The same archs, read as sequences of the MBConvs that they hold: one grows by one more behind its last.

    An arch of no MBConv is the shortest, and every other has one parent, the arch without its last MBConv.
    Its choices are those of :func:`macro`, so that 0 stands between layers too. A token tells layer and kind.
    """

    def children(self, arch: Arch | None) -> Iterator[Arch]:
        """Yield ``arch`` with an MBConv of either kind in each layer behind its last."""
        if arch is None:
            yield self.arch((0,) * len(self.edges))
            return
        self.check(arch)
        choices = arch.choices
        end = max((i + 1 for i, choice in enumerate(choices) if choice), default=0)
        for i in range(end, len(choices)):
            for kind in (1, 2):
                yield self.arch((*choices[:i], kind, *choices[i + 1 :]))

    def tokens(self, arch: Arch) -> tuple[int, ...]:
        """Return the MBConvs in their order: 2i + 1 and 2i + 2 are the kinds in layer i from 0."""
        self.check(arch)
        return tuple(2 * i + choice for i, choice in enumerate(arch.choices) if choice)

    @property
    def vocabulary(self) -> int:
        """16: two kinds in each of eight layers."""
        return 2 * len(self.edges)


def macro() -> GrowingMacro:
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
    return GrowingMacro("nas-bench-macro", (stem,), tuple(edges), (head,))


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
