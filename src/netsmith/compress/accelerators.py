"""Accelerators on which fewer bits are faster, simulated from what is published of them; nothing is measured.

They stand in for the hardware of HAQ (Wang et al. 2019, section 4), whose simulators were not released. Two
tables were: what follows from them is marked as derived, and reproduces them as well as each class says, no
better. What no source gives is marked as an assumption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from netsmith.compress.quantizers import checked_bits
from netsmith.errors import CompressionError

DRAM_PJ_PER_BIT = 15.0  # Bit Fusion's simulator, stats.py


@dataclass(frozen=True)
class ConvShape:
    """A square convolution, or a linear layer as one of kernel 1 and output size 1."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    out_size: int = 1

    def __post_init__(self) -> None:
        sizes = (self.in_channels, self.out_channels, self.kernel, self.stride, self.groups, self.out_size)
        if min(sizes) < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise CompressionError(
                f"a convolution has sizes of 1 and more, and channels that its groups divide; got {self}"
            )

    @property
    def depth(self) -> int:
        """Products that add up to one output."""
        return self.in_channels // self.groups * self.kernel**2

    @property
    def weights(self) -> int:
        """How many weights there are, without biases."""
        return self.out_channels * self.depth

    @property
    def inputs(self) -> int:
        """How many numbers are read of one image, the padding not counted."""
        return self.in_channels * (self.out_size * self.stride) ** 2

    @property
    def outputs(self) -> int:
        """How many numbers are written of one image."""
        return self.out_channels * self.out_size**2

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self.outputs * self.depth


class Accelerator(Protocol):
    """Says what a layer of so many bits would take; both figures are simulated."""

    def latency_ms(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Return the milliseconds of one batch."""

    def energy_mj(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Return the millijoules of one batch."""


@dataclass(frozen=True)
class BitSerial:
    """A bit-serial engine as BISMO (Umuroglu et al. 2018): ``pes`` x ``pes`` products of ``depth`` bits.

    Numbers are matrices of bits, of which each pair of one bit of the weights and one of the activations is
    multiplied in a pass. Weights, activations and products overlap, so that the slowest counts. A row of the
    unfolded input (kernel^2 x channels numbers) is fetched once, padded to ``depth``; weights once an image;
    and grouped convolutions are multiplied as block-diagonal matrices of up to ``pes`` outputs. All of that
    is derived from HAQ's released table (MobileNetV2, cloud; 53 layers x 8 x 8 bits): the same rules give
    cycles of which the median is 0.98 and nine in ten are at least 0.85 of the table's, rank correlation
    0.999.
    """

    pes: int
    depth: int
    fetch_bits: int  # a cycle
    batch: int
    clock_hz: float = 200e6  # of BISMO on PYNQ-Z1 and Zynq, its section 4
    binary_tops_per_watt: float = (
        1.4  # of BISMO on PYNQ-Z1 as remembered of its section 4; an assumption here
    )

    def cycles(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Return the cycles of one batch: the most that weights, activations or products take."""
        checked_bits(w_bits), checked_bits(a_bits)
        matrices, rows, columns, passes = self._matrices(layer)
        # A layer without a map, such as the last, multiplies the batch as the rows of one matrix.
        images, rows = (1, self.batch) if rows == 1 else (self.batch, rows)
        per_matrix = images * matrices
        tiles = math.ceil(rows / self.pes) * math.ceil(columns / self.pes) * passes
        fetched = passes * self.depth / self.fetch_bits
        return per_matrix * max(tiles * w_bits * a_bits, rows * fetched * a_bits, columns * fetched * w_bits)

    def latency_ms(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        return self.cycles(layer, w_bits, a_bits) / self.clock_hz * 1e3

    def energy_mj(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Binary operations at the published efficiency, and what is fetched from memory; an assumption."""
        checked_bits(w_bits), checked_bits(a_bits)
        operations = 2 * layer.macs * self.batch * w_bits * a_bits
        fetched = layer.weights * w_bits + layer.inputs * self.batch * a_bits
        return operations / self.binary_tops_per_watt * 1e-9 + fetched * DRAM_PJ_PER_BIT * 1e-9

    def _matrices(self, layer: ConvShape) -> tuple[int, int, int, int]:
        """Return how many products of matrices an image takes, their rows, columns and passes."""
        together = min(layer.groups, max(1, self.pes * layer.groups // layer.out_channels))
        columns = layer.out_channels // layer.groups * together
        passes = math.ceil(layer.depth * together / self.depth)
        return math.ceil(layer.groups / together), layer.out_size**2, columns, passes


@dataclass(frozen=True)
class BitFusion:
    """A systolic array of fusion units as Bit Fusion (Sharma et al. 2018), at batch 1.

    Each unit has 16 bricks of 2 x 2 bits, which fuse to one product of 8 x 8 bits or to as many of fewer as
    fit; operands take 2, 4 or 8 bits of it. Products and memory overlap. From the released table of APQ (Wang
    et al. 2020; 779 layers of 4, 6 and 8 bits) are derived: 64 bits of traffic an output, 8 products of 8 x 8
    bits a cycle and 20 cycles a channel in depthwise convolutions, and the two energies, which are a fit. The
    same rules give latencies with a median of 0.98 of that table's, 96 in 100 of them 0.78..1.05, rank
    correlation 0.998; energies 0.59..1.22 and 0.98. HAQ's Bit Fusion is another: MobileNetV1 of 8 bits takes
    20 ms there and 8 ms here.
    """

    rows: int = 16  # bf_e_conf.ini of its simulator, as the next five
    columns: int = 32
    memory_bits: int = 192  # a cycle
    clock_hz: float = 500e6
    weight_bytes: int = 65536
    activation_bytes: int = 32768
    output_bits: int = 64
    depthwise_products: int = 8
    group_cycles: int = 20
    pj_per_cycle: float = 1400.0
    pj_per_bit: float = 16.0

    def latency_ms(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        busy, moved = self._busy(layer, w_bits, a_bits), self._moved(layer, w_bits, a_bits)
        starting = self.group_cycles * layer.groups if layer.groups > 1 else 0
        return (max(busy, moved / self.memory_bits) + starting) / self.clock_hz * 1e3

    def energy_mj(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Cycles that products take, and bits that are moved, each at its energy."""
        busy, moved = self._busy(layer, w_bits, a_bits), self._moved(layer, w_bits, a_bits)
        return (busy * self.pj_per_cycle + moved * self.pj_per_bit) * 1e-9

    def _busy(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Return the cycles that products take."""
        share = fused_bits(w_bits) * fused_bits(a_bits) / 64  # of a unit, for one product
        if layer.groups > 1 and layer.groups == layer.in_channels:
            return math.ceil(layer.macs / self.depthwise_products * share)
        down = math.ceil(layer.depth * share / self.rows)
        across = math.ceil(layer.out_channels / layer.groups / self.columns)
        return layer.groups * layer.out_size**2 * down * across

    def _moved(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        """Return the bits to and from memory.

        Half of each buffer holds what is worked on, the other what comes next. Of what does not fit, weights
        or activations are read again, whichever moves less.
        """
        weights, inputs = layer.weights * w_bits, layer.inputs * a_bits
        outputs = layer.outputs * self.output_bits
        if layer.groups > 1:
            return weights + inputs + outputs
        weight_tiles = math.ceil(weights / (4 * self.weight_bytes))
        input_tiles = math.ceil(inputs / (4 * self.activation_bytes))
        return outputs + min(weights + inputs * weight_tiles, weights * input_tiles + inputs)


@dataclass(frozen=True)
class Roofline:
    """A processor by its peaks (Williams et al. 2009): the longer of computing and moving, at batch 1.

    Fewer bits always move faster. With ``bit_products`` they also compute faster, as their product; a
    processor with 8-bit instructions alone has none of that.
    """

    macs_per_s: float  # of 8 x 8 bits
    bytes_per_s: float
    pj_per_mac: float  # of 8 x 8 bits
    pj_per_byte: float
    bit_products: bool = False

    def latency_ms(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        macs, moved = self._work(layer, w_bits, a_bits)
        return max(macs / self.macs_per_s, moved / self.bytes_per_s) * 1e3

    def energy_mj(self, layer: ConvShape, w_bits: int, a_bits: int) -> float:
        macs, moved = self._work(layer, w_bits, a_bits)
        return (macs * self.pj_per_mac + moved * self.pj_per_byte) * 1e-9

    def _work(self, layer: ConvShape, w_bits: int, a_bits: int) -> tuple[float, float]:
        """Return the work in multiply-adds of 8 x 8 bits, and the bytes of weights, inputs and outputs."""
        checked_bits(w_bits), checked_bits(a_bits)
        share = w_bits * a_bits / 64 if self.bit_products else 1.0
        moved = layer.weights * w_bits + (layer.inputs + layer.outputs) * a_bits
        return layer.macs * share, moved / 8


def fused_bits(bits: int) -> int:
    """Return the bits of a unit that an operand takes: the next of 2, 4 and 8."""
    return max(2, 1 << (checked_bits(bits) - 1).bit_length())


# PEs and batches are HAQ's (section 4), as are interfaces of 4 x 64 and 4 x 256 bits. Depth and bits a cycle
# of the cloud are derived from its table. BISMO's largest on the edge's chip is 8 x 256 x 8; with that depth
# the edge's bits a cycle and clock are fitted to the eight latencies that HAQ gives of MobileNetV1 and V2 at
# 4, 5, 6 and 8 bits, each of which is met within 8 %. The cloud, of which nothing was fitted to them, is
# within 13 %.
BISMO_EDGE = BitSerial(pes=8, depth=256, fetch_bits=48, batch=1, clock_hz=150e6)
BISMO_CLOUD = BitSerial(pes=16, depth=256, fetch_bits=256, batch=16)
BITFUSION = BitFusion()
