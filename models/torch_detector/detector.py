"""A detector of YOLOv8n's size in plain PyTorch, in half precision on a GPU: what `omma-bench gpu` runs.

The weights are random: it costs what a trained one costs (3 M parameters, 3x320x320 pictures) and detects nothing. Its
head needs no suppression: the 100 best cells come out as x1, y1, x2, y2, score, class. `Detector` is the model for
omma's Python workers and for Triton's Python backend; run by hand, this file is the yardstick, the same calls with
nothing around them:

    python detector.py --batch 64 --processes 2 --spans 5 --seconds 2 [--resident]

prints {"frames_per_s": [...]}, one number for each span. `--resident` leaves out the copy of the pictures to the GPU.
"""

from __future__ import annotations

import torch
from torch import nn

SIZE, CLASSES, BEST = 320, 80, 100
# Batches are padded up to one of these: a CUDA graph is recorded once for each.
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.SiLU(inplace=True))


class C2f(nn.Module):
    """Half of the channels go through a chain of small blocks; every block's output is kept."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.first = Conv(inputs, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv(half, half, 3), Conv(half, half, 3)) for _ in range(repeats)
        )
        self.last = Conv((2 + repeats) * half, outputs)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            y = block(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


class Pyramid(nn.Module):
    """Pools three times and keeps all four."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = Conv(channels, channels // 2), Conv(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Head(nn.Module):
    """Boxes and class scores of one stage's cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.boxes = nn.Sequential(Conv(channels, 64, 3), Conv(64, 64, 3), nn.Conv2d(64, 4, 1))
        inner = (Conv(channels, CLASSES, 3), Conv(CLASSES, CLASSES, 3))
        self.scores = nn.Sequential(*inner, nn.Conv2d(CLASSES, CLASSES, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.boxes(x).flatten(2), self.scores(x).flatten(2)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p2 = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C2f(32, 32, 1, True))
        self.p3 = nn.Sequential(Conv(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.p4 = nn.Sequential(Conv(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.p5 = nn.Sequential(Conv(128, 256, 3, 2), C2f(256, 256, 1, True), Pyramid(256))
        self.up = nn.Upsample(scale_factor=2)
        self.n4, self.n3 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.d3, self.m4 = Conv(64, 64, 3, 2), C2f(192, 128, 1, False)
        self.d4, self.m5 = Conv(128, 128, 3, 2), C2f(384, 256, 1, False)
        self.heads = nn.ModuleList(Head(channels) for channels in (64, 128, 256))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """u8 [n, 3, 320, 320] to f32 [n, 100, 6]."""
        x = (pictures.to(self.heads[0].boxes[2].weight.dtype) / 255).contiguous(memory_format=torch.channels_last)
        p3 = self.p3(self.p2(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.n4(torch.cat((self.up(p5), p4), 1))
        n3 = self.n3(torch.cat((self.up(n4), p3), 1))
        m4 = self.m4(torch.cat((self.d3(n3), n4), 1))
        m5 = self.m5(torch.cat((self.d4(m4), p5), 1))
        found = [head(stage) for head, stage in zip(self.heads, (n3, m4, m5))]
        boxes = torch.cat([boxes for boxes, _ in found], 2).transpose(1, 2).sigmoid() * SIZE
        scores, classes = torch.cat([scores for _, scores in found], 2).max(1)
        best, cells = scores.topk(BEST, 1)
        centres, sides = boxes.gather(1, cells[..., None].expand(-1, -1, 4)).split(2, 2)
        corners = torch.cat((centres - sides / 2, centres + sides / 2), 2)
        return torch.cat((corners, best.sigmoid()[..., None], classes.gather(1, cells)[..., None]), 2).float()


class Detector:
    """What omma's Python workers call: pictures of a batch in shared memory to detections."""

    batch_max = SIZES[-1]

    def load(self, device: str = "cuda") -> None:
        torch.manual_seed(7)
        self.device = torch.device(device)
        network = Network().eval().to(self.device, memory_format=torch.channels_last)
        self.network = network.half() if self.device.type == "cuda" else network
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}
        if self.device.type == "cuda":
            for size in SIZES:
                self.graphs[size] = self.record(size)

    @torch.inference_mode()
    def record(self, size: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        """One launch for the whole network: to launch its layers one by one takes longer than they do."""
        pictures = torch.zeros(size, 3, SIZE, SIZE, dtype=torch.uint8, device=self.device)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self.network(pictures)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self.network(pictures)
        return graph, pictures, found

    @torch.inference_mode()
    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """u8 [n, 3, 320, 320] to f32 [n, 100, 6], still on the GPU."""
        count = len(batch)
        if not self.graphs:
            return self.network(batch.to(self.device))
        graph, pictures, found = self.graphs[next(size for size in SIZES if size >= count)]
        pictures[:count].copy_(batch, non_blocking=True)
        graph.replay()
        return found[:count]


def bare(number: int, arguments, ready, spans) -> None:
    """One process of the yardstick."""
    import time

    detector = Detector()
    detector.load("cuda")
    batch = torch.zeros(arguments.batch, 3, SIZE, SIZE, dtype=torch.uint8)
    batch = batch.cuda() if arguments.resident else batch.pin_memory()
    back = torch.empty(arguments.batch, BEST, 6)
    for _ in range(20):
        back.copy_(detector.predict(batch))
    ready.wait()
    for span in range(arguments.spans):
        begun, batches = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < arguments.seconds:
            back.copy_(detector.predict(batch))
            batches += 1
        spans[number * arguments.spans + span] = batches * arguments.batch / spent


def main() -> None:
    import argparse
    import json

    import torch.multiprocessing as processes

    parser = argparse.ArgumentParser(description="The detector with nothing around it.")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--spans", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--resident", action="store_true", help="the pictures are on the GPU already")
    arguments = parser.parse_args()
    start = processes.get_context("spawn")
    ready, spans = start.Barrier(arguments.processes), start.Array("d", arguments.processes * arguments.spans)
    numbers = range(arguments.processes)
    workers = [start.Process(target=bare, args=(number, arguments, ready, spans)) for number in numbers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise SystemExit(f"a process of the yardstick ended with {worker.exitcode}")
    sums = [sum(spans[span :: arguments.spans]) for span in range(arguments.spans)]
    print(json.dumps({"frames_per_s": sums}))


if __name__ == "__main__":
    main()
