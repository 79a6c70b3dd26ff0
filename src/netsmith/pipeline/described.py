"""What ``arch.json`` says of a network, and the network that is made of it, its weights untrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from netsmith.arch import Arch
from netsmith.costs import Costs
from netsmith.errors import FolderError, NetsmithError
from netsmith.nn.controller import ControllerKind
from netsmith.nn.network import Network
from netsmith.nn.starts import Start
from netsmith.pipeline.routing.network import Dispatch, build
from netsmith.plan import Block, Plan
from netsmith.spaces.routed import RoutedSpace
from netsmith.spaces.tree import TreeSpace
from netsmith.supernet.policies import latencies_ms, policies_of
from netsmith.transform.sites import grown, sites_of

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


def network_of(described: Mapping[str, Any], base: nn.Module | None = None) -> nn.Module:
    """Return the network that ``arch.json`` describes; ``base`` is what it grew from, if that is one's own.

    Raises :class:`FolderError` where it describes none.
    """
    try:
        if "grown" in described:
            return _grown(described["grown"], Arch.from_dict(described["arch"]), base)
        if "routed" not in described:
            return Network(Plan.from_list(described["plan"]))
        kind = described["routed"]["controller"]
        return build(_space(described["routed"]), kind)
    except (KeyError, TypeError, ValueError, NetsmithError) as error:
        raise FolderError(
            f"arch.json describes no network ({type(error).__name__}: {error!s:.300})"
        ) from None


def needs_base(described: Mapping[str, Any]) -> bool:
    """Whether it is of a network of the user's own, whose Python is not in the folder."""
    grown = described.get("grown")
    return not described.get("plan") and "routed" not in described and not (grown and grown.get("base"))


def _grown(told: Mapping[str, Any], arch: Arch, base: nn.Module | None) -> nn.Module:
    made = told["base"]
    if base is None:
        started = "start" in made
        base = Start.from_dict(made["start"]).network() if started else Network(Plan.from_list(made["plan"]))
    found = {site.layer: site for site in sites_of(base).found}
    space = TreeSpace(str(told["network"]))
    return grown(base, [found[layer] for layer in told["layers"]], space.tree(arch))[0]


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
