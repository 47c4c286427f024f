"""Repeat factor sampling against the paper's formula, by hand; epochs of one length; a run that goes on."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import UsageError
from cascadezoo.spec.recipe import Augmentation, Scales
from cascadezoo.training.classes import ChosenClasses
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.loader import TrainingSet, batches
from cascadezoo.training.sampling import length_of, repeat_factors, turns

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny import tiny

# ten images: class 0 is in all, class 1 in image 3 alone, class 2 in the images 3 and 5, class 3 in none
HELD = np.array([[i, 0] for i in range(10)] + [[3, 1], [3, 2], [5, 2]])
ROOT = math.sqrt(2)


def test_the_published_formula() -> None:
    """f = 1, 0.1, 0.2; with t = 0.4 r = max(1, sqrt(0.4)) = 1, sqrt(4) = 2, sqrt(2)."""
    assert repeat_factors(HELD, 10, 0.4) == pytest.approx([1, 1, 1, 2, 1, ROOT, 1, 1, 1, 1], abs=1e-12)
    assert repeat_factors(HELD, 10, 0.001).tolist() == [1] * 10
    assert repeat_factors(HELD[:0], 3, 1).tolist() == [1, 1, 1]
    # images without any class come once
    assert repeat_factors(np.array([[0, 0]]), 4, 1).tolist() == [2, 1, 1, 1]


def test_the_whole_part_always_comes_and_the_fraction_by_chance() -> None:
    factors = np.array([1, 2, ROOT, 3.25])
    counts = np.array([np.bincount(turns(factors, 1, epoch) % 4, minlength=4) for epoch in range(2000)])
    assert set(counts[:, 0]) == {1}
    assert set(counts[:, 1]) == {2}
    assert set(counts[:, 2]) == {1, 2}
    assert set(counts[:, 3]) == {3, 4}
    assert counts.mean(axis=0) == pytest.approx(factors, abs=0.06)  # five standard deviations of a mean of 2000
    assert turns(np.array([1, 3.0, 1]), 0, 0).tolist() == [0, 1, 4, 7, 2]  # image + turn * 3
    one = [turns(factors, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1, 2, 3)]
    assert one == [turns(factors, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1, 2, 3)]
    assert len(set(map(tuple, one))) > 1


def test_every_epoch_has_the_same_length() -> None:
    """15.5 images on average are 16 in an epoch, and 4 steps of 5; processes share those of one."""
    sizes = np.array([[3, 4]] * 5 + [[4, 3]] * 5)
    factors = np.array([1.0] * 5 + [2.1] * 5)
    assert length_of(factors) == 16
    for epoch in range(30):
        whole = batches(sizes, 5, seed=0, epoch=epoch, factors=factors)
        assert [len(batch) for batch in whole] == [5] * 4
        assert {index % 10 for batch in whole for index in batch} >= set(range(5, 10))
        counts = Counter(index for batch in whole for index in batch)
        assert max(counts.values()) <= 2  # what fills up the last batch
    one = batches(sizes, 6, seed=1, epoch=2, factors=factors)
    parts = [batches(sizes, 2, seed=1, epoch=2, rank=rank, world=3, factors=factors) for rank in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*parts, strict=True)] == one
    ones = np.ones(10)
    assert sorted(i for batch in batches(sizes, 5, seed=1, epoch=0, factors=ones) for i in batch) == list(range(10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two boxes; the first holds the bar (category 40) alone, the second has no objects."""
    folder = tmp_path_factory.mktemp("sampling")
    drawn = draw_set(folder / "images", 4)
    document = json.loads(drawn.annotations.read_text())
    for annotation in document["annotations"]:
        annotation["category_id"] = 40 if annotation["image_id"] == 11 else 3
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] != 12]
    document["annotations"].append({**document["annotations"][-1], "category_id": 7, "iscrowd": 1})
    drawn.annotations.write_text(json.dumps(document))
    return folder


def test_a_set_counts_the_images_that_it_learns_from(folder: Path) -> None:
    """Of three images with objects one holds the bar: sqrt(1 / (1/3)); of four, 2.  Crowds do not count."""
    data = CocoDataset(folder / "images.json", folder / "images")
    assert sorted(map(tuple, data.held.tolist())) == [(0, 2), (2, 0), (3, 0)]
    spec, plain = tiny(num_classes=3), Augmentation(flip=0)
    learned = TrainingSet(data, spec, plain, 0, keep_empty=False, repeat=1.0)
    assert learned.factors == pytest.approx([math.sqrt(3), math.sqrt(1.5), math.sqrt(1.5)])
    assert learned.drawn == 5  # of 4.18
    every = TrainingSet(data, spec, plain, 0, keep_empty=True, repeat=1.0)
    assert every.factors == pytest.approx([2, 1, ROOT, ROOT])
    assert TrainingSet(data, spec, plain, 0).drawn == 4
    bars = ChosenClasses(folder / "images.json", folder / "images", ["bar"])
    assert bars.held.tolist() == [[0, 0]]


def test_an_image_looks_another_way_each_time(folder: Path) -> None:
    data = CocoDataset(folder / "images.json", folder / "images")
    wild = Augmentation(min_sizes=(40, 64), max_size=96, scales=Scales.RANGE)
    samples = TrainingSet(data, tiny(num_classes=3), wild, 0, keep_empty=False, repeat=1.0)
    first, second = samples.sample(0, 0), samples.sample(0, 3)
    assert (first.image_id, first.turn, second.image_id, second.turn) == (11, 0, 11, 1)
    assert first.image.size != second.image.size
    once = TrainingSet(data, tiny(num_classes=3), wild, 0, keep_empty=False).sample(0, 0)
    assert (once.image.pixels == first.image.pixels).all()


def test_a_run_is_as_long_as_its_epochs_and_goes_on_exactly(folder: Path, tmp_path: Path, one_thread) -> None:
    """5 images an epoch, 2 epochs: 10 steps of one."""
    drawn = draw_set(tmp_path / "unused", 1)._replace(annotations=folder / "images.json", images=folder / "images")
    recipe = adamw(1e-3, epochs=2)
    given = options(drawn, tmp_path / "whole", batch_size=1, repeat_factor=1.0, log_every=1, save_every=3)
    final = cascadezoo.train(TrainingConfig(**given), model=learner(), recipe=recipe)
    assert log(tmp_path / "whole", "steps")[-1]["step"] == 10
    said = [record["text"] for record in log(tmp_path / "whole", "note")]
    assert (
        "3 of 3 images hold rare classes and come more than once in an epoch, 1.73 times at the most: an epoch has 5"
        in ("\n".join(said))
    )
    for path in sorted((tmp_path / "whole").glob("checkpoint-*"))[-1:]:
        path.unlink()
    (tmp_path / "whole" / "final.safetensors").rename(tmp_path / "first.safetensors")
    without = TrainingConfig(**{**given, "repeat_factor": None})
    with pytest.raises(UsageError, match=r"begun with --repeat-factor 1\.0, now it has no --repeat-factor"):
        cascadezoo.train(without, model=learner(), recipe=recipe, resume=True)
    again = cascadezoo.train(TrainingConfig(**given), model=learner(), recipe=recipe, resume=True)
    assert again == final
    one, same = read_canonical(tmp_path / "first.safetensors")[0], read_canonical(again)[0]
    assert all(torch.equal(one[name], same[name]) for name in one)
