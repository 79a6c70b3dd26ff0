"""The joint space: architecture, channels inside blocks and precisions, decided together, as by APQ."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from netsmith.arch import Arch
from netsmith.plan import Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.choices import ChoiceSpace
from netsmith.spaces.mixed import OPTIONS


@dataclass(frozen=True)
class JointSpace(ChoiceSpace):
    """The archs of ``chain``, and of every part of its networks whether it is int8 or float32.

    A part is what stands before the first choice, a stage, or the head; a stage begins with an edge that no
    arch skips. Within a part the precision does not change, since each change costs the runtime a conversion.
    """

    chain: ChainSpace

    @cached_property
    def id(self) -> str:
        """The name with a digest of the chain."""
        return f"joint-{hashlib.blake2b(self.chain.id.encode(), digest_size=4).hexdigest()}"

    @cached_property
    def parts(self) -> tuple[range, ...]:
        """The places of each part's blocks in a plan, in their order."""
        before, edges = len(self.chain.stem), self.chain.edges
        starts = [0] if before else []
        starts += [before + i for i, options in enumerate(edges) if all(b.op != "skip" for b in options)]
        starts += [before + len(edges)] if self.chain.head else []
        end = before + len(edges) + len(self.chain.head)
        return tuple(range(*pair) for pair in pairwise([*dict.fromkeys([0, *starts]), end]))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The options of every edge, then the precisions of every part."""
        return (*self.chain.sizes, *(len(OPTIONS) for _ in self.parts))

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each edge and the keys of its options, then each part and its precisions."""
        named = {f"precision {number:02}": OPTIONS for number in range(1, len(self.parts) + 1)}
        return {**self.chain.decisions, **named}

    def plan(self, arch: Arch) -> Plan:
        """Return the blocks, which say nothing of precisions."""
        return self.chain.plan(self.whole(arch))

    def whole(self, arch: Arch) -> Arch:
        """Return the arch of the chain, without precisions."""
        self.check(arch)
        return self.chain.arch(arch.choices[: len(self.chain.edges)])

    def precisions(self, arch: Arch) -> tuple[int, ...]:
        """Return of each part 1 where it is float32 and 0 where it is int8."""
        self.check(arch)
        return arch.choices[len(self.chain.edges) :]

    def floating(self, arch: Arch) -> frozenset[int]:
        """Return the places in the plan of the blocks that are float32."""
        chosen = zip(self.parts, self.precisions(arch), strict=True)
        return frozenset(place for part, precision in chosen if precision for place in part)
