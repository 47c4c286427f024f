import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_predict import NAME, FakeModel, run, write_image
from tiny import lively, tiny


def test_test_time_augmentation_is_asked_for(folder, calls):
    write_image(folder / "a.png")
    FakeModel.tta.clear()
    assert run(NAME, "a.png") == run(NAME, "a.png", "--tta") == 0
    assert FakeModel.tta == [False, True]


def test_one_image(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--device", "cpu") == 0
    expected = {"weights": None, "pretrained": True, "device": "cpu", "min_size": None, "max_size": None}
    assert calls == [(NAME, expected)]
    out, err = capsys.readouterr()
    assert out == f"a.png: 2 detections (1 person, 1 dog) -> {Path('predictions', 'a.jpg')}\n"
    assert err == ""
    with Image.open("predictions/a.jpg") as annotated:
        assert annotated.size == (40, 30)
        assert (np.abs(np.asarray(annotated).astype(int) - 100) > 20).any()


def test_options_reach_the_model(folder, calls):
    write_image(folder / "a.png")
    (folder / "w.pth").touch()
    sizes = ("--min-size", "320", "--max-size", "533")
    assert run(NAME, "a.png", "--weights", "w.pth", "--device", "cpu:0", *sizes, "-o", "deep/er") == 0
    options = calls[0][1]
    assert (str(options["weights"]), options["pretrained"], str(options["device"])) == ("w.pth", False, "cpu:0")
    assert (options["min_size"], options["max_size"]) == (320, 533)
    assert {path.name for path in (folder / "deep" / "er").iterdir()} == {"a.jpg", "detections.json"}


def test_the_default_device_is_the_best_there_is(folder, calls):
    write_image(folder / "a.png")
    assert run(NAME, "a.png") == 0
    assert calls[-1][1]["device"] is None  # which load takes for it


def test_detections_json_holds_what_reaches_the_threshold(folder, calls):
    write_image(folder / "b" / "x.png", 30, 40)
    write_image(folder / "a.jpg", 50, 20)
    assert run(NAME, "b/x.png", "a.jpg", "--threshold", "0.5") == 0
    document = json.loads((folder / "predictions" / "detections.json").read_text())
    assert document["images"] == [
        {"id": 1, "file_name": str(Path("b", "x.png")), "height": 30, "width": 40},
        {"id": 2, "file_name": "a.jpg", "height": 50, "width": 20},
    ]
    found = [(a["image_id"], a["category_id"], a["bbox"], a["segmentation"]["size"]) for a in document["annotations"]]
    assert found == [
        (1, 1, [0, 0, 20, 30], [30, 40]),
        (1, 18, [2, 2, 6, 4], [30, 40]),
        (2, 1, [0, 0, 10, 50], [50, 20]),
        (2, 18, [2, 2, 6, 4], [50, 20]),
    ]
    assert len(document["categories"]) == 80


@pytest.mark.parametrize(("threshold", "count"), [("0", 3), ("0.51", 1), ("1", 0)])
def test_threshold(folder, calls, capsys, threshold, count):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--threshold", threshold) == 0
    assert f"a.png: {count} detection" in capsys.readouterr().out
    assert len(json.loads((folder / "predictions" / "detections.json").read_text())["annotations"]) == count


@pytest.mark.parametrize(
    ("threshold", "asked"), [("0.5", [None]), ("0.05", [None]), ("0.049", [None, 0.049]), ("0", [None, 0.0])]
)
def test_a_threshold_below_the_models_own_reaches_the_model(folder, calls, threshold, asked):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--threshold", threshold) == 0
    assert [options.get("box_score_thresh") for _, options in calls] == asked
    first, *again = [
        {name: value for name, value in options.items() if name != "box_score_thresh"} for _, options in calls
    ]
    assert all(options == first for options in again)


def test_more_is_detected_below_the_models_own_threshold(folder, monkeypatch):
    def load(name, box_score_thresh=0.2, **_):
        model = lively(tiny())
        selection = model.spec.conventions.selection.model_copy(update={"score_thresh": box_score_thresh})
        conventions = model.spec.conventions.model_copy(update={"selection": selection})
        model.spec = model.spec.model_copy(update={"conventions": conventions})
        return model

    monkeypatch.setattr("cascadezoo.loading.load", load)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    scores = []
    for threshold in ("0.2", "0.1"):
        assert run(NAME, "a.png", "--threshold", threshold, "--device", "cpu") == 0
        document = json.loads((folder / "predictions" / "detections.json").read_text())
        scores.append([annotation["score"] for annotation in document["annotations"]])
    assert min(scores[0]) >= 0.2
    assert 0.1 <= min(scores[1]) < 0.2


def test_json_on_stdout_leaves_the_summaries_to_stderr(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((folder / "predictions" / "detections.json").read_text())
    assert err.startswith("a.png: 2 detections")


def test_a_folder_stands_for_the_images_in_it(folder, calls, capsys):
    for name in ("photos/b.PNG", "photos/a.jpg", "photos/.hidden.png", "photos/deeper/c.png"):
        write_image(folder / name)
    (folder / "photos" / "notes.txt").write_text("no image")
    assert run(NAME, "photos", "photos/a.jpg") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(Path("photos", name)) for name in ("a.jpg", "b.PNG")]


def test_results_never_overwrite_each_other_or_a_source(folder, calls):
    sources = [write_image(folder / name) for name in ("x.jpg", "a/x.png", "b/x.png", "x-2.png", "b/X.png")]
    before = sources[0].read_bytes()
    assert run(NAME, *sources, "--out", ".") == 0
    assert sources[0].read_bytes() == before
    assert len(json.loads((folder / "detections.json").read_text())["images"]) == 5
    names = {path.name for path in folder.glob("*.jpg")}
    assert names == {"x.jpg", "x-2.jpg", "x-3.jpg", "x-4.jpg", "x-2-2.jpg", "X-5.jpg"}


def test_a_bad_image_is_named_and_the_others_run(folder, calls, capsys):
    write_image(folder / "good.png")
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "void").mkdir()
    assert run(NAME, "bad.jpg", "gone.jpg", "void", "good.png") == 4  # the worst of 4, 3 and 3
    out, err = capsys.readouterr()
    assert out.startswith("good.png: 2 detections")
    for sentence in ("no such image: gone.jpg", "no images in the folder void", "bad.jpg is no image"):
        assert sentence in err
    document = json.loads((folder / "predictions" / "detections.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["good.png"]


def test_P11_what_a_folder_holds_beside_images_is_counted_and_named(folder, calls, capsys):
    names = ("a.gif", "b.jfif", "c.tiff", ".hidden.png", "deeper/c.png")
    for name in names:
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path, {".gif": "GIF", ".jfif": "JPEG", ".tiff": "TIFF"}.get(path.suffix, "PNG"))
    for name in ("1.txt", "2.csv", "3", "4.mp4", "5.pdf", "6.png.part"):
        (folder / "photos" / name).touch()
    assert run(NAME, "photos", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert [image["file_name"] for image in document["images"]] == [f"photos/{name}" for name in names[:3]]
    for line in (
        "photos: 5 files are no images and were left out: 1.txt, 2.csv, 3, 5.pdf, 6.png.part",
        "photos: 1 video was left out: 4.mp4",
        "photos: 1 hidden file was left out: .hidden.png",
        "photos: 1 folder inside was not entered: deeper",
    ):
        assert f"cascadezoo: {line}\n" in err
    left_out = {entry["file_name"].removeprefix("photos/"): entry["reason"] for entry in document["left_out"]}
    no_images = dict.fromkeys(("1.txt", "2.csv", "3", "5.pdf", "6.png.part"), "no image")
    assert left_out == {**no_images, "4.mp4": "video", ".hidden.png": "hidden", "deeper": "folder"}
    assert document["failed"] == []
    assert json.loads((folder / "predictions" / "detections.json").read_text()) == document


def test_P11_one_file_left_out_is_spoken_of_alone(folder, calls, capsys):
    write_image(folder / "photos" / "a.png")
    (folder / "photos" / "notes.txt").touch()
    assert run(NAME, "photos") == 0
    assert capsys.readouterr().err == "cascadezoo: photos: 1 file is no image and was left out: notes.txt\n"


def test_P11_bad_images_are_in_the_json_too(folder, calls, capsys):
    write_image(folder / "photos" / "good.png")
    (folder / "photos" / "bad.jpg").write_bytes(b"no image")
    (folder / "photos" / "loop.png").symlink_to("loop.png")
    assert run(NAME, "photos", "gone.jpg", "", "x" * 300, "--json") == 4
    document = json.loads(capsys.readouterr().out)
    assert [image["file_name"] for image in document["images"]] == ["photos/good.png"]
    failed = {entry["file_name"]: entry["error"] for entry in document["failed"]}
    assert failed.keys() == {"photos/bad.jpg", "photos/loop.png", "gone.jpg", "", "x" * 300}
    assert failed["gone.jpg"] == "no such image: gone.jpg"
    assert failed["photos/bad.jpg"].startswith("photos/bad.jpg is no image that can be decoded")


def test_P11_a_url_that_is_not_of_the_web_is_named_as_typed(folder, calls, capsys):
    url = "s3://bucket/a.png"
    assert run(NAME, url) == 3
    assert capsys.readouterr().err == (
        f"cascadezoo: {url} is a URL, not a file: download it first, and give the path of the file\n"
    )


def test_P11_a_tilde_is_the_home_folder(folder, calls, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "me"))
    write_image(folder / "me" / "a.png")
    write_image(folder / "me" / "photos" / "b.png")
    assert run(NAME, "~/a.png", "~/photos", "--out=~/found") == 0
    assert {path.name for path in (folder / "me" / "found").iterdir()} == {"a.jpg", "b.jpg", "detections.json"}


def test_P7_one_warning_for_an_image_of_few_levels(folder, calls, caplog):
    Image.fromarray(np.linspace(0, 4095, 1200).astype(np.uint16).reshape(30, 40)).save(folder / "a.png")
    assert run(NAME, "a.png") == 0
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("a.png has 16-bit levels 0..4095, under a sixteenth of 0..65535")


def test_P1_predict_runs_where_opencv_has_no_logging_module(folder, calls, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.utils", None)  # as in OpenCV 4.10 to 4.12
    monkeypatch.setitem(sys.modules, "cv2.utils.logging", None)
    write_image(folder / "a.png")
    assert run(NAME, "a.png") == 0


def test_P1_what_cannot_be_decoded_is_one_line(folder):
    """A PNG whose pixels are damaged, and a video that is none: OpenCV and FFmpeg have words of their own for them."""
    content = bytearray(write_image(folder / "a.png").read_bytes())
    content[45:50] = b"xxxxx"
    (folder / "a.png").write_bytes(content)
    (folder / "b.mp4").write_bytes(b"no video")
    code = """
from cascadezoo import loading
from cascadezoo.cli import main
from tiny import lively, tiny
loading.load = lambda *args, **options: lively(tiny())
main(["predict", "cascade_mask_r50_fpn_1x.mmdet", "a.png", "b.mp4", "--device", "cpu"])
"""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 4
    assert [line[:18] for line in done.stderr.splitlines()] == ["cascadezoo: a.png ", "cascadezoo: b.mp4 "]


def test_V1_links_in_the_results_folder_and_to_it_stay(folder, calls):
    write_image(folder / "a.png")
    (folder / "disk").mkdir()
    (folder / "out").symlink_to("disk/out")  # which is yet to be made
    assert run(NAME, "a.png", "--out", "out") == 0
    assert sorted(os.listdir(folder / "disk" / "out")) == ["a.jpg", "detections.json"]
    (folder / "disk" / "out" / "detections.json").rename(folder / "kept.json")
    (folder / "out" / "detections.json").symlink_to(folder / "kept.json")
    (folder / "kept.json").write_text("older")
    assert run(NAME, "a.png", "--out", "out") == 0
    assert (folder / "out").is_symlink()
    assert (folder / "out" / "detections.json").is_symlink()
    assert len(json.loads((folder / "kept.json").read_text())["annotations"]) == 2


def test_only_missing_images_need_no_model(folder, calls):
    assert run(NAME, "gone.jpg") == 3
    assert calls == []
    assert not (folder / "predictions").exists()


def test_wrong_usage(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME) == 2
    assert run(NAME, "a.png", "--threshold", "1.5") == 2
    assert run(NAME, "a.png", "--threshold", "high") == 2
    assert run(NAME, "a.png", "--threshold", "person=") == 2
    assert run(NAME, "a.png", "--max-detections", "0") == 2
    assert run(NAME, "a.png", "--min-size", "0") == 2
    assert calls == []


def test_the_command_is_described_without_torch():
    code = """
import sys
from cascadezoo.cli import main
try:
    main(["predict", "--help"])
finally:
    print("torch" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--threshold" in printed
    assert printed.endswith("False\n")
