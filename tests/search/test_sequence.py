"""Surrogates over sequences rank longer ones than they saw, in seconds, alike for one seed."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from netsmith.search.sequence import EnsembleSurrogate, ForestSurrogate, LstmSurrogate, SequenceSurrogate

LETTERS = 4
Make = Callable[[int], SequenceSurrogate]
MAKERS: dict[str, Make] = {
    "lstm": lambda seed: LstmSurrogate(LETTERS, seed),
    "ensemble": lambda seed: EnsembleSurrogate(lambda s: LstmSurrogate(LETTERS, s, steps=60), seed, 3),
    "forest": lambda seed: ForestSurrogate(LETTERS, seed),
}


def words(length: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(1, LETTERS + 1), repeat=length))


def planted(word: Sequence[int]) -> float:
    """An error that falls with every letter, by the letter, and by its neighbour."""
    gain = sum((0.3, 1.0, 0.6, 0.1)[letter - 1] for letter in word)
    gain += sum(0.5 for a, b in itertools.pairwise(word) if (a, b) in ((1, 2), (3, 3), (4, 1)))
    return 0.5 * float(np.exp(-0.2 * gain))


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


def test_words_longer_than_any_seen_are_ranked(make: Make) -> None:
    seen = [word for n in (1, 2, 3) for word in words(n)]
    surrogate = make(0)
    surrogate.fit(seen, [planted(word) for word in seen])
    longer = words(4)
    mean, deviation = surrogate.predict(longer)
    assert mean.shape == deviation.shape == (256,)
    assert kendalltau(mean, [planted(word) for word in longer]).statistic > 0.6
    assert np.isfinite(mean).all()
    assert (deviation >= 0).all()
    assert deviation.max() > 0


def test_the_same_seed_predicts_the_same_and_leaves_torch_alone(make: Make) -> None:
    seen, values = words(2), [planted(word) for word in words(2)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = make(0), make(0), make(1)
    for surrogate in (first, second, other):
        surrogate.fit(seen, values)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.predict(words(3))[0].tolist() == second.predict(words(3))[0].tolist()
    assert first.predict(words(3))[0].tolist() != other.predict(words(3))[0].tolist()
    second.fit(words(1), [0.1, 0.2, 0.3, 0.4])
    second.fit(seen, values)  # anew: nothing of before is left
    assert first.predict(words(3))[0].tolist() == second.predict(words(3))[0].tolist()


def test_a_prediction_does_not_depend_on_its_company(make: Make) -> None:
    surrogate = make(0)
    surrogate.fit(words(2), [planted(word) for word in words(2)])
    alone = surrogate.predict([(1, 2)])[0]
    assert surrogate.predict([(1, 2), (1, 2, 3, 4, 1, 2, 3)])[0][0] == pytest.approx(alone[0], rel=1e-5)


def test_few_and_equal_values_are_no_trouble(make: Make) -> None:
    for sequences, values in (([()], [0.3]), ([(), (1,)], [0.3, 0.3]), ([(1,), (2,)], [0.0, 0.0])):
        surrogate = make(0)
        surrogate.fit(sequences, values)
        assert surrogate.predict([(), (1,), (1, 2)])[0] == pytest.approx([values[0]] * 3, abs=1e-6)


def test_values_of_any_range_are_learned() -> None:
    for scale, shift in ((1.0, 0.0), (1e-3, 0.05), (100.0, -30.0)):
        surrogate = LstmSurrogate(LETTERS, 0)
        values = [scale * planted(word) + shift for word in words(2)]
        surrogate.fit(words(2), values)
        assert surrogate.predict(words(2))[0] == pytest.approx(values, abs=0.05 * scale)


def test_an_ensemble_is_less_sure_of_what_it_never_saw() -> None:
    surrogate = EnsembleSurrogate(lambda seed: LstmSurrogate(LETTERS, seed), 0)
    seen = [word for word in words(3) if 4 not in word]
    surrogate.fit(seen, [planted(word) for word in seen])
    known, strange = surrogate.predict(seen)[1], surrogate.predict([(4,) * 3, (4, 1, 4), (1, 4, 4)])[1]
    assert strange.mean() > 2 * known.mean()


def test_three_hundred_trials_are_learned_in_seconds() -> None:
    sequences = [word for n in (2, 3, 4) for word in words(n)][:300]
    start = time.process_time()
    LstmSurrogate(LETTERS, 0).fit(sequences, [planted(word) for word in sequences])
    assert time.process_time() - start < 30


def test_other_searchers_and_progressive_search_itself_load_no_torch() -> None:
    code = "import sys, netsmith.search.progressive, netsmith.search.evolution; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
