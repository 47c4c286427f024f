"""An image at an address, within the limits of images and of servers."""

import pytest
from hub.fault_server import Cut, FaultServer, Redirect, Status

import cascadezoo
from cascadezoo.errors import DownloadFailed, Offline, UnsafeRedirect
from cascadezoo.hub import transport
from cascadezoo.images import read_image

from served import image, png

PHOTO = png(image(0))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.01)
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_an_image_comes_as_it_is(server: FaultServer) -> None:
    server.put("/a.png", PHOTO, faults=[Status(503), Cut(100)])
    server.put("/b", b"", faults=[Redirect("/a.png")])
    assert cascadezoo.fetch_image(server.url("/a.png")) == PHOTO
    assert (read_image(cascadezoo.fetch_image(server.url("/b"))) == image(0)).all()


def test_a_server_that_fails_is_asked_three_times(server: FaultServer) -> None:
    server.put("/a.png", PHOTO, faults=[Status(503)] * 3)
    with pytest.raises(DownloadFailed, match=r"503 .*, 3 times in a row"):
        cascadezoo.fetch_image(server.url("/a.png"))


@pytest.mark.parametrize(("path", "says"), [("/gone.png", "answers 404"), ("/no.png", "answers 403")])
def test_a_server_that_refuses_is_said(server: FaultServer, path: str, says: str) -> None:
    server.put("/no.png?secret=x", PHOTO, faults=[Status(403)])
    with pytest.raises(DownloadFailed, match=says) as refused:
        cascadezoo.fetch_image(server.url(f"{path}?secret=x"))
    assert "secret" not in str(refused.value)


def test_no_more_comes_than_an_image_may_have(server: FaultServer, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "1")  # 8 bytes and 16 MiB
    server.put("/a.png", bytes(2**24 + 9))
    with pytest.raises(DownloadFailed, match="is longer than 16,777,224 bytes"):
        cascadezoo.fetch_image(server.url("/a.png"))


def test_where_the_network_is_off_nothing_is_asked(server: FaultServer, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    with pytest.raises(Offline):
        cascadezoo.fetch_image(server.url("/a.png"))


def test_a_redirect_to_another_kind_of_address_is_not_followed(server: FaultServer) -> None:
    server.put("/a.png", b"", faults=[Redirect("file:///etc/passwd")])
    with pytest.raises(UnsafeRedirect):
        cascadezoo.fetch_image(server.url("/a.png"))
