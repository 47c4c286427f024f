"""The ways in which an image file reaches ``read_image``: paths, bytes, file objects, and what is none of these."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascadezoo.errors import MissingResource, TooManyPixels, UnreadableImage
from cascadezoo.images import decode, read_image
from cascadezoo.paths import expanded

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
DOWNLOAD = "download it first, and give the path of the file"
FETCH = "give the bytes that cascadezoo.fetch_image fetches from it, or the path of a file"


def png(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", **options)
    return stream.getvalue()


class Stream:
    """A reader without end or way back, such as a socket's; it gives few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.rest.read(min(size, 7))


def test_P11_bytes_and_file_objects_are_read_as_files_are(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    for given in (png(), bytearray(png()), memoryview(png()), io.BytesIO(png()), Stream(png())):
        np.testing.assert_array_equal(read_image(given), PIXELS)
    for buffering in (-1, 0):
        with open(path, "rb", buffering=buffering) as file:
            np.testing.assert_array_equal(read_image(file), PIXELS)
    with tempfile.NamedTemporaryFile() as file:
        file.write(png())
        np.testing.assert_array_equal(read_image(file), PIXELS)  # from its start, wherever it stands


def test_P11_a_file_object_can_be_read_again() -> None:
    stream = io.BytesIO(png())
    np.testing.assert_array_equal(read_image(stream), read_image(stream))


def test_P11_bytes_are_set_upright() -> None:
    exif = Image.Exif()
    exif[0x112] = 3
    np.testing.assert_array_equal(read_image(png(exif=exif)), PIXELS[::-1, ::-1])


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "empty"), (b"x" * 99, "no image that can be decoded"), (png()[:-9], "cut short")]
)
def test_P11_bad_bytes_are_refused_as_bad_files_are(content: bytes, says: str) -> None:
    for given, name in ((content, "bytes object"), (bytearray(content), "bytearray"), (io.BytesIO(content), "BytesIO")):
        with pytest.raises(UnreadableImage, match=says) as refused:
            read_image(given)
        assert name in str(refused.value)


def test_P11_bytes_have_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "5")
    for given in (png(), io.BytesIO(png())):
        with pytest.raises(TooManyPixels, match="claims 3 x 2 pixels, more than the 5 allowed: shrink it, or set"):
            read_image(given)


def test_a_limit_of_the_caller_is_told_without_what_only_the_machine_can_set() -> None:
    with pytest.raises(TooManyPixels) as refused:
        decode("the image sent", png(), 5)
    assert str(refused.value) == "the image sent claims 3 x 2 pixels, more than the 5 allowed: shrink it"
    assert decode("the image sent", png(), 6).shape == (2, 3, 3)


def test_P11_no_more_is_read_than_an_image_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "5")  # 8 bytes each, and 16 MiB
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(2**24 + 41)
    with path.open("rb") as opened, open("/dev/zero", "rb") as endless:
        for given in (path, opened, endless):
            with pytest.raises(UnreadableImage, match="has more than 16,777,256 bytes"):
                read_image(given)


def test_P11_what_gives_no_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open() as text, pytest.raises(UnreadableImage, match=r"a\.png gives text, not bytes: open it in binary"):
        read_image(text)
    with pytest.raises(UnreadableImage, match="gives text, not bytes"):
        read_image(io.StringIO("an image"))
    with pytest.raises(UnreadableImage, match="closed file"):
        read_image(text)
    with (tmp_path / "b.png").open("wb") as unreadable, pytest.raises(UnreadableImage, match="cannot be read"):
        read_image(unreadable)


def test_P11_a_closed_pil_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(UnreadableImage, match="closed before it was read"):
        read_image(image)


def test_P11_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(png())
    for given in ("~/a.png", Path("~/a.png")):
        np.testing.assert_array_equal(read_image(given), PIXELS)
    assert expanded("a/~/b") == Path("a/~/b")
    assert expanded("~nobody of this name/x") == Path("~nobody of this name/x")


@pytest.mark.parametrize(
    ("given", "shown", "advice"),
    [
        ("https://example.org/a.jpg?b=c", "https://example.org/a.jpg?b=c", FETCH),
        (Path("http://example.org/a.jpg"), "http://example.org/a.jpg", FETCH),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg", DOWNLOAD),
        ("data:image/png;base64," + "A" * 5000, "data:image/png;base64," + "A" * 98 + "…", DOWNLOAD),
    ],
)
def test_P11_a_url_is_named_as_typed(given: str | Path, shown: str, advice: str) -> None:
    with pytest.raises(MissingResource) as refused:
        read_image(given)
    assert str(refused.value) == f"{shown} is a URL, not a file: {advice}"


def test_P11_other_names_are_no_urls() -> None:
    for name in ("c:/a.jpg", "a/http:/b.jpg", "x" * 300, os.path.join(__file__, "a.jpg")):
        with pytest.raises(MissingResource, match="no such image: "):
            read_image(name)
