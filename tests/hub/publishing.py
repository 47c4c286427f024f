"""What the tests of publishing share: small networks, canonical files of them, and a hub as the client's endpoint."""

import json
from pathlib import Path

import pytest
import torch
from hub.fake_hub import TOKEN, FakeHub
from huggingface_hub import constants

from cascadezoo import registry
from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.providers import SPECS

from tiny import lively, tiny

SOURCE_SHA256 = "ab" * 32


def shrink(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The networks of these entries are small, and know five classes."""
    for name in names:
        entry = registry.info(name)
        small = tiny(entry.architecture, entry.publisher)
        monkeypatch.setitem(SPECS[entry.publisher], entry.architecture, small)


def canonical_file(folder: Path, name: str, **changes: str | None) -> Path:
    """A canonical file of the entry, with the metadata that the converter writes; ``changes`` to it, None: without."""
    entry = registry.info(name)
    spec = registry.spec_of(entry)
    if names := changes.get("categories"):
        spec = spec.model_copy(update={"num_classes": len(json.loads(names)["names"])})
    model = lively(spec)
    tensors = model.state_dict()
    metadata = {
        "architecture": entry.architecture,
        "publisher": entry.publisher,
        "entries": entry.name,
        "source_url": entry.download_url,
        "source_sha256": SOURCE_SHA256,
        "source_is_published": "no",
        "converter": "cascadezoo 0.1.0",
        "key_map": "12" * 8,
        "content_digest": content_digest(tensors),
        **changes,
    }
    path = folder / f"{name}.safetensors"
    write_canonical(path, tensors, {key: value for key, value in metadata.items() if value is not None})
    return path


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, home: Path, token: str | None = TOKEN) -> None:
    """The real client talks to ``hub`` and keeps its files under ``home``, the LFS way."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(home))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    # the client reads these when it is imported
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def no_sockets(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to connect from now on fails, and is in the list."""
    attempts: list[object] = []

    def connect(self: object, address: object) -> None:
        attempts.append(address)
        raise OSError("no sockets in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(f"socket.socket.{name}", connect)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    return attempts


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())
