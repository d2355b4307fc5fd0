"""The nets of the course work in PyTorch, layer by layer, and a residual network with its images.

The layers of the former are called as in the exported files, whose weights :func:`load` takes, so
that "the same net" can be checked: both give the same answers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ENCODER = ((16, 24), (36, 52), (72, 96))
BOTTLENECK = (96, 96)
DECODER = ((72, 52), (36, 24), (16, 5))


class UNet(nn.Module):
    """uint8 (B, H, W, 3) -> scores (B, H, W, 5), the layer table of 465,857 parameters."""

    def __init__(self):
        super().__init__()
        channels = 3
        for level, (first, second) in enumerate(ENCODER, 1):
            channels = self._pair(f"enc{level}", channels, first, second)
        channels = self._pair("mid", channels, *BOTTLENECK)
        for level, (first, second) in zip((3, 2, 1), DECODER, strict=True):
            width = ENCODER[level - 1][1]
            self.add_module(f"dec{level}_up", nn.ConvTranspose2d(channels, width, 2, stride=2))
            channels = self._pair(f"dec{level}", width, first, second)

    def _pair(self, name: str, channels: int, first: int, second: int) -> int:
        self.add_module(f"{name}_conv1", nn.Conv2d(channels, first, 3, padding=1))
        self.add_module(f"{name}_conv2", nn.Conv2d(first, second, 3, padding=1))
        return second

    def _block(self, x, name: str):
        for part in (1, 2):
            x = F.relu(getattr(self, f"{name}_conv{part}")(x), inplace=True)
        return x

    def forward(self, image):
        x = prepare(image)
        skips = []
        for level in (1, 2, 3):
            x = self._block(x, f"enc{level}")
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self._block(x, "mid")
        for level in (3, 2):
            x = self._block(getattr(self, f"dec{level}_up")(x) + skips.pop(), f"dec{level}")
        x = self.dec1_up(x) + skips.pop()
        x = self.dec1_conv2(F.relu(self.dec1_conv1(x), inplace=True))
        return x.permute(0, 2, 3, 1)


class CNN(nn.Module):
    """uint8 (B, 28, 28, 1) -> scores (B, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.dense1 = nn.Linear(7 * 7 * 32, 128)
        self.dense2 = nn.Linear(128, 10)

    def forward(self, image):
        x = F.max_pool2d(F.relu(self.conv1(prepare(image))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.dense2(F.relu(self.dense1(x.flatten(1))))


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, the first with a stride, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.first = _conv_norm(channels, width, stride)
        self.second = _conv_norm(width, width, 1)
        self.shortcut = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2, ceil_mode=True)

    def forward(self, x):
        y = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(y + self.shortcut(self.pool(x)))


def _conv_norm(channels: int, width: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """float32 (B, 1, 28, 28) -> scores (B, 10): a block for each width, half the size from the
    second on, then the mean over the image."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        pairs = zip((1, *widths), widths, strict=False)
        blocks = [Residual(a, b, 1 if index == 0 else 2) for index, (a, b) in enumerate(pairs)]
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(widths[-1], 10)

    def forward(self, x):
        return self.dense(self.blocks(x).mean((2, 3)))


def augment(x: torch.Tensor) -> torch.Tensor:
    """Crops after padding by a pixel, flips, and a rectangle of noise in half of the images.

    x: float32 (B, C, H, W); each image has draws of its own.
    """
    count, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    places = torch.arange(count)[:, None, None]
    rows = torch.arange(height)[None, :] + torch.randint(0, 3, (count, 1))
    columns = torch.arange(width)[None, :] + torch.randint(0, 3, (count, 1))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    x = padded[places, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    erased = _span(height, count)[:, :, None] & _span(width, count)[:, None, :]
    erased &= (torch.rand(count) < 0.5)[:, None, None]
    return torch.where(erased[:, None], torch.rand_like(x), x)


def _span(side: int, count: int) -> torch.Tensor:
    """bool (count, side): a run of an eighth to a half of the places."""
    length = torch.rand(count, 1) * side * 3 / 8 + side / 8
    start = torch.rand(count, 1) * (side - length)
    places = torch.arange(side)[None, :]
    return (places >= start) & (places < start + length)


NETS = {"unet": UNet, "cnn": CNN}


def prepare(image: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, C) -> float32 0..1 (B, C, H, W), in the memory order of channels_last."""
    return image.permute(0, 3, 1, 2).float() / 255


def build(net: str, threads: int) -> nn.Module:
    """The net with random weights, in channels_last."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return NETS[net]().to(memory_format=torch.channels_last)


def load(model: nn.Module, path: str) -> None:
    """Take the weights of an exported float32 file."""
    import onnx
    from onnx import numpy_helper

    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}
    state = {}
    for name, parameter in model.state_dict().items():
        layer, kind = name.rsplit(".", 1)
        value = weights[f"{layer}/{kind}"]
        # A dense weight is (in, out) there.
        value = value.T if layer.startswith("dense") and kind == "weight" else value
        state[name] = torch.from_numpy(np.array(value)).reshape(parameter.shape)
    model.load_state_dict(state)
