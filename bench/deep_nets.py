"""Well-known deep nets for the training-step benchmark, written once for every library with PyTorch's layers.

ResNet: He et al. (2016), arXiv:1512.03385. MobileNetV2: Sandler et al. (2018), arXiv:1801.04381. 3-D U-Net: Çiçek et
al. (2016), arXiv:1606.06650. Dilated 1-D net: the residual stack of van den Oord et al. (2016), arXiv:1609.03499,
without its gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _normed(nn: Any, rank: int, conv: Any, relu: bool = True) -> list[Any]:
    """A convolution, batch normalisation and, if wanted, a rectifier."""
    norm = getattr(nn, f"BatchNorm{rank}d")
    return [conv, norm(conv.out_channels), *([nn.ReLU()] if relu else [])]


def _residual(nn: Any) -> Any:
    """The class of blocks that add what `body` makes of their input to it, or to what `shortcut` makes of it."""

    class Residual(nn.Module):
        def __init__(self, body: Any, shortcut: Any, relu: bool = True) -> None:
            super().__init__()
            self.body, self.shortcut, self.last = body, shortcut, nn.ReLU() if relu else nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.last(self.body(x) + self.shortcut(x))

    return Residual


def _resnet(nn: Any, depths: tuple[int, ...], expansion: int) -> Any:
    residual = _residual(nn)
    layers = [*_normed(nn, 2, nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)), nn.MaxPool2d(3, 2, padding=1)]
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            out = width * expansion
            if expansion == 1:
                body = [
                    *_normed(nn, 2, nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)),
                    *_normed(nn, 2, nn.Conv2d(width, width, 3, padding=1, bias=False), relu=False),
                ]
            else:
                body = [
                    *_normed(nn, 2, nn.Conv2d(channels, width, 1, bias=False)),
                    *_normed(nn, 2, nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)),
                    *_normed(nn, 2, nn.Conv2d(width, out, 1, bias=False), relu=False),
                ]
            shortcut = nn.Identity()
            if stride > 1 or channels != out:
                conv = nn.Conv2d(channels, out, 1, stride=stride, bias=False)
                shortcut = nn.Sequential(*_normed(nn, 2, conv, relu=False))
            layers.append(residual(nn.Sequential(*body), shortcut))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def resnet18(nn: Any) -> Any:
    """ResNet-18."""
    return _resnet(nn, (2, 2, 2, 2), 1)


def resnet50(nn: Any) -> Any:
    """ResNet-50, with the stride in the 3×3 convolutions."""
    return _resnet(nn, (3, 4, 6, 3), 4)


def mobilenet_v2(nn: Any) -> Any:
    """MobileNetV2, with rectifiers that are not capped at 6."""
    residual = _residual(nn)
    layers = _normed(nn, 2, nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False))
    channels = 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, out, depth, first_stride in stages:
        for block in range(depth):
            stride, width = first_stride if block == 0 else 1, channels * expansion
            body = [] if expansion == 1 else _normed(nn, 2, nn.Conv2d(channels, width, 1, bias=False))
            body += [
                *_normed(nn, 2, nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, bias=False)),
                *_normed(nn, 2, nn.Conv2d(width, out, 1, bias=False), relu=False),
            ]
            same = stride == 1 and channels == out
            block_of = nn.Sequential(*body)
            layers.append(residual(block_of, nn.Identity(), relu=False) if same else block_of)
            channels = out
    layers += _normed(nn, 2, nn.Conv2d(channels, 1280, 1, bias=False))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


def unet3d(nn: Any, concatenate: Callable[[list[Any]], Any]) -> Any:
    """A 3-D U-Net of three scales for two classes, whose segmentation is averaged to one answer per volume."""

    def stage(c_in: int, c_out: int) -> Any:
        first, second = nn.Conv3d(c_in, c_out, 3, padding=1), nn.Conv3d(c_out, c_out, 3, padding=1)
        return nn.Sequential(*_normed(nn, 3, first), *_normed(nn, 3, second))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down1, self.down2, self.bottom = stage(1, 16), stage(16, 32), stage(32, 64)
            self.pool = nn.MaxPool3d(2)
            self.up2, self.join2 = nn.ConvTranspose3d(64, 32, 2, stride=2), stage(64, 32)
            self.up1, self.join1 = nn.ConvTranspose3d(32, 16, 2, stride=2), stage(32, 16)
            self.head = nn.Sequential(nn.Conv3d(16, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())

        def forward(self, x: Any) -> Any:
            first = self.down1(x)
            second = self.down2(self.pool(first))
            third = self.bottom(self.pool(second))
            second = self.join2(concatenate([self.up2(third), second]))
            return self.head(self.join1(concatenate([self.up1(second), first])))

    return UNet()


def dilated(nn: Any) -> Any:
    """Twelve residual blocks of dilated convolutions over a signal, 64 channels wide."""
    residual = _residual(nn)
    layers = _normed(nn, 1, nn.Conv1d(1, 64, 15, padding=7))
    for block in range(12):
        dilation = 2 ** (block % 6)
        conv = nn.Conv1d(64, 64, 3, padding=dilation, dilation=dilation)
        layers.append(residual(nn.Sequential(*_normed(nn, 1, conv)), nn.Identity()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 5))
