import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, features

from cascadezoo.errors import MissingResource, UnreadableImage
from cascadezoo.images import decode, read_image

ORIENTATION = 0x112
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


@pytest.fixture
def pixels():
    """2 rows, 3 columns: each corner tells which way is up."""
    return np.array([[RED, GREEN, BLUE], [GREY, (1, 2, 3), (250, 251, 252)]], np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


def test_a_path_is_read_as_rgb(tmp_path, pixels):
    path = save(tmp_path / "größe 圖.png", Image.fromarray(pixels))
    for given in (path, str(path)):
        image = read_image(given)
        np.testing.assert_array_equal(image, pixels)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous


def test_jpeg_is_decoded_by_opencv(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(noise), quality=80)
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])


def test_exif_orientation_is_applied_to_paths_and_pil(tmp_path, pixels):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn clockwise to see it upright: the left column, from below, becomes the top row
    path = save(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    upright = [[GREY, RED], [(1, 2, 3), GREEN], [(250, 251, 252), BLUE]]
    np.testing.assert_array_equal(read_image(path), upright)
    np.testing.assert_array_equal(read_image(Image.open(path)), upright)


def test_transparency_is_dropped(tmp_path, pixels):
    layered = Image.fromarray(np.dstack([pixels, np.full((2, 3), 7, np.uint8)]))
    np.testing.assert_array_equal(read_image(layered), pixels)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", layered)), pixels)


def test_grey_and_palette_become_rgb(tmp_path, pixels):
    grey = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    for given in (grey, save(tmp_path / "grey.png", grey)):
        np.testing.assert_array_equal(read_image(given), [[(0,) * 3, (100,) * 3, (255,) * 3]])
    palette = Image.fromarray(pixels).quantize(6)
    for given in (palette, save(tmp_path / "palette.png", palette)):
        np.testing.assert_array_equal(read_image(given), pixels)
    np.testing.assert_array_equal(read_image(Image.new("1", (1, 1), 1)), [[(255, 255, 255)]])


def test_arrays_pass_as_they_are(pixels):
    assert read_image(pixels) is pixels
    flipped = read_image(pixels[:, ::-1])
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped, pixels[:, ::-1])


def test_tensors_have_channels_first(pixels):
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for given in (tensor, tensor.clone(), tensor / 255, (tensor / 255).double().requires_grad_()):
        np.testing.assert_array_equal(read_image(given), pixels)


def test_floats_are_rounded_to_the_nearest_level():
    tensor = torch.tensor([0.4, 0.6, 254.49]).view(3, 1, 1) / 255
    np.testing.assert_array_equal(read_image(tensor), [[(0, 1, 254)]])


def test_every_level_survives_half_precision():
    levels = torch.arange(256).expand(3, 1, 256)
    np.testing.assert_array_equal(read_image((levels / 255).half())[0, :, 0], np.arange(256))


@pytest.mark.parametrize(
    ("value", "says"), [(1.11, "0..1.11"), (-0.5, "-0.5..0"), (float("nan"), "nan"), (255.0, "scale it to 0..1")]
)
def test_float_tensors_out_of_range_are_refused(value, says):
    tensor = torch.zeros(3, 2, 2)
    tensor[1, 0, 1] = value
    with pytest.raises(UnreadableImage, match=says):
        read_image(tensor)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"uint8 array of shape \(4, 5, 2\)"),
        (np.zeros((4, 5, 3), np.int64), "int64 array"),
        (np.zeros((0, 5, 3), np.uint8), "0x5 pixels"),
        (torch.zeros(4, 5, 3), r"tensor of shape \(4, 5, 3\)"),
        (torch.zeros(1, 3, 4, 5), r"\(1, 3, 4, 5\)"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "int64 tensor"),
        (torch.zeros(3, 4, 0), "4x0 pixels"),
        (Image.new("RGB", (0, 3)), "3x0 pixels"),
        (Image.new("F", (2, 2)), "mode F"),
        (None, "a NoneType is no image; give a path"),
        ([1, 2], "a list is no image"),
    ],
)
def test_anything_else_is_refused_by_name(given, says):
    with pytest.raises(UnreadableImage, match=says):
        read_image(given)


def test_a_missing_file_is_a_missing_resource(tmp_path):
    with pytest.raises(MissingResource, match=r"no such image: .*nowhere\.jpg") as caught:
        read_image(tmp_path / "nowhere.jpg")
    assert caught.value.exit_code == 3


def png_claiming(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def png_with_a_chunk_claiming(length):
    """The header chunk, then one whose length is more than is there."""
    return png_claiming(3, 2)[:33] + struct.pack(">I", length) + b"IDAT" + bytes(30)


def jpeg_bytes():
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def jpeg_claiming(width, height):
    data = bytearray(jpeg_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bitmap_of(height):
    stream = io.BytesIO()
    Image.new("L", (1, height)).save(stream, "BMP")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"a letter, not an image" * 10, "no image that can be decoded|damaged or cut short"),
        (jpeg_bytes()[:200], "no image that can be decoded|damaged or cut short"),
        (png_claiming(100_000, 100_000), "claims far too many pixels, more than the 134,217,728 allowed"),
        (png_claiming(1_000_001, 1), "claims 1000001 x 1 pixels, and no PNG image with a side of more than 1,000,000"),
        (bitmap_of(1_000_001), "claims 1 x 1000001 pixels, and no BMP image with a side of more than 1,000,000"),
        (jpeg_claiming(65_501, 9), "claims 65501 x 9 pixels, and no JPEG image with a side of more than 65,500"),
        (png_with_a_chunk_claiming(2**31 - 1), "an image that is damaged or cut short"),  # 2 GiB of memory, once
        (png_with_a_chunk_claiming(19), "an image that is damaged or cut short"),
        (png_claiming(3, 2)[:-1], "an image that is damaged or cut short"),
        (png_claiming(3, 2)[:-12], "an image that is damaged or cut short"),
        (png_claiming(3, 2)[:8], "an image that is damaged or cut short"),
    ],
)
def test_files_that_are_no_image(tmp_path, content, says):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=says) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_want_of_memory_is_called_so_whatever_the_decoder_says_and_is_no_end(tmp_path):
    """Decoders raise MemoryError or OpenCV's own, or call the image damaged."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    large = Image.fromarray(pixels).resize((5000, 4000))
    for kind, options in (("JPEG", {"progressive": True}), ("PNG", {"compress_level": 1}), ("TIFF", {}), ("GIF", {})):
        large.save(tmp_path / f"large.{kind}", kind, **options)
    Image.fromarray(pixels).save(tmp_path / "small.PNG")
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    *refused, whole = done.stdout.splitlines()
    assert len(refused) == 4
    for line, kind in zip(refused, ("GIF", "JPEG", "PNG", "TIFF"), strict=True):
        name = f"{'' if kind == 'PNG' else 'the open file '}{tmp_path / 'large'}.{kind}"
        words = f"this machine has too little memory now to decode {name}: free some, or shrink the image"
        assert line == f"OutOfMemory {words}"
    assert whole == "(40, 50, 3)"


SHORT_OF_MEMORY = """
import resource, sys
from cascadezoo.images import read_image

read_image(sys.argv[-1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))  # a large one takes 57 MiB and more
for path in sys.argv[1:]:
    try:
        print(read_image(path if path.endswith("PNG") else open(path, "rb")).shape)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_damaged_image_is_damaged_while_there_is_memory():
    data = saved("PNG")
    at = data.index(b"IDAT") + 8
    with pytest.raises(UnreadableImage, match="damaged"):
        decode("it", data[:at] + bytes(20) + data[at + 20 :])


def test_a_folder_and_an_impossible_name_are_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_image("a\0b")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable to root")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="Permission denied"):
        read_image(path)


def test_a_truncated_pil_image_is_refused(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(jpeg_bytes()[:20_000])
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(Image.open(path))


def test_bytes_behind_a_png_do_no_harm(tmp_path, pixels):
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_image(path), pixels)


def test_p6_what_a_bicubic_resize_leaves_is_clamped():
    """At a sharp edge bicubic interpolation overshoots 0..1."""
    sharp = torch.zeros(1, 3, 8, 8)
    sharp[..., 4:] = 1
    resized = torch.nn.functional.interpolate(sharp, scale_factor=3, mode="bicubic", antialias=True)[0]
    assert resized.min() < 0
    assert resized.max() > 1
    expected = (resized.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (read_image(resized) == expected).all()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1.1), (0.0, 1.1), (-0.1, 1.0)])
def test_p6_the_bounds_are_a_tenth(low: float, high: float):
    values = torch.tensor([low, high]).double().view(1, 2, 1).expand(3, 2, 1)
    assert read_image(values)[:, 0, 0].tolist() == [0, 255]


@pytest.mark.timeout(60)
def test_c10_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.png", tmp_path / "link.png", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(UnreadableImage, match=f"^{path} is a pipe or a device: give the path of a regular file$"):
            read_image(path)


MARKED = np.zeros((24, 40, 3), np.uint8)  # no turn and no mirror image of it is itself
MARKED[:8, :, 0] = MARKED[:, :10, 1] = MARKED[16:, 30:] = 255


def saved(kind: str, orientation: int | None = None, **options) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(MARKED).save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_p2_the_orientation_is_applied_to_every_kind_of_file(tmp_path, kind: str, orientation: int):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    (tmp_path / "image").write_bytes(saved(kind, orientation, quality=100))
    upright = {
        1: MARKED,
        2: MARKED[:, ::-1],
        3: MARKED[::-1, ::-1],
        4: MARKED[::-1],
        5: MARKED.transpose(1, 0, 2),
        6: np.rot90(MARKED, 3),
        7: np.rot90(MARKED, 2).transpose(1, 0, 2),
        8: np.rot90(MARKED, 1),
    }[orientation]
    by_path = read_image(tmp_path / "image")
    assert by_path.shape == upright.shape
    assert np.abs(by_path.astype(int) - upright).mean() < 8  # what compression changes; a wrong turn makes 60 and more
    with Image.open(tmp_path / "image") as image:
        assert np.abs(read_image(image).astype(int) - by_path).mean() < 2


def test_p2_an_orientation_that_does_not_exist_is_none(tmp_path):
    (tmp_path / "image.png").write_bytes(saved("PNG", 77))
    assert (read_image(tmp_path / "image.png") == MARKED).all()


@pytest.mark.parametrize(("kind", "keep"), [("JPEG", 0.5), ("JPEG", -2), ("PNG", 0.7), ("WEBP", 0.9), ("GIF", 0.6)])
def test_p2_p3_a_cut_file_is_refused(tmp_path, kind: str, keep: float):
    data = saved(kind)
    (tmp_path / "image").write_bytes(data[: int(len(data) * keep) if keep > 0 else int(keep)])
    with pytest.raises(UnreadableImage, match=r"damaged or cut short|no image that can be decoded"):
        read_image(tmp_path / "image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_p2_bytes_after_the_end_do_no_harm(tmp_path, kind: str):
    (tmp_path / "image").write_bytes(saved(kind) + bytes(40))
    assert read_image(tmp_path / "image").shape == MARKED.shape


def test_p2_a_progressive_jpeg_with_restarts_and_a_thumbnail_is_whole(tmp_path):
    thumbnail = io.BytesIO()
    Image.fromarray(MARKED[:8, :8]).save(thumbnail, "JPEG")
    data = saved("JPEG", progressive=True, restart_marker_blocks=1)
    comment = thumbnail.getvalue()
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    (tmp_path / "image.jpg").write_bytes(data[:2] + segment + data[2:])
    assert read_image(tmp_path / "image.jpg").shape == MARKED.shape
    (tmp_path / "cut.jpg").write_bytes(data[:2] + segment + data[2:-2])  # the thumbnail's own end does not count
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    ("kind", "at", "width", "order", "side"),
    [("JPEG", None, 2, "big", 30000), ("PNG", 16, 4, "big", 16384), ("GIF", 6, 2, "little", 60000)],
)
def test_p3_what_claims_too_many_pixels_takes_no_memory(tmp_path, kind, at, width, order, side):
    """The header of a small file, changed to claim many pixels."""
    data = bytearray(saved(kind))
    at = data.index(b"\xff\xc0") + 5 if at is None else at  # height and width of a JPEG
    data[at : at + width] = data[at + width : at + 2 * width] = side.to_bytes(width, order)
    if kind == "PNG":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "image").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImage, match=r"claims .* pixels, more than the 134,217,728 allowed"):
        read_image(tmp_path / "image")
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    )  # KiB; decoded it is 800 MB and more


def test_p3_the_limit_can_be_lifted_or_lowered(tmp_path, monkeypatch):
    (tmp_path / "image.png").write_bytes(saved("PNG"))
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", str(24 * 40 - 1))
    with pytest.raises(UnreadableImage, match="claims 40 x 24 pixels, more than the 959 allowed"):
        read_image(tmp_path / "image.png")
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", str(24 * 40))
    assert (read_image(tmp_path / "image.png") == MARKED).all()
