"""A device that is not at hand: its latencies are what its table says, and everything says so."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import nn

from netsmith.devices.device import Array, Device, InputType, Layout, Precision, Run, parse
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint
from netsmith.devices.session import Session
from netsmith.errors import DeviceError, TableError
from netsmith.export.onnx import read_metadata
from netsmith.latency.files import find_table, read_model
from netsmith.latency.model import LatencyModel
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.spaces.space import BlockSpace

_PLAN = "netsmith.plan"


@dataclass(frozen=True)
class TableDevice:
    """The device of a latency table. Files are ONNX; ONNX Runtime runs them here to prove their answers."""

    table: str
    """What :func:`netsmith.latency.files.find_table` finds the table by."""

    @classmethod
    def from_name(cls, table: str) -> Self:
        """Make it from a file or the name of a table. Raises :class:`TableError` where it cannot be read."""
        device = cls(table)
        _ = device.model  # a table that cannot be read is an error before anything is begun
        return device

    @cached_property
    def model(self) -> LatencyModel:
        """The table with its correction."""
        return read_model(find_table(self.table))

    @cached_property
    def _files(self) -> Device:
        return parse(f"onnxruntime:precision={self.precision}")

    @property
    def name(self) -> str:
        """Such as ``table:pixel1.yaml``."""
        return f"table:{self.table}"

    @property
    def suffix(self) -> str:
        """``.onnx``."""
        return self._files.suffix

    @property
    def precision(self) -> Precision:
        """That of the table's device."""
        return "int8" if self.model.table.fingerprint.get("precision") == "int8" else "float32"

    @property
    def layout(self) -> Layout:
        """The order of an image's dimensions in the files."""
        return self._files.layout

    def fingerprint(self) -> dict[str, str]:
        """What the table says of its device."""
        return dict(self.model.table.fingerprint)

    def clock(self) -> int:
        """Raise: nothing is timed."""
        raise DeviceError(f"'{self.name}' is a table: nothing can be timed on it")

    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        metadata: Mapping[str, str] | None = None,
        calibration: Array | None = None,
        floating: Collection[str] = (),
    ) -> bytes:
        """Write an ONNX file that holds the network's plan too, by which its latency is looked up."""
        networks = [part for part in module.modules() if isinstance(part, Network)]
        plan = json.dumps(networks[0].plan.to_list()) if len(networks) == 1 else "[]"
        return self._files.export(
            module,
            input_shape,
            input_type=input_type,
            metadata={**(metadata or {}), _PLAN: plan},
            calibration=calibration,
            floating=floating,
        )

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an exported file takes."""
        return self._files.input_of(model)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load a file here and return a pass over ``x``, for what it answers."""
        return self._files.prepare(model, x)

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Look exported files up. Raises :class:`TableError` where the table lacks one of their blocks."""
        if session.batch_size != 1:
            raise DeviceError(f"'{self.name}' knows one image a pass; {session.batch_size} were asked for")
        return {name: Latency((self._look_up(model),), (1.0,), wide=False) for name, model in files.items()}

    def footprint(self, model: bytes) -> Footprint:
        """Return what the file takes in ONNX Runtime on this machine."""
        return self._files.footprint(model)

    def covers(self, blocks: Sequence[Block]) -> bool:
        """Whether the table has every one of ``blocks``."""
        return not self._with_heads(blocks).table.missing(blocks)

    def model_of(self, space: BlockSpace) -> LatencyModel:
        """Return the model for ``space``.

        Raises :class:`TableError`, naming what differs, where the table is of another space.
        """
        model = self._with_heads(space.blocks)
        missing = model.table.missing(space.blocks)
        if missing:
            raise TableError(
                f"the table {self.table} is of another space than {space.id}: {self._difference(space)}"
                f"it lacks {len(missing)} of {len(space.blocks)} blocks, the first {missing[0].key}. Ask for "
                "images and a width that it has, or save a table of this space on the device: "
                "netsmith profile --save"
            )
        return model

    def _difference(self, space: BlockSpace) -> str:
        """Say for which images and how many labels the table is, where the space is for others."""
        blocks = [row.blocks[0] for row in self.model.table.rows.values()]
        images = sorted({block.input_shape for block in blocks if block.op == "conv"})
        labels = sorted({block.out_channels for block in blocks if block.op == "head"})
        asked = space.head[-1].out_channels
        said = ""
        if space.input_shape not in images:
            known = ", ".join(map(_shape, images)) or "none"
            said += f"it is for images {known} and not {_shape(space.input_shape)}; "
        if not any(known >= asked for known in labels):
            said += f"it is for labels {', '.join(map(str, labels)) or 'none'} and not {asked}; "
        return said

    def _look_up(self, model: bytes) -> float:
        text = read_metadata(model).get(_PLAN, "[]")
        plan = Plan.from_list(json.loads(text))
        if not plan.blocks:
            raise DeviceError(
                f"'{self.name}' can only look up networks that were exported for it; this file does not say "
                "what blocks it has"
            )
        return self._with_heads(plan.blocks).predict(plan)

    def _with_heads(self, blocks: Iterable[Block]) -> LatencyModel:
        """The model with heads of fewer labels than the table's, for which that of the fewest stands in.

        That is an upper bound: by the last layer's work on the labels that are not there.
        """
        table, correction = self.model.table, self.model.correction
        heads, own = {}, dict(correction.own)
        for block in table.missing(b for b in blocks if b.op == "head"):
            more = [row for row in table.rows.values() if _more_labels(row.blocks[0], block)]
            if more:
                fewest = min(more, key=lambda row: row.blocks[0].out_channels)
                heads[block.key] = replace(fewest, blocks=(block,))
                own[block.key] = own.get(fewest.blocks[0].key, 0.0)
        if not heads:
            return self.model
        return replace(self.model, table=table.with_rows(heads), correction=replace(correction, own=own))


def _more_labels(head: Block, asked: Block) -> bool:
    """Whether ``head`` is the block that is asked for, but tells more labels apart."""
    return head.out_channels > asked.out_channels and replace(head, out_channels=asked.out_channels) == asked


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
