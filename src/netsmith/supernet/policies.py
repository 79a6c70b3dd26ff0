"""Policies: which operations each image of a batch has active, as booleans (N, edges, operations)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from netsmith.arch import Arch
from netsmith.costs import Costs, bent
from netsmith.errors import ArchError, SettingsError
from netsmith.spaces.routed import RoutedSpace


def complete(space: RoutedSpace, policies: torch.Tensor) -> torch.Tensor:
    """Return ``policies`` with the last operation active where an edge that must not be skipped has none.

    The release has the first operation stand in where this befalls a whole batch, and the last for single
    images; here it is always the last, so that an image's path does not hang on its neighbours. Raises
    :class:`ArchError` where the policies are not booleans (N, edges, operations).
    """
    shape = (len(space.edges), len(space.edges[0]))
    if policies.dtype is not torch.bool or tuple(policies.shape[1:]) != shape or policies.dim() != 3:
        raise ArchError(
            f"policies of space '{space.id}' are booleans (N, {shape[0]}, {shape[1]}); got {policies.dtype} "
            f"{tuple(policies.shape)}"
        )
    needed = ~torch.tensor(space.skippable, device=policies.device)
    result = policies.clone()
    result[:, :, -1] |= needed & ~policies.any(2)
    return result


def policies_of(space: RoutedSpace, archs: Sequence[Arch]) -> torch.Tensor:
    """Return the policies (N, edges, operations) of ``archs``."""
    for arch in archs:
        space.check(arch)
    bits = torch.tensor([arch.choices for arch in archs])[:, :, None]
    return (bits >> torch.arange(len(space.edges[0])) & 1).bool()


def archs_of(space: RoutedSpace, policies: torch.Tensor) -> list[Arch]:
    """Return the arch of each of ``policies`` (N, edges, operations)."""
    weights = 2 ** torch.arange(policies.shape[2])
    choices = (complete(space, policies).cpu() * weights).sum(2).tolist()
    return [space.arch(tuple(row)) for row in choices]


def latencies_ms(space: RoutedSpace, costs: Costs, policies: torch.Tensor) -> torch.Tensor:
    """Return the latency (N,) in milliseconds of each of ``policies``: the costs of all that is active.

    ``costs.edges[i][j]`` is what operation ``j`` of edge ``i`` takes; the constant is what every image takes:
    the stem, the head, the controller and the dispatch. Raises :class:`SettingsError` where there is not
    one cost for each operation.
    """
    given, wanted = [len(row) for row in costs.edges], [len(edge) for edge in space.edges]
    if given != wanted:
        raise SettingsError(
            f"space '{space.id}' needs costs of {len(wanted)} edges of {wanted[0]} operations; got {given}"
        )
    table = torch.tensor([list(row) for row in costs.edges], device=policies.device)
    active = (complete(space, policies) * table).sum((1, 2))
    return cast(torch.Tensor, bent(cast(float, costs.constant + active), costs.bend))
