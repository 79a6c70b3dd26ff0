"""How many bits weights and inputs of each layer get, under a limit of a cost that adds up over layers.

Three ways: the same for all, HAQ's agent (Wang et al. 2019), and the integer programme of HAWQ-V3 (Yao et al.
2021) over what each layer alone loses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import numpy as np

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.agent import search_walk
from netsmith.compress.quantizers import checked_bits
from netsmith.errors import BudgetError, SettingsError

FEATURES = 10
REWARD = 10.0  # HAQ's 0.1 of a per cent, for accuracies in 0..1


class LayerBits(NamedTuple):
    """Bits of a layer's weights and of its inputs."""

    weights: int
    inputs: int


Policy = tuple[LayerBits, ...]
Cost = Callable[[int, LayerBits], float]
"""What a layer, by its number, costs at so many bits: milliseconds, millijoules, bytes."""
Score = Callable[[Policy], float]
"""The accuracy in 0..1 of the network at a policy, on images that chose nothing else."""
Loss = Callable[[int, LayerBits], float]
"""What quantising a layer, by its number, to so many bits loses; it adds up over layers."""


@dataclass(frozen=True)
class Precision:
    """What may be chosen: for each layer bits of weights and inputs, at a summed cost of at most ``limit``.

    As published the first and the last layer have ``ends`` bits; with None they are chosen like all others.
    One option of input bits alone leaves weights to choose, as where only size counts.
    """

    layers: Sequence[ConvShape]
    cost: Cost
    limit: float
    weight_bits: Sequence[int] = tuple(range(2, 9))
    input_bits: Sequence[int] = tuple(range(2, 9))
    ends: int | None = 8

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, self.input_bits):
            if not bits or list(bits) != sorted({checked_bits(b) for b in bits}):
                raise SettingsError(f"options of bits rise, and are at least one; got {list(bits)}")
        if not self.layers or not self.limit > 0:
            raise SettingsError(
                "bits are chosen for at least one layer under a limit above 0; "
                f"got {len(self.layers)} layers and {self.limit}"
            )

    def options(self, layer: int) -> LayerOptions:
        """Return the bits that the layer may have."""
        if self.ends is not None and layer in (0, len(self.layers) - 1):
            return LayerOptions((self.ends,), (self.ends,))
        return LayerOptions(tuple(self.weight_bits), tuple(self.input_bits))

    def total(self, policy: Policy) -> float:
        """Return the summed cost."""
        return sum(self.cost(layer, bits) for layer, bits in enumerate(policy))

    def extreme(self, place: int) -> Policy:
        """Return the policy of the fewest (0) or the most (-1) bits."""
        options = [self.options(layer) for layer in range(len(self.layers))]
        return tuple(LayerBits(o.weights[place], o.inputs[place]) for o in options)


class LayerOptions(NamedTuple):
    """The bits that a layer's weights and inputs may have, rising."""

    weights: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Chosen:
    """The best policy of a search, and the score of every episode's in turn."""

    policy: Policy
    score: float
    cost: float
    scores: tuple[float, ...]


def uniform(asked: Precision) -> Policy:
    """Return the policy of the most bits, the same wherever they are free, within the limit.

    Raises :class:`BudgetError` where none is.
    """
    for bits in sorted({*asked.weight_bits, *asked.input_bits}, reverse=True):
        options = [asked.options(layer) for layer in range(len(asked.layers))]
        policy = tuple(LayerBits(_at_most(o.weights, bits), _at_most(o.inputs, bits)) for o in options)
        if asked.total(policy) <= asked.limit:
            return policy
    raise _unreachable(asked)


def lowered(asked: Precision, policy: Policy) -> Policy:
    """Return the policy after HAQ's walk: bits fall by an option, the last layer's first, to keep the limit.

    Of each layer the inputs' fall before the weights'; after the first layer the walk begins anew at the
    last. Raises :class:`BudgetError` where even the fewest bits cost more.
    """
    bits = list(policy)
    costs = [asked.cost(layer, found) for layer, found in enumerate(bits)]
    while sum(costs) > asked.limit:
        if tuple(bits) == asked.extreme(0):
            raise _unreachable(asked)
        for layer, fewer in _walk_down(asked, bits):
            bits[layer], costs[layer] = fewer, asked.cost(layer, fewer)
            if sum(costs) <= asked.limit:
                break
    return tuple(bits)


def search_precision(
    asked: Precision, score: Score, *, seed: int, episodes: int = 600, warmup: int = 20, decay: float = 0.99
) -> Chosen:
    """Return the best policy that HAQ's agent found; the defaults are its own.

    A policy is scored once. The same seed gives the same policies where ``score`` says the same. Raises
    :class:`BudgetError` where even the fewest bits cost more than the limit.
    """
    walk = _Walk(asked, score)
    if walk.steps == 0:
        raise SettingsError("there is nothing to choose: every layer has one option of bits. Offer more")
    lowered(asked, asked.extreme(0))  # nothing is scored in vain where the limit is out of reach
    found = search_walk(walk, episodes=episodes, warmup=warmup, decay=decay, remembered=64, seed=seed)
    policy = walk.policy(found.actions)
    scores = tuple(reward / REWARD for reward in found.rewards)
    return Chosen(policy, walk.scored[policy], asked.total(policy), scores)


def least_loss(asked: Precision, loss: Loss) -> Policy:
    """Return the policy of the least summed loss within the limit, by HAWQ-V3's integer programme.

    Exact, but for policies whose costs are within a millionth of the limit. Raises :class:`BudgetError` where
    none keeps the limit.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    choices = [
        (layer, LayerBits(*bits))
        for layer in range(len(asked.layers))
        for bits in product(*asked.options(layer))
    ]
    losses = np.array([loss(layer, bits) for layer, bits in choices])
    costs = np.array([asked.cost(layer, bits) for layer, bits in choices]) / asked.limit
    one_each = np.array([[layer == of for of, _ in choices] for layer in range(len(asked.layers))], float)
    for slack in (0.0, 1e-6):  # the solver takes what is over by its tolerance for kept
        solved = milp(
            losses / max(float(np.abs(losses).max()), 1e-300),
            integrality=np.ones(len(choices)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(costs[None], ub=1 - slack)],
            options={"mip_rel_gap": 0.0},
        )
        if solved.x is None:
            break
        policy = tuple(bits for (_, bits), taken in zip(choices, solved.x, strict=True) if taken > 0.5)
        if asked.total(policy) <= asked.limit:
            return policy
    raise _unreachable(asked)


def losses_alone(asked: Precision, score: Score) -> Loss:
    """Return what each layer alone loses: the score at the most bits, less that with its bits lowered.

    The score need not be an accuracy: the mean log likelihood tells policies apart that get as many images
    right. Weights and inputs are lowered one at a time, and their losses add up; so a layer takes as many
    scores as it has options, not as many as pairs of them. A gain counts as no loss.
    """
    most = asked.extreme(-1)
    reference = score(most)
    known: dict[tuple[int, LayerBits], float] = {}
    for layer, best in enumerate(most):
        options = asked.options(layer)
        lowers = [best._replace(weights=bits) for bits in options.weights]
        lowers += [best._replace(inputs=bits) for bits in options.inputs]
        for bits in dict.fromkeys(lowers):
            policy = (*most[:layer], bits, *most[layer + 1 :])
            known[layer, bits] = 0.0 if bits == best else max(0.0, reference - score(policy))

    def loss(layer: int, bits: LayerBits) -> float:
        best = most[layer]
        return (
            known[layer, best._replace(weights=bits.weights)]
            + known[layer, best._replace(inputs=bits.inputs)]
        )

    return loss


@dataclass
class _Walk:
    """HAQ's walk: of each layer the weights' bits are decided, then the inputs', where there is a choice."""

    asked: Precision
    score: Score
    features: int = FEATURES
    scored: dict[Policy, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._decisions = [
            (layer, kind, options)
            for layer in range(len(self.asked.layers))
            for kind, options in enumerate(self.asked.options(layer))
            if len(options) > 1
        ]
        self._described = scaled([layer_features(i, shape) for i, shape in enumerate(self.asked.layers)])

    @property
    def steps(self) -> int:
        return len(self._decisions)

    def state(self, actions: Sequence[float]) -> Sequence[float]:
        """Return the layer's features, the last action in bits over the most, and if weights are next."""
        layer, kind, _ = self._decisions[len(actions)]
        last = 1.0
        if actions:
            _, _, options = self._decisions[len(actions) - 1]
            last = _option(options, actions[-1]) / options[-1]
        return [*self._described[layer], last, float(kind == 0)]

    def bounded(self, actions: Sequence[float], action: float) -> float:
        """Return the middle of the stretch of actions that stand for the same bits."""
        _, _, options = self._decisions[len(actions)]
        return (options.index(_option(options, action)) + 0.5) / len(options)

    def reward(self, actions: Sequence[float]) -> float:
        """Return 0.1 (acc - acc_orig) in per cent, less the constant, which the agent's average takes out."""
        policy = self.policy(actions)
        if policy not in self.scored:
            self.scored[policy] = float(self.score(policy))
        return REWARD * self.scored[policy]

    def policy(self, actions: Sequence[float]) -> Policy:
        """Return the policy of a finished walk, lowered to the limit."""
        bits = [list(found) for found in self.asked.extreme(-1)]
        for (layer, kind, options), action in zip(self._decisions, actions, strict=True):
            bits[layer][kind] = _option(options, action)
        return lowered(self.asked, tuple(LayerBits(*found) for found in bits))


def _option(options: Sequence[int], action: float) -> int:
    """Return round(b_min - 0.5 + a (b_max - b_min + 1)) where no bits between are missing: equal shares."""
    return options[min(max(math.floor(action * len(options)), 0), len(options) - 1)]


def layer_features(number: int, shape: ConvShape) -> list[float]:
    """Return HAQ's features of a layer (section 3.1), unscaled."""
    depthwise = shape.groups == shape.in_channels and shape.groups > 1
    pixels = (shape.out_size * shape.stride) ** 2
    sizes = (shape.in_channels, shape.out_channels, shape.stride, shape.kernel, shape.weights, pixels, number)
    return [float(depthwise), *map(float, sizes)]


def scaled(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return each column stretched to 0..1, a constant one as zeros."""
    table = np.asarray(rows, float)
    low, span = table.min(0), np.ptp(table, 0)
    scaled: list[list[float]] = ((table - low) / np.where(span > 0, span, 1)).tolist()
    return scaled


def _walk_down(asked: Precision, bits: Sequence[LayerBits]) -> Iterator[tuple[int, LayerBits]]:
    """Yield each lowering of one pass, by the layer's number and its new bits; ``bits`` change meanwhile."""
    for layer in reversed(range(len(bits))):
        options = asked.options(layer)
        if bits[layer].inputs > options.inputs[0]:
            yield layer, bits[layer]._replace(inputs=_below(options.inputs, bits[layer].inputs))
        if bits[layer].weights > options.weights[0]:
            yield layer, bits[layer]._replace(weights=_below(options.weights, bits[layer].weights))


def _below(options: Sequence[int], bits: int) -> int:
    return options[options.index(bits) - 1]


def _at_most(options: Sequence[int], bits: int) -> int:
    """Return the greatest option that is not over ``bits``, or the least of all."""
    return max((option for option in options if option <= bits), default=options[0])


def _unreachable(asked: Precision) -> BudgetError:
    fewest = asked.total(asked.extreme(0))
    return BudgetError(
        f"no bits of those offered keep the limit of {asked.limit:.4g}: the fewest cost {fewest:.4g}. "
        "Offer fewer bits, raise the limit, or begin with a smaller network"
    )
