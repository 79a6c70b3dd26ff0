"""The drawing of the tree of paths that a network grew: what happens to the channels, from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netsmith.report.folder import Folder

_BOX, _TALL, _JOINT, _GAP, _LEAD, _MARGIN = 104, 30, 15, 14, 26, 16
_MOST_DEPTH, _MOST_BRANCHES, _MOST_LAYERS = 4, 4, 500
_FORKS = {"add": "copy", "concat": "split"}
_MERGES = {"add": "mean", "concat": "cat"}
_SHADES = {"3": "k3", "5": "k5", "7": "k7"}


@dataclass(frozen=True, slots=True)
class Box:
    """An operation; ``x`` and ``y`` are its left and its middle, in the picture's own units."""

    x: float
    y: float
    label: str

    @property
    def shade(self) -> str:
        """The class that colours it: by its kernel where it has one."""
        if self.label == "layer":
            return "conv"
        return _SHADES.get(self.label.rpartition(" ")[2], "plain" if self.label == "identity" else "other")


@dataclass(frozen=True, slots=True)
class Joint:
    """Where paths part or meet; ``x`` and ``y`` are its middle."""

    x: float
    y: float
    label: str


@dataclass
class Tree:
    """A tree, ready to be written as SVG, and the ``layers`` that it stands in the place of."""

    layers: tuple[str, ...]
    untouched: tuple[tuple[str, str], ...]
    boxes: list[Box] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    tall: int = _TALL
    wide: int = _BOX
    radius: int = _JOINT


def tree(folder: Folder) -> Tree | None:
    """Return the tree that a design grew; None of a design that grew none."""
    grown = folder.arch.get("grown")
    if not isinstance(grown, Mapping):
        return None
    layers, untouched = grown.get("layers"), grown.get("untouched")
    names = [str(each) for each in layers[:_MOST_LAYERS]] if isinstance(layers, list) else []
    reasons = list(untouched.items())[:_MOST_LAYERS] if isinstance(untouched, Mapping) else []
    made = Tree(tuple(names), tuple((str(name), str(reason)) for name, reason in reasons))
    node: Any = grown.get("tree")
    if not _drawable(node, _MOST_DEPTH):
        return made
    made.height = _height(node) + 2 * _MARGIN
    middle = made.height / 2
    start = _MARGIN + _LEAD
    made.lines.append(_line(_MARGIN, middle, start, middle))
    end = _put_node(made, node, start, middle)
    made.lines.append(_line(end, middle, end + _LEAD, middle))
    made.width = end + _LEAD + _MARGIN
    return made


def _drawable(node: Any, depth: int) -> bool:
    """Whether a node, as the file has it, is one."""
    branches = node.get("branches") if isinstance(node, Mapping) else None
    if not depth or not isinstance(branches, list) or node.get("merge") not in _FORKS:
        return False
    return 0 < len(branches) <= _MOST_BRANCHES and all(
        isinstance(branch, Mapping)
        and isinstance(branch.get("edge"), str)
        and (branch.get("node") is None or _drawable(branch["node"], depth - 1))
        for branch in branches
    )


def _height(node: Mapping[str, Any] | None) -> float:
    if node is None:
        return _TALL
    return sum(_height(branch["node"]) + _GAP for branch in node["branches"]) - _GAP


def _put_node(made: Tree, node: Mapping[str, Any], x: float, y: float) -> float:
    """Draw a node whose fork is at ``x`` and whose middle is at ``y``; return where its merge ends."""
    inside = x + 2 * _JOINT + _LEAD
    made.joints.append(Joint(x + _JOINT, y, _FORKS[node["merge"]]))
    top, ends = y - _height(node) / 2, []
    for branch in node["branches"]:
        tall = _height(branch["node"])
        middle = top + tall / 2
        made.lines.append(_line(x + 2 * _JOINT, y, inside, middle))
        ends.append((_put_branch(made, branch, inside, middle), middle))
        top += tall + _GAP
    last = max(end for end, _ in ends)
    for end, middle in ends:
        made.lines.append(_line(end, middle, last, middle) + _line(last, middle, last + _LEAD, y))
    made.joints.append(Joint(last + _LEAD + _JOINT, y, _MERGES[node["merge"]]))
    return last + _LEAD + 2 * _JOINT


def _put_branch(made: Tree, branch: Mapping[str, Any], x: float, y: float) -> float:
    made.boxes.append(Box(x, y, branch["edge"][:40]))
    end = x + _BOX
    if branch["node"] is None:
        return end
    made.lines.append(_line(end, y, end + _LEAD, y))
    return _put_node(made, branch["node"], end + _LEAD, y)


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    return f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"
