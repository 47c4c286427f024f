"""``cascadezoo predict`` with several images at once, and what the network is prepared for: order, errors, ends."""

import json
import os
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo import predictor
from cascadezoo.cli import predict_images
from cascadezoo.errors import UnwritableOutput

from fake_predict import NAME, FakeModel, run, write_image
from tiny import lively, tiny


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--device", "cpu"), [("cpu", "fp32", False)]),
        (("--device", "cpu", "--exact"), [("cpu", "fp32", True)]),
        (("--device", "cpu", "--no-optimize"), []),
        (("--device", "mps"), []),  # only a CPU is prepared for without being asked
    ],
)
def test_the_network_is_optimised_on_a_cpu(folder, calls, monkeypatch, options, expected):
    monkeypatch.setattr(FakeModel, "optimized", [])
    for module in (predict_images, predictor):
        monkeypatch.setattr(module, "usable", torch.device)  # as if it were there
    write_image(folder / "a.png")
    assert run(NAME, "a.png", *options) == 0
    assert FakeModel.optimized == expected


def test_what_cannot_be_is_said_before_weights_are_fetched(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--device", "cpu", "--precision", "fp16") == 2
    assert run(NAME, "a.png", "--no-optimize", "--exact") == 2
    assert run(NAME, "a.png", "--engine", "ray", "--at-once", "2") == 2
    assert calls == []
    err = capsys.readouterr().err
    for sentence in ("half precision is for GPUs", "exact is for an optimised model", "--at-once is for runs without"):
        assert sentence in err


def test_a_narrower_precision_without_optimising_is_autocast(folder, calls, monkeypatch):
    seen, predict = [], FakeModel.predict

    def watched(self, images, **options):
        seen.append(torch.is_autocast_enabled("cpu"))
        return predict(self, images, **options)

    monkeypatch.setattr(FakeModel, "predict", watched)
    write_image(folder / "a.png")
    for precision in ("fp32", "bf16"):
        assert run(NAME, "a.png", "--device", "cpu", "--no-optimize", "--precision", precision) == 0
    assert seen == [False, True]


def test_images_are_worked_on_at_once_and_told_in_order(folder, calls, two_threads, monkeypatch, capsys):
    """The second of each two is done first; what fails is told in its turn."""
    both, predict = threading.Barrier(2, timeout=60), FakeModel.predict

    def slowly(self, images, **options):
        both.wait()
        if images[0].shape[0] % 2 == 0:
            time.sleep(0.05)
        return predict(self, images, **options)

    monkeypatch.setattr(FakeModel, "predict", slowly)
    for number in range(6):
        write_image(folder / "photos" / f"{number}.png", height=30 + number)
    (folder / "photos" / "2.5.png").write_bytes(b"no image")
    before = threading.active_count()
    assert run(NAME, "photos", "--device", "cpu") == 4
    assert threading.active_count() == before
    lines = capsys.readouterr().out.splitlines()
    assert [line[len("photos/") :][:5] for line in lines] == [f"{number}.png" for number in range(6)]
    document = json.loads((folder / "predictions" / "detections.json").read_text())
    assert [(image["id"], image["height"]) for image in document["images"]] == [
        (1, 30), (2, 31), (4, 32), (5, 33), (6, 34), (7, 35)
    ]  # fmt: skip
    assert [failed["file_name"] for failed in document["failed"]] == ["photos/2.5.png"]


@pytest.mark.parametrize("options", [("--at-once", "1"), ("--tta",)])
def test_one_image_at_a_time_takes_all_threads(folder, calls, two_threads, monkeypatch, options):
    seen, predict = set(), FakeModel.predict

    def watched(self, images, **options):
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return predict(self, images, **options)

    monkeypatch.setattr(FakeModel, "predict", watched)
    paths = [write_image(folder / f"{number}.png") for number in range(3)]
    assert run(NAME, *paths, "--device", "cpu", "--threshold", "0.05", *options) == 0
    assert seen == {(threading.get_ident(), 2)}


def test_ctrl_c_ends_all_work_at_once(folder, calls, two_threads, monkeypatch, capsys):
    """And leaves no part of a file, nor a thread."""
    predict, begun = FakeModel.predict, threading.Event()

    def second_never_ends(self, images, **options):
        if images[0].shape[0] == 30:
            begun.wait(60)
            return predict(self, images, **options)
        begun.set()
        while True:
            time.sleep(0.001)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeModel, "predict", second_never_ends)
    monkeypatch.setattr("cascadezoo.cli.predict_local.echo", interrupted)  # when the first image is told of
    paths = [write_image(folder / f"{height}.png", height) for height in (30, 31, 32)]
    before = threading.active_count()
    assert run(NAME, *paths, "--device", "cpu") == 130
    assert threading.active_count() == before
    assert capsys.readouterr().err.strip() == "cascadezoo: interrupted"
    assert os.listdir("predictions") == ["30.jpg"]


def test_a_full_disk_is_told_for_each_picture(folder, calls, two_threads, monkeypatch, capsys):
    def full(path, *_):
        raise UnwritableOutput(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr("cascadezoo.outputs.pictures.whole_file", full)
    paths = [write_image(folder / f"{number}.png") for number in range(3)]
    assert run(NAME, *paths, "--device", "cpu") == 4
    err = capsys.readouterr().err.splitlines()
    assert err == [f"cascadezoo: predictions/{n}.jpg cannot be written: No space left on device" for n in range(3)]


def test_the_network_finds_the_same_whichever_way_images_share_the_cores(folder, monkeypatch, two_threads):
    monkeypatch.setattr("cascadezoo.loading.load", lambda name, **_: lively(tiny()))
    rng = np.random.default_rng(0)
    paths = []
    for number in range(4):
        paths.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (60 + 20 * number, 90, 3), dtype=np.uint8)).save(paths[-1])
    documents = []
    for threads, options in ((1, ("--at-once", "1")), (2, ())):
        torch.set_num_threads(threads)
        assert run(NAME, *paths, "--device", "cpu", "--threshold", "0.05", *options) == 0
        documents.append((folder / "predictions" / "detections.json").read_text())
    assert len(json.loads(documents[0])["annotations"]) > 4
    assert documents[0] == documents[1]
