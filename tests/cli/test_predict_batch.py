"""``predict --engine ray`` up to where Ray begins, and with a stand-in for it; tests/fleet has the real one."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascadezoo.batch import engine
from cascadezoo.cli import main
from cascadezoo.cli.batch_inputs import find_batch

from tiny import lively, tiny

NAME = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six images and a small model for any name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, ((40, 60), (60, 40))[number % 2] + (3,), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    model = lively(tiny())
    monkeypatch.setattr("cascadezoo.loading.load", lambda name, **_: model)
    return tmp_path


@pytest.fixture
def fake_ray(monkeypatch):
    """What stands for Ray computes here, and records the numbers of the parts that it is given."""
    given: list[list[int]] = []

    def detected(predictor, parts, *, address, actors):
        given.append([part.number for part in parts])
        for part in reversed(parts):  # they are finished in any order
            ids = np.arange(part.first, part.first + len(part.names))
            rows = predictor({"path": list(part.names), "image_id": ids})
            columns = (rows[name] for name in ("height", "width", "detections", "error", "error_type"))
            yield part, [engine._line(*row) for row in zip(ids.tolist(), part.names, *columns, strict=True)]

    monkeypatch.setattr("cascadezoo.cli.predict_batch.find_spec", lambda name: name)
    monkeypatch.setattr(engine, "detected", detected)
    monkeypatch.setattr("cascadezoo.batch.parts._FEWEST", 2)
    return given


def run(*args):
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, args)])
    return ended.value.code


def test_without_ray_it_says_so_before_anything_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(NAME, "gone.jpg", "--engine", "ray") == 3
    words = '--engine ray needs Ray: pip install "ray[data]"'
    assert capsys.readouterr().err == f"cascadezoo: {words}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--actors 2", "--actors is for --engine ray"),
        ("--engine ray --json", "--json is for runs without --engine"),
        ("--engine ray --device cuda:1", "--device cuda:1: Ray says which GPU an actor gets"),
        ("--engine dask", "'dask' is not 'ray'"),
        ("-o file.jsonl", "file.jsonl is a file: give a folder, or --engine ray"),
    ],
)
def test_options_that_do_not_go_together(folder, fake_ray, capsys, options, words):
    Path("file.jsonl").touch()
    assert run(NAME, "photos", *options.split()) == 2
    assert words in capsys.readouterr().err
    assert fake_ray == []


def test_the_annotation_file_is_that_of_a_run_without_engine(folder, fake_ray, capsys):
    Path("photos/3.png").write_bytes(b"no image")
    Path("photos/notes.txt").touch()
    given = (NAME, "photos", "gone.png", "--device", "cpu", "--threshold", "0.05")
    assert run(*given, "-o", "plain") == 4
    plain = capsys.readouterr().err
    assert run(*given, "-o", "found", "--engine", "ray") == 4
    out, err = capsys.readouterr()
    assert sorted(err.splitlines()) == sorted(plain.splitlines())
    assert fake_ray == [[0, 1, 2]]
    assert Path("found/detections.json").read_bytes() == Path("plain/detections.json").read_bytes()
    count = len(json.loads(Path("plain/detections.json").read_text())["annotations"])
    assert count > 10
    assert out == f"6 images, 1 of which failed: {count} detections -> found/detections.json\n"


def test_finished_parts_are_not_computed_again(folder, fake_ray, capsys):
    given = (NAME, "photos", "--device", "cpu", "--threshold", "0.05", "--engine", "ray", "-o", "found.jsonl")
    assert run(*given) == 0
    whole = Path("found.jsonl").read_bytes()
    assert [json.loads(line)["file_name"] for line in whole.splitlines()] == [f"photos/{n}.png" for n in range(6)]
    Path("found.jsonl").unlink()
    Path("found.jsonl.parts/part-000001.jsonl").unlink()
    capsys.readouterr()
    assert run(*given) == 0
    assert capsys.readouterr().err == "cascadezoo: 4 of 6 images are done already\n"
    assert run(*given) == 0  # nothing is left to do, and no Ray is started for it
    assert fake_ray == [[0, 1, 2], [1]]
    assert Path("found.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--threshold", "0.4"), "threshold was 0.5, is 0.4"),
        (("--batch-size", "2"), "batch_size was 1, is 2"),
        (("photos/0.png", "more.png"), "images was 6, is 7"),
        (("--precision", "bf16"), "precision was fp32, is bf16"),
        (("--max-detections", "3"), "max_detections was None, is 3"),
    ],
)
def test_another_run_is_refused_its_folder(folder, fake_ray, capsys, change, words):
    Image.new("RGB", (40, 30)).save("more.png")
    given = (NAME, "photos", "--device", "cpu", "--engine", "ray", "-o", "found.jsonl")
    assert run(*given) == 0
    assert run(*given, *change) == 2
    err = capsys.readouterr().err
    assert f"found.jsonl.parts holds the parts of another run ({words}" in err
    assert len(fake_ray) == 1


def test_what_is_wanted_is_kept_and_known_again(folder, fake_ray):
    (folder / "w.pth").touch()
    given = (NAME, "photos", "--weights", "w.pth", "--device", "cpu", "--engine", "ray", "-o", "found.jsonl")
    wanted = (*given, "--max-detections", "30", "--classes", "class 1,3", "--threshold", "0.2,class 1=0.1")
    assert run(*wanted) == run(*wanted) == 0
    assert len(fake_ray) == 1
    found = [json.loads(line)["detections"] for line in Path("found.jsonl").read_text().splitlines()]
    assert {each["category_id"] for of_image in found for each in of_image} == {2, 3}
    assert max(map(len, found)) == 30
    assert run(*given, "--classes", "class 1") == 2


def test_only_missing_images_need_no_model(folder, fake_ray):
    assert run(NAME, "gone.png", "--engine", "ray") == 3
    assert not Path("predictions").exists()


def test_what_arguments_stand_for(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    Path("photos/deep/er").mkdir(parents=True)
    Path("photos/deep/er/7.png").touch()
    Path("a[1].png").touch()
    Path("names.txt").write_text("photos/1.png\n\n  gone.png \ns3://b/c.png\n~/photos/0.png\nhttps://x.org/a.png\n")
    for given, pieces in (
        (["photos/2.png", "photos/[12].png"], ["photos/2.png", "photos/1.png"]),
        (["photos/**/*.png"], ["photos/0.png", *(f"photos/{n}.png" for n in range(1, 6)), "photos/deep/er/7.png"]),
        (["a[1].png"], ["a[1].png"]),
        (["names.txt"], ["photos/1.png", "gone.png", "s3://b/c.png", str(folder / "photos/0.png")]),
    ):
        assert find_batch(given, None).pieces == pieces
    failed = find_batch(["names.txt", "*.gif", "gone.png", "https://x.org/a.png"], None).failed
    assert [(given, str(error).partition(":")[0]) for given, error in failed] == [
        ("https://x.org/a.png", "https"),
        ("*.gif", "no file fits *.gif"),
        ("gone.png", "no such image"),
        ("https://x.org/a.png", "https"),
    ]


def test_a_secret_in_an_address_is_refused(folder, fake_ray, capsys):
    assert run(NAME, "s3://key:secret@bucket/a.png", "--engine", "ray") == 2
    err = capsys.readouterr().err
    assert "s3://…@bucket/a.png holds credentials, which the results would repeat" in err
    assert "secret" not in err
