"""Why an image takes the time that it does: the operations on its path, and what they take together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from netsmith.arch import Arch
from netsmith.devices.device import Array, Device
from netsmith.devices.routing import routing
from netsmith.export.routed import CHOICES
from netsmith.pipeline.described import Routes
from netsmith.plan import Block, Plan
from netsmith.supernet.policies import archs_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """The path of an image: what each block does, and its latency in milliseconds.

    ``latency_is`` says how it is known: "measured" on the device, "looked up" or "predicted". ``share`` is
    that of test images on the same path, 0..1: 1 where one path is all images', 0 where none took it.
    """

    blocks: tuple[str, ...]
    latency_ms: float
    latency_is: str
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "path": list(self.blocks),
            "latency_ms": self.latency_ms,
            "latency_is": self.latency_is,
            "share_of_test_images": self.share,
        }


def explain(
    result: Mapping[str, Any], described: Mapping[str, Any], device: Device, model: bytes, x: Array
) -> Explanation:
    """Explain one image, (1, C, H, W) of pixels, by a design's result, its ``arch.json`` and its file.

    Where images have paths of their own, the exported file itself says which one it takes. Raises
    :class:`netsmith.errors.FolderError` where the description is damaged.
    """
    if "routed" not in described:
        plan = Plan.from_list(described["plan"])
        return Explanation(_names(plan), float(result["latency_ms"]), str(result["latency_is"]), 1.0)
    routes = Routes.of(described)
    (run,) = routing(device).prepare_each(model, [x], CHOICES)
    (arch,) = archs_of(routes.space, torch.from_numpy(run())[None])
    return _on_path(result, routes, arch)


def _on_path(result: Mapping[str, Any], routes: Routes, arch: Arch) -> Explanation:
    blocks = _names(routes.space.plan(arch))
    known = [path for path in result["routing"]["paths"] if tuple(path["choices"]) == arch.choices]
    if known and known[0]["latency_is"] == "measured":
        return Explanation(blocks, float(known[0]["latency_ms"]), "measured", float(known[0]["share"]))
    share = float(known[0]["share"]) if known else 0.0
    return Explanation(blocks, routes.predicted_ms(arch), "predicted", share)


def _names(plan: Plan) -> tuple[str, ...]:
    return tuple(" + ".join(map(_name, block.parts or (block,))) for block in plan.blocks)


def _name(block: Block) -> str:
    """Such as ``mbconv 5x5 x6``: kernel, and expansion where there is one."""
    words = [block.op]
    if block.op not in ("skip", "head"):
        words.append(f"{block.kernel}x{block.kernel}")
    if block.op == "mbconv":
        words.append(f"x{block.hidden / block.in_channels:.3g}")
    return " ".join(words)
