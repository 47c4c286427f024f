"""What deformable convolutions cost on a CPU: ``python -m cascadezoo.benchmarks.measure.deform_conv2d``.

One layer at the shapes of a backbone on an image of 800 x 1333: the compiled operator, torchvision's, and the ordinary
convolution that it stands for.  Then whole optimised networks, deformable by either operator and not, on images of
several sizes, and how much of their time the operator is; and a layer's step in training.  All ways run in turn within
one process, on one thread, by the time of the processor, which programs beside this one change little.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import Clock, exponent, in_turn, spread
from cascadezoo.errors import OpsNotBuilt
from cascadezoo.loading import build
from cascadezoo.modeling import layers
from cascadezoo.modeling.layers import Conv, DeformConv
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.ops.deform_conv2d import deform_conv2d, reference
from cascadezoo.ops.library import COMPILED, STATUS
from cascadezoo.optimizing.precision import settings
from cascadezoo.optimizing.weights import prepared
from cascadezoo.providers import SPECS

COMPILED_WAY, TORCHVISION, PLAIN = "compiled", "torchvision", "not deformable"
LAYERS = {  # channels, groups, height, width of the layers of stride 1 that a stage has most of
    "R50 C3": (128, 1, 100, 168),
    "R50 C4": (256, 1, 50, 84),
    "R50 C5": (512, 1, 25, 42),
    "X101-32x4d C3": (256, 32, 100, 168),
    "X101-32x4d C4": (512, 32, 50, 84),
    "X101-32x4d C5": (1024, 32, 25, 42),
}
NETWORKS = (  # mmdetection's, and the sizes of their input
    ("cascade_mask_r50_dconv_c3c5_fpn", ((320, 544), (800, 1344))),
    ("cascade_mask_x101_32x4d_dconv_c3c5_fpn", ((320, 544),)),
)
CPU = torch.device("cpu")


@contextmanager
def timed(clock: Clock, part: str) -> Iterator[None]:
    """Add the processor's seconds that the body takes."""
    start = time.process_time()
    yield
    clock[part] = clock.get(part, 0.0) + time.process_time() - start


def by_torchvision(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int
) -> Tensor:
    """``deform_conv2d`` as it is without a compiled operator."""
    rows = reference(x.permute(0, 2, 3, 1), offset.permute(0, 2, 3, 1), weight, bias, stride, pad, groups)
    return rows.permute(0, 3, 1, 2)


OPERATORS: dict[str, Callable[..., Tensor]] = {COMPILED_WAY: deform_conv2d, TORCHVISION: by_torchvision}


def noise(*shape: int) -> Tensor:
    """Normal noise of four axes, channels last in memory; the same for the same shape."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return made.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def layer(shape: tuple[int, int, int, int], runs: int) -> dict[str, Any]:
    """Milliseconds of one 3 x 3 convolution each way, and of the one that gives its offsets, of about a pixel."""
    channels, groups, height, width = shape
    x, offset = noise(1, channels, height, width), noise(1, 18, height, width)
    weight, to_offset = noise(channels, channels // groups, 3, 3), noise(18, channels, 3, 3)

    def clocked(what: Callable[[], Tensor]) -> Callable[[], Clock]:
        def way() -> Clock:
            clock: Clock = {}
            with timed(clock, "ms"):
                what()
            return clock

        return way

    ways = {
        COMPILED_WAY: clocked(lambda: deform_conv2d(x, offset, weight, None, 1, 1, groups)),
        TORCHVISION: clocked(lambda: by_torchvision(x, offset, weight, None, 1, 1, groups)),
        PLAIN: clocked(lambda: F.conv2d(x, weight, None, 1, 1, 1, groups)),
        "offsets": clocked(lambda: F.conv2d(x, to_offset, None, 1, 1)),
    }
    found, ratios = _in_ms(in_turn(ways, runs), "ms")
    return {"shape": [1, channels, height, width], "groups": groups, "milliseconds": found, **ratios}


def _in_ms(clocks: dict[str, list[Clock]], part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A part of the clocks as milliseconds, and its ratios within each run."""
    ms = {way: [1000 * clock[part] for clock in each] for way, each in clocks.items()}
    ours, theirs, plain = ms[COMPILED_WAY], ms[TORCHVISION], ms[PLAIN]
    return {way: spread(each) for way, each in ms.items()}, {
        "times_faster_than_torchvision": spread([b / a for a, b in zip(ours, theirs, strict=True)]),
        "times_as_long_as_plain": spread([a / c for a, c in zip(ours, plain, strict=True)]),
    }


def network(architecture: str) -> Network:
    """An entry's network with random weights and offsets of about a pixel, as ``optimize`` prepares it."""
    torch.manual_seed(0)
    made = build(SPECS["mmdet"][architecture])
    for module in made.modules():
        if isinstance(module, DeformConv):
            nn.init.normal_(module.offset.get_parameter("bias"))
    return prepared(made, settings(CPU, "fp32", None, False))


@contextmanager
def operator(way: str, clock: Clock) -> Iterator[None]:
    """Inside, deformable convolutions are computed this way, and the clock has their seconds as "operator"."""
    compute = OPERATORS.get(way, deform_conv2d)
    clock["operator"] = 0.0

    def timing(*arguments: Any) -> Tensor:
        with timed(clock, "operator"):
            return compute(*arguments)

    with patch.object(layers, "deform_conv2d", timing):
        yield


@torch.inference_mode()
def networks(architecture: str, sizes: tuple[tuple[int, int], ...], runs: int) -> list[dict[str, Any]]:
    """Milliseconds of the backbone and of the whole network, each way, by the size of the input."""
    deformable, plain = network(architecture), network(architecture.replace("_dconv_c3c5", ""))
    rows = []
    for size in sizes:
        side = torch.tensor([[float(size[0]), float(size[1])]])
        batch = Batch(noise(1, 3, *size), side, torch.ones(1, 2), side)

        def run(way: str, taken: Batch = batch) -> Clock:
            model, clock = plain if way == PLAIN else deformable, Clock()
            features = model.backbone.forward

            def backbone(pixels: Tensor) -> list[Tensor]:
                with timed(clock, "backbone"):
                    found: list[Tensor] = features(pixels)
                return found

            with operator(way, clock), patch.object(model.backbone, "forward", backbone), timed(clock, "whole"):
                model.infer(taken)
            return clock

        clocks = in_turn({way: partial(run, way) for way in (COMPILED_WAY, TORCHVISION, PLAIN)}, runs)
        row: dict[str, Any] = {"architecture": architecture, "input": list(size)}
        for part in ("backbone", "whole"):
            found, ratios = _in_ms(clocks, part)
            row[part] = {"milliseconds": found, **ratios}
        row["share_of_backbone"] = {
            way: spread([clock["operator"] / clock["backbone"] for clock in clocks[way]]) for way in OPERATORS
        }
        rows.append(row)
        print(_line(f"{architecture} {size[0]}x{size[1]}", row["whole"]), flush=True)
    return rows


def training(shape: tuple[int, int, int, int], runs: int) -> dict[str, Any]:
    """Milliseconds of one layer's forward and backward pass in training, deformable and not."""
    channels, groups, height, width = shape
    x = noise(1, channels, height, width).requires_grad_()
    kinds = {
        "deformable": DeformConv(channels, channels, 3, groups=groups),
        PLAIN: Conv(channels, channels, 3, groups=groups),
    }

    def step(conv: Conv) -> Clock:
        clock: Clock = {}
        with timed(clock, "forward"):
            out = conv(x)
        with timed(clock, "backward"):
            out.sum().backward()
        return clock

    clocks = in_turn({way: partial(step, conv.train()) for way, conv in kinds.items()}, runs)
    ms = {
        way: {part: spread([1000 * clock[part] for clock in each]) for part in ("forward", "backward")}
        for way, each in clocks.items()
    }
    pairs = zip(*clocks.values(), strict=True)
    longer = [sum(one.values()) / sum(other.values()) for one, other in pairs]
    return {
        "shape": [1, channels, height, width],
        "groups": groups,
        "milliseconds": ms,
        "times_as_long": spread(longer),
    }


def _line(name: str, found: dict[str, Any]) -> str:
    medians = (found["milliseconds"][way]["median"] for way in (COMPILED_WAY, TORCHVISION, PLAIN))
    return f"{name:52}" + "".join(f"{median:>14.1f}" for median in medians)


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Deformable convolutions beside ordinary ones, on the CPU.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "deform_conv2d.json")
    options = parser.parse_args()
    if "cpu" not in COMPILED:
        raise OpsNotBuilt(f"no compiled operators for the CPU ({STATUS['cpu']}): run `cascadezoo build-ops`")
    torch.set_num_threads(1)
    print(f"{'median ms':52}{COMPILED_WAY:>14}{TORCHVISION:>14}{PLAIN:>16}")
    by_layer = {}
    for name, shape in LAYERS.items():
        by_layer[name] = layer(shape, options.runs)
        print(_line(name, by_layer[name]), flush=True)
    by_network = [row for name, sizes in NETWORKS for row in networks(name, sizes, options.runs)]
    first = [row for row in by_network if row["architecture"] == NETWORKS[0][0]]
    pixels = [row["input"][0] * row["input"][1] for row in first]
    grows = {
        way: round(exponent(pixels, [row["whole"]["milliseconds"][way]["median"] for row in first]), 2)
        for way in (COMPILED_WAY, TORCHVISION, PLAIN)
    }
    report = {
        "benchmark": "deform_conv2d",
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "runs": options.runs,
        "layers": by_layer,
        "networks": by_network,
        "grows_with_pixels": grows,
        "training": {name: training(LAYERS[name], options.runs) for name in ("R50 C3", "R50 C5", "X101-32x4d C3")},
    }
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
