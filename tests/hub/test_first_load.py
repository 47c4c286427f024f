"""The first load of a file of real size, as a user meets it: what it costs, and that it is held to its hash."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from hub.fault_server import FaultServer
from hub.standin import FILE, NAME, PATH

import cascadezoo
from cascadezoo import registry
from cascadezoo.errors import HashMismatch

from procedural import load_case, make_tensors, write_checkpoint

PARITY = Path(__file__).parents[1] / "parity" / "paddle" / "cascade_mask_r50_fpn"
MMDET = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[FaultServer]:
    """Serves the stand-in of a recorded case, in the publisher's own format and size (288 MB)."""
    case = load_case(PARITY)
    write_checkpoint(tmp_path / FILE, case["provider"], make_tensors(case))
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_HUB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    with FaultServer() as server:
        monkeypatch.setenv("CASCADEZOO_MIRROR", server.url())
        server.put(PATH, (tmp_path / FILE).read_bytes())
        yield server
    shutil.rmtree(tmp_path)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.slow
def test_within_1_3_of_its_parts(server, tmp_path) -> None:
    copy = tmp_path / "copy.pdparams"

    def download() -> None:
        with requests.get(server.url(PATH), stream=True, timeout=60) as answer, copy.open("wb") as file:
            for block in answer.iter_content(2**18):
                file.write(block)

    def sha256() -> None:
        with copy.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    def convert() -> None:
        cascadezoo.convert(copy, "paddle", NAME, tmp_path / "copy.safetensors", force=True)

    convert_once = seconds(lambda: (download(), convert()))  # what is imported and cached on the way is for all
    assert convert_once > 0
    ratios = []
    for _ in range(3):
        parts = seconds(download) + seconds(sha256) + seconds(convert)
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        ratios.append(seconds(lambda: cascadezoo.load(NAME, pretrained=True)) / parts)
    assert min(ratios) < 1.3, ratios


@pytest.mark.slow
def test_under_a_name_with_a_published_hash_it_is_refused(server) -> None:
    server.resources["/" + str(registry.info(MMDET).download_url).removeprefix("https://")] = server.resources[PATH]
    with pytest.raises(HashMismatch, match="sha256 starts with 9d4dcb24 expected"):
        cascadezoo.load(MMDET, pretrained=True)
