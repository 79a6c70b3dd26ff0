"""Reads a design's folder: what is there, checked; what is not there yet is absent, not an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from netsmith import journal
from netsmith.arch import Arch
from netsmith.errors import ArchError, FolderError, SpaceError
from netsmith.plan import Block

MAX_JSON_BYTES = 64 * 2**20
MAX_TOML_BYTES = 2**20
MAX_BLOCKS = 1000
MAX_PICKS = 200
MAX_FIGURE = 1e200
_NUMBERS = (
    "accuracy", "accuracy_exported", "validation_accuracy", "parity_worst", "latency_ms",
    "latency_ms_predicted", "latency_budget_ms", "params", "macs", "size_bytes", "peak_bytes",
    "activation_bytes", "energy_mj", "width", "search_seconds", "train_seconds", "profile_seconds",
    "total_seconds", "test_images",
)  # fmt: skip
_OBJECTS = ("baselines", "budget", "device_fingerprint", "latency_ms_spread", "arch", "figures")
_LISTS = ("front", "reasons", "warnings", "label_names", "confusion", "matrix", "objectives", "plan")


@dataclass(frozen=True)
class Folder:
    """What one design has written so far."""

    name: str
    result: dict[str, Any]
    """``result.json``; empty before the design has ended."""
    arch: dict[str, Any]
    """``arch.json``; empty before an arch is derived."""
    settings: str
    """``design.toml`` as text."""
    events: tuple[dict[str, Any], ...]
    """The journal, oldest first."""
    picks: tuple[dict[str, Any], ...] = ()
    """The results of the trials that were picked from the front."""

    def all(self, event: str) -> list[dict[str, Any]]:
        """Return the events of this name, oldest first."""
        return [record for record in self.events if record["event"] == event]

    def last(self, event: str) -> dict[str, Any]:
        """Return the last event of this name, or an empty dictionary."""
        return next((record for record in reversed(self.events) if record["event"] == event), {})

    def epochs(self, event: str) -> list[dict[str, Any]]:
        """Return one event for each network and epoch: the last, where a resumed design wrote it twice.

        The journal counts epochs from 0; these are counted from 1, as people do.
        """
        found = {repr((e.get("name"), e.get("round"), e.get("epoch"))): e for e in self.all(event)}
        return [{**e, "epoch": _next(e.get("epoch"))} for e in found.values()]

    @cached_property
    def plan(self) -> tuple[Block, ...]:
        """The blocks of the chosen network; none before it is chosen."""
        return blocks_of(self.arch.get("plan"))

    @cached_property
    def block_ms(self) -> tuple[float, ...]:
        """The predicted latency of each block in milliseconds; none where it was not recorded."""
        found = [number(value) for value in self.arch.get("latency_ms", [])]
        usable = [value for value in found if value is not None and value >= 0]
        return tuple(usable) if len(usable) == len(self.plan) else ()

    @property
    def first_choice(self) -> int | None:
        """The place in the plan of the first block that was chosen from ``edges``, if known."""
        edges = self.arch.get("edges", [])
        for start in range(len(self.plan) - len(edges) + 1) if edges else ():
            if all(b.key in o for b, o in zip(self.plan[start : start + len(edges)], edges, strict=True)):
                return start
        return None


def _next(epoch: object) -> object:
    return epoch + 1 if isinstance(epoch, int) else epoch


def number(value: object) -> float | None:
    """Return ``value`` where it is a number that a figure may have, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < MAX_FIGURE else None  # which not-a-number is not either


def blocks_of(plan: object) -> tuple[Block, ...]:
    """Return the blocks of a plan as it was written; none where there is none."""
    if not isinstance(plan, list) or len(plan) > MAX_BLOCKS:
        return ()
    return tuple(_block(item) for item in plan)


def read_folder(path: Path) -> Folder:
    """Read the folder of a design, finished or not.

    Raises :class:`FolderError` where it is no design's folder or a file of it is damaged.
    """
    if not path.is_dir():
        raise FolderError(f"{path} is not a folder; name the folder that 'netsmith design' wrote (--out)")
    log = path / "journal"
    events = tuple(journal.read(log)) if log.is_file() else ()
    for event in events:
        _check_event(event, log)
    result, arch = _read_json(path / "result.json"), _read_json(path / "arch.json")
    if not events and not result:
        raise FolderError(
            f"{path} has no result.json and no journal, so no design was written there; name the folder "
            "that 'netsmith design' wrote (--out)"
        )
    _check_network(result, path / "result.json")
    for network in result.get("baselines", {}).values():
        _check_network(network, path / "result.json")
    for candidate in (*result.get("front", []), *result.get("matrix", [])):
        _check_network(candidate, path / "result.json")
    _check_arch(arch, path / "arch.json")
    picks = tuple(
        _read_json(place / "result.json") for place in sorted((path / "picks").glob("*/"))[:MAX_PICKS]
    )
    for pick in picks:
        _check_network(pick, path / "picks")
    settings = _read_settings(path / "design.toml")
    return Folder(path.resolve().name, result, arch, settings, events, tuple(p for p in picks if p))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise _damaged(path, f"it has over {MAX_JSON_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds {type(content).__name__}, not an object")
    return content


def _read_settings(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_TOML_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _damaged(path: Path, why: str) -> FolderError:
    return FolderError(
        f"{path} is damaged: {why}. Run the same 'netsmith design' command again to write it anew"
    )


def _check_network(data: object, path: Path) -> None:
    """Known fields hold what they should; each may be absent or null, and others are let be."""
    if not isinstance(data, dict):
        raise _damaged(path, f"a network is an object; got {data!r:.80}")
    for names, kind, word in ((_OBJECTS, dict, "an object"), (_LISTS, list, "a list")):
        for name in names:
            if data.get(name) is None:
                data.pop(name, None)
            elif not isinstance(data[name], kind):
                raise _damaged(path, f"'{name}' is {word}; got {data[name]!r:.80}")
    if "arch" in data:
        try:
            Arch.from_dict(data["arch"])
        except ArchError as error:
            raise _damaged(path, str(error)) from None
    for name in _NUMBERS:
        if data.get(name) is not None and number(data[name]) is None:
            raise _damaged(path, f"'{name}' is a number; got {data[name]!r:.80}")


def _check_event(event: Mapping[str, Any], path: Path) -> None:
    """The parts of an event that hold more than figures are what they should be, or absent."""
    heldout = event.get("heldout") or {}
    for name, value, kind in (
        ("skipped", event.get("skipped"), list),
        ("input_shape", event.get("input_shape"), list),
        ("heldout", heldout, dict),
        ("fingerprint", event.get("fingerprint"), dict),
        ("label_names", event.get("label_names"), list),
        ("points", heldout.get("points") if isinstance(heldout, dict) else None, list),
    ):
        if value is not None and not isinstance(value, kind):
            raise _damaged(path, f"'{name}' of its event '{event['event']}' is {value!r:.80}")
    if event["event"] == "search_epoch" and event.get("probabilities") is not None:
        rows = event["probabilities"]
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise _damaged(path, f"'probabilities' of its event 'search_epoch' is {rows!r:.80}")


def _check_arch(data: Mapping[str, Any], path: Path) -> None:
    for name in ("plan", "latency_ms", "edges", "label_names"):
        if not isinstance(data.get(name, []), list):
            raise _damaged(path, f"'{name}' is a list; got {data[name]!r:.80}")
    if len(data.get("plan", [])) > MAX_BLOCKS:
        raise _damaged(path, f"its plan has over {MAX_BLOCKS} blocks")
    for options in data.get("edges", []):
        if not isinstance(options, list) or not all(isinstance(key, str) for key in options):
            raise _damaged(path, f"each of 'edges' is a list of the names of blocks; got {options!r:.80}")
    try:
        for item in data.get("plan", []):
            _block(item)
    except FolderError as error:
        raise _damaged(path, str(error)) from None


def _block(item: object) -> Block:
    try:
        block = Block.from_dict(item if isinstance(item, dict) else {})
    except SpaceError as error:
        raise FolderError(str(error)) from None
    shape = (block.in_channels, block.out_channels, block.height, block.width, block.kernel, block.stride)
    sizes = [*shape, block.hidden + 1 if type(block.hidden) is int else None]
    if not isinstance(block.op, str) or not all(type(size) is int and 0 < size < 10**7 for size in sizes):
        raise FolderError(f"not a block: {item!r:.200}")
    return block
