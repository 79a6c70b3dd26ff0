"""Controllers give one logit for each operation, and cost what the release's and the paper's do."""

from __future__ import annotations

import pytest
import torch

from netsmith.errors import SettingsError
from netsmith.nn.blocks import BN_EPS
from netsmith.nn.controller import ControllerKind, build_controller
from netsmith.nn.count import count, count_plan
from netsmith.spaces.mobilenetv2 import mobilenetv2


@pytest.mark.parametrize("kind", ["resnet", "light"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 8, 8), (3, 30, 21), (3, 112, 112)])
def test_gives_a_logit_for_each_operation(kind: ControllerKind, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    controller = build_controller(kind, shape, 5, 3)
    logits = controller(torch.randn(4, *shape))
    assert logits.shape == (4, 5, 3)
    assert logits.abs().max() < 0.5  # every operation begins all but undecided
    logits.sum().backward()
    assert all(p.grad is not None for p in controller.parameters())
    torch.testing.assert_close(controller.body(torch.zeros(4, *shape)).shape, (4, 15))


def test_the_residual_network_of_the_release_by_hand() -> None:
    """conv 3x3 to 16, residual blocks to 16, 32 and 64 at 32, 16 and 8 pixels, a linear layer."""
    counts = count(build_controller("resnet", (3, 32, 32), 17, 5), (3, 32, 32))
    stem = 9 * 3 * 16 * 32**2
    blocks = [2 * 9 * 16 * 16 * 32**2]
    for width, size in ((32, 16), (64, 8)):
        blocks.append((9 * (width // 2) * width + 9 * width * width + (width // 2) * width) * size**2)
    assert counts.macs == stem + sum(blocks) + 64 * 85
    assert not counts.uncounted


def test_the_light_one_is_under_a_hundredth_of_mobilenetv2() -> None:
    light = count(build_controller("light", (3, 32, 32), 17, 5), (3, 32, 32))
    assert light.macs == 25 * (3 * 16 * 8**2 + 16 * 32 * 4**2 + 32 * 32 * 2**2) + 32 * 85
    assert light.macs < 0.01 * count_plan(mobilenetv2((3, 32, 32), 10)).macs


def test_a_residual_block_adds_its_input() -> None:
    torch.manual_seed(0)
    controller = build_controller("resnet", (3, 32, 32), 2, 2).eval()
    first = controller.body[2]
    x = torch.randn(1, 16, 6, 6)
    torch.testing.assert_close(first(x), (x + first.block(x)).relu())
    second = controller.body[3]
    shortcut = second.shortcut[0](x) * (1 + BN_EPS) ** -0.5
    torch.testing.assert_close(second(x), (shortcut + second.block(x)).relu())


def test_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="'resnet' or 'light'; got 'oracle'"):
        build_controller("oracle", (3, 8, 8), 1, 1)  # type: ignore[arg-type]
