"""What all spaces of independent decisions share: an arch is one option of each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from random import Random

from netsmith.arch import Arch
from netsmith.errors import ArchError


class ChoiceSpace(ABC):
    """A product of decisions: every combination of their options is an arch."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The name with a digest of the definition."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """How many options each decision has."""

    @property
    def options(self) -> tuple[range, ...]:
        """The values that each decision may take: 0 and up, where the space does not say otherwise."""
        return tuple(map(range, self.sizes))

    def count(self) -> int:
        """How many archs there are, exactly."""
        return math.prod(self.sizes)

    def arch(self, choices: tuple[int, ...]) -> Arch:
        """Return the arch of these option indices, one for each decision, checked."""
        arch = Arch(self.id, tuple(choices))
        self.check(arch)
        return arch

    def sample(self, rng: Random) -> Arch:
        """Draw an arch uniformly."""
        return Arch(self.id, tuple(rng.choice(values) for values in self.options))

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Change one decision, and each further one with the probability of one in their number."""
        self.check(arch)
        free = [i for i, values in enumerate(self.options) if len(values) > 1]
        if not free:
            return arch
        first = rng.choice(free)
        choices = list(arch.choices)
        for i in free:
            if i == first or rng.random() < 1 / len(free):
                others = [j for j in self.options[i] if j != choices[i]]
                choices[i] = rng.choice(others)
        return Arch(self.id, tuple(choices))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Yield every arch that differs in one decision, in the order of decisions and options."""
        self.check(arch)
        for i, values in enumerate(self.options):
            for option in values:
                if option != arch.choices[i]:
                    yield Arch(self.id, (*arch.choices[:i], option, *arch.choices[i + 1 :]))

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        """Take each decision from one parent or the other with equal probability."""
        self.check(first)
        self.check(second)
        pairs = zip(first.choices, second.choices, strict=True)
        return Arch(self.id, tuple(pair[rng.randrange(2)] for pair in pairs))

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """One-hot of every decision, concatenated."""
        self.check(arch)
        return tuple(
            float(choice == j)
            for choice, values in zip(arch.choices, self.options, strict=True)
            for j in values
        )

    def check(self, arch: Arch) -> None:
        """Raise :class:`ArchError` unless ``arch`` is a point of this space."""
        check_decisions(arch, self.id, self.options)


def check_decisions(arch: Arch, space: str, options: Sequence[range]) -> None:
    """Raise :class:`ArchError` unless ``arch`` is of ``space``, each choice one of its decision's options."""
    if arch.space != space:
        raise ArchError(f"the arch is of space '{arch.space}', not of this space '{space}'")
    if len(arch.choices) != len(options):
        raise ArchError(f"space '{space}' has {len(options)} decisions; the arch has {len(arch.choices)}")
    for i, (choice, values) in enumerate(zip(arch.choices, options, strict=True)):
        if choice not in values:
            raise ArchError(f"decision {i} is one of {values.start}..{values.stop - 1}; got {choice}")
