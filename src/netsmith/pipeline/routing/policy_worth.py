"""Whether a policy is worth choosing by: against one path for all, and its own paths dealt out at random.

All with the same weights. Had these been trained along one path, that would be better than it is here; the
baseline ``static`` is such a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from netsmith.arch import Arch
from netsmith.latency.model import LatencyModel
from netsmith.pipeline.routing.static_path import SCORED, best_path, cut_out, near
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.supernet.policies import policies_of
from netsmith.supernet.routed_network import RoutedNetwork
from netsmith.train import evaluate

DEALS = 3


def policy_worth(
    work: Work,
    model: LatencyModel,
    network: RoutedNetwork,
    archs: Sequence[Arch],
    seen: Sequence[Arch],
    mean_ms: float,
) -> dict[str, Any]:
    """Return what test images' accuracy would be by other policies.

    ``archs`` are the paths that test images take, ``seen`` those of validation images. ``constant`` is the
    path that most of the latter take, ``single`` the best path by validation of those that would take no more
    than ``mean_ms`` without a controller, both as static networks with batch-norm statistics of their own;
    ``random`` gives every image the path of another.
    """
    supernet, space = network.supernet, network.supernet.space
    common = Counter(seen).most_common(1)[0][0]
    rng = Random(work.settings.seed)

    def cost(arch: Arch) -> float:
        return model.predict(space.plan(arch))

    number = SCORED[work.settings.budget]
    drawn = [near(space, cost, mean_ms, rng) for _ in range(number)]
    taken = [arch for arch, _ in Counter(seen).most_common(number) if cost(arch) <= mean_ms]
    single, _ = best_path(work, supernet, [*taken, *drawn])
    accuracies = [_dealt(work, network, archs, deal) for deal in range(DEALS)]
    return {
        "constant": _static(work, network, common, cost(common)),
        "single": _static(work, network, single, cost(single)),
        "random": {"accuracy": sum(accuracies) / DEALS, "accuracies": accuracies},
    }


def _static(work: Work, network: RoutedNetwork, arch: Arch, predicted_ms: float) -> dict[str, Any]:
    test = work.loader(work.splits.test, EVALUATION_BATCH, shuffle=False)
    accuracy = evaluate(cut_out(work, network.supernet, arch), test).accuracy
    return {"choices": list(arch.choices), "accuracy": accuracy, "latency_ms_predicted": predicted_ms}


@torch.no_grad()
def _dealt(work: Work, network: RoutedNetwork, archs: Sequence[Arch], deal: int) -> float:
    """Return the accuracy where the paths of all images are dealt out among them anew."""
    generator = torch.Generator().manual_seed(work.settings.seed * 101 + deal)
    policies = policies_of(network.supernet.space, archs)[torch.randperm(len(archs), generator=generator)]
    batches = work.loader(work.splits.test, EVALUATION_BATCH, shuffle=False)
    right, start = 0, 0
    for x, y in batches.epoch(0):
        logits = network.supernet(x.cpu(), policies[start : start + len(y)])
        right += int((logits.argmax(1) == y.cpu()).sum())
        start += len(y)
    return right / len(archs)
