"""What ``arch.json`` says of a network, and the network that is made of it, its weights untrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netsmith.arch import Arch
from netsmith.costs import Costs
from netsmith.errors import FolderError, NetsmithError
from netsmith.nn.controller import ControllerKind
from netsmith.nn.network import Network
from netsmith.pipeline.routing.network import Dispatch, build
from netsmith.plan import Block, Plan
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.policies import latencies_ms, policies_of
from netsmith.supernet.routed_network import RoutedNetwork

_MOST_EDGES, _MOST_OPERATIONS = 200, 16


def describe_routed(
    space: RoutedSpace, kind: ControllerKind, costs: Costs, dispatch: Dispatch, common: Sequence[Arch]
) -> dict[str, Any]:
    """Return what rebuilds a routed network, and what predicts an image's latency on any path.

    ``costs`` are those of operations, without the choice of a path.
    """
    return {
        "routed": {
            "controller": kind,
            "name": space.name,
            "stem": [block.to_dict() for block in space.stem],
            "edges": [[block.to_dict() for block in edge] for edge in space.edges],
            "head": [block.to_dict() for block in space.head],
            "costs": {"constant": costs.constant, "edges": list(map(list, costs.edges)), "bend": costs.bend},
            "dispatch": dispatch.to_dict(),
            "common": [list(arch.choices) for arch in common],
        }
    }


def network_of(described: Mapping[str, Any]) -> Network | RoutedNetwork:
    """Return the network that ``arch.json`` describes. Raises :class:`FolderError` where it does not."""
    try:
        if "routed" not in described:
            return Network(Plan.from_list(described["plan"]))
        kind = described["routed"]["controller"]
        return build(_space(described["routed"]), kind)
    except (KeyError, TypeError, ValueError, NetsmithError) as error:
        raise FolderError(
            f"arch.json describes no network ({type(error).__name__}: {error!s:.300})"
        ) from None


@dataclass(frozen=True)
class Routes:
    """The paths of a routed network, and what an image on each should take."""

    space: RoutedSpace
    costs: Costs
    dispatch: Dispatch
    common: tuple[Arch, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Routes:
        """Read what :func:`describe_routed` wrote. Raises :class:`FolderError` on anything else."""
        try:
            told = described["routed"]
            space, costs, dispatch = _space(told), told["costs"], told["dispatch"]
            rows = [[float(value) for value in row] for row in costs["edges"]]
            return cls(
                space,
                Costs(float(costs["constant"]), rows, float(costs["bend"])),
                Dispatch(float(dispatch["choosing_ms"]), float(dispatch["if_ms"])),
                tuple(space.arch(tuple(map(int, choices))) for choices in told["common"]),
            )
        except (KeyError, TypeError, ValueError, NetsmithError) as error:
            raise FolderError(f"arch.json tells no paths ({type(error).__name__}: {error!s:.300})") from None

    def predicted_ms(self, arch: Arch) -> float:
        """Return the predicted latency of an image on the path ``arch``, its choice included."""
        alone = latencies_ms(self.space, self.costs, policies_of(self.space, [arch]))
        return float(alone) + self.dispatch.of(self.space, self.common, arch)


def _space(told: Mapping[str, Any]) -> RoutedSpace:
    edges = told["edges"]
    if len(edges) > _MOST_EDGES or any(len(edge) > _MOST_OPERATIONS for edge in edges):
        raise FolderError(f"at most {_MOST_EDGES} edges of {_MOST_OPERATIONS} operations are read")
    stem, head = (tuple(map(Block.from_dict, told[part])) for part in ("stem", "head"))
    return RoutedSpace(str(told["name"]), stem, tuple(tuple(map(Block.from_dict, e)) for e in edges), head)
