"""The end of a design of paths: all measured in one run, and what its policy is worth on the test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from netsmith.arch import Arch
from netsmith.data import Images
from netsmith.devices.measure import Latency
from netsmith.devices.routing import routing
from netsmith.export.routed import CHOICES
from netsmith.latency.model import LatencyModel
from netsmith.nn.count import count, count_plan
from netsmith.pipeline.conclude import FINAL_LIMIT_S, answer_of, end, predicted
from netsmith.pipeline.finish import Finished, broken_limits, proved_figures, report_figures
from netsmith.pipeline.networks import TEST_BATCH
from netsmith.pipeline.routing.network import Dispatch, controller_kind
from netsmith.pipeline.routing.path_times import PathTimes, pooled, timed, to_time, untimed
from netsmith.pipeline.routing.policy_worth import policy_worth
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.thumbnails import examples
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.instanas import greedy
from netsmith.supernet.policies import archs_of, complete
from netsmith.supernet.routed_network import RoutedNetwork

NEAR = 1e-4  # of a probability to its threshold: closer than that rounding may decide
MOST_PATHS = 200  # that ``result.json`` lists


@dataclass(frozen=True)
class Chosen:
    """What a controller chooses for some images: (N, edges, operations) logits, and each image's path."""

    logits: torch.Tensor
    archs: tuple[Arch, ...]

    @classmethod
    def of(cls, work: Work, network: RoutedNetwork, images: Images) -> Chosen:
        """Run the controller over ``images``."""
        batches = work.loader(images, EVALUATION_BATCH, shuffle=False)
        with torch.no_grad():
            logits = torch.cat([network.controller(x.cpu()) for x, _ in batches.epoch(0)])
        return cls(logits, tuple(archs_of(network.supernet.space, greedy(logits))))

    @property
    def near(self) -> torch.Tensor:
        """Whether a decision of each image, (N,), is within ``NEAR`` of its threshold."""
        return ((self.logits.sigmoid() - 0.5).abs() < NEAR).flatten(1).any(1)


def conclude_routed(
    work: Work,
    space: RoutedSpace,
    width: float,
    model: LatencyModel,
    dispatch: Dispatch,
    design: Finished,
    network: RoutedNetwork,
    predict: Callable[[Arch], float],
    others: Sequence[Finished],
    reasons: Sequence[str],
    front: Sequence[Mapping[str, Any]],
) -> None:
    """Measure all networks in one run, read the test part, and write the files of the answer.

    ``predict`` gives the latency of an image on a path. The design's latency is that of test images, each as
    its path; where it seems over the limit it is measured again, and both count.
    """
    test = work.splits.test
    chosen = Chosen.of(work, network, test)
    times, beside = _timed(work, design, chosen, predict, others)
    if broken_limits(work.budget, {"latency_ms": times.mean_ms}):
        times = pooled(times, _timed(work, design, chosen, predict, ())[0])
    seen = Chosen.of(work, network, work.splits.validation)
    figures = routed_figures(work, design, network, times, seen)
    routing_told = {
        **_choices(work, design, network, chosen),
        **_entropies(chosen),
        "controller": controller_kind(work),
        "choosing_ms": dispatch.choosing_ms,
        "if_ms": dispatch.if_ms,
        "choosing_share": dispatch.choosing_ms / times.mean_ms,
        "timed_share": times.timed_share,
        "paths_used": len(times.paths),
        "paths": _paths(work, network, times, chosen),
        "operations": _operations(space, chosen),
        "decisions": {place: list(names) for place, names in _names(space).items()},
        **policy_worth(work, model, network, chosen.archs, seen.archs, times.mean_ms),
        "bounds": [
            {name: record[name] for name in ("number", "figures", "validation_accuracy", "paths", "reason")}
            for record in work.journal.all("kept")
        ],
        "examples": examples(work, network, chosen.archs, {p.arch: times.of(p) for p in times.paths}),
    }
    answer = answer_of(work, space, width, figures, times.wide, work.budget, reasons)
    baselines = {
        other.name: report_figures(work, other, beside[other.name], predicted(model, other.plan))
        for other in others
    }
    end(work, space, model, design, {**answer, "routing": routing_told}, baselines=baselines, front=front)


def routed_figures(
    work: Work, design: Finished, network: RoutedNetwork, times: PathTimes, seen: Chosen
) -> dict[str, Any]:
    """Return the figures of a network that routes images as ``result.json`` has those of any other.

    Counts are of images: the mean of multiply-adds with the controller's, the most that activations take.
    Weights are all that there are. ``seen`` are the choices for validation images.
    """
    sure = (~seen.near).nonzero()[:, 0]
    space, precision = network.supernet.space, work.bench.device.precision
    counts = {path.arch: count_plan(space.plan(path.arch)) for path in times.paths}
    choosing = count(network.controller.body, work.splits.input_shape)
    used = (*counts.values(), choosing)
    return {
        **proved_figures(work, design, work.splits.validation.subset(sure)),
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "macs": round(
            choosing.macs + sum(p.images * counts[p.arch].macs for p in times.paths) / times.images
        ),
        "activation_bytes": max(activation_bytes(each, precision) for each in used),
        "latency_ms": times.mean_ms,
        "latency_ms_p50": times.quantile_ms(0.5),
        "latency_ms_p99": times.quantile_ms(0.99),
        "latency_ms_spread": times.spread(),
        "latency_ms_predicted": times.predicted_ms,
    }


def _timed(
    work: Work,
    design: Finished,
    chosen: Chosen,
    predict: Callable[[Arch], float],
    others: Sequence[Finished],
) -> tuple[PathTimes, dict[str, Latency]]:
    """Time the paths of test images, and other networks between them."""
    paths = untimed(chosen.archs, {arch: predict(arch) for arch in set(chosen.archs)})
    routed = {design.name: (design.model, to_time(paths, chosen.archs, work.splits.test))}
    files = {other.name: other.model for other in others}
    found, beside = work.bench.time_images(routed, files, limit_s=FINAL_LIMIT_S)
    return timed(paths, found[design.name]), beside


def _choices(work: Work, design: Finished, network: RoutedNetwork, chosen: Chosen) -> dict[str, int]:
    """Count the test images for which the exported file chooses another path than PyTorch does.

    Only those close to a threshold may: the others are counted beside.
    """
    device, test = routing(work.bench.device), work.splits.test
    places = torch.split(torch.arange(len(test)), TEST_BATCH)
    rows = []
    for pixels in test.stream(places):
        (run,) = device.prepare_each(design.model, [pixels.numpy()], CHOICES)
        rows.append(run().reshape(len(pixels), *chosen.logits.shape[1:]))
    theirs = torch.from_numpy(np.concatenate(rows))
    differ = (theirs != complete(network.supernet.space, greedy(chosen.logits))).flatten(1).any(1)
    return {
        "choices_differ": int(differ.sum()),
        "choices_differ_beyond_threshold": int((differ & ~chosen.near).sum()),
        "images_near_threshold": int(chosen.near.sum()),
    }


def _entropies(chosen: Chosen) -> dict[str, float]:
    """Return the entropy of the paths that images take, and the mean one of a decision, in bits."""
    _, counts = np.unique([arch.digest for arch in chosen.archs], return_counts=True)
    shares = counts / counts.sum()
    p = chosen.logits.double().sigmoid().clamp(1e-12, 1 - 1e-12)
    return {
        "path_entropy_bits": float(-(shares * np.log2(shares)).sum()) + 0.0,
        "decision_entropy_bits": float(-(p * p.log2() + (1 - p) * (1 - p).log2()).mean()),
    }


def _paths(work: Work, network: RoutedNetwork, times: PathTimes, chosen: Chosen) -> list[dict[str, Any]]:
    """Return the paths of test images, those that most take first, each with its images' accuracy."""
    right: dict[Arch, int] = {}
    batches = work.loader(work.splits.test, EVALUATION_BATCH, shuffle=False)
    archs = iter(chosen.archs)
    with torch.no_grad():
        for x, y in batches.epoch(0):
            for correct in (network(x.cpu()).argmax(1) == y.cpu()).tolist():
                arch = next(archs)
                right[arch] = right.get(arch, 0) + correct
    return [
        {
            "choices": list(path.arch.choices),
            "images": path.images,
            "share": path.images / times.images,
            "accuracy": right[path.arch] / path.images,
            "latency_ms": times.of(path),
            "latency_is": "predicted" if path.latency is None else "measured",
            "latency_ms_predicted": path.predicted_ms,
        }
        for path in times.paths[:MOST_PATHS]
    ]


def _operations(space: RoutedSpace, chosen: Chosen) -> list[list[float]]:
    """Return the share of images that have each operation of each edge active."""
    shares: list[list[float]] = complete(space, greedy(chosen.logits)).double().mean(0).tolist()
    return shares


def _names(space: RoutedSpace) -> dict[str, tuple[str, ...]]:
    return {f"block {i:02}": tuple(block.key for block in edge) for i, edge in enumerate(space.edges, 1)}
