"""What tests of the audit of addresses share."""

from collections.abc import Iterator

import pytest
from hub.fault_server import FaultServer

from cascadezoo.hub import links


@pytest.fixture
def quick_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSE", 0.01)
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "HTTP_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
