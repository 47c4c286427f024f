"""``cascadezoo predict`` on videos and cameras."""

import csv
import json
import os

import pytest

from cascadezoo import video
from cascadezoo.video import Frames

from fake_predict import NAME, FakeModel, run, write_image
from filmed import Camera, film, pictures


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("options", [(), ("--batch-size", "4"), ("--at-once", "1")])
def test_a_video_is_drawn_and_told_frame_by_frame(folder, calls, capsys, options):
    film(folder / "clip.mp4", pictures(10))
    assert run(NAME, "clip.mp4", "--device", "cpu", *options) == 0
    out, err = capsys.readouterr()
    written = "predictions/clip.mp4, predictions/clip.jsonl"
    assert out == f"clip.mp4: 10 frames, 20 detections (10 person, 10 dog) -> {written}\n"
    assert err == ""
    with Frames(folder / "predictions" / "clip.mp4") as frames:
        assert (frames.count, frames.fps, frames.size) == (10, 10, (48, 64))
    told = lines(folder / "predictions" / "clip.jsonl")
    assert [line["frame"] for line in told] == list(range(10))
    assert [line["seconds"] for line in told] == [number / 10 for number in range(10)]
    assert {(line["height"], line["width"]) for line in told} == {(48, 64)}
    assert [each["category_id"] for each in told[0]["detections"]] == [1, 18]
    assert told[0]["detections"][0].keys() == {"category_id", "bbox", "score", "segmentation"}
    document = json.loads((folder / "predictions" / "detections.json").read_text())
    assert document["videos"] == [{"file_name": "clip.mp4", "frames": 10, "fps": 10.0, "height": 48, "width": 64}]
    assert document["images"] == document["failed"] == []


def test_other_kinds_lie_in_a_folder_of_the_videos_name(folder, calls, capsys):
    film(folder / "clip.mp4", pictures(3))
    write_image(folder / "clip.png")
    assert run(NAME, "clip.mp4", "clip.png", "--save", "csv,crops") == 0
    found = folder / "predictions"
    assert sorted(os.listdir(found)) == ["clip", "crops", "detections.csv"]
    assert len(list(csv.reader((found / "clip" / "detections.csv").open()))) == 1 + 3 * 2
    assert sorted(os.listdir(found / "clip" / "crops")) == [f"clip-00000{number}" for number in range(3)]
    assert capsys.readouterr().out.splitlines()[1].endswith(" -> predictions/clip")


def test_videos_never_overwrite_each_other_or_a_source(folder, calls):
    (folder / "a").mkdir()
    sources = [film(folder / name, pictures(2), code) for name, code in
               (("clip.mp4", "mp4v"), ("a/clip.mp4", "mp4v"), ("a/clip.avi", "MJPG"))]  # fmt: skip
    before = sources[0].read_bytes()
    assert run(NAME, *sources, "--out", ".", "--save", "picture") == 0
    assert sources[0].read_bytes() == before
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["clip-2.mp4", "clip-3.mp4", "clip-4.mp4", "clip.mp4"]


def test_a_video_that_ends_early_keeps_what_it_gave_and_says_so(folder, calls, capsys):
    whole = film(folder / "clip.avi", pictures(40), "MJPG").read_bytes()
    (folder / "clip.avi").write_bytes(whole[: len(whole) // 2])
    (folder / "bad.mp4").write_bytes(b"no video")
    write_image(folder / "a.png")
    assert run(NAME, "clip.avi", "bad.mp4", "a.png") == 4
    out, err = capsys.readouterr()
    told = lines(folder / "predictions" / "clip.jsonl")
    assert 10 <= len(told) < 39
    assert f"clip.avi: {len(told)} frames" in out
    assert f"cascadezoo: clip.avi gave {len(told)} of the 40 frames that its header states" in err
    assert "bad.mp4 is no video that OpenCV can decode" in err
    with Frames(folder / "predictions" / "clip.mp4") as frames:
        assert len(list(frames)) == len(told)
    document = json.loads((folder / "predictions" / "detections.json").read_text())
    assert [each["file_name"] for each in document["failed"]] == ["clip.avi", "bad.mp4"]
    assert [each["file_name"] for each in document["images"]] == ["a.png"]


def test_ctrl_c_ends_a_camera_and_what_it_gave_is_whole(folder, calls, monkeypatch, capsys):
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera(pictures(6), end=KeyboardInterrupt()))
    assert run(NAME, "camera:0", "--device", "cpu", "--at-once", "1") == 0
    out, err = capsys.readouterr()
    assert err == ""
    monkeypatch.undo()
    told = lines(folder / "predictions" / "camera-0.jsonl")
    assert out.startswith(f"camera:0: {len(told)} frame")
    assert 1 <= len(told) <= 6
    assert told[0]["seconds"] < 1
    with Frames(folder / "predictions" / "camera-0.mp4") as frames:
        assert len(list(frames)) == len(told)
        assert frames.fps == 25


def test_ctrl_c_ends_a_video_and_all_that_follows(folder, calls, monkeypatch, capsys):
    predict, seen = FakeModel.predict, []

    def until_the_fourth(self, images, **options):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return predict(self, images, **options)

    monkeypatch.setattr(FakeModel, "predict", until_the_fourth)
    paths = [film(folder / name, pictures(8)) for name in ("clip.mp4", "next.mp4")]
    assert run(NAME, *paths, "--device", "cpu", "--at-once", "1") == 130
    assert len(lines(folder / "predictions" / "clip.jsonl")) == 3
    assert not (folder / "predictions" / "next.mp4").exists()
    assert not list((folder / "predictions").glob(".*"))
    assert capsys.readouterr().err.strip() == "cascadezoo: interrupted"


def test_a_camera_that_is_not_there(folder, calls, monkeypatch, capsys):
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera([]))
    assert run(NAME, "camera:7") == 3
    assert "camera:7 gives no picture" in capsys.readouterr().err


def test_frames_are_read_as_they_are_detected_on(folder, calls, monkeypatch):
    """However long a video is, few of its frames are in memory."""
    read, most = [0], []
    camera = Camera(pictures(30))
    monkeypatch.setattr(video.cv2, "VideoCapture", camera)
    take, predict = camera.read, FakeModel.predict

    def counted():
        read[0] += 1
        return take()

    def watched(self, images, **options):
        most.append(read[0])
        return predict(self, images, **options)

    monkeypatch.setattr(camera, "read", counted)
    monkeypatch.setattr(FakeModel, "predict", watched)
    assert run(NAME, "camera:0", "--device", "cpu", "--at-once", "1", "--save", "coco") == 0
    assert most == [number + 2 for number in range(30)]  # one ahead


def test_how_far_it_is_is_said_now_and_then(folder, calls, monkeypatch, capsys):
    monkeypatch.setattr("cascadezoo.cli.progress._EVERY", -1)
    film(folder / "clip.mp4", pictures(3))
    assert run(NAME, "clip.mp4") == 0
    assert capsys.readouterr().err == "1 of 3 frames\n2 of 3 frames\n"
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera(pictures(2)))
    assert run(NAME, "camera:0") == 0
    assert capsys.readouterr().err == "1 frames\n2 frames\n"
