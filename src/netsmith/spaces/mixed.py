"""The space of one network's precisions: of every layer with weights, whether it is int8 or float32."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from netsmith.arch import Arch
from netsmith.errors import SpaceError
from netsmith.spaces.choices import ChoiceSpace

OPTIONS = ("int8", "float32")


@dataclass(frozen=True)
class MixedSpace(ChoiceSpace):
    """The precisions of ``layers`` of a network, which ``network`` tells from others, such as by a digest.

    Raises :class:`SpaceError` where there are no layers, or one is named twice.
    """

    network: str
    layers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise SpaceError(f"precisions are of layers, each once; got {self.layers!r:.200}")

    @cached_property
    def id(self) -> str:
        """The name with a digest of the network and the layers."""
        text = json.dumps([self.network, self.layers])
        return f"mixed-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Two options of each layer."""
        return (len(OPTIONS),) * len(self.layers)

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each layer by its name, and its precisions."""
        return dict.fromkeys(self.layers, OPTIONS)

    def of(self, floating: Collection[str]) -> Arch:
        """Return the arch in which these layers are float32."""
        unknown = sorted(set(floating) - set(self.layers))
        if unknown:
            raise SpaceError(f"no layer is called {', '.join(unknown)}; there are {', '.join(self.layers)}")
        return self.arch(tuple(int(layer in floating) for layer in self.layers))

    def floating(self, arch: Arch) -> frozenset[str]:
        """Return the layers that are float32."""
        self.check(arch)
        return frozenset(layer for layer, choice in zip(self.layers, arch.choices, strict=True) if choice)
