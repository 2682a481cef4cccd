"""The demo's detector as a PyTorch module: thin plain convolutions, three strides, no anchors.

Plain convolutions of few channels are what CPU runtimes run best; batch normalisation is
folded into them at export. The decode (grid and stride) is inside, so that the output is in
YOLOv8 layout: [batch, 4 + classes, cells], boxes as cx, cy, w, h in input pixels.
"""

import torch
from torch import nn

CLASSES = ("person", "car", "bicycle")
HEIGHT, WIDTH = 192, 320
STRIDES = (8, 16, 32)


class Conv(nn.Module):
    """Convolution, normalisation, ReLU; `fold` merges the first two for export."""

    def __init__(self, inputs, outputs, kernel=3, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))

    def fold(self):
        if isinstance(self.norm, nn.Identity):
            return
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        merged = nn.Conv2d(
            self.conv.in_channels,
            self.conv.out_channels,
            self.conv.kernel_size,
            self.conv.stride,
            self.conv.padding,
        )
        merged.weight.data = self.conv.weight.data * scale.reshape(-1, 1, 1, 1)
        merged.bias.data = self.norm.bias - self.norm.running_mean * scale
        self.conv, self.norm = merged, nn.Identity()


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(Conv(channels, channels), Conv(channels, channels))

    def forward(self, x):
        return x + self.body(x)


class Head(nn.Module):
    """Boxes and class scores of one stride: offsets, log-sizes, then logits."""

    def __init__(self, channels, classes):
        super().__init__()
        self.mix = Conv(channels, channels)
        self.out = nn.Conv2d(channels, 4 + classes, 1)
        # Few cells hold anything: begin near a score of 0.01.
        self.out.bias.data[:2] = 0.0
        self.out.bias.data[2:4] = 0.7
        self.out.bias.data[4:] = -4.6

    def forward(self, x):
        return self.out(self.mix(x))


class Detector(nn.Module):
    def __init__(self, widths=(16, 16, 32, 64, 64), classes=len(CLASSES)):
        super().__init__()
        a, b, c, d, e = widths
        self.classes = classes
        self.stem = nn.Sequential(Conv(3, a, stride=2), Conv(a, b, stride=2), Conv(b, b))
        self.p3 = nn.Sequential(Conv(b, c, stride=2), Residual(c))
        self.p4 = nn.Sequential(Conv(c, d, stride=2), Residual(d))
        self.p5 = nn.Sequential(Conv(d, e, stride=2), Residual(e))
        self.down5 = Conv(e, d, 1)
        self.mix4 = Conv(d, d)
        self.down4 = Conv(d, c, 1)
        self.mix3 = Conv(c, c)
        self.heads = nn.ModuleList([Head(c, classes), Head(d, classes), Head(d, classes)])
        grids, strides = [], []
        for stride in STRIDES:
            ys, xs = torch.meshgrid(
                torch.arange(HEIGHT // stride) + 0.5, torch.arange(WIDTH // stride) + 0.5, indexing="ij"
            )
            grids.append(torch.stack([xs, ys]).reshape(2, -1) * stride)
            strides.append(torch.full((grids[-1].shape[1],), float(stride)))
        self.register_buffer("centres", torch.cat(grids, 1)[None], persistent=False)
        self.register_buffer("strides", torch.cat(strides)[None, None], persistent=False)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def raw(self, images):
        """[batch, 4 + classes, cells]: offsets and log-sizes in strides, and logits."""
        p3 = self.p3(self.stem(images))
        p4 = self.p4(p3)
        p5 = self.down5(self.p5(p4))
        p4 = self.mix4(p4 + self.up(p5))
        p3 = self.mix3(p3 + self.up(self.down4(p4)))
        # The cells are a constant in the shape: only the batch is left open.
        maps = [head(p) for head, p in zip(self.heads, (p3, p4, p5))]
        cells = [HEIGHT // s * (WIDTH // s) for s in STRIDES]
        return torch.cat([m.reshape(-1, 4 + self.classes, n) for m, n in zip(maps, cells)], 2)

    def boxes(self, raw):
        """Boxes as cx, cy, w, h in input pixels. The centre may leave its cell either way: a
        thin box need not hold the centre of any cell."""
        centre = self.centres + raw[:, :2] * self.strides
        return torch.cat([centre, torch.exp(raw[:, 2:4].clamp(max=5.0)) * self.strides], 1)

    def forward(self, images):
        raw = self.raw(images)
        return torch.cat([self.boxes(raw), torch.sigmoid(raw[:, 4:])], 1)

    def fold(self):
        for module in self.modules():
            if isinstance(module, Conv):
                module.fold()
        return self
