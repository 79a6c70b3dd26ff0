"""Networks as plain PyTorch modules: those that compression is judged on, of any width, and a small one."""

from __future__ import annotations

from torch import Tensor, nn


def vgg(channels: int, classes: int, width: float = 1.0) -> nn.Module:
    """VGG-16 (Simonyan and Zisserman 2015) at three sixteenths of its widths, with norms and one linear."""
    layers: list[nn.Module] = []
    taken = channels
    for stage, (given, depth) in enumerate(
        zip(_widths((12, 24, 48, 96, 96), width), (2, 2, 3, 3, 3), strict=True)
    ):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(depth):
            layers += _conv(taken, given)
            taken = given
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(taken, classes))


def resnet(channels: int, classes: int, width: float = 1.0) -> nn.Module:
    """ResNet-14 of He et al. 2016, section 4.2 (n = 2), at three quarters of its widths; shortcuts 1x1."""
    first, *others = _widths((12, 12, 24, 48), width)
    layers: list[nn.Module] = [*_conv(channels, first)]
    taken = first
    for stage, given in enumerate(others):
        layers += [_Residual(taken, given, 2 if stage else 1), _Residual(given, given, 1)]
        taken = given
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(taken, classes))


def mobilenet(channels: int, classes: int, width: float = 1.0) -> nn.Module:
    """MobileNet-like (Howard et al. 2017): depthwise and 1x1 convolutions in turn."""
    rows = ((32, 1), (48, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1))
    (first, _), *others = zip(_widths(tuple(w for w, _ in rows), width), (s for _, s in rows), strict=True)
    layers: list[nn.Module] = [*_conv(channels, first)]
    taken = first
    for given, stride in others:
        layers += [*_conv(taken, taken, stride, groups=taken), *_conv(taken, given, kernel=1)]
        taken = given
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(taken, classes))


def small(channels: int, classes: int) -> nn.Module:
    """Four 3x3 convolutions: fewer parameters than most images have use for."""
    layers: list[nn.Module] = []
    for given, stride in ((8, 1), (8, 2), (16, 1), (16, 2)):
        layers += _conv(channels, given, stride)
        channels = given
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


NETWORKS = {"VGG": vgg, "ResNet": resnet, "MobileNet": mobilenet}


class _Residual(nn.Module):
    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        first, second = _conv(taken, given, stride), _conv(given, given)[:2]
        self.body = nn.Sequential(*first, *second)
        same = taken == given and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(taken, given, stride, kernel=1)[:2])
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


def _conv(taken: int, given: int, stride: int = 1, *, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(taken, given, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(given), nn.ReLU()]


def _widths(widths: tuple[int, ...], width: float) -> list[int]:
    return [max(1, round(width * each)) for each in widths]
