"""A user's own augmentation changes image, boxes and masks together, the same for a seed, and a run goes on with it."""

import functools
import json
import multiprocessing
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

import cascadezoo
from cascadezoo.coco.dataset import ImageRecord
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import UsageError
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.hook import Hook, name_of, require_portable
from cascadezoo.training.preconditions import require_startable

from learning import adamw, learner, options

HEIGHT, WIDTH = 6, 10
SQUARE = [np.array([[1, 2], [4, 2], [4, 5], [1, 5]], dtype=np.float64)]  # columns 1 to 3, rows 2 to 4
RUNS = {"size": [6, 10], "counts": [48, 3, 9]}  # column 8, rows 0 to 2
IMAGE = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)


def record() -> ImageRecord:
    """A square, and a crowd that is a column's part."""
    return ImageRecord(
        image_id=7, path=Path("a.png"), height=HEIGHT, width=WIDTH,
        boxes=np.array([[1, 2, 4, 5], [8, 0, 9, 3]], np.float32), labels=np.array([2, 1]),
        segmentations=(SQUARE, RUNS), crowd=np.array([False, True]),
    )  # fmt: skip


def points(changed: ImageRecord) -> list[list[list[int]]]:
    """Row and column of the pixels of each mask."""
    masks = [bitmap(mask, changed.height, changed.width) for mask in changed.segmentations if mask is not None]
    return [np.argwhere(mask).tolist() for mask in masks]


def block(rows: range, columns: range) -> list[list[int]]:
    return [[row, column] for row in rows for column in columns]


def mirrored(image: np.ndarray, target: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    width = image.shape[1]
    boxes = target["boxes"].copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return image[:, ::-1], {**target, "boxes": boxes, "masks": target["masks"][:, :, ::-1]}


class Compose:
    """Mirrors as albumentations' Compose is called: boxes as rows with further columns, masks that are all kept."""

    def __init__(self, form: str, keep: int = 2) -> None:
        params = SimpleNamespace(format=form, label_fields=["class_labels"])
        self.processors = {"bboxes": SimpleNamespace(params=params)}
        self.keep, self.seeds = keep, []

    def set_random_state(self, generator: np.random.Generator, python: random.Random) -> None:
        self.seeds.append((int(generator.integers(10**9)), python.random()))

    def __call__(self, *, image: np.ndarray, bboxes: np.ndarray, masks: Any, class_labels: list[int]) -> dict[str, Any]:
        assert class_labels == [2, 1]
        rows = bboxes.copy()
        form, whole = self.processors["bboxes"].params.format, image.shape[1]
        width = 1 if form in ("albumentations", "yolo") else whole
        if form in ("pascal_voc", "albumentations"):
            rows[:, [0, 2]] = width - bboxes[:, [2, 0]]
        else:
            rows[:, 0] = width - bboxes[:, 0] - (bboxes[:, 2] if form == "coco" else 0)
        kept = [tuple(row) for row in rows[::-1][: self.keep]]  # in another order
        return {"image": image[:, ::-1], "bboxes": kept, "masks": masks[:, :, ::-1], "class_labels": class_labels}


MIRRORS = {
    "a callable": mirrored,
    "torchvision": v2.RandomHorizontalFlip(p=1),
    "torchvision's Compose": v2.Compose([v2.RandomHorizontalFlip(p=1), v2.SanitizeBoundingBoxes(min_size=1)]),
    "torchvision in another format": v2.Compose([v2.ConvertBoundingBoxFormat("CXCYWH"), v2.RandomHorizontalFlip(p=1)]),
    **{f"albumentations' {form}": Compose(form) for form in ("pascal_voc", "albumentations", "coco", "yolo")},
}


@pytest.mark.parametrize("name", MIRRORS)
def test_image_boxes_and_masks_change_together(name: str) -> None:
    """Of 10 columns, edge x goes to 10 - x and column c to 9 - c."""
    image, changed = Hook(MIRRORS[name], 5)(IMAGE, record(), 0, with_masks=True)
    assert (image == IMAGE[:, ::-1]).all()
    order = [1, 0] if name.startswith("albumentations") else [0, 1]
    assert np.allclose(changed.boxes[order], [[6, 2, 9, 5], [1, 0, 2, 3]], atol=1e-5)
    assert changed.labels[order].tolist() == [2, 1]
    assert changed.crowd[order].tolist() == [False, True]
    found = points(changed)
    assert [found[i] for i in order] == [block(range(2, 5), range(6, 9)), block(range(3), range(1, 2))]
    assert (changed.image_id, changed.height, changed.width) == (7, HEIGHT, WIDTH)


def test_what_vanishes_goes_with_its_label_and_mask() -> None:
    """A crop of the columns 2 to 6 leaves two columns of the square; albumentations leaves boxes out by itself."""

    def cropped(image: np.ndarray, target: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        return image[:, 2:7], {**target, "boxes": target["boxes"] - (2, 0, 2, 0), "masks": target["masks"][:, :, 2:7]}

    image, changed = Hook(cropped, 5)(IMAGE, record(), 0, with_masks=True)
    assert (image == IMAGE[:, 2:7]).all()
    assert (changed.boxes.tolist(), changed.labels.tolist(), changed.crowd.tolist()) == ([[0, 2, 2, 5]], [2], [False])
    assert points(changed) == [block(range(2, 5), range(2))]
    assert (changed.height, changed.width) == (6, 5)
    _, changed = Hook(Compose("coco", keep=1), 5)(IMAGE, record(), 0, with_masks=True)
    assert (changed.boxes.tolist(), changed.labels.tolist(), changed.crowd.tolist()) == ([[1, 0, 2, 3]], [1], [True])
    assert points(changed) == [block(range(3), range(1, 2))]


def test_torchvision_leaves_objects_out() -> None:
    crop = v2.Compose([v2.Lambda(lambda x: v2.functional.crop(x, 0, 2, 6, 5), tv_tensors.TVTensor),
                       v2.SanitizeBoundingBoxes(min_size=1)])  # fmt: skip
    image, changed = Hook(crop, 5)(IMAGE, record(), 0, with_masks=True)
    assert (image == IMAGE[:, 2:7]).all()
    assert (changed.boxes.tolist(), changed.labels.tolist()) == ([[0, 2, 2, 5]], [2])


def test_masks_that_come_back_stay_the_polygons_of_the_data() -> None:
    darker = lambda image, target: (image // 2, target)  # noqa: E731
    image, changed = Hook(darker, 5)(IMAGE, record(), 0, with_masks=True)
    assert (image == IMAGE // 2).all()
    assert changed.segmentations == (SQUARE, RUNS)
    _, changed = Hook(v2.ColorJitter(brightness=0.9), 5)(IMAGE, record(), 0, with_masks=True)
    assert changed.segmentations == (SQUARE, RUNS)
    _, changed = Hook(mirrored, 5)(IMAGE, record(), 0, with_masks=True)
    assert isinstance(changed.segmentations[0], dict)


def test_networks_without_masks() -> None:
    for flip in (v2.RandomHorizontalFlip(p=1), lambda i, t: (i[:, ::-1], {**t, "boxes": [[6, 2, 9, 5], [1, 0, 2, 3]]})):
        _, changed = Hook(flip, 5)(IMAGE, record(), 0, with_masks=False)
        assert changed.boxes.tolist() == [[6, 2, 9, 5], [1, 0, 2, 3]]
        assert changed.segmentations == (None, None)


def test_images_without_objects() -> None:
    none = record()._replace(
        boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), segmentations=(), crowd=np.zeros(0, np.bool_)
    )
    for flip in (mirrored, v2.RandomHorizontalFlip(p=1)):
        image, changed = Hook(flip, 5)(IMAGE, none, 0, with_masks=True)
        assert (image == IMAGE[:, ::-1]).all()
        assert changed.boxes.shape == (0, 4)


def drawn_numbers(image: np.ndarray, target: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    numbers = [random.random() * 256, np.random.rand() * 256, float(torch.rand(())) * 256]  # noqa: NPY002
    image[0, 0] = np.array(numbers).astype(np.uint8)
    return image, target


def test_a_seed_decides_all_that_is_random_and_nothing_outside() -> None:
    hook = Hook(drawn_numbers, 5)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    first, again, other = (hook(IMAGE, record(), seed, with_masks=False)[0][0, 0] for seed in (2**62, 2**62, 5))
    assert (first == again).all()
    assert (first != other).all()
    assert len(set(first.tolist())) > 1
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states  # noqa: NPY002
    compose = Compose("coco")
    for seed in (1, 1, 2):
        Hook(compose, 5)(IMAGE, record(), seed, with_masks=True)
    assert compose.seeds[0] == compose.seeds[1] != compose.seeds[2]


def replaced(**changes: Any) -> Any:
    return lambda image, target: (changes.get("image", image), {**target, **changes})


WRONG = {
    "a tensor": (replaced(image=torch.zeros(3, 4, 4)), r"on image 7, gives a Tensor, where uint8 .* is wanted"),
    "floats": (replaced(image=IMAGE / 255), r"an image of float64 \(6, 10, 3\), where uint8 .* is wanted"),
    "torchvision's floats": (v2.ToDtype(torch.float32), r"an image of float32 \(6, 10, 3\)"),
    "nan": (replaced(boxes=np.full((2, 4), np.nan)), "boxes that are not finite"),
    "a label": (replaced(labels=np.array([0, 5])), "labels that are no whole numbers from 0 to 4"),
    "labels": (replaced(labels=np.array([0])), r"2 boxes, but labels \(1,\) and crowd \(2,\)"),
    "masks": (replaced(masks=np.zeros((2, 5, 5))), r"masks \(2, 5, 5\) for 2 boxes in an image of 6 x 10"),
    "text": (replaced(boxes="here"), "objects that are no arrays of the kinds wanted"),
    "no labels": (lambda image, target: (image, {"boxes": target["boxes"]}), "no 'labels'"),
    "the image alone": (lambda image, target: image, "a ndarray, not an image and a dict of its objects"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_it_gives_is_checked(what: str) -> None:
    augment, message = WRONG[what]
    with pytest.raises(UsageError, match=message):
        Hook(augment, 5)(IMAGE, record(), 0, with_masks=True)


def test_what_cannot_move_boxes_is_refused_before_the_run() -> None:
    with pytest.raises(UsageError, match="moves no boxes: put it into"):
        Hook(SimpleNamespace(processors={}), 5)


def test_names() -> None:
    assert name_of(mirrored) == f"{__name__}.mirrored"
    assert name_of(v2.RandomHorizontalFlip(p=1)) == "RandomHorizontalFlip(p=1)"
    partial = functools.partial(mirrored)
    assert re.fullmatch(r"functools.partial\(<function mirrored>\)", name_of(partial))


def test_where_workers_are_not_forked_it_has_to_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    require_portable(lambda *_: None, workers=2)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    require_portable(v2.RandomHorizontalFlip(p=1), workers=2)
    require_portable(lambda *_: None, workers=0)
    with pytest.raises(UsageError, match=r"<lambda> cannot be sent to worker processes .*workers=0"):
        require_portable(lambda *_: None, workers=2)


def noisy(image: np.ndarray, target: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    noise = np.random.randint(0, 60, image.shape, dtype=np.uint8)  # noqa: NPY002
    return image + noise, target


def test_a_run_with_it_is_the_same_with_workers_and_goes_on_with_it_alone(drawn, tmp_path: Path, one_thread) -> None:
    recipe = adamw(1e-3, epochs=1)
    whole, parts, without = tmp_path / "whole", tmp_path / "parts", tmp_path / "without"
    final = cascadezoo.train(
        TrainingConfig(**options(drawn, whole)), model=learner(), recipe=recipe, augment=noisy
    )  # fmt: skip
    plain = cascadezoo.train(TrainingConfig(**options(drawn, without)), model=learner(), recipe=recipe)

    def stopping(image: np.ndarray, target: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        if len(list(parts.glob("checkpoint-*"))) and not done:
            raise UsageError("stop")
        return noisy(image, target)

    stopping.__qualname__ = noisy.__qualname__
    done: list[int] = []
    config = TrainingConfig(**options(drawn, parts, save_every=1))
    with pytest.raises(UsageError, match=r"^stop"):
        cascadezoo.train(config, model=learner(), recipe=recipe, augment=stopping)
    begun = json.loads((parts / "config.json").read_text())
    assert begun["augment"] == f"{__name__}.noisy"
    for call, message in (
        (
            lambda: cascadezoo.train(TrainingConfig.read(parts), model=learner(), recipe=recipe, resume=True),
            "go on with",
        ),
        (lambda: require_startable(TrainingConfig.read(parts), resume=True, extend=False), "go on with it in Python"),
        (lambda: cascadezoo.train(config, model=learner(), recipe=recipe, resume=True), "no --augment"),
        (
            lambda: cascadezoo.train(config, model=learner(), recipe=recipe, augment=mirrored, resume=True),
            r"begun with --augment .*noisy, now it has --augment .*mirrored",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    resumed = TrainingConfig(**options(drawn, parts, save_every=1, workers=1))
    again = cascadezoo.train(resumed, model=learner(), recipe=recipe, augment=noisy, resume=True)
    one, same, other = (read_canonical(path)[0] for path in (final, again, plain))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_albumentations_itself(tmp_path: Path) -> None:
    """Needs the package, which the environment of the extras has."""
    A = pytest.importorskip("albumentations")
    params = A.BboxParams(format="coco", label_fields=["kinds"])
    image, changed = Hook(A.Compose([A.HorizontalFlip(p=1)], bbox_params=params), 5)(
        IMAGE, record(), 0, with_masks=True
    )
    assert (image == IMAGE[:, ::-1]).all()
    assert np.allclose(changed.boxes, [[6, 2, 9, 5], [1, 0, 2, 3]], atol=1e-5)
    assert points(changed) == [block(range(2, 5), range(6, 9)), block(range(3), range(1, 2))]
    crop = A.Compose([A.Crop(x_min=2, y_min=0, x_max=7, y_max=6)], bbox_params=A.BboxParams("yolo", ["kinds"]))
    _, changed = Hook(crop, 5)(IMAGE, record(), 0, with_masks=True)
    assert np.allclose(changed.boxes, [[0, 2, 2, 5]], atol=1e-5)
    assert (changed.labels.tolist(), points(changed)) == ([2], [block(range(2, 5), range(2))])
    flips = A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], bbox_params=A.BboxParams("pascal_voc", ["k"]))
    kinds = {Hook(flips, 5)(IMAGE, record(), seed, with_masks=True)[0].tobytes() for seed in range(20)}
    assert len(kinds) == 4  # each by its own chance
    twice = [Hook(flips, 5)(IMAGE, record(), seed, with_masks=True)[0].tobytes() for seed in (3, 4, 3)]
    assert twice[0] == twice[2]
    with pytest.raises(UsageError, match="moves no boxes: put it into"):
        Hook(A.Compose([A.HorizontalFlip()]), 5)
    with pytest.raises(UsageError, match="moves no boxes: put it into"):
        Hook(A.HorizontalFlip(), 5)
    normal = A.Compose([A.Normalize()], bbox_params=params)
    with pytest.raises(UsageError, match="where uint8"):
        Hook(normal, 5)(IMAGE, record(), 0, with_masks=True)
    assert "HorizontalFlip" in name_of(flips)
