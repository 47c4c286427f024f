"""What ViTDet's networks are made of, as data, and their squares as people ask for them."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cascadezoo.detector import Detector
from cascadezoo.modeling.build import build
from cascadezoo.modeling.init import initialise
from cascadezoo.modeling.norms import ConvLayerNorm
from cascadezoo.modeling.preprocess import Batch, ResizedImage
from cascadezoo.modeling.simple_pyramid import SimplePyramid
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.neck import FPNSpec, SimplePyramidSpec

from tiny import lively, tiny

VITDET, SWIN, RESNET = (
    SPECS[publisher][name]
    for publisher, name in (
        ("detectron2", "cascade_mask_vitdet_b"),
        ("detectron2", "cascade_mask_swin_b"),
        ("mmdet", "cascade_mask_r50_fpn"),
    )
)


SMALL_SQUARE = {**VITDET.preprocess.model_dump(), "min_size": 31, "max_size": 31}


def of_square(architecture: str, side: int) -> Detector:
    """A tiny network that takes images as squares of ``side`` pixels."""
    preprocess = SPECS["detectron2"][architecture].preprocess.model_dump()
    return lively(tiny(architecture, "detectron2", preprocess={**preprocess, "min_size": side, "max_size": side}))


def changed(spec: ModelSpec, path: str, value: object) -> ModelSpec:
    record = spec.model_dump()
    *parents, last = path.split(".")
    inner = record
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return ModelSpec.model_validate(record)


@pytest.mark.parametrize("spec", [VITDET, SWIN, RESNET])
def test_a_spec_reads_what_it_writes(spec: ModelSpec) -> None:
    assert ModelSpec.model_validate_json(spec.to_json()) == spec


def test_files_of_the_time_of_fpns_alone_are_read() -> None:
    record = json.loads(RESNET.to_json())
    record["neck"] = {"channels": 256}
    del record["rpn_convs"]
    for part, added in (("box_head", "norm"), ("mask", "norm"), ("preprocess", "square")):
        del record[part][added]
    assert ModelSpec.model_validate(record) == RESNET


@pytest.mark.parametrize(
    ("spec", "path", "value", "message"),
    [
        (RESNET, "neck", {"kind": "pafpn"}, "neck"),
        (RESNET, "neck.norm", "batch", "neck.fpn.norm"),
        (RESNET, "mask.norm", "batch", "mask.norm"),
        (RESNET, "box_head.norm", "affine", "box_head.norm"),
        (RESNET, "backbone.norm", "layer", "no ResNet here has layer norms"),
        (RESNET, "rpn_convs", 0, "rpn_convs"),
        (VITDET, "preprocess.square", False, "size_divisor 1: give a multiple of 16, the patches' side"),
        (VITDET, "preprocess", SMALL_SQUARE, "a square of 31 pixels: give a max_size of two patches, 32"),
        (VITDET, "neck", FPNSpec().model_dump(), "anchors for 5 levels where there are 2"),
    ],
)
def test_what_no_network_has_is_refused(spec: ModelSpec, path: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(spec, path, value)


def test_levels_are_as_many_as_the_neck_makes() -> None:
    assert FPNSpec().levels(4) == SimplePyramidSpec().levels(1) == 5
    assert VITDET.roi_strides == (4, 8, 16, 32)
    assert VITDET.feature_channels == 256


@pytest.mark.parametrize(("spec", "convs"), [(VITDET, 8 + 12 + 4), (SWIN, 8 + 12 + 4)])
def test_necks_and_heads_have_layer_norms_and_the_rpn_two_convolutions_without(spec: ModelSpec, convs: int) -> None:
    model = build(spec, device="meta")
    assert sum(isinstance(module, ConvLayerNorm) for module in model.modules()) == convs
    assert isinstance(model.neck, SimplePyramid) == (spec is VITDET)
    assert [tuple(conv.weight.shape) for conv in model.rpn.convs] == [(256, 256, 3, 3)] * 2
    assert all(conv.bias is not None for conv in model.rpn.convs)


@pytest.mark.parametrize("architecture", ["cascade_mask_vitdet_b", "cascade_mask_swin_b"])
def test_images_of_all_shapes_share_the_square_and_do_not_see_each_other(architecture: str) -> None:
    model = lively(tiny(architecture, "detectron2"))
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (*sides, 3), np.uint8) for sides in ((50, 90), (90, 40))]
    seen = []
    model.neck.register_forward_pre_hook(lambda module, given: seen.append(given[0][-1].shape))
    together = model.predict(images, batch_size=2)
    assert len(seen) == 1
    assert seen[0][0] == 2
    assert seen[0][2] == seen[0][3]
    for image, found in zip(images, together, strict=True):
        alone = model.predict(image)
        assert len(alone) >= 5
        assert found.labels.tolist() == alone.labels.tolist()
        torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("side", "maps"),
    [
        (1000, (248, 124, 62, 31, 16)),  # 62.5 patches
        (720, (180, 90, 45, 22, 11)),
        (528, (132, 66, 33, 16, 8)),
    ],
)
def test_of_a_square_of_any_side_whole_patches_are_seen(side: int, maps: tuple[int, ...]) -> None:
    model, height = of_square("cascade_mask_vitdet_b", side), side * 3 // 5
    image = np.random.default_rng(0).integers(0, 256, (height, side, 3), np.uint8)  # at network scale as it is
    mean, std = (torch.tensor(VITDET.preprocess.model_dump()[name]) for name in ("mean", "std"))
    pixels = torch.zeros(1, side, side, 3)
    pixels[0, :height] = (torch.from_numpy(image) - mean) / std
    pixels = pixels.permute(0, 3, 1, 2)
    size = torch.tensor([[float(height), float(side)]])
    batch = model.prepare([model.resize(image)])
    for found, expected in zip(batch, (pixels, size, torch.ones(1, 2), size), strict=True):
        torch.testing.assert_close(found, expected)

    tokens, embed = maps[2], model.backbone.patch_embed
    whole = pixels[..., : 16 * tokens, : 16 * tokens]
    patches = whole.reshape(3, tokens, 16, tokens, 16)
    straight = torch.einsum("ciyjx,kcyx->kij", patches, embed.weight) + embed.bias[:, None, None]
    torch.testing.assert_close(embed(pixels)[0], straight, atol=1e-5, rtol=1e-5)
    features = model.extract(pixels)
    assert [tuple(feature.shape[2:]) for feature in features] == [(cells, cells) for cells in maps]
    for feature, of_whole in zip(features, model.extract(whole), strict=True):
        torch.testing.assert_close(feature, of_whole, atol=1e-4, rtol=1e-4)

    by_hand, found = model.infer(Batch(pixels, size, torch.ones(1, 2), size)), model.predict(image)
    count = int(by_hand.counts)
    assert len(found) == count >= 5
    assert found.labels.tolist() == by_hand.labels[0, :count].tolist()
    torch.testing.assert_close(found.boxes, by_hand.boxes[0, :count], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.mask_probs, by_hand.masks[0, :count], atol=1e-4, rtol=0)


def test_a_square_is_rounded_up_under_an_fpn_and_an_image_as_large_is_whole() -> None:
    model = of_square("cascade_mask_swin_b", 90)
    assert model.prepare([model.resize(np.zeros((30, 60, 3), np.uint8))]).pixels.shape == (1, 3, 96, 96)
    largest = ResizedImage(np.zeros((96, 96, 3), np.uint8), (96, 96), 1.0)
    assert model.prepare([largest]).sizes.tolist() == [[96, 96]]


@pytest.mark.parametrize(
    ("architecture", "squares"),
    [
        ("cascade_mask_vitdet_b", [48, 60, 72, 84, 96, 108, 120, 132, 144]),
        ("cascade_mask_swin_b", [64, 64, 96, 96, 96, 128, 128, 160, 160]),
    ],
)
def test_each_scale_of_test_time_augmentation_has_a_square_of_its_own(
    architecture: str, squares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 96 pixels, times 0.5, 0.625 and so on, and each twice, mirrored once."""
    model = lively(tiny(architecture, "detectron2"))
    extract, seen = model.extract, []
    monkeypatch.setattr(model, "extract", lambda pixels: seen.append(tuple(pixels.shape[2:])) or extract(pixels))
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)  # 64 x 96, as large as may be
    found = model.predict(image, tta=True)
    assert sorted(seen) == sorted((side, side) for side in squares for _ in range(2))
    assert len(found) >= 5
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= torch.tensor([90, 60]) + 1e-4).all()  # a vote's mean is rounded


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["cascade_mask_vitdet_b", "cascade_mask_swin_b"])
def test_random_weights_fill_every_tensor(architecture: str) -> None:
    model = build(tiny(architecture, "detectron2"), device="meta").to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(float("nan"))
    initialise(model)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    for conv in model.box_heads[0].convs:  # normal, by the cells that read an output: 9 * 16
        assert conv.weight.std().item() == pytest.approx((2 / 144) ** 0.5, rel=0.1)
    if architecture == "cascade_mask_vitdet_b":
        assert not any(block.attn.rel_pos_h.any() for block in model.backbone.blocks)
        assert model.backbone.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("architecture", ["cascade_mask_vitdet_b", "cascade_mask_swin_b"])
def test_the_optimised_model_detects_the_same(architecture: str) -> None:
    model = lively(tiny(architecture, "detectron2"))
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    expected = model.predict(image)
    assert len(expected) >= 5
    for exact in (False, True):
        found = model.optimize(exact=exact).predict(image)
        assert found.labels.tolist() == expected.labels.tolist()
        torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(found.mask_probs, expected.mask_probs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("architecture", ["cascade_mask_vitdet_b", "cascade_mask_swin_b"])
def test_the_network_is_one_graph(architecture: str) -> None:
    model = lively(tiny(architecture, "detectron2"))
    batch = model.prepare([model.resize(np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8))])
    with torch.no_grad():
        exported = torch.export.export(Extract(model), (batch.pixels,)).module()
        for one, other in zip(exported(batch.pixels), model.extract(batch.pixels), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


class Extract(torch.nn.Module):
    """A model's pyramid alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return self.model.extract(pixels)
