"""Where workers compute, and that a worker computes what ``predict`` does."""

import math

import pytest
import torch

import cascadezoo
from cascadezoo.errors import UsageError
from cascadezoo.serving.models import Models, Worker, placed
from cascadezoo.serving.settings import Settings
from cascadezoo.shapes.dataset import scene

CPU, ENTRY = torch.device("cpu"), "cascade_mask_r18_fpn_shapes.cascadezoo"


@pytest.fixture
def threads():
    """Sets how many threads torch has, for the time of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [(1, None, [1]), (2, None, [1, 1]), (6, None, [2, 2, 2]), (6, 2, [3, 3]), (2, 3, [1, 1, 1]), (4, 1, [4])],
)
def test_workers_of_a_cpu_share_its_cores(threads, cores: int, workers: int | None, expected: list[int]) -> None:
    threads(cores)
    assert placed(CPU, workers, 0) == [Worker(CPU, each) for each in expected]


def test_workers_of_gpus_go_round_them_unless_one_was_named(threads) -> None:
    threads(4)
    devices = lambda *arguments: [str(worker.device) for worker in placed(*arguments)]  # noqa: E731
    assert devices(torch.device("cuda"), None, 2) == ["cuda:0"]
    assert devices(torch.device("cuda"), 3, 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices(torch.device("cuda:1"), 2, 2) == ["cuda:1", "cuda:1"]
    assert devices(torch.device("mps"), None, 0) == ["mps"]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(ENTRY, device="cpu", workers=1, precision="fp32", optimize=None, score=0.5, weights=None)


def test_a_worker_finds_what_predict_finds_bit_for_bit(models, threads) -> None:
    threads(models.workers[0].threads)
    images = [scene("val", number).image for number in range(3)]
    model = cascadezoo.load(ENTRY, pretrained=True).optimize("cpu")
    (work,) = models.works()
    found = [model.predict(image) for image in images]
    got = [work([image])[0] for image in images]
    sure = [each[each.scores >= 0.5] for each in found]
    assert [each.to_coco(1) for each in got] == [each.to_coco(1) for each in sure]
    assert 0 < sum(map(len, got)) < sum(map(len, found))


def test_unprepared_and_with_a_low_score_it_finds_what_such_a_model_finds(threads) -> None:
    threads(1)
    models = Models(ENTRY, device="cpu", workers=1, precision="fp32", optimize=False, score=0.01, weights=None)
    assert models.facts["optimized"] is False
    image = scene("val", 0).image
    found = cascadezoo.load(ENTRY, pretrained=True, box_score_thresh=0.01).predict(image)
    (work,) = models.works()
    (got,) = work([image])
    assert got.to_coco(1) == found.to_coco(1)
    assert got.scores.min() < 0.05


def test_images_of_equal_padded_size_may_share(models) -> None:
    image = scene("val", 0).image
    assert models.padded(image) == models.padded(image[:-1])
    assert models.padded(image) != models.padded(image[:100])


def test_facts_name_the_weights_and_their_terms(models) -> None:
    entry = cascadezoo.info(ENTRY)
    origin = cascadezoo.load(ENTRY, pretrained=True).origin
    assert models.facts["content_digest"] == origin.published_digest
    assert models.facts["entry"] == entry.name
    assert models.facts["weights_license"] == "Apache-2.0"
    assert models.facts["attribution"] == origin.attribution
    assert [each["name"] for each in models.facts["categories"]][:2] == ["ellipse", "rectangle"]
    assert models.facts["optimized"] is True
    assert models.facts["device"] == ["cpu"]


def test_no_more_pixels_are_promised_than_are_read(monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "1000")
    with pytest.raises(UsageError, match="no image of more than 1,000 pixels is read here"):
        Settings(max_pixels=1001)
    assert Settings(max_pixels=1000).max_pixels == 1000


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_wait": math.nan}, "max_wait nan of a server: give a finite number, 0 or more"),
        ({"max_wait": math.inf}, "max_wait inf"),
        ({"max_body": 0}, "max_body 0 of a server: give a finite number, 1 or more"),
        ({"body_seconds": math.inf}, "body_seconds inf"),
        ({"max_requests": -1}, "max_requests -1"),
        ({"score": math.nan}, "score nan is not from 0 to 1"),
    ],
)
def test_limits_that_are_none_are_refused(given: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        Settings(**given)
