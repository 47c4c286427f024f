"""Gradients in evaluation mode, as torchvision's detectors have them, and results that are ordinary tensors."""

import copy
import io
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import Tensor

from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.loading import build
from cascadezoo.modeling.preprocess import ResizedImage, collate
from cascadezoo.providers import SPECS
from cascadezoo.providers.paddle import SPECS as PADDLE

from tiny import lively, tiny

KINDS = [
    ("cascade_mask_r50_fpn", "mmdet"),
    ("cascade_mask_r50_dconv_c3c5_fpn", "mmdet"),
    ("cascade_mask_r50_fpn", "detectron"),
    ("mask_r50_c4", "paddle"),
    ("cascade_mask_internimage_l_fpn", "internimage"),
    ("mask_internimage_t_fpn", "internimage"),
    ("mask_swin_t_fpn", "swin"),
    ("cascade_mask_convnext_t_fpn", "convnext"),
]


def image() -> Tensor:
    return torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("architecture", "publisher"), KINDS)
def test_P8_scores_and_boxes_of_eval_mode_have_gradients(architecture: str, publisher: str) -> None:
    model = lively(tiny(architecture, publisher))
    source = image().requires_grad_()
    (found,) = model([source])
    assert len(found["boxes"]) > 3
    assert found["masks"].dtype == torch.bool
    (found["scores"].sum() + found["boxes"].sum()).backward()
    missing = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    # objectness only orders the proposals, and masks are truth values
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in missing if not name.startswith("mask_heads")} == {
        "rpn.objectness"
    }
    assert source.grad.abs().sum() > 0
    with torch.no_grad():
        assert not model([source])[0]["scores"].requires_grad


def test_P8_gradients_are_the_finite_differences() -> None:
    """Of the last stage's layers, in float64, which move neither a proposal nor the boxes that are pooled."""
    model = lively(tiny("cascade_r50_fpn")).double()
    head = model.box_heads[-1]

    def value() -> Tensor:
        (found,) = model([image()])
        return found["scores"][0] + found["boxes"][0].sum() / 100

    value().backward()
    for parameter in (head.cls_score.weight, head.bbox_pred.bias, head.fcs[0].weight):
        flat, step = parameter.detach().flatten(), 1e-3
        index = parameter.grad.abs().argmax()
        flat[index] += step
        above = value().item()
        flat[index] -= 2 * step
        below = value().item()
        flat[index] += step
        slope = parameter.grad.flatten()[index].item()
        assert slope == pytest.approx((above - below) / (2 * step), rel=0.02)


def test_P8_the_gradient_of_an_image_is_that_of_its_interpolation() -> None:
    """Four pixels to two by two: every pixel of the image counts 255 / std / 4 towards the sum of half as many."""
    spec = tiny("cascade_r50_fpn").preprocess
    for rule in (tiny("cascade_r50_fpn").conventions.resize, PADDLE["cascade_r50_fpn"].conventions.resize):
        source = torch.full((3, 4, 4), 0.5, requires_grad=True)
        resized = ResizedImage(torch.full((2, 2, 3), 128, dtype=torch.uint8).numpy(), (4, 4), 0.5, source)
        plain = collate([resized._replace(source=None)], spec, rule, torch.device("cpu"), torch.float32)
        batch = collate([resized], spec, rule, torch.device("cpu"), torch.float32)
        assert torch.equal(batch.pixels, plain.pixels)  # the publisher's levels, whatever the gradient
        batch.pixels.sum().backward()
        each = 4 * 255 / torch.tensor(spec.std) / 16
        torch.testing.assert_close(source.grad.mean((1, 2)), each)


def test_P8_the_gradient_of_a_pixel_is_its_part_of_the_mean_that_covers_it() -> None:
    """Eight columns to two: the first is the mean of the columns 0 to 5 by a triangle around 2, of weights 5, 7, 7, 5,
    3 and 1 in 28, where OpenCV's would be of columns 1 and 2 alone."""
    spec = SPECS["detectron2"]["cascade_mask_r50_fpn"]
    source = torch.full((3, 2, 8), 0.5, requires_grad=True)
    image = ResizedImage(torch.full((2, 2, 3), 128, dtype=torch.uint8).numpy(), (2, 8), 0.25, source)
    batch = collate([image], spec.preprocess, spec.conventions.resize, torch.device("cpu"), torch.float32)
    batch.pixels[0, :, 0, 0].sum().backward()
    weights = torch.tensor([5.0, 7, 7, 5, 3, 1, 0, 0]) / 28
    torch.testing.assert_close(source.grad[:, 0], (weights * 255).expand(3, 8))


def ordinary(found: Detections) -> None:
    assert not found.boxes.is_inference()
    assert not found.boxes.requires_grad
    before = found.boxes.clone()
    boxes = found.boxes
    boxes *= 2
    found.boxes *= 2
    assert torch.equal(found.boxes, before * 4)
    found.scores.clamp_(max=0.5)
    weight = torch.ones((), requires_grad=True)
    (found.boxes * weight).sum().backward()
    assert weight.grad == found.boxes.sum()
    if found.masks is not None:
        found.masks.logical_not_()
        found.mask_probs.mul_(0.5)
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert torch.equal(twin.boxes, found.boxes)
    torch.save(found, io.BytesIO())
    assert found.boxes.requires_grad_().requires_grad


def test_P8_outputs_of_predict_are_ordinary_tensors(mask_model: Detector) -> None:
    resized = mask_model.resize(image())
    for found in (
        mask_model.predict(image()),
        mask_model.predict([image(), image()], batch_size=2)[1],
        mask_model.predict(image(), tta=True),
        mask_model.detect([resized])[0],
        mask_model.predict(image())[:5],
    ):
        ordinary(found)


def test_P8_dicts_can_be_edited_in_place(mask_model: Detector) -> None:
    with torch.no_grad():
        (out,) = mask_model([image()])
    out["boxes"] *= 2
    (out,) = mask_model([image()])
    out["boxes"] *= 2
    out["boxes"].sum().backward()
    mask_model.zero_grad(set_to_none=True)


def test_P8_predict_keeps_no_graph_whatever_the_caller_does(mask_model: Detector) -> None:
    with torch.enable_grad():
        assert not mask_model.predict(image().requires_grad_()).scores.requires_grad
        assert torch.is_grad_enabled()


def test_P8_masks_first_asked_for_in_inference_mode_are_ordinary(mask_model: Detector) -> None:
    found = mask_model.predict(image())
    with torch.inference_mode():
        masks = found.masks
    assert masks is found.masks
    masks.logical_not_()


def test_P8_detections_with_gradients_can_be_pasted_drawn_and_written() -> None:
    for architecture, publisher in KINDS[:2]:  # two ways of pasting
        model = lively(tiny(architecture, publisher))
        batch = model.prepare([model.resize(image())])
        output = model.infer(batch)
        assert output.masks.requires_grad  # mask probabilities are differentiable
        found = model.detections(output, output.on_host(), [(60, 90)])[0]
        assert len(found.rles()) == len(found.to_coco(1)) == len(found)
        assert found.plot(image().permute(1, 2, 0).mul(255).byte().numpy()).size == (90, 60)


def test_P8_a_model_made_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        model = build(tiny("cascade_r50_fpn"))
    model.extract(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert model.neck.lateral[0].weight.grad is not None


def test_P8_no_other_tensor_takes_a_fields_place(mask_model: Detector) -> None:
    found = mask_model.predict(image())
    with pytest.raises(FrozenInstanceError, match=r"dataclasses\.replace"):
        found.boxes = found.boxes * 2
    assert torch.equal(replace(found, boxes=found.boxes * 2).boxes, found.boxes * 2)
