"""Values of every type and every mode: the same levels by path, bytes, PIL, array and tensor, or refused in words."""

import io
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo.errors import UnreadableImage
from cascadezoo.images import read_image

WIDE = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], np.uint16)
UPPER = [[(level,) * 3 for level in (0, 0, 1, 0x7F, 0xFF)]]


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    return content.tobytes()


def tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    return stream.getvalue()


def warnings_of(caplog: pytest.LogCaptureFixture, image: object) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        read_image(image)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_P7_of_16_bits_the_upper_8_are_kept_whichever_way_they_come(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = np.repeat(WIDE[..., None], channels, axis=2)
    content = encoded(suffix, pixels)
    (tmp_path / f"a{suffix}").write_bytes(content)
    for given in (tmp_path / f"a{suffix}", content, Image.open(io.BytesIO(content)), pixels, pixels.astype(">u2")):
        np.testing.assert_array_equal(read_image(given), UPPER)
    np.testing.assert_array_equal(read_image(torch.from_numpy(pixels).permute(2, 0, 1)), UPPER)


def test_P7_grey_of_16_bits_in_every_byte_order_and_shape() -> None:
    native = Image.fromarray(WIDE)
    swapped = Image.frombytes("I;16B", (5, 1), WIDE.astype(">u2").tobytes())
    assert (native.mode, swapped.mode) == ("I;16", "I;16B")
    for given in (native, swapped, WIDE, WIDE[..., None], torch.from_numpy(WIDE), torch.from_numpy(WIDE[None])):
        np.testing.assert_array_equal(read_image(given), UPPER)


def low_levels() -> dict[str, object]:
    """Levels of 12 bits, as cameras write them into 16."""
    levels = np.linspace(0, 4095, 40).astype(np.uint16).reshape(5, 8)
    png = encoded(".png", levels)
    return {
        "png": png,
        "tiff": encoded(".tiff", levels),
        "rgb": encoded(".png", np.dstack([levels] * 3)),
        "pil": Image.open(io.BytesIO(png)),
        "array": levels,
        "tensor": torch.from_numpy(levels)[None],
        "band": levels + 29_000,  # a thermal camera's
        "flat": np.full((5, 8), 300, np.uint16),
    }


@pytest.mark.parametrize("kind", low_levels())
def test_P7_levels_in_under_a_sixteenth_of_the_range_are_named_once(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    (message,) = warnings_of(caplog, low_levels()[kind])
    for words in ("under a sixteenth of 0..65535", "scale it to 8 bits first", "levels >> 4"):
        assert words in message


def test_P7_the_warning_names_the_file_and_its_levels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dark.png"
    path.write_bytes(encoded(".png", np.array([[7, 4000]], np.uint16)))
    (message,) = warnings_of(caplog, path)
    assert message.startswith(f"{path} has 16-bit levels 7..4000, ")


@pytest.mark.parametrize("levels", [[0, 4096], [0, 65535], [0, 0], [65535, 65535], [40_000, 60_000]])
def test_P7_levels_that_use_the_range_are_no_reason_for_a_warning(
    caplog: pytest.LogCaptureFixture, levels: list[int]
) -> None:
    assert warnings_of(caplog, np.array([levels], np.uint16)) == []


def no_range() -> dict[str, tuple[object, str]]:
    """Images whose levels have no known range, and what is said of them."""
    whole, real = Image.fromarray(np.array([[0, 70_000]], np.int32)), Image.fromarray(np.ones((1, 2), np.float32))
    assert (whole.mode, real.mode) == ("I", "F")
    return {
        "I": (whole, "mode I has 32-bit levels"),
        "F": (real, "mode F has floating-point levels"),
        "I from a file": (Image.open(io.BytesIO(tiff(whole))), "mode I has 32-bit levels"),
        "32-bit tiff": (tiff(whole), "32-bit levels"),
        "float tiff": (tiff(real), "floating-point levels"),
        "pfm": (b"Pf\n2 1\n-1.0\n" + bytes(8), "floating-point levels"),
    }


@pytest.mark.parametrize("kind", no_range())
def test_P7_levels_without_a_range_are_refused_with_the_remedy(kind: str) -> None:
    given, says = no_range()[kind]
    with pytest.raises(UnreadableImage, match=says) as refused:
        read_image(given)
    assert "scale it to 0..255" in str(refused.value)
    assert "astype('uint8')" in str(refused.value)


def test_P7_lab_is_refused_by_path_and_pil() -> None:
    lab = Image.new("LAB", (3, 2))
    for given in (lab, tiff(lab)):
        with pytest.raises(UnreadableImage, match="Lab colours: convert it to sRGB first"):
            read_image(given)


def palette() -> Image.Image:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return image


GREY, COLOUR = [[(90,) * 3] * 2], [[(200, 100, 50)] * 2]
MODES = {
    "1": (Image.new("1", (2, 1), 1), [[(255,) * 3] * 2]),
    "L": (Image.new("L", (2, 1), 90), GREY),
    "LA": (Image.new("LA", (2, 1), (90, 7)), GREY),
    "La": (Image.new("La", (2, 1), (90, 255)), GREY),
    "P": (palette(), COLOUR),
    "PA": (palette().convert("PA"), COLOUR),
    "RGB": (Image.new("RGB", (2, 1), (200, 100, 50)), COLOUR),
    "RGBX": (Image.new("RGBX", (2, 1), (200, 100, 50, 7)), COLOUR),
    "RGBA": (Image.new("RGBA", (2, 1), (200, 100, 50, 7)), COLOUR),
    "RGBa": (Image.new("RGBa", (2, 1), (200, 100, 50, 255)), COLOUR),
    "CMYK": (Image.new("CMYK", (2, 1), (55, 155, 205, 0)), COLOUR),
    "YCbCr": (Image.new("YCbCr", (2, 1), (90, 128, 128)), GREY),
    "HSV": (Image.new("HSV", (2, 1), (0, 0, 90)), GREY),
}


@pytest.mark.parametrize("mode", MODES)
def test_P7_every_other_mode_of_pil_becomes_rgb(mode: str) -> None:
    image, expected = MODES[mode]
    assert image.mode == mode
    np.testing.assert_array_equal(read_image(image), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_P7_modes_come_out_of_a_file_as_out_of_pil(mode: str) -> None:
    image, expected = MODES[mode]
    np.testing.assert_array_equal(read_image(tiff(image)), expected)


def test_P7_a_pgm_is_scaled_by_the_range_it_states() -> None:
    """Netpbm's rule: a level is its share of the highest, here 4095 and 10."""
    twelve = b"P5\n3 1\n4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    for given in (twelve, Image.open(io.BytesIO(twelve))):
        np.testing.assert_array_equal(read_image(given)[0, :, 0], [0, 128, 255])
    np.testing.assert_array_equal(read_image(b"P5\n3 1\n10\n" + bytes([0, 5, 10]))[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_P7_float_arrays_are_taken_as_tensors_are(dtype: type) -> None:
    values = np.array([[0, 0.5, 1, -0.09, 1.09]], dtype)
    expected = [[(level,) * 3 for level in (0, 128, 255, 0, 255)]]  # 127.5 to the even neighbour
    for given in (values, np.dstack([values] * 3), torch.from_numpy(values), torch.from_numpy(values)[None]):
        np.testing.assert_array_equal(read_image(given), expected)


def test_P7_truth_values_are_black_and_white() -> None:
    truth = np.array([[True, False]])
    for given in (truth, truth[..., None], torch.from_numpy(truth), Image.fromarray(truth)):
        np.testing.assert_array_equal(read_image(given), [[(255,) * 3, (0,) * 3]])


def test_P7_transparency_is_dropped_whichever_way_it_comes() -> None:
    pixels = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    content = encoded(".png", pixels[..., [2, 1, 0, 3]])
    for given in (pixels, Image.fromarray(pixels), tensor, tensor / 255, content):
        np.testing.assert_array_equal(read_image(given), pixels[..., :3])
        assert read_image(given).flags.c_contiguous


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((4, 5, 3), np.int32), "int32 array"),
        (np.zeros((4, 5, 3), np.int8), "int8 array"),
        (np.zeros((4, 5, 3), np.uint32), "uint32 array"),
        (np.zeros((4, 5, 3), complex), "complex128 array"),
        (np.array(None), "object array"),
        (np.zeros((4, 5, 2), np.uint8), r"\(4, 5, 2\)"),
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\)"),
        (np.full((4, 5, 3), 255.0), "values 255..255; scale it to 0..1"),
        (np.full((4, 5), np.nan, np.float16), "nan"),
        (np.full((4, 5), 1e300), "inf"),
        (torch.zeros(2, 4, 5), r"tensor of shape \(2, 4, 5\)"),
        (torch.zeros(4, 5, 3), r"tensor of shape \(4, 5, 3\)"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "int32 tensor"),
        (torch.zeros(3, 4, 5, device="meta"), "tensor"),
        (torch.zeros(3, 4, 5).to_sparse(), "tensor"),
        (torch.zeros(3, 4, 5, dtype=torch.complex64), "complex64 tensor"),
    ],
)
def test_P7_other_types_and_shapes_are_refused_by_name(given: object, says: str) -> None:
    with pytest.raises(UnreadableImage, match=says):
        read_image(given)


def test_P7_gifs_are_read_whichever_opencv_is_there(tmp_path: Path) -> None:
    pixels = np.array([[(255, 0, 0), (0, 0, 255)]], np.uint8)
    Image.fromarray(pixels).quantize(4).save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif"), pixels)
