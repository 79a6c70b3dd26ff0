"""Published look-up tables of phones, read as latency tables.

The released tables of ProxylessNAS (Pixel 1) and once-for-all (Note 10, one file an image size) are YAML
files of one row a layer, named by operation and shapes, with the mean and the variance of its time in
milliseconds. A row's mean stands for its median.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from netsmith.errors import TableError
from netsmith.latency.table import LatencyTable, Row
from netsmith.plan import Block

MOST_BYTES = 4 * 2**20

# sha256 of a released file -> the device that it is of, where it comes from, and under which licence.
_RUNTIME = {"runtime": "TensorFlow Lite", "precision": "float32"}
_OFA = {"source": "github.com/han-cai/files@a7c9bcd525e1: ofa/note10", "licence": "none given (code: MIT)"}
_KNOWN = {
    "087e855ea77f9b257e72f3637333a3e0938f6df77f579520f16d057ac45380aa": {
        "processor": "Google Pixel 1",
        **_RUNTIME,
        "source": "github.com/han-cai/files@a7c9bcd525e1: proxylessnas/mobile_trim.yaml",
        "licence": "none given (code: MIT)",
    },
    **{
        digest: {"processor": "Samsung Note 10", **_RUNTIME, **_OFA, "image size": str(size)}
        for size, digest in {
            160: "a2671a45e9400542679ed03de946b45d6a35010f9ab21834af3e7ba8341d36d1",
            176: "34223ae037d5719a5f33261bdfd9341f590a2999edf520f174309605dc06307c",
            192: "0ff5ca0649e56ad34a42d6a8a6f20adb5121c8d12d135299397b310472db79e2",
            208: "41aa63af766a8298354e6aa5ae69d512ac68656a6e7d0a4fa5dc725c8d438633",
            224: "c13a9bcb3f4becae844bce4897129c4e42975984c1029cbd5acb48c970136530",
        }.items()
    },
}

_NAME = re.compile(
    r"(?P<op>\w+)-input:(?P<height>\d+)x(?P<width>\d+)x(?P<channels>\d+)"
    r"-output:(?:(?P<out_height>\d+)x(?P<out_width>\d+)x)?(?P<out_channels>\d+)(?P<rest>(?:-[a-z]+:\d+)*)"
)


def read_published(text: str) -> LatencyTable:
    """Read the text of a published table.

    Layers that the ``mbconv`` space does not have (squeeze-and-excitation, h-swish, the head of MobileNetV3)
    get operations of their own names, which only look-ups know. Raises :class:`TableError` on anything else.
    """
    if len(text) > MOST_BYTES:
        raise TableError(f"a published table has at most {MOST_BYTES} bytes; got {len(text)}")
    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise TableError(f"not a published table: {error}") from None
    if not isinstance(data, Mapping) or not data:
        raise TableError("a published table maps layers' names to their mean times; this is something else")
    parts: dict[str, Row] = {}
    for name, figures in data.items():
        row = _row(name, figures)
        if row.blocks[0].key in parts:
            raise TableError(f"a published table has the layer '{name:.100}' twice")
        parts[row.blocks[0].key] = row
    digest = hashlib.sha256(text.encode()).hexdigest()
    fingerprint = _KNOWN.get(digest, {"processor": "unknown", "precision": "float32", "sha256": digest})
    rows = {**parts, **{row.blocks[0].key: row for row in _heads(parts)}}
    return LatencyTable(fingerprint, reference_ms=1.0, rows=rows)


def _row(name: object, figures: object) -> Row:
    """One layer's row: of the mean, and from its variance the rest as for a normal distribution."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise TableError(
            f"a layer of a published table is named OPERATION-input:HxWxC-output:HxWxC-...; got {name!r:.100}"
        )
    try:
        if not isinstance(figures, Mapping):
            raise TypeError("its figures have no names")
        given = {"var": 0.0, "count": 1.0, **figures}
        mean, variance, count = (float(given[name]) for name in ("mean", "var", "count"))
        block = _block(match)
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise TableError(f"the layer '{name}' of a published table cannot be read ({error!r})") from None
    if not (math.isfinite(mean) and mean >= 0 and variance >= 0 and count >= 1):
        raise TableError(f"the layer '{name}' of a published table has no mean time from 0 ms up")
    deviation = math.sqrt(variance)
    spread = 1.96 * deviation / math.sqrt(count) / mean if mean else 0.0
    return Row((block,), mean, max(0.0, mean - 1.28 * deviation), spread, int(count))


def _block(match: re.Match[str]) -> Block:
    numbers = {name: int(value) for name, value in match.groupdict().items() if value and value.isdecimal()}
    options = {key: int(value) for key, value in re.findall(r"-([a-z]+):(\d+)", match["rest"])}
    channels, height, width = (numbers[name] for name in ("channels", "height", "width"))
    shapes: dict[str, Any] = {
        "in_channels": channels, "out_channels": numbers["out_channels"], "height": height, "width": width
    }  # fmt: skip
    op = match["op"]
    if op == "expanded_conv":
        # Once-for-all gives the hidden channels themselves, ProxylessNAS how many times the input's they are.
        expand = options["expand"]
        return Block(
            "mbconv" + "_se" * options.get("se", 0) + "_hs" * options.get("hs", 0),
            **shapes,
            kernel=options["kernel"],
            stride=options["stride"],
            hidden=expand if "se" in options else expand * channels,
            shortcut=bool(options["idskip"]),
        )
    if op == "Conv":
        return Block("conv", **shapes, kernel=3, stride=height // numbers["out_height"])
    named = {"Conv_1": "conv_1x1", "AvgPool2D": "pool", "Conv_2": "linear", "Logits": "logits"}
    return Block(named[op], **shapes)


def _heads(parts: Mapping[str, Row]) -> list[Row]:
    """The heads of the ``mbconv`` space that parts make up: a 1x1 convolution and the logits of its size."""
    rows = [row for row in parts.values() if row.blocks[0].op == "conv_1x1"]
    logits = [row for row in parts.values() if row.blocks[0].op == "logits"]
    heads = []
    for mix in rows:
        first = mix.blocks[0]
        for last in logits:
            block = last.blocks[0]
            if block.input_shape == (first.out_channels, first.height, first.width):
                head = replace(first, op="head", out_channels=block.out_channels, hidden=first.out_channels)
                heads.append(_sum(head, mix, last))
    return heads


def _sum(block: Block, first: Row, second: Row) -> Row:
    """The row of ``block``, which is the one layer after the other."""
    median = first.median_ms + second.median_ms
    deviation = math.hypot(first.spread * first.median_ms, second.spread * second.median_ms)
    count = min(first.count, second.count)
    return Row((block,), median, first.low_ms + second.low_ms, deviation / median if median else 0.0, count)
