"""Products are counted as by hand."""

import torch
from torch import nn

from cascadezoo.benchmarks.measure.products import Counting, Work, count
from cascadezoo.modeling.layers import DeformConv
from cascadezoo.ops.deform_conv2d import deform_conv2d
from cascadezoo.providers import SPECS


def test_convolutions_and_products_are_counted_as_by_hand() -> None:
    conv, linear = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(10, 6)
    with Counting() as counting, torch.no_grad(), counting.stage("one"):
        conv(torch.ones(2, 4, 5, 7))
        linear(torch.ones(3, 10)).relu()
        nn.Conv2d(8, 8, 1, groups=4)(torch.ones(1, 8, 5, 7))
    plain, product, grouped = counting.stages["one"]
    # 2 operations for each of 8 x 5 x 7 results of 2 images, from 4 channels under 9 cells
    assert plain == Work(2 * 2 * 8 * 5 * 7 * 4 * 9, 2 * 4 * 5 * 7 + 8 * 4 * 9 + 8 + 2 * 8 * 5 * 7)
    assert product == Work(2 * 3 * 10 * 6, 6 + 3 * 10 + 10 * 6 + 3 * 6)
    assert grouped == Work(2 * 8 * 5 * 7 * 2, 8 * 5 * 7 + 8 * 2 + 8 + 8 * 5 * 7)  # each result from 2 channels


def test_attention_and_deformable_convolutions_are_counted_as_by_hand() -> None:
    q, k, v = (torch.ones(2, 3, n, 4) for n in (5, 7, 7))
    bias = torch.zeros(1, 3, 5, 7)
    with Counting() as counting, torch.no_grad(), counting.stage("one"):
        nn.functional.scaled_dot_product_attention(q, k, v)
        nn.functional.scaled_dot_product_attention(q, k, v, bias)
        deform_conv2d(torch.ones(2, 8, 5, 7), torch.zeros(2, 18, 5, 7), torch.ones(6, 4, 3, 3), None, 1, 1, 2)
    *attentions, deformed = counting.stages["one"]
    # of 2 images and 3 heads: 5 x 7 scores of 4 products each, and 5 x 4 results of 7 each
    assert [work.flops for work in attentions] == [2 * 2 * 3 * (5 * 7 * 4 + 5 * 4 * 7)] * 2
    assert deformed.flops == 2 * 2 * 6 * 5 * 7 * 4 * 9  # as a plain convolution in two groups


def test_a_deformable_convolution_has_the_products_of_an_ordinary_one_and_those_of_its_offsets() -> None:
    conv = DeformConv(8, 16, 3, stride=2, groups=4)
    with Counting() as counting, torch.no_grad(), counting.stage("one"):
        conv(torch.ones(2, 8, 5, 7))
    offsets, moved = counting.stages["one"]
    assert offsets.flops == 2 * 2 * 18 * 3 * 4 * 8 * 9
    assert moved.flops == 2 * 2 * 16 * 3 * 4 * 2 * 9  # each result from 2 channels


def test_a_batch_has_its_multiple_and_a_network_without_masks_no_masks() -> None:
    spec = SPECS["mmdet"]["cascade_r50_fpn"]
    one, two = (count(spec, (320, 320), n) for n in (1, 2))
    assert "masks" not in one
    for stage in one:
        assert sum(w.flops for w in two[stage]) == 2 * sum(w.flops for w in one[stage])


def test_one_mask_of_a_detection_leaves_the_other_classes_out() -> None:
    spec = SPECS["mmdet"]["cascade_mask_r50_fpn"]
    every, one = (count(spec, (320, 320), one_mask=only) for only in (False, True))
    # of three heads' 1 x 1 convolutions from 256 channels, 28 x 28 results of 79 classes for each of 100 detections
    left_out = 3 * 2 * 256 * 28 * 28 * 79 * 100
    assert sum(w.flops for w in every["masks"]) - sum(w.flops for w in one["masks"]) == left_out
    assert {stage: works for stage, works in one.items() if stage != "masks"} == {
        stage: works for stage, works in every.items() if stage != "masks"
    }
