"""The feature pyramid: what it holds while it computes."""

import weakref

import torch

from cascadezoo.modeling.fpn import FPN


@torch.no_grad()
def test_maps_are_freed_before_the_finest_level_is_made() -> None:
    neck, alive = FPN([4, 8, 16], 8), []
    maps = [torch.rand(1, channels, side, side) for channels, side in ((4, 16), (8, 8), (16, 4))]
    seen = [weakref.ref(x) for x in maps]
    neck.output[0].register_forward_pre_hook(lambda *_: alive.append([x() is not None for x in seen]))
    levels = neck(maps)
    assert alive == [[False] * 3]
    assert maps == []
    assert [tuple(level.shape) for level in levels] == [(1, 8, side, side) for side in (16, 8, 4, 2)]
