"""Progressive search finds the planted front of a space that grows, and goes on where it was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from netsmith.arch import Arch
from netsmith.errors import BudgetError, SettingsError
from netsmith.pareto import front
from netsmith.search.progressive import FIRST, ProgressiveSearch
from netsmith.search.sequence import LstmSurrogate
from netsmith.spaces.space import GrowingSpace
from netsmith.testing import searcher_contract
from netsmith.trial import Trial

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """Every sequence of 1..length letters; what a searcher asks of a growing space."""

    letters: int = 3
    length: int = 4
    id: str = "words"

    @cached_property
    def every(self) -> list[Arch]:
        letters = range(1, self.letters + 1)
        words = (word for n in range(1, self.length + 1) for word in product(letters, repeat=n))
        return [self.word(*word) for word in words]

    def word(self, *tokens: int) -> Arch:
        return Arch(self.id, (*tokens, *[0] * (self.length - len(tokens))))

    def count(self) -> int:
        return len(self.every)

    def check(self, arch: Arch) -> None:
        assert arch in self.every

    def encode(self, arch: Arch) -> tuple[float, ...]:
        return tuple(map(float, arch.choices))

    def tokens(self, arch: Arch) -> Tokens:
        return tuple(choice for choice in arch.choices if choice)

    @property
    def vocabulary(self) -> int:
        return self.letters

    def children(self, arch: Arch | None) -> Iterator[Arch]:
        word = self.tokens(arch) if arch else ()
        if len(word) < self.length:
            yield from (self.word(*word, token) for token in range(1, self.letters + 1))

    def sample(self, rng: Random) -> Arch:
        return rng.choice(self.every)

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        raise AssertionError("progressive search grows, it does not mutate")

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        raise AssertionError("progressive search grows, it does not cross")

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        raise AssertionError("progressive search grows, it has no neighbours")


@dataclass
class Exact:
    """A surrogate that knows: letter t at place i adds t / (i + 1); counts how often it is fitted."""

    fits: int = 0

    def fit(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        self.fits += 1
        self.seen = dict(zip(sequences, values, strict=True))

    def predict(self, sequences: Sequence[Tokens]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        values = np.array([error(sequence) for sequence in sequences])
        return values, np.zeros_like(values)


def error(tokens: Tokens) -> float:
    return 10 - sum(token / (i + 1) for i, token in enumerate(tokens))


def cost(space: GrowingSpace, arch: Arch) -> float:
    """A letter's square: dear letters are better, and none dominates another."""
    return float(sum(token**2 for token in space.tokens(arch)))


def trial(space: GrowingSpace, arch: Arch) -> Trial:
    return Trial(arch, {"error": error(space.tokens(arch))})


def run(search: ProgressiveSearch, space: GrowingSpace, trials: int) -> list[Arch]:
    asked = []
    for _ in range(trials):
        asked.append(search.ask())
        search.tell(trial(space, asked[-1]))
    return asked


def make(space: GrowingSpace, seed: int = 0, width: int = 5) -> ProgressiveSearch:
    def known(arch: Arch) -> dict[str, float]:
        return {"cost": cost(space, arch)}

    return ProgressiveSearch(space, seed, Exact(), known=known, objectives=("error", "cost"), width=width)


def test_it_passes_the_contract_with_the_published_surrogate() -> None:
    space = Words(4, 5)
    searcher_contract(
        lambda seed: ProgressiveSearch(
            space, seed, LstmSurrogate(4, seed, cells=8, steps=5), known=lambda arch: {"length": 1.0}, width=8
        ),
        space,
        60,
    )


def test_levels_are_the_shortest_and_then_the_fronts_of_their_best_children() -> None:
    """By brute force: of a level's children the first fronts, and of the next one a part."""
    space, width = Words(4, 3), 6
    search = make(space, width=width)
    first = run(search, space, 4)
    assert {space.tokens(arch) for arch in first} == {(1,), (2,), (3,), (4,)}
    parents = first
    for _ in range(2):
        children = [child for parent in parents for child in space.children(parent)]
        points = {a: (error(space.tokens(a)), cost(space, a)) for a in children}
        level = run(search, space, width)
        assert set(level) <= set(children)
        assert len(set(level)) == width
        left, taken = list(children), set()
        while len(taken) < width:
            on = [left[i] for i in front([points[arch] for arch in left])]
            assert set(on) <= set(level) or set(level) <= taken | set(on)
            taken |= set(on)
            left = [arch for arch in left if arch not in taken]
        parents = level


def test_the_front_is_found_in_a_share_of_the_space() -> None:
    space = Words(3, 4)
    asked = run(make(space), space, 3 + 5 * 3)
    points = {arch: (error(space.tokens(arch)), cost(space, arch)) for arch in space.every}
    best = [space.every[i] for i in front(list(points.values()))]
    found = [asked[i] for i in front([points[arch] for arch in asked])]
    assert len(space.every) == 120
    assert space.word(3, 3, 3, 3) in found
    assert len(set(found) & set(best)) >= 4


def test_after_the_longest_it_goes_on_until_every_arch_was_asked_for() -> None:
    space = Words(3, 4)
    asked = run(make(space), space, space.count())
    assert set(asked) == set(space.every)
    again = run(make(space), space, space.count() + 40)
    assert set(again[space.count() :]) <= set(space.every)


def test_the_same_tells_give_the_same_asks() -> None:
    space = Words(3, 4)
    through = run(make(space), space, 40)
    for killed_after in (1, 3, 7, 13, 14, 29):
        search = make(space)
        for arch in through[:killed_after]:
            search.tell(trial(space, arch))
        assert run(search, space, 40 - killed_after) == through[killed_after:]


def test_while_a_level_is_under_way_it_asks_for_the_next_best_of_it() -> None:
    space = Words(4, 3)
    search = make(space, width=4)
    level = [search.ask() for _ in range(4)]
    assert [search.ask() for _ in range(4)] == level  # nothing else is known yet
    for arch in level:
        search.tell(trial(space, arch))
    ahead = [search.ask() for _ in range(10)]
    assert len(set(ahead)) == 10
    assert {len(space.tokens(arch)) for arch in ahead} == {2}
    for arch in ahead[:4]:
        search.tell(trial(space, arch))
    assert len(space.tokens(search.ask())) == 3


def test_only_what_is_allowed_is_asked_for_and_grown() -> None:
    space = Words(3, 4)
    search = ProgressiveSearch(space, 0, Exact(), width=5, allowed=lambda arch: sum(arch.choices) <= 6)
    assert max(sum(arch.choices) for arch in run(search, space, 60)) == 6
    with pytest.raises(BudgetError, match="none of the shortest"):
        ProgressiveSearch(space, 0, Exact(), allowed=lambda arch: False)
    with pytest.raises(SettingsError, match="got 0"):
        ProgressiveSearch(space, 0, Exact(), width=0)


def test_failures_are_the_worst_and_no_parents() -> None:
    space, surrogate = Words(3, 4), Exact()
    search = ProgressiveSearch(space, 0, surrogate, width=3)
    for _ in range(3):
        arch = search.ask()
        failed = space.tokens(arch) == (3,)
        figures = {"error": float("nan")} if failed else trial(space, arch).figures
        search.tell(Trial(arch, figures, "out of memory" if failed else ""))
    assert surrogate.seen[(3,)] == max(surrogate.seen.values()) == error((1,))
    assert 3 not in {search.ask().choices[0] for _ in range(6)}


def test_of_many_shortest_archs_so_many_are_drawn() -> None:
    space = Words(100, 2)
    draws = []
    for seed in (0, 1):
        search = ProgressiveSearch(space, seed, Exact(), width=2)
        draws.append(run(search, space, FIRST))
        assert {len(space.tokens(arch)) for arch in draws[-1]} == {1}
        assert len(space.tokens(search.ask())) == 2
    assert draws[0] != draws[1]


def test_the_first_that_are_drawn_hold_every_token_alike() -> None:
    """Of 3 x 6 pairs six: each of the second letters once, each of the first twice."""

    class Pairs(Words):
        def children(self, arch: Arch | None) -> Iterator[Arch]:
            if arch is None:
                yield from (self.word(first, second) for first in (1, 2, 3) for second in range(4, 10))

    for seed in range(5):
        space = Pairs(9, 2)
        drawn = run(ProgressiveSearch(space, seed, Exact(), width=6, first=6), space, 6)
        held = Counter(token for arch in drawn for token in space.tokens(arch))
        assert held == {1: 2, 2: 2, 3: 2} | dict.fromkeys(range(4, 10), 1)


def test_a_level_may_be_longer_by_several_layers() -> None:
    space = Words(3, 6)
    search = ProgressiveSearch(space, 0, Exact(), width=3, layers=2)
    asked = run(search, space, 12)
    assert [len(space.tokens(arch)) for arch in asked] == [1] * 3 + [3] * 3 + [5] * 3 + [6] * 3
    assert space.tokens(asked[3])[0] == 3  # of the best parents, by the exact surrogate
    assert (3, 3, 3, 3, 3, 3) in {space.tokens(arch) for arch in asked[9:]}
    with pytest.raises(SettingsError, match="layers"):
        ProgressiveSearch(space, 0, Exact(), layers=0)


def test_what_is_known_is_asked_once() -> None:
    space, calls = Words(3, 4), []

    def known(arch: Arch) -> dict[str, float]:
        calls.append(arch)
        return {"cost": cost(space, arch)}

    search = ProgressiveSearch(space, 0, Exact(), known=known, objectives=("error", "cost"), width=5)
    run(search, space, 60)
    assert len(calls) == len(set(calls))
