"""Images that the model's device resizes: planned on the host, uploaded as given, and the same batch as OpenCV's.

No GPU is needed: the choice is forced, and the operator's PyTorch version runs on the CPU.
"""

import warnings

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.modeling import network, preprocess
from cascadezoo.modeling.preprocess import Batch, as_opencv, collate, on_device, plan, resize
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import Interpolation, ResizeStep

from tiny import lively, tiny

RULES = {
    "mmdet": "cascade_r50_fpn",
    "internimage": "cascade_mask_internimage_l_fpn",
    "cascadezoo": "cascade_mask_r18_fpn",
    "detectron": "faster_r50_fpn",
    "paddle": "cascade_r50_fpn",
}
RESIZES = {name: SPECS[name][architecture].conventions.resize for name, architecture in RULES.items()}
INTEL = cv2.ipp.useIPP()  # whose levels of float32 the operator gives
SIZES = [(60, 90), (45, 33), (320, 480), (1, 7), (128, 200)]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's device, whichever it is, resizes what is planned."""
    for module in (preprocess, network):
        monkeypatch.setattr(module, "on_device", lambda *_: True)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "COMPILED", ("cpu", "cuda"))


def both(publisher: str, dtype: torch.dtype = torch.float32, **sides: int) -> tuple[Batch, Batch]:
    """Batches of the same images, resized by the operator and by OpenCV."""
    spec = SPECS[publisher][RULES[publisher]].preprocess.model_copy(update={"min_size": 64, "max_size": 96} | sides)
    made = (
        collate([how(noise(*size), spec, RESIZES[publisher]) for size in SIZES], spec, RESIZES[publisher], CPU, dtype)
        for how in (plan, resize)
    )
    planned, resized = made
    assert planned.pixels.stride() == resized.pixels.stride()
    return planned, resized


@pytest.mark.parametrize("publisher", [name for name, rule in RESIZES.items() if rule.step is ResizeStep.ACHIEVED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_batch_of_integer_levels_is_the_hosts_to_the_last_bit(publisher: str, dtype: torch.dtype, forced) -> None:
    for sides in ({}, {"min_size": 320, "max_size": 533}):
        for ours, hosts in zip(*both(publisher, dtype, **sides), strict=True):
            assert torch.equal(ours, hosts)


def test_a_batch_of_float32_levels_is_nearly_the_hosts(forced) -> None:
    """In units of grey levels; one may lose a digit more when the mean is taken off."""
    (ours, *places), (hosts, *right) = both("detectron")
    std = torch.tensor(SPECS["detectron"][RULES["detectron"]].preprocess.std)[:, None, None]
    assert ((ours - hosts).abs() * std).max() <= (2**-14 if INTEL else 0.05)
    assert all(torch.equal(one, other) for one, other in zip(places, right, strict=True))


@pytest.mark.parametrize("publisher", RULES)
@pytest.mark.parametrize("size", [*SIZES, (640, 963), (640, 961), (2, 5), (1, 4000), (4000, 1), (33, 2000)], ids=str)
def test_a_planned_image_has_the_size_that_it_will_have(publisher: str, size: tuple[int, int]) -> None:
    spec = SPECS[publisher][RULES[publisher]].preprocess.model_copy(update={"min_size": 320, "max_size": 533})
    planned, resized = (how(noise(*size), spec, RESIZES[publisher]) for how in (plan, resize))
    assert planned.size == resized.size == resized.pixels.shape[:2]
    assert (planned.scale, planned.original_size) == (resized.scale, resized.original_size)


def test_images_are_planned_for_a_gpu_with_the_kernel_alone(compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    image, rule = noise(60, 90), RESIZES["mmdet"]
    chosen = [name for name in RULES if on_device(image, RESIZES[name], CUDA)]
    assert chosen == ["mmdet", "internimage", "cascadezoo"] + ["detectron"] * INTEL
    assert not on_device(image, rule, CPU)
    assert on_device(np.empty((2**12, 2**12, 3), np.uint8), rule, CUDA)
    assert not on_device(np.empty((2**12, 2**12 + 1, 3), np.uint8), rule, CUDA)
    monkeypatch.setattr(preprocess, "COMPILED", ("cpu",))
    assert not on_device(image, rule, CUDA)


def test_integers_with_the_nominal_step_are_left_to_opencv() -> None:
    rule = RESIZES["detectron"].model_copy(update={"float32": False})
    assert not as_opencv(rule)
    assert as_opencv(rule.model_copy(update={"step": ResizeStep.ACHIEVED}))
    assert not as_opencv(rule.model_copy(update={"interpolation": Interpolation.CUBIC, "float32": True}))


def test_pillows_resize_is_left_to_pillow(compiled) -> None:
    spec = SPECS["detectron2"]["cascade_mask_r50_fpn"]
    rule, quick = spec.conventions.resize, spec.preprocess.model_copy(update={"min_size": 32, "max_size": 40})
    assert not as_opencv(rule)
    assert not any(on_device(noise(*size), rule, CUDA) for size in SIZES)
    for size in SIZES:
        planned, resized = plan(noise(*size), quick, rule), resize(noise(*size), quick, rule)
        assert (planned.size, planned.scale) == (resized.size, resized.scale)
        assert same(*(collate([image], quick, rule, CPU, torch.float32) for image in (planned, resized)))


@pytest.mark.parametrize("publisher", ["mmdet"] + ["detectron"] * INTEL)
def test_an_opencv_that_resizes_otherwise_resizes_itself(publisher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, opencv = RESIZES[publisher], cv2.resize
    change = 0.0

    def resized(image: np.ndarray, *rest: object, **options: object) -> np.ndarray:
        levels = opencv(image, *rest, **options)
        levels[3, 5, 1] += np.array(change).astype(levels.dtype)
        return levels

    monkeypatch.setattr(cv2, "resize", resized)
    assert as_opencv.__wrapped__(rule)
    change = 1
    assert not as_opencv.__wrapped__(rule)


class Copies(TorchDispatchMode):
    """Counts the copies from one device to another."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].device != torch.device((kwargs or {}).get("device") or args[0].device)
        elif func is torch.ops.aten.copy_.default:
            self.count += args[0].device != args[1].device
        return func(*args, **(kwargs or {}))


def test_a_batch_of_images_as_given_goes_up_in_one_copy(forced) -> None:
    model = lively(tiny())
    images = [model.resize(noise(*size)) for size in SIZES]
    assert all(image.planned and image.pixels.shape[:2] == image.original_size for image in images)
    on_host = model.prepare(images)
    model.to("meta")
    with Copies() as copies:
        batch = model.prepare(images)
    assert copies.count == 1
    assert [(x.shape, x.stride()) for x in batch] == [(x.shape, x.stride()) for x in on_host]
    assert {x.device.type for x in batch} == {"meta"}


def test_what_was_planned_for_another_device_is_resized_by_opencv() -> None:
    """As when a model is moved after its images were planned."""
    model = lively(tiny())
    images = [noise(*size) for size in SIZES]
    planned = [plan(image, model.spec.preprocess, model.spec.conventions.resize) for image in images]
    resized = [model.resize(image) for image in images]
    assert not any(image.planned for image in resized)
    assert same(model.prepare(planned), model.prepare(resized))


def test_an_image_that_wants_gradients_takes_its_batch_along_to_opencv(forced) -> None:
    model = lively(tiny())
    image = torch.rand(3, 60, 90, requires_grad=True)
    wanting, planned = model.resize(image), model.resize(noise(60, 90))
    assert not wanting.planned
    assert wanting.source is image
    batch = model.prepare([wanting, planned])
    batch.pixels.sum().backward()
    assert image.grad is not None
    assert same(Batch(*(x.detach() for x in batch)), model.prepare([wanting._replace(source=None), planned]))


def test_predictions_are_the_same(forced, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(tiny())
    images = [noise(*size) for size in SIZES]
    on_device = model.predict(images, batch_size=2)
    monkeypatch.undo()
    for ours, hosts in zip(on_device, model.predict(images, batch_size=2), strict=True):
        assert torch.equal(ours.boxes, hosts.boxes)
        assert torch.equal(ours.scores, hosts.scores)


def test_an_image_that_must_not_be_written_to_is_none_to_warn_of(forced) -> None:
    model, image = lively(tiny()), noise(60, 90)
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.prepare([model.resize(image)])


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
