"""A publisher's file small enough to serve, and the entry that it is of: for this process and for others.

``python -c "from hub.standin import shrink; shrink(); …"`` with ``environment(...)`` is a user in a process of his own.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import torch

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.detector import Detector
from cascadezoo.manifest import ZooEntry
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from tiny import lively, tiny

NAME = "cascade_mask_r50_fpn_1x.paddle"  # an entry without a published hash
ARCHITECTURE = "cascade_mask_r50_fpn"
URL = "https://paddledet.bj.bcebos.com/models/cascade_mask_rcnn_r50_fpn_1x_coco.pdparams"
FILE = URL.rpartition("/")[2]
PATH = URL.removeprefix("https:/")  # on a mirror

TESTS = Path(__file__).parents[1]


def small() -> ModelSpec:
    """The entry's network, but small."""
    return tiny(ARCHITECTURE, "paddle")


def shrink() -> None:
    """Make the entry's network small, for the rest of this process."""
    torch.set_num_threads(1)
    SPECS["paddle"][ARCHITECTURE] = small()


def model() -> Detector:
    """The small network, with the weights that ``checkpoint`` holds."""
    return lively(small())


def same(a: Detector, b: Detector) -> bool:
    """Whether two networks hold the same weights."""
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def checkpoint() -> bytes:
    """The file, as paddle.save writes it; ``shrink`` must be in force."""
    return pickle.dumps({k: v.numpy() for k, v in to_publisher(model().state_dict(), NAME).items()}, protocol=4)


def variant(**source: object) -> ZooEntry:
    """The entry with other facts about its source."""
    entry = registry.info(NAME)
    return entry.model_copy(update={"source": entry.source.model_copy(update=source)})


def environment(home: Path, mirror: str | Path = "", **more: str) -> dict[str, str]:
    """The environment of a process that has this cache and this mirror."""
    paths = os.pathsep.join((str(TESTS), str(TESTS / "parity")))
    return {**os.environ, "PYTHONPATH": paths, "CASCADEZOO_HOME": str(home), "CASCADEZOO_MIRROR": str(mirror), **more}


def command(code: str) -> list[str]:
    """What runs ``code`` with the small entry."""
    return [sys.executable, "-c", f"from hub.standin import *\nshrink()\n{code}"]


def start(code: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """A process of its own that runs ``code``."""
    return subprocess.Popen(command(code), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
