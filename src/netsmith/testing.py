"""For tests: a device of known latencies, and the suites that devices, spaces and searchers must pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import ClassVar

import numpy as np
import onnx
import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.devices.device import (
    Array,
    Device,
    InputType,
    Layout,
    Precision,
    Run,
    check_options,
    parse,
)
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint, footprint_here
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.devices.session import Session, time_here
from netsmith.errors import ArchError, DeviceError
from netsmith.export.onnx import write_onnx
from netsmith.search.searcher import Allowed, Searcher
from netsmith.spaces.space import BuildableSpace, Space
from netsmith.trial import Trial

# What a multiply-add of a depthwise convolution costs, over one of any other, by kernel.
_COSTS = {
    "7": {3: 3.0, 5: 2.0, 7: 0.5},
    "3": {3: 0.5, 5: 2.0, 7: 6.0},
}
_CALL_MS, _CONVOLUTION_MS, _MACS_A_MS = 0.004, 0.002, 2e7


@dataclass
class FakeDevice:
    """A device with a clock of its own, on which latency follows from the file alone.

    A pass returns real outputs (by ONNX Runtime) and moves :meth:`clock` by :meth:`cost_ms`.
    ``likes`` is the depthwise kernel that is cheap on it, "3" or "7": a search that is told the device finds
    different archs on the two. ``noise`` is the relative spread of a pass, drawn from ``seed``.
    """

    likes: str = "3"
    noise: float = 0.0
    seed: int = 0
    passes: int = field(default=0, init=False)
    _now_ns: int = field(default=0, init=False, repr=False)

    suffix: ClassVar[str] = ".onnx"
    layout: ClassVar[Layout] = "NCHW"
    precision: ClassVar[Precision] = "float32"

    def __post_init__(self) -> None:
        if self.likes not in _COSTS:
            raise DeviceError(f"the fake device likes kernels 3 or 7; got '{self.likes}'")
        self._random = np.random.default_rng(self.seed)
        self._runtime = OnnxRuntime()

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> FakeDevice:
        """Make it from the options of a device's name: ``likes``."""
        check_options("fake", options, ("likes",))
        return cls(options.get("likes", "3"))

    @property
    def name(self) -> str:
        """Such as ``fake:likes=7``."""
        return f"fake:likes={self.likes}"

    def fingerprint(self) -> dict[str, str]:
        """The same on every machine."""
        return {
            "processor": f"fake, likes {self.likes}x{self.likes}",
            "runtime": "fake",
            "version": "1",
            "threads": "1",
            "precision": "float32",
            "system": "any",
        }

    def clock(self) -> int:
        """Nanoseconds that the passes so far took."""
        return self._now_ns

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
        """Write an ONNX file."""
        return write_onnx(module, input_shape, input_type=input_type, metadata=metadata)

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that a file takes."""
        return self._runtime.input_of(model)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Return a pass that gives the outputs for ``x`` and takes ``len(x)`` times the cost."""
        output = self._runtime.prepare(model, x)()
        cost_ns = self.cost_ms(model) * len(x) * 1e6

        def run() -> Array:
            factor = np.exp(self._random.normal(0, self.noise)) if self.noise else 1.0
            self._now_ns += round(cost_ns * factor)
            self.passes += 1
            return output

        return run

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn by this device's clock."""
        return time_here(self, files, reference, session)

    def footprint(self, model: bytes) -> Footprint:
        """Return what a file takes in a process of its own."""
        return footprint_here(self, model)

    def start(self) -> None:
        """Import the runtime that it runs files by."""
        self._runtime.start()

    def held_bytes(self) -> int:
        """Return 0: it holds nothing beside its process's memory."""
        return 0

    def energy_counter(self) -> None:
        """Return None: it uses no energy."""

    def cost_ms(self, model: bytes) -> float:
        """Return the latency of a file: a call, and every convolution by its multiply-adds and kernel."""
        graph = onnx.load_model_from_string(model).graph
        weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        shapes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.value_info, *graph.output)
        }
        cost = _CALL_MS
        for node in graph.node:
            if node.op_type != "Conv":
                continue
            out, inner, kernel, _ = weights[node.input[1]]
            height, width = shapes[node.output[0]][2:]
            depthwise = inner == 1 and out > 1 and kernel > 1
            factor = _COSTS[self.likes].get(kernel, 1.0) if depthwise else 1.0
            macs = out * inner * kernel * kernel * height * width
            cost += _CONVOLUTION_MS + factor * macs / _MACS_A_MS
        return cost


def device_contract(device: Device) -> None:
    """Check what every device promises; an assertion that fails names the promise."""
    again = parse(device.name)
    assert again.name == device.name, "a device's name makes the same device"
    assert again.fingerprint() == device.fingerprint(), "equal devices have equal fingerprints"
    needed = {"processor", "runtime", "version", "threads", "precision", "system"}
    assert needed <= set(device.fingerprint()), f"a fingerprint tells {needed}"
    assert device.fingerprint()["precision"] == device.precision, "a fingerprint tells the precision"
    assert device.suffix.startswith("."), "a suffix starts with a dot"

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Flatten(), nn.Linear(288, 5))
    module.eval()
    x = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    model = device.export(module, (3, 8, 8), calibration=x)
    assert device.input_of(model) == ((3, 8, 8), "float32"), "a file tells what images it takes"
    run = device.prepare(model, x)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    atol = 1e-4 if device.precision == "float32" else 0.05 * np.abs(expected).max()
    for _ in range(2):
        np.testing.assert_allclose(run(), expected, atol=atol, err_msg="outputs equal the module's")

    before = device.clock()
    for _ in range(100):
        run()
    assert device.clock() > before, "the clock moves while passes run"

    for broken, what in ((b"not a model", "a damaged file"), (model[: len(model) // 2], "half a file")):
        try:
            device.prepare(broken, x)
        except DeviceError:
            continue
        raise AssertionError(f"{what} is a DeviceError")


def space_contract(space: Space) -> None:
    """Check what every space promises; an assertion that fails names the promise."""
    rng, again = Random(0), Random(0)
    archs = [space.sample(rng) for _ in range(20)]
    assert archs == [space.sample(again) for _ in range(20)], "the same seed draws the same archs"
    assert space.count() >= len(set(archs)), "count() counts every arch"
    lengths = {len(space.encode(arch)) for arch in archs}
    assert len(lengths) == 1, "codes have one length"
    codes = {space.encode(arch) for arch in archs}
    assert len(codes) == len(set(archs)), "distinct archs have distinct codes, equal ones equal codes"
    for first, second in pairwise(archs):
        mutant, child = space.mutate(first, rng), space.cross(first, second, rng)
        for arch in (first, mutant, child):
            space.check(arch)
            assert arch.space == space.id, "an arch names its space"
            assert Arch.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch, "archs survive JSON"
        assert mutant != first or space.count() == 1, "a mutant differs"
        decisions = zip(child.choices, first.choices, second.choices, strict=True)
        assert all(c in (a, b) for c, a, b in decisions), "a child takes each decision from a parent"
        assert space.cross(first, first, rng) == first, "the child of equal parents equals them"
        near = list(space.neighbours(first))
        assert len(near) == len(set(near)), "neighbours are distinct"
        for arch in near:
            space.check(arch)
            changed = sum(a != b for a, b in zip(arch.choices, first.choices, strict=True))
            assert changed == 1, "a neighbour differs in one decision"

    choices = archs[0].choices
    for broken in (
        Arch("another space", choices),
        Arch(space.id, (*choices, 0)),
        Arch(space.id, (*choices[:-1], -1)),
        Arch(space.id, (*choices[:-1], 10**9)),
    ):
        try:
            space.check(broken)
        except ArchError:
            continue
        raise AssertionError(f"{broken} is not a point of the space: an ArchError")


def buildable_contract(space: BuildableSpace) -> None:
    """Check what every space whose archs can be built promises beyond :func:`space_contract`."""
    space_contract(space)
    arch = space.sample(Random(0))
    plan = space.plan(arch)
    assert plan == space.plan(arch), "equal archs have equal plans"
    for before, after in pairwise(plan.blocks):
        given = (before.out_channels, *before.output_size)
        assert after.input_shape == given, f"block {after.key} takes what {before.key} gives"


def searcher_contract(
    make: Callable[[int], Searcher],
    space: Space,
    trials: int = 60,
    *,
    objectives: Sequence[str] = ("error",),
    allowed: Allowed = lambda arch: True,
) -> None:
    """Check what every searcher promises; ``make(seed)`` makes one that asks for archs of ``space``.

    ``objectives`` are what it minimises, and ``allowed`` what it was told and its draws keep to.
    """

    def check(arch: Arch) -> Arch:
        space.check(arch)
        assert allowed(arch), "only what is allowed is asked for"
        return arch

    def outcome(arch: Arch, number: int) -> Trial:
        """Every fifth failed; the objectives pull apart, each weighing the code's features in its own way."""
        if number % 5 == 0:
            return Trial(arch, {}, "it failed")
        code = space.encode(arch)
        weights = (range(start, start + len(code)) for start in range(len(objectives)))
        sums = [sum(w % 7 * x for w, x in zip(row, code, strict=True)) for row in weights]
        return Trial(arch, dict(zip(objectives, map(float, sums), strict=True)))

    def ask_and_tell(seed: int, together: int) -> list[Arch]:
        """Ask for so many at once, and tell of them the last first."""
        searcher, asked = make(seed), []
        for number in range(0, trials, together):
            under_way = [check(searcher.ask()) for _ in range(together)]
            asked += under_way
            for place, arch in reversed(list(enumerate(under_way))):
                searcher.tell(outcome(arch, number + place))
        return asked

    for together in (1, 4):
        first = ask_and_tell(0, together)
        assert first == ask_and_tell(0, together), "the same seed asks for the same archs in the same order"
        assert space.count() < trials or first != ask_and_tell(1, together), "another seed asks for others"
    patient = make(0)
    for arch in [check(patient.ask()) for _ in range(3)]:
        patient.tell(Trial(arch, {}, "all failed"))
    for _ in range(trials):
        check(patient.ask())  # it goes on although nothing ever succeeded
    hopeless = make(0)
    for number in range(trials):  # a figure that is missing or no number is a failure as well
        figures = dict.fromkeys(objectives[number % 2 :], math.nan)
        hopeless.tell(Trial(check(hopeless.ask()), figures))
