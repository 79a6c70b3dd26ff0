"""Bits are chosen as brute force would, as far as each way promises, and limits are kept."""

from __future__ import annotations

import random
from itertools import product

import pytest

from netsmith.compress.accelerators import BISMO_EDGE, ConvShape
from netsmith.compress.precision import (
    LayerBits,
    Policy,
    Precision,
    _Walk,
    least_loss,
    losses_alone,
    lowered,
    search_precision,
    uniform,
)
from netsmith.errors import BudgetError, CompressionError, SettingsError

SHAPES = [
    ConvShape(3, 16, 3, 2, out_size=16),
    ConvShape(16, 16, 3, groups=16, out_size=16),
    ConvShape(16, 32, out_size=16),
    ConvShape(32, 32, 3, 2, groups=32, out_size=8),
    ConvShape(32, 64, out_size=8),
    ConvShape(64, 64, 3, groups=64, out_size=8),
    ConvShape(64, 64, out_size=8),
    ConvShape(64, 10),
]


def products(layer: int, bits: LayerBits) -> float:
    """Bit operations in thousands."""
    return SHAPES[layer].macs * bits.weights * bits.inputs / 1e3


def planted(layer: int, bits: LayerBits) -> float:
    """Depthwise layers suffer much more than others, and weights more than inputs."""
    share = 0.5 if SHAPES[layer].groups > 1 else 0.02
    return share * (2.0**-bits.weights + 0.5 * 2.0**-bits.inputs)


def accuracy(policy: Policy) -> float:
    return 0.9 - sum(planted(layer, bits) for layer, bits in enumerate(policy))


def asked(share: float, options: tuple[int, ...] = tuple(range(2, 9)), layers: int = 8) -> Precision:
    """A limit of so much of what 8 bits cost."""
    shapes = SHAPES[:layers]
    limit = share * sum(products(layer, LayerBits(8, 8)) for layer in range(layers))
    return Precision(shapes, products, limit, options, options)


def every(of: Precision) -> list[Policy]:
    layers = [[LayerBits(*bits) for bits in product(*of.options(layer))] for layer in range(len(of.layers))]
    return [policy for policy in product(*layers) if of.total(policy) <= of.limit]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.62, 1.0])
def test_the_programme_is_brute_force(share: float) -> None:
    """Over 9^4 policies of four layers."""
    for ends in (None, 8):
        of = Precision(SHAPES[1:5], lambda i, b: products(i + 1, b), 1.0, (2, 4, 8), (2, 4, 8), ends)
        limit = share * of.total(of.extreme(-1))
        of = Precision(of.layers, of.cost, limit, (2, 4, 8), (2, 4, 8), ends)
        if of.total(of.extreme(0)) > limit:
            with pytest.raises(BudgetError, match="the fewest cost"):
                least_loss(of, planted)
            continue
        found = least_loss(of, planted)
        assert of.total(found) <= limit
        best = min(sum(planted(i, b) for i, b in enumerate(policy)) for policy in every(of))
        assert sum(planted(i, b) for i, b in enumerate(found)) == pytest.approx(best, rel=1e-9)


def test_the_programme_with_random_losses_and_costs_is_brute_force() -> None:
    for seed in range(8):
        rng = random.Random(seed)
        cost = {(i, LayerBits(w, 8)): rng.random() for i in range(5) for w in (1, 2, 5, 8)}
        loss = {key: rng.random() - 0.3 for key in cost}
        of = Precision(SHAPES[:5], lambda i, b, cost=cost: cost[i, b], 2.2, (1, 2, 5, 8), (8,), None)
        best = min(sum(loss[key] for key in enumerate(policy)) for policy in every(of))
        found = least_loss(of, lambda i, b, loss=loss: loss[i, b])
        assert sum(loss[key] for key in enumerate(found)) == pytest.approx(best, abs=1e-12)


def test_a_limit_that_is_met_exactly_is_kept() -> None:
    of = Precision(SHAPES[:3], lambda i, b: float(b.weights), 12.0, (2, 4, 8), (8,), None)
    found = least_loss(of, lambda i, b: 8.0 - b.weights)
    assert of.total(found) == 12.0


def test_uniform_bits_are_the_most_within_the_limit() -> None:
    """HAQ's rows of one precision: 8 bits in the first and the last layer, b elsewhere."""
    for bits in range(2, 9):
        policy = (LayerBits(8, 8), *[LayerBits(bits, bits)] * 6, LayerBits(8, 8))
        of = asked(1.0)
        exactly = Precision(of.layers, of.cost, of.total(policy))
        assert uniform(exactly) == policy
    with pytest.raises(BudgetError, match=r"limit of 1: the fewest cost"):
        uniform(Precision(SHAPES, products, 1.0))


def test_the_walk_lowers_the_last_layer_first_and_inputs_before_weights() -> None:
    """By hand, at a cost of one a bit: of 4 layers 2 are free; the walk goes back and forth between them."""
    of = [Precision(SHAPES[:4], lambda i, b: float(b.weights + b.inputs), limit) for limit in range(40, 65)]
    eight = of[0].extreme(-1)
    assert lowered(of[24], eight) == eight
    assert lowered(of[23], eight)[2] == (8, 7)
    assert lowered(of[22], eight)[2] == (7, 7)
    assert lowered(of[21], eight)[1:3] == ((8, 7), (7, 7))
    assert lowered(of[20], eight)[1:3] == ((7, 7), (7, 7))
    assert lowered(of[19], eight)[1:3] == ((7, 7), (7, 6))
    assert lowered(of[0], eight)[1:3] == ((2, 2), (2, 2))
    uneven = (LayerBits(8, 8), LayerBits(3, 8), LayerBits(2, 2), LayerBits(8, 8))
    assert lowered(of[4], uneven)[1:3] == ((2, 6), (2, 2))
    with pytest.raises(BudgetError, match="the fewest cost 40"):
        lowered(Precision(SHAPES[:4], of[0].cost, 39), eight)


def test_the_walk_goes_on_where_bits_cost_nothing() -> None:
    """Only the first free layer's weights cost: all that comes before them in the walk is lowered too."""
    of = Precision(SHAPES[:4], lambda i, b: float(b.weights) if i == 1 else 0.0, 6.0)
    assert lowered(of, of.extreme(-1))[1:3] == ((6, 6), (6, 6))


@pytest.mark.parametrize("seed", range(3))
def test_the_agent_beats_as_many_random_policies(seed: int) -> None:
    of = asked(0.35)
    found = search_precision(of, accuracy, seed=seed, episodes=45, warmup=15, decay=0.92)
    rng = random.Random(seed)
    at_random = []
    for _ in range(45):
        drawn = [LayerBits(rng.choice(o.weights), rng.choice(o.inputs)) for o in map(of.options, range(8))]
        at_random.append(accuracy(lowered(of, tuple(drawn))))
    best = accuracy(least_loss(of, planted))
    assert max(at_random) < found.score <= best + 1e-9
    assert found.score == pytest.approx(accuracy(found.policy)) == pytest.approx(max(found.scores))
    assert found.cost == of.total(found.policy) <= of.limit
    assert found.policy[0] == found.policy[-1] == (8, 8)


def test_the_same_seed_gives_the_same_policies_and_each_is_scored_once() -> None:
    scored: list[Policy] = []

    def score(policy: Policy) -> float:
        scored.append(policy)
        return accuracy(policy)

    of = asked(0.75, (2, 8), layers=4)
    first = search_precision(of, score, seed=3, episodes=25, warmup=10)
    assert len(scored) == len(set(scored))
    assert all(of.total(policy) <= of.limit for policy in scored)
    assert search_precision(of, accuracy, seed=3, episodes=25, warmup=10) == first
    assert first.policy == max(scored, key=accuracy)


def test_states_are_the_published_ones() -> None:
    walk = _Walk(asked(0.5), accuracy)
    assert walk.steps == 12  # weights and inputs of six free layers
    first = walk.state([])
    # Depthwise; 16 of 3..64 channels in, 16 of 10..64 out; stride 1 of 1..2; kernel 3 of 1..3; ...
    assert first[:5] == [1.0, pytest.approx(13 / 61), pytest.approx(6 / 54), 0.0, 1.0]
    # ... 144 of 144..4096 weights; 16 x 16 of 1..32 x 32 pixels; number 1 of 7; no action yet; weights.
    assert first[5:] == [0.0, pytest.approx(255 / 1023), pytest.approx(1 / 7), 1.0, 1.0]
    taken = [walk.bounded([], 0.5)]
    second = walk.state(taken)
    assert second[:8] == first[:8]
    assert second[8:] == [5 / 8, 0.0]
    assert walk.state([*taken, 0.999])[7:] == [pytest.approx(2 / 7), 1.0, 1.0]


def test_actions_stand_for_the_published_bits() -> None:
    """b = round(b_min - 0.5 + a (b_max - b_min + 1))."""
    for least in (1, 2):
        options = tuple(range(least, 9))
        walk = _Walk(Precision(SHAPES, products, 1e9, options, options), accuracy)
        for step in range(1001):
            action = (step + 0.37) / 1001  # away from halves, which Python rounds to the even
            taken = [walk.bounded([], action)] + [0.5] * 11
            assert walk.policy(taken)[1].weights == round(least - 0.5 + action * len(options))
            assert walk.bounded([], taken[0]) == taken[0]
    assert walk.policy([0.0] * 12)[1] == (2, 2)
    assert walk.policy([1.0] * 12)[6] == (8, 8)


def test_weights_alone_can_be_chosen() -> None:
    """Of a size in bytes: inputs have one option, and a walk one step a layer."""
    size = Precision(SHAPES, lambda i, b: SHAPES[i].weights * b.weights / 8, 4000, input_bits=(8,))
    walk = _Walk(size, accuracy)
    assert walk.steps == 6
    policy = walk.policy([0.3] * 6)
    assert {bits.inputs for bits in policy} == {8}
    assert size.total(policy) <= 4000


def test_losses_alone_add_up_to_what_was_planted() -> None:
    of = asked(0.4, (2, 4, 8))
    scored: list[Policy] = []

    def score(policy: Policy) -> float:
        scored.append(policy)
        return accuracy(policy)

    loss = losses_alone(of, score)
    assert len(scored) == 1 + 6 * 4  # the most bits, and two lower options of each kind
    for layer in range(8):
        for bits in product(*of.options(layer)):
            expected = planted(layer, LayerBits(*bits)) - planted(layer, LayerBits(8, 8))
            assert loss(layer, LayerBits(*bits)) == pytest.approx(expected, abs=1e-12)
    assert least_loss(of, loss) == least_loss(of, planted)


def test_simulated_latency_may_be_the_cost() -> None:
    full = sum(BISMO_EDGE.latency_ms(shape, 8, 8) for shape in SHAPES)
    of = Precision(SHAPES, lambda i, b: BISMO_EDGE.latency_ms(SHAPES[i], *b), 0.6 * full)
    best = least_loss(of, planted)
    assert of.total(best) <= 0.6 * full
    assert accuracy(best) > accuracy(uniform(of))


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(SettingsError, match="rise"):
        Precision(SHAPES, products, 1.0, (4, 2))
    with pytest.raises(CompressionError, match="got 16"):
        Precision(SHAPES, products, 1.0, (4, 16))
    with pytest.raises(SettingsError, match="got 0 layers"):
        Precision([], products, 1.0)
    with pytest.raises(SettingsError, match="nothing to choose"):
        search_precision(Precision(SHAPES[:2], products, 1e9), accuracy, seed=0)
    with pytest.raises(BudgetError, match="the fewest cost"):
        search_precision(Precision(SHAPES, products, 1.0), accuracy, seed=0)
