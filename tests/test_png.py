"""Pillow decodes all of a PNG file to look for its orientation, which may come last."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from cascadezoo.errors import TooManyPixels
from cascadezoo.images import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def saved(texts: PngInfo | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


def test_one_over_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(TooManyPixels, match=r"claims 40 x 24 pixels, more than the 959 allowed: shrink it$"):
        decode("it", saved(), most=24 * 40 - 1)


@pytest.mark.parametrize("zip", [False, True])
def test_an_orientation_in_a_text_is_applied(zip: bool) -> None:
    texts = PngInfo()
    texts.add_itxt(
        "XML:com.adobe.xmp",
        """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>""",
        zip=zip,
    )
    assert (decode("it", saved(texts)) == PIXELS[::-1, ::-1]).all()


def test_C1_the_name_of_a_malformed_profile_is_not_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    profile = zlib.compress(np.random.default_rng(1).bytes(1000))
    content = b"iCCP\x1b[2JFORGED\x1b]0;title\x07\0\0" + profile
    chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    data = saved()
    assert (decode("it", data[:33] + chunk + data[33:]) == PIXELS).all()
    assert capfd.readouterr() == ("", "")
