"""What every device, space and searcher promises, as checks that a new one must pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import numpy as np
import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.devices.device import Device, parse
from netsmith.errors import ArchError, DeviceError
from netsmith.search.searcher import Allowed, Searcher
from netsmith.spaces.space import BuildableSpace, Space
from netsmith.trial import Trial


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
