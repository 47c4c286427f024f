"""Tests of the server: collected only where its extra is installed, as ``make test-extras`` has it."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import cascadezoo
from cascadezoo.predictor import Predictor
from cascadezoo.providers import SPECS

from served import SCORE, SERVE, listening
from tiny import lively
from tiny_zoo import ENTRY, narrow

collect_ignore_glob = [] if all(map(find_spec, ("fastapi", "uvicorn", "python_multipart"))) else ["test_*.py"]


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A small network that detects something, as a file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    cascadezoo.save(lively(narrow()), path)
    return path


@pytest.fixture(scope="session")
def predictor(weights) -> Iterator[Predictor]:
    """What the servers compute, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow())
        predictor = Predictor(ENTRY, weights=weights, device="cpu", optimize=None, threshold=SCORE)
        _ = predictor.model
    yield predictor
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def start(weights, tmp_path_factory) -> Iterator[Callable]:
    """``start(*options)``: a context with a server of the small network."""
    folder = tmp_path_factory.mktemp("logs")

    def started(*options: str):
        common = [ENTRY, "--weights", str(weights), "--device", "cpu", "--score", str(SCORE), "--port", "0"]
        return listening([*SERVE, *common, *options], folder / f"{len(list(folder.iterdir()))}.log")

    return started
