"""The published CondenseNets have their published costs, by both conventions."""

from __future__ import annotations

import pytest

from netsmith.errors import SpaceError
from netsmith.nn.count import count_plan
from netsmith.plan import Plan
from netsmith.spaces.condensenet import condensenet


def imagenet(groups: int) -> Plan:
    return condensenet(
        (3, 224, 224), 1000, (4, 6, 8, 10, 8), (8, 16, 32, 64, 128),
        groups=groups, condense=groups, stem_stride=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "params_m", "flops_m", "macs_m"),
    [
        (condensenet((3, 32, 32), 10), 0.52, 65.8, 62.4),  # CondenseNet-86
        (imagenet(4), 4.8, 529, 516.6),  # CondenseNet-74
        (imagenet(8), 2.9, 274, 261.5),
    ],
    ids=["cifar-86", "imagenet-74 G=C=4", "imagenet-74 G=C=8"],
)
def test_costs_are_the_published_ones(plan: Plan, params_m: float, flops_m: float, macs_m: float) -> None:
    """Published are parameters and FLOPs by the authors' code; MACs by their layers, counted apart."""
    counts = count_plan(plan)
    assert round(counts.params / 1e6, 2 if params_m < 1 else 1) == params_m
    assert round(counts.condensenet_flops / 1e6, 1 if flops_m < 100 else None) == flops_m
    assert round(counts.macs / 1e6, 1) == macs_m
    assert not counts.uncounted


def test_it_has_the_layers_of_its_name() -> None:
    plan = condensenet((3, 32, 32), 10)
    kinds = [block.op for block in plan.blocks]
    assert 2 * kinds.count("dense") + 2 == 86  # with the stem and the classifier
    assert kinds[0] == "stem"
    assert kinds[-1] == "classifier"
    assert kinds.count("pool") == 2
    assert plan.blocks[-1].hidden == plan.blocks[-1].in_channels // 2


@pytest.mark.parametrize(("stages", "growths"), [((14,), (8, 16)), ((), ()), ((0,), (8,)), ((2,), (6,))])
def test_what_cannot_be_built_is_refused(stages: tuple[int, ...], growths: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError):
        condensenet((3, 32, 32), 10, stages, growths)
