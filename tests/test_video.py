"""Frames of videos and cameras, and videos of frames."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from cascadezoo import video
from cascadezoo.errors import MissingResource, TooManyPixels, UnreadableImage, UnwritableOutput
from cascadezoo.video import Film, Frames

from filmed import Camera, film, pictures


def test_frames_come_back_as_they_were_written(tmp_path) -> None:
    given = pictures(12)
    with Frames(film(tmp_path / "a.mp4", given)) as frames:
        assert (frames.size, frames.fps, frames.count, frames.is_camera) == ((48, 64), 10, 12, False)
        assert frames.name == str(tmp_path / "a.mp4")
        got = list(frames)
    assert frames.taken == len(got) == 12
    assert frames.fault is None
    for one, other in zip(got, given, strict=True):
        assert one.dtype == np.uint8
        assert np.abs(one.astype(int) - other).mean() < 12  # coded with losses, but in RGB
    assert not list(tmp_path.glob(".*"))


def test_a_film_of_odd_size_lacks_its_last_row_and_column(tmp_path) -> None:
    with Frames(film(tmp_path / "a.mp4", pictures(3, 49, 65))) as frames:
        assert frames.size == (48, 64)
        assert len(list(frames)) == 3


def test_what_is_no_video_is_said(tmp_path) -> None:
    with pytest.raises(MissingResource, match=r"no such image: .*gone\.mp4"):
        Frames(tmp_path / "gone.mp4")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableImage, match=r"a\.mp4 is no video that OpenCV can decode"):
        Frames(tmp_path / "a.mp4")
    whole = film(tmp_path / "b.mp4", pictures(8)).read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) // 2])  # its index stands at the end
    with pytest.raises(UnreadableImage, match=r"b\.mp4 is no video"):
        Frames(tmp_path / "b.mp4")


def test_a_video_that_ends_early_gives_what_it_has_and_says_so(tmp_path) -> None:
    path = tmp_path / "a.avi"
    film(path, pictures(40), "MJPG")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with Frames(path) as frames:
        got = len(list(frames))
        assert 10 <= got < 39
        assert str(frames.fault) == f"{path} gave {got} of the 40 frames that its header states: damaged or cut short"


def test_frames_have_the_limit_of_pixels(tmp_path, monkeypatch) -> None:
    path = film(tmp_path / "a.mp4", pictures(2))
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "1000")
    with pytest.raises(TooManyPixels, match="frames of 64 x 48 pixels, more than the 1,000 allowed"):
        Frames(path)


def test_a_camera_has_no_end_and_may_state_nothing(monkeypatch) -> None:
    camera = Camera(pictures(5), fps=math.nan)
    monkeypatch.setattr(video.cv2, "VideoCapture", camera)
    with Frames(3) as frames:
        assert (frames.name, frames.count, frames.fps, frames.is_camera) == ("camera:3", None, 30, True)
        assert len(list(frames)) == 5
        assert frames.fault is None
    assert camera.opened == [(3,)]
    assert camera.released
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera([]))
    with pytest.raises(MissingResource, match="camera:0 gives no picture"):
        Frames(0)


def test_a_frame_of_another_size_ends_it(monkeypatch) -> None:
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera([*pictures(3), *pictures(2, 20, 30)]))
    assert len(list(Frames(0))) == 3


def test_a_film_that_cannot_be_written_is_said(tmp_path) -> None:
    with pytest.raises(UnwritableOutput, match=r"gone/a\.mp4 cannot be written"):
        Film(tmp_path / "gone" / "a.mp4", 10, (48, 64))


def test_a_film_replaces_an_older_one_at_its_end(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("older")
    with Film(path, 10, (48, 64)) as new:
        new.add(pictures(1)[0])
        assert path.read_text() == "older"
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_v1_a_film_goes_where_a_link_leads_and_into_a_device(tmp_path) -> None:
    link, target, device = tmp_path / "a.mp4", tmp_path / "target.mp4", tmp_path / "null.mp4"
    link.symlink_to(target)
    device.symlink_to("/dev/null")
    for path in (link, device):
        with Film(path, 10, (48, 64)) as new:
            new.add(pictures(1)[0])
    assert (link.is_symlink(), device.is_symlink(), Path("/dev/null").is_char_device()) == (True, True, True)
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FRAME_COUNT) == 1
    assert sorted(tmp_path.iterdir()) == [link, device, target]


def test_a_film_that_finds_a_folder_at_its_end_leaves_nothing(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    with (
        pytest.raises(UnwritableOutput, match=r"a\.mp4 cannot be written: .*; nothing was left"),
        Film(path, 10, (48, 64)),
    ):
        path.mkdir()
    assert list(tmp_path.iterdir()) == [path]
