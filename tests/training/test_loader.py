"""Batches of an epoch, shared out over processes; samples that depend on seed, epoch and image id alone."""

import json
import pickle
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.errors import BadAnnotations, MissingResource, UnreadableImage, UsageError
from cascadezoo.spec.recipe import Augmentation, Crop, Scales
from cascadezoo.training.loader import Sample, TrainingSet, batches, training_loader

from tiny import tiny

MASKS, BOXES = tiny(num_classes=2), tiny("cascade_r50_fpn", num_classes=2)
WILD = Augmentation(
    min_sizes=(40, 64), max_size=96, scales=Scales.RANGE,
    crop=Crop(min_sizes=(30, 50), max_size=90, smallest=24, largest=40),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images 10, 20, … 90; the last is empty, the one before holds only a crowd; every third is upright."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 10):
        height, width = (48, 32) if number % 3 == 0 else (32, 48)
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        images.append({"id": number * 10, "file_name": f"{number}.png", "height": height, "width": width})
        for which in range(2 if number < 8 else 9 - number):
            x, y, side = ((4, 5, 20), (27, 27, 4))[which]
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {"id": len(annotations), "image_id": number * 10, "category_id": 3 + 5 * which, "iscrowd": number // 8,
                 "bbox": [x, y, side, side], "segmentation": [polygon]}
            )  # fmt: skip
    categories = [{"id": 3, "name": "three"}, {"id": 8, "name": "eight"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def data(folder: Path) -> CocoDataset:
    return CocoDataset(folder / "instances.json", folder)


def fingerprint(sample: Sample) -> tuple[bytes, ...]:
    masks = sample.targets.masks
    return (
        str(sample.image_id).encode(),
        sample.image.pixels.tobytes(),
        *(t.numpy().tobytes() for t in (sample.targets.boxes, sample.targets.labels, sample.targets.crowd)),
        b"" if masks is None else masks.windows.numpy().tobytes() + masks.pixels.numpy().tobytes(),
    )


def seen(loader: Iterable[list[Sample]]) -> list[list[tuple[bytes, ...]]]:
    return [[fingerprint(sample) for sample in batch] for batch in loader]


def test_a_sample(data: CocoDataset) -> None:
    """At twice the size of the image 48 x 32, boxes and masks are doubled."""
    sample = TrainingSet(data, MASKS, Augmentation(flip=0), seed=0).sample(0, 0)
    assert (sample.image_id, sample.image.size) == (10, (64, 96))
    targets = sample.targets
    assert targets.boxes.dtype == torch.float32
    assert targets.boxes.tolist() == [[8, 10, 48, 50], [54, 54, 62, 62]]
    assert targets.labels.dtype == torch.int64
    assert targets.labels.tolist() == [0, 1]  # of the ids 3 and 8
    masks = targets.masks.bitmaps(torch.arange(2))
    assert masks.dtype == torch.uint8
    assert masks.shape == (2, 64, 96)
    assert masks.sum(dim=(1, 2)).tolist() == [40 * 40, 8 * 8]
    assert masks[0, 10:50, 8:48].all()
    assert len(targets.masks.pixels) == 40 * 40 + 8 * 8  # no pixel outside the objects' windows
    assert targets.crowd.dtype == torch.bool
    assert targets.crowd.tolist() == [False, False]


def test_a_sample_of_a_network_whose_targets_are_drawn(data: CocoDataset) -> None:
    """Its polygons, at twice the size; a worker process hands the same on."""
    spec = tiny("cascade_mask_r50_fpn", "paddle", num_classes=2)
    samples = TrainingSet(data, spec, Augmentation(flip=0), seed=0)
    outlines = samples.sample(0, 0).targets.masks.polygons
    assert outlines.lengths.tolist() == [4, 4]
    assert outlines.points.tolist()[::2] == [[8, 10], [48, 50], [54, 54], [62, 62]]
    for workers in (0, 1):
        loaded = [sample for batch in training_loader(samples, 3, epoch=0, workers=workers) for sample in batch]
        polygons = {sample.image_id: sample.targets.masks.polygons for sample in loaded}
        assert torch.equal(polygons[10].points, outlines.points)
        assert polygons[90] is None  # without objects


def test_without_masks(data: CocoDataset) -> None:
    assert TrainingSet(data, BOXES, Augmentation(flip=0), seed=0).sample(0, 0).targets.masks is None


def test_crowds_are_kept_as_such_and_empty_images_have_empty_targets(data: CocoDataset) -> None:
    kept = TrainingSet(data, MASKS, WILD, seed=0)
    assert kept.sample(0, 7).targets.crowd.tolist() == [True]
    targets = kept.sample(0, 8).targets
    assert targets.boxes.shape == (0, 4)
    assert (targets.masks.size, len(targets.masks.windows)) == (kept.sample(0, 8).image.size, 0)


def test_images_without_objects_can_be_left_out(data: CocoDataset) -> None:
    everything = TrainingSet(data, MASKS, WILD, seed=0)
    less = TrainingSet(data, MASKS, WILD, seed=0, keep_empty=False)
    assert (len(everything), len(less)) == (9, 7)
    assert [less.sample(0, i).image_id for i in range(7)] == [10, 20, 30, 40, 50, 60, 70]
    assert less.sizes.tolist()[2] == [48, 32]


def test_a_sample_depends_on_seed_epoch_and_image_alone(data: CocoDataset) -> None:
    one, twin = (TrainingSet(data, MASKS, WILD, seed=5) for _ in range(2))
    assert fingerprint(one.sample(3, 2)) == fingerprint(twin.sample(3, 2))
    one.sample(3, 1)
    assert fingerprint(one.sample(3, 2)) == fingerprint(twin.sample(3, 2))
    assert fingerprint(one.sample(3, 2)) == fingerprint(
        TrainingSet(data, MASKS, WILD, 5, keep_empty=False).sample(3, 2)
    )
    others = [one.sample(epoch, 2) for epoch in range(8)]
    others += [TrainingSet(data, MASKS, WILD, seed=seed).sample(3, 2) for seed in (-1, 6, 7)]
    assert len({fingerprint(sample) for sample in others}) >= 10
    assert len({min(one.sample(0, index).image.size) for index in range(9)}) > 4  # of 25: each its own chance


def test_labels_follow_the_objects_that_a_crop_leaves(data: CocoDataset) -> None:
    training_set, left = TrainingSet(data, MASKS, WILD, seed=0), Counter()
    for epoch in range(60):
        targets = training_set.sample(epoch, 0).targets
        assert len(targets.labels) == len(targets.boxes) == len(targets.masks.windows) == len(targets.crowd)
        left[tuple(targets.labels.tolist())] += 1
    assert set(left) == {(0, 1), (0,), (1,)}


SIZES = np.array([[3, 4]] * 23 + [[4, 3]] * 14 + [[4, 4]] * 6)  # 23 wide, 20 not


def test_an_epoch_holds_every_image_once_and_fills_up_the_last_batch() -> None:
    for batch_size, world in ((1, 1), (4, 1), (4, 2), (2, 3), (50, 1)):
        ranks = [batches(SIZES, batch_size, seed=1, epoch=2, rank=rank, world=world) for rank in range(world)]
        assert {len(rank) for rank in ranks} == {-(-43 // (batch_size * world))}
        assert {len(batch) for rank in ranks for batch in rank} == {batch_size}
        counts = Counter(index for rank in ranks for batch in rank for index in batch)
        assert set(counts) == set(range(43))
        assert sum(counts.values()) == 43 + -43 % (batch_size * world)
        assert max(counts.values()) <= 2


def test_processes_share_the_batches_of_one() -> None:
    whole = batches(SIZES, 6, seed=1, epoch=2)
    parts = [batches(SIZES, 2, seed=1, epoch=2, rank=rank, world=3) for rank in range(3)]
    assert [[*one, *two, *three] for one, two, three in zip(*parts, strict=True)] == whole


def test_shapes_come_together() -> None:
    """Of 23 wide and 20 other images, 20 of each fill batches of 4; the 3 left and one more make the last."""
    found = batches(SIZES, 4, seed=1, epoch=0)
    kinds = [{bool(SIZES[i][1] > SIZES[i][0]) for i in batch} for batch in found]
    assert kinds.count({True}) >= 5
    assert kinds.count({False}) == 5
    assert kinds.index({False}) < 5  # the kinds are shuffled among each other


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = [batches(SIZES, 4, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert orders[0] == batches(SIZES, 4, seed=0, epoch=0)
    assert len({repr(order) for order in orders}) == 4


def test_a_batch_larger_than_the_data_repeats_them() -> None:
    (batch,) = batches(SIZES[:3], 8, seed=0, epoch=0)
    assert sorted(Counter(batch).values()) == [2, 3, 3]


def test_workers_change_nothing(data: CocoDataset) -> None:
    training_set = TrainingSet(data, MASKS, WILD, seed=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*fork")
        alone = seen(training_loader(training_set, 2, epoch=1))
        assert seen(training_loader(training_set, 2, epoch=1, workers=2)) == alone
    assert len(alone) == 5


def test_resuming_goes_on_where_it_stopped(data: CocoDataset) -> None:
    training_set = TrainingSet(data, MASKS, WILD, seed=5)
    whole = seen(training_loader(training_set, 2, epoch=1))
    assert seen(training_loader(training_set, 2, epoch=1, skip=2)) == whole[2:]
    assert seen(training_loader(training_set, 2, epoch=1, skip=5)) == []


def test_the_loader_follows_its_rank(data: CocoDataset) -> None:
    training_set = TrainingSet(data, MASKS, WILD, seed=5)
    whole = seen(training_loader(training_set, 4, epoch=0))
    parts = [seen(training_loader(training_set, 2, epoch=0, rank=rank, world=2)) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_it_travels_to_other_processes(data: CocoDataset) -> None:
    training_set = TrainingSet(data, MASKS, WILD, seed=5)
    assert fingerprint(pickle.loads(pickle.dumps(training_set)).sample(0, 0)) == fingerprint(training_set.sample(0, 0))


def test_classes_must_agree(data: CocoDataset) -> None:
    with pytest.raises(UsageError, match=r"instances.json has 2 categories and the network 5 .*num_classes=2"):
        TrainingSet(data, tiny(), WILD, seed=0)


def altered(folder: Path, into: Path, name: str, content: bytes | None) -> CocoDataset:
    """The data set with one image replaced or, after it was read, removed."""
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    data = CocoDataset(into / "instances.json", into)
    (into / name).unlink()
    if content is not None:
        (into / name).write_bytes(content)
    return data


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_an_image_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, content, workers: int) -> None:
    data = altered(folder, tmp_path / "copy", "4.png", content)
    error = MissingResource if content is None else UnreadableImage
    with pytest.raises(error, match=r"^image 40 of .*instances\.json: .*4\.png") as caught:
        list(training_loader(TrainingSet(data, MASKS, WILD, seed=0), 2, epoch=0, workers=workers))
    assert "Traceback" not in str(caught.value)


def test_an_image_of_another_size_is_named(folder: Path, tmp_path: Path) -> None:
    data = altered(folder, tmp_path / "copy", "4.png", (folder / "3.png").read_bytes())
    with pytest.raises(BadAnnotations, match=r"image 40 .* should be 48 x 32 pixels, but .*4\.png has 32 x 48"):
        list(training_loader(TrainingSet(data, MASKS, WILD, seed=0), 2, epoch=0))


def test_masks_must_be_there_for_networks_with_masks(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "instances.json").read_text())
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    data = CocoDataset(tmp_path / "boxes.json", folder)
    assert TrainingSet(data, BOXES, WILD, seed=0).sample(0, 0).targets.masks is None
    with pytest.raises(BadAnnotations, match="no segmentation"):
        TrainingSet(data, MASKS, WILD, seed=0)


def test_there_must_be_objects(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "instances.json").read_text())
    (tmp_path / "none.json").write_text(json.dumps({**document, "annotations": []}))
    with pytest.raises(UsageError, match="no objects"):
        TrainingSet(CocoDataset(tmp_path / "none.json", folder), MASKS, WILD, seed=0)
