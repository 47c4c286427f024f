"""The switch that forbids the network, and that it holds: no socket is made."""

import socket

import pytest
from hub import standin

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.errors import Offline, WeightsNotFound
from cascadezoo.hub.offline import is_offline, refuse_if_offline
from cascadezoo.providers import SPECS


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("true", True), ("YES", True), (" on ", True), ("0", False), ("", False), ("no", False)],
)
def test_the_switch(monkeypatch, name, value, expected) -> None:
    for other in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE"):
        monkeypatch.delenv(other, raising=False)
    assert not is_offline()
    monkeypatch.setenv(name, value)
    assert is_offline() == expected
    if expected:
        with pytest.raises(Offline, match=f"a.bin is not on this machine, and {name} forbids the network"):
            refuse_if_offline("a.bin")
    else:
        refuse_if_offline("a.bin")


@pytest.fixture
def no_sockets(monkeypatch):
    """Whoever makes a socket, or asks for an address, fails the test."""

    def touched(*args: object, **kwargs: object) -> None:
        pytest.fail("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, touched)


@pytest.fixture
def offline(monkeypatch, tmp_path, no_sockets):
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    for name in ("CASCADEZOO_MIRROR", "CASCADEZOO_HUB", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(SPECS["paddle"], standin.ARCHITECTURE, standin.small())


def test_without_the_file_the_way_to_it_is_told(offline) -> None:
    with pytest.raises(Offline, match=f"the publisher's file is {standin.URL}.*CASCADEZOO_OFFLINE forbids"):
        cascadezoo.load(standin.NAME, pretrained=True)
    with pytest.raises(WeightsNotFound, match="never published any"):
        cascadezoo.download("cascade_x101_64x4d_fpn_1x.detectron")


def test_an_organisation_on_the_hub_is_not_asked(offline, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CASCADEZOO_HUB", "some-organisation")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(Offline, match=standin.URL):
        cascadezoo.load(standin.NAME, pretrained=True)


def test_a_mirror_folder_and_then_the_cache_serve(offline, monkeypatch, tmp_path) -> None:
    file = tmp_path / "mirror" / standin.PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(standin.checkpoint())
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path / "mirror"))
    cascadezoo.load(standin.NAME, pretrained=True)
    monkeypatch.delenv("CASCADEZOO_MIRROR")
    assert standin.same(cascadezoo.load(standin.NAME, pretrained=True), standin.model())


def test_a_mirror_on_the_network_is_the_network(offline, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(Offline):
        cascadezoo.load(standin.NAME, pretrained=True)


@pytest.mark.parametrize(
    "command", [["download", "--all"], ["links", "--json"], ["cache", "list"], ["verify", "--files"]]
)
def test_commands_touch_nothing(offline, command) -> None:
    with pytest.raises(SystemExit) as done:
        main(command)
    assert done.value.code == (3 if command[0] in ("download", "links") else 0)
