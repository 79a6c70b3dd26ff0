"""The space of ProxylessNAS, in the numbers of the paper."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netsmith.errors import SpaceError
from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, halve_less, mbconv, round_width
from netsmith.testing import buildable_contract

IMAGENET = (3, 224, 224)


def forward(space: ChainSpace, choices: tuple[int, ...]) -> torch.Tensor:
    network = Network(space.plan(space.arch(choices))).eval()
    with torch.no_grad():
        return network(torch.zeros(1, *space.input_shape))


def test_at_imagenet_size_it_is_the_published_space() -> None:
    """METHODS: 21 edges, 6 without and 15 with the skip; stem 32, first block 16, 1280 features."""
    space = mbconv(IMAGENET, 1000)
    assert len(space.edges) == 21
    assert space.count() == 6**6 * 7**15
    widths = [edge[0].out_channels for edge in space.edges]
    assert widths == [24] * 4 + [40] * 4 + [80] * 4 + [96] * 4 + [192] * 4 + [320]
    strides = [edge[0].stride for edge in space.edges]
    assert strides == [2, 1, 1, 1] * 3 + [1] * 4 + [2, 1, 1, 1] + [1]
    stem, first = space.stem
    assert (stem.op, stem.out_channels, stem.kernel, stem.stride) == ("conv", 32, 3, 2)
    assert (first.op, first.out_channels, first.kernel, first.stride, first.hidden, first.shortcut) == (
        "mbconv", 16, 3, 1, 32, False,
    )  # fmt: skip
    (head,) = space.head
    assert (head.in_channels, head.height, head.width, head.hidden) == (320, 7, 7, 1280)


def test_every_edge_offers_the_published_candidates() -> None:
    space = mbconv(IMAGENET, 1000)
    for edge in space.edges:
        convs = [b for b in edge if b.op == "mbconv"]
        offered = [(b.kernel, b.hidden // b.in_channels) for b in convs]
        assert offered == [(k, e) for k in (3, 5, 7) for e in (3, 6)]
        same = edge[0].stride == 1 and edge[0].in_channels == edge[0].out_channels
        assert [b.op for b in edge[6:]] == (["skip"] if same else [])
        assert all(b.shortcut == same for b in convs)


def test_the_latency_table_has_the_rows_of_the_published_one() -> None:
    """72 rows there; here the classifier is in the head, and the head and the skips are rows too."""
    blocks = mbconv(IMAGENET, 1000).blocks
    assert len(blocks) == 74 == len({b.key for b in blocks})
    assert sum(b.op == "mbconv" for b in blocks) == 1 + 6 * 6 + 5 * 6


def test_the_published_mobile_network_is_a_point_of_a_space_of_custom_stages() -> None:
    """METHODS, found networks: 320M multiply-adds and 4.08M parameters."""
    rows = ((32, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
    space = mbconv(IMAGENET, 1000, stages=[Stage(*row) for row in rows])
    found = """5/3 3/3 - -  7/3 3/3 5/3 5/3  7/6 5/3 5/3 5/3  5/6 5/3 5/3 5/3  7/6 7/6 7/3 7/3  7/6"""
    names = {f"{k}/{e}": i for i, (k, e) in enumerate((k, e) for k in (3, 5, 7) for e in (3, 6))} | {"-": 6}
    counts = count_plan(space.plan(space.arch(tuple(names[name] for name in found.split()))))
    assert round(counts.macs / 1e6) == 320
    assert round(counts.params / 1e6, 2) == 4.08
    assert not counts.uncounted


@pytest.mark.parametrize(
    ("size", "edges", "last"),
    [(8, 9, 4), (13, 9, 4), (14, 14, 4), (27, 14, 4), (28, 21, 4), (32, 21, 4), (64, 21, 4), (224, 21, 7)],
)
def test_layouts_follow_the_image_size(size: int, edges: int, last: int) -> None:
    space = mbconv((3, size, size), 10, width=0.25)
    assert len(space.edges) == edges
    assert space.head[0].height == last
    out = forward(space, tuple(len(edge) - 1 for edge in space.edges))
    assert out.shape == (1, 10)
    assert out.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(8, 224), st.integers(8, 224)),
    st.integers(2, 1000),
    st.floats(0.05, 3.0),
)
def test_any_size_gives_a_space_that_keeps_its_rules(
    shape: tuple[int, int, int], classes: int, width: float
) -> None:
    space = mbconv(shape, classes, width=width)
    assert space.input_shape == shape
    head = space.head[0]
    assert min(head.height, head.width) >= 3
    assert head.out_channels == classes
    plan = space.plan(space.sample(Random(0)))
    assert all(b.out_channels % 8 == 0 for b in plan.blocks[:-1])


def test_random_archs_run_forward() -> None:
    rng = Random(3)
    for shape in ((1, 8, 8), (3, 17, 30), (3, 32, 32)):
        space = mbconv(shape, 4, width=0.25)
        for _ in range(2):
            out = forward(space, space.sample(rng).choices)
            assert out.shape == (1, 4)
            assert out.isfinite().all()


def test_it_passes_the_contract() -> None:
    buildable_contract(mbconv((1, 28, 28), 10))


@given(st.floats(0.01, 4000))
def test_widths_are_multiples_of_8_and_never_under_90_percent(channels: float) -> None:
    rounded = round_width(channels)
    assert rounded % 8 == 0
    assert rounded >= 8
    assert rounded >= 0.9 * channels
    assert rounded <= max(8, channels + 8)


def test_halvings_are_dropped_from_the_front() -> None:
    strides = (2, 1, 2, 2, 2)
    assert halve_less(strides, 64) == strides
    assert halve_less(strides, 32) == (1, 1, 2, 2, 2)
    assert halve_less(strides, 16) == (1, 1, 1, 2, 2)
    assert halve_less(strides, 4) == (1, 1, 1, 1, 1)


def test_custom_stages_kernels_and_expansions() -> None:
    space = mbconv((3, 32, 32), 10, stages=[Stage(16, 2, 1)], stem_stride=2, kernels=(3,), expansions=(1, 4))
    # The first block already gives 16 channels, so both edges may be skipped.
    assert [len(edge) for edge in space.edges] == [3, 3]
    assert space.stem[0].stride == 2
    assert [b.hidden for b in space.edges[0]] == [16, 64, 0]
    assert space.head[0].hidden == 64
    assert forward(space, (0, 1)).shape == (1, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (3, 7, 32)}, "from 8x8 pixels up"),
        ({"input_shape": (0, 32, 32)}, "from 8x8 pixels up"),
        ({"classes": 1}, "at least 2 classes; got 1"),
        ({"width": 0.0}, "above 0 and up to 8"),
        ({"width": 9.0}, "above 0 and up to 8"),
        ({"width": float("nan")}, "above 0 and up to 8"),
        ({"stages": []}, "from 1 up"),
        ({"stages": [Stage(0, 1, 1)]}, "from 1 up"),
        ({"stages": [Stage(8, 0, 1)]}, "from 1 up"),
        ({"stages": [Stage(8, 1, 3)]}, "stride of a stage is 1 or 2"),
        ({"stem_stride": 0}, "stride of the stem is 1 or 2; got 0"),
        ({"kernels": ()}, "kernels are odd"),
        ({"kernels": (4,)}, "kernels are odd"),
        ({"kernels": (3, 3)}, "not distinct"),
        ({"expansions": ()}, "expansions are whole"),
        ({"expansions": (0,)}, "expansions are whole"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_says_why(change: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"input_shape": (3, 32, 32), "classes": 10, **change}
    with pytest.raises(SpaceError, match=message):
        mbconv(asked.pop("input_shape"), asked.pop("classes"), **asked)
