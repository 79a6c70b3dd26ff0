"""Do the published tables of phones say what was published of networks on those phones?

The mobile network of ProxylessNAS on the Pixel 1 (its first stage is 32 wide and the table's 24: the rows of
the table stand in), and the once-for-all networks of the Note 10 whose image size and width its tables have.

    python benchmarks/published_tables.py --data ../shared/data --json published_tables.json
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import Figure, parser, publish

from netsmith.latency.files import read_model
from netsmith.latency.table import LatencyTable
from netsmith.plan import Block
from netsmith.spaces.mbconv import mbconv

# ProxylessNAS mobile, from its released configuration: (kernel, expansion) of each block, None for a skip.
# On the Pixel 1 it was published with 78 ms (Cai et al. 2019, table 2).
PROXYLESS_MOBILE = (
    (5, 3), (3, 3), None, None,
    (7, 3), (3, 3), (5, 3), (5, 3),
    (7, 6), (5, 3), (5, 3), (5, 3),
    (5, 6), (5, 3), (5, 3), (5, 3),
    (7, 6), (7, 6), (7, 3), (7, 3),
    (7, 6),
)  # fmt: skip
PROXYLESS_MOBILE_MS = 78.0


def proxyless_mobile() -> tuple[Block, ...]:
    """The network as an arch of the ``mbconv`` space at the size of ImageNet."""
    space = mbconv((3, 224, 224), 1000)
    choices = []
    for options, chosen in zip(space.edges, PROXYLESS_MOBILE, strict=True):
        kernel, expansion = chosen or (0, 0)
        (choice,) = (
            i
            for i, block in enumerate(options)
            if (block.op == "skip" and chosen is None)
            or (block.kernel == kernel and block.hidden == expansion * block.in_channels)
        )
        choices.append(choice)
    return space.plan(space.arch(tuple(choices))).blocks


def once_for_all(config: Mapping[str, Any], size: int) -> Iterator[Block]:
    """The layers of a released network of once-for-all, as its tables name them."""
    stem = config["first_conv"]
    yield Block("conv", 3, stem["out_channels"], size, size, kernel=3, stride=2)
    size = -(-size // 2)
    for entry in config["blocks"]:
        conv = entry["mobile_inverted_conv"]
        if conv is None:
            continue
        yield Block(
            "mbconv" + "_se" * conv["use_se"] + "_hs" * (conv["act_func"] == "h_swish"),
            conv["in_channels"],
            conv["out_channels"],
            size,
            size,
            kernel=conv["kernel_size"],
            stride=conv["stride"],
            hidden=conv["mid_channels"] or conv["in_channels"] * conv["expand_ratio"],
            shortcut=entry["shortcut"] is not None,
        )
        size = -(-size // conv["stride"])
    wide, mixed = config["final_expand_layer"], config["feature_mix_layer"]
    yield Block("conv_1x1", wide["in_channels"], wide["out_channels"], size, size)
    yield Block("pool", wide["out_channels"], wide["out_channels"], size, size)
    yield Block("linear", mixed["in_channels"], mixed["out_channels"], 1, 1)
    yield Block("logits", mixed["out_channels"], config["classifier"]["out_features"], 1, 1)


def compare(name: str, table: LatencyTable, blocks: tuple[Block, ...], published_ms: float) -> list[Figure]:
    told = math.fsum(table.row(block).median_ms for block in blocks if block.op != "skip")
    return [
        Figure(f"{name}: published", published_ms, "ms"),
        Figure(f"{name}: sum of the table", told, "ms"),
        Figure(f"{name}: off by", 100 * abs(told / published_ms - 1), "%", "<= 10"),
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = arguments.parse_args()
    luts, networks = options.data / "luts", options.data / "ofa_measured" / "specialized_configs"
    if not luts.is_dir() or not networks.is_dir():
        print(f"skipped: {luts} or {networks} is not there")
        return
    pixel = read_model(luts / "proxylessnas_mobile_trim.yaml").table
    name = "Pixel 1, ProxylessNAS mobile with 24 channels for 32"
    figures = compare(name, pixel, proxyless_mobile(), PROXYLESS_MOBILE_MS)
    for path in sorted(networks.glob("note10_lat-*.net.json")):
        size = json.loads(path.with_name(path.name.replace(".net.", ".run.")).read_text())["image_size"]
        table_path = luts / f"ofa_note10_{size}.yaml"
        if not table_path.exists():
            continue
        table = read_model(table_path).table
        blocks = tuple(once_for_all(json.loads(path.read_text()), size))
        match = re.search(r"lat-(\d+)ms", path.name)
        if match and not table.missing(blocks):
            figures += compare(f"Note 10, once-for-all at {size} pixels", table, blocks, float(match[1]))
    publish(figures, options.json)


if __name__ == "__main__":
    main()
