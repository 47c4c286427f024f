"""Sizes and padding worked by hand; the resize itself is proven by the parity cases."""

import numpy as np
import pytest
import torch

from cascadezoo.modeling.preprocess import collate, padded_size, resize, target_size
from cascadezoo.providers.mmdet import SPECS

SPEC = SPECS["cascade_r50_fpn"].preprocess
QUICK = SPEC.model_copy(update={"min_size": 320, "max_size": 533})


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        (SPEC, (427, 640), (800, 1199)),
        (SPEC, (640, 481), (1064, 800)),
        (QUICK, (427, 640), (320, 480)),
        (QUICK, (375, 500), (320, 427)),
        (QUICK, (640, 481), (426, 320)),
        (SPEC, (1, 1), (800, 800)),
        (SPEC, (1, 4000), (1, 1333)),  # 1 * 1333 / 4000 rounds to zero: kept at one pixel
        (SPEC, (6000, 4000), (1200, 800)),
    ],
)
def test_target_size(spec, size, expected) -> None:
    assert target_size(*size, spec) == expected


def test_padding_rounds_up() -> None:
    assert padded_size((800, 1199), SPEC) == (800, 1216)
    assert padded_size((1, 33), SPEC) == (32, 64)


def test_batch_is_normalised_then_padded_with_zeros() -> None:
    small, large = np.full((10, 20, 3), 255, np.uint8), np.zeros((40, 20, 3), np.uint8)
    spec = SPEC.model_copy(update={"min_size": 32, "max_size": 64})
    batch = collate([resize(small, spec), resize(large, spec)], spec, torch.device("cpu"), torch.float32)
    assert batch.pixels.shape == (2, 3, 64, 64)
    assert batch.sizes.tolist() == [[32, 64], [64, 32]]
    assert batch.scales.tolist() == [pytest.approx([3.2, 3.2]), pytest.approx([1.6, 1.6])]
    red = (255 - 123.675) / 58.395
    assert batch.pixels[0, 0, 0, 0].item() == pytest.approx(red, rel=1e-6)
    assert (batch.pixels[0, :, 32:] == 0).all()
    assert (batch.pixels[1, :, :, 32:] == 0).all()
    assert batch.pixels[1, 2, 63, 31].item() == pytest.approx(-103.53 / 57.375, rel=1e-6)
