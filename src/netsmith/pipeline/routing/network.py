"""A network that routes images, in a design: its file, and what choosing a path takes on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.costs import Costs
from netsmith.export.huffman import ifs_before
from netsmith.export.routed import RoutedParts, write_routed
from netsmith.latency.model import LatencyModel
from netsmith.nn.controller import Controller, ControllerKind, build_controller
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.nn.runtime import channels_last
from netsmith.pipeline.finish import deployable, file_metadata
from netsmith.pipeline.work import Work
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.policies import policies_of
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.routed_network import RoutedNetwork

# Paths that have a branch of their own in the file: each adds its weights once more.
MOST_COMMON = 24
# What stands for the ``If`` before a common path where its place is not known yet.
USUAL_IFS = 3
_TIMED_S = 6.0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What an image takes beside its path, in milliseconds: the controller, and each ``If`` passed."""

    choosing_ms: float
    if_ms: float

    def usual_ms(self) -> float:
        """Return what choosing takes of an image whose path is a common one."""
        return self.choosing_ms + USUAL_IFS * self.if_ms

    def of(self, space: RoutedSpace, common: Sequence[Arch], arch: Arch) -> float:
        """Return what an image takes beside ``arch`` in a file in which the paths ``common`` are branches."""
        before = ifs_before(len(common))
        passed = before[common.index(arch)] if arch in common else before[-1] + ifs_of(space, arch)
        return self.choosing_ms + passed * self.if_ms

    def to_dict(self) -> dict[str, float]:
        """Return the figures as JSON-ready values."""
        return asdict(self)


def ifs_of(space: RoutedSpace, arch: Arch) -> int:
    """Return how many ``If`` nodes an image passes on a path that has no branch: one an operation.

    An edge that can be skipped has one more around it, which is all that a skip passes.
    """
    pairs = zip(space.edges, space.skippable, arch.choices, strict=True)
    return sum(skippable + (len(edge) if bits or not skippable else 0) for edge, skippable, bits in pairs)


def controller_kind(work: Work) -> ControllerKind:
    """Return the controller that was asked for; the light one, whose time is little, where none was."""
    return "resnet" if work.settings.controller == "resnet" else "light"


def new_network(work: Work, space: RoutedSpace) -> RoutedNetwork:
    """Return an untrained network of ``space``, the same for the same seed, with channels innermost."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.settings.seed)
        return channels_last(build(space, controller_kind(work)))


def build(space: RoutedSpace, kind: ControllerKind) -> RoutedNetwork:
    """Return a network of ``space`` with a controller of ``kind``."""
    controller = build_controller(kind, space.input_shape, len(space.edges), len(space.edges[0]))
    return RoutedNetwork(RoutedSupernet(space), controller)


def write_file(work: Work, network: RoutedNetwork, common: Sequence[Arch], name: str) -> bytes:
    """Write ``network`` with its preprocessing as a file in which the paths ``common`` are branches."""
    supernet, splits = network.supernet, work.splits
    space = supernet.space
    parts = RoutedParts(
        Normalize(splits.mean, splits.std),
        network.controller.body,
        supernet.stem,
        [list(edge.operations) for edge in supernet.routed_edges],
        space.skippable,
        supernet.head,
    )
    paths = policies_of(space, common).tolist() if common else ()
    metadata = file_metadata(work, name, work.bench.device)
    return write_routed(parts, splits.input_shape, paths=paths, input_type="uint8", metadata=metadata)


def most_common(archs: Sequence[Arch]) -> list[Arch]:
    """Return the paths that most images take, the most common first; of equals in the order of choices."""
    ordered = sorted(Counter(archs).items(), key=lambda item: (-item[1], item[0].choices))
    return [arch for arch, _ in ordered[:MOST_COMMON]]


def measure_dispatch(work: Work, space: RoutedSpace) -> Dispatch:
    """Measure what choosing a path takes: files that all compute one path, chosen in three ways.

    One is the static network of the path; one routes every image to its branch, beside as many others as a
    file may have; one passes an ``If`` at each operation. Weights are untrained, and the controller's last
    layer says what is wanted.
    """
    arch = space.arch((1,) * len(space.edges))
    network = new_network(work, space).eval()
    _force(network.controller, policies_of(space, [arch])[0])
    static = deployable(work, Network(space.plan(arch)))
    shape = work.splits.input_shape
    common = [arch, *islice((other for other in space.neighbours(arch) if _single(other)), MOST_COMMON - 1)]
    files = {
        "static": work.bench.device.export(static, shape, input_type="uint8"),
        "branch": write_file(work, network, common, "branch"),
        "ifs": write_file(work, network, [], "ifs"),
    }
    timed = {name: one.median_ms for name, one in work.bench.time_files(files, limit_s=_TIMED_S).items()}
    before = ifs_before(len(common))[0]
    if_ms = max(0.0, timed["ifs"] - timed["branch"]) / max(1, ifs_of(space, arch) - before)
    return Dispatch(max(0.0, timed["branch"] - timed["static"] - before * if_ms), if_ms)


def _single(arch: Arch) -> bool:
    """Whether no edge of a path adds up operations."""
    return all(bits.bit_count() <= 1 for bits in arch.choices)


def _force(controller: Controller, policy: torch.Tensor) -> None:
    """Have ``controller`` choose ``policy`` for every image."""
    last = controller.body[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.where(policy.flatten(), 1.0, -1.0))


def predicted_ms(
    model: LatencyModel, dispatch: Dispatch, space: RoutedSpace, common: Sequence[Arch], arch: Arch
) -> float:
    """Return the predicted latency of an image on the path ``arch``, its choice included."""
    return model.predict(space.plan(arch)) + dispatch.of(space, common, arch)


def with_choice(costs: Costs, dispatch: Dispatch) -> Costs:
    """Return the costs of paths with what it takes to choose one."""
    return costs._replace(constant=costs.constant + dispatch.usual_ms())
