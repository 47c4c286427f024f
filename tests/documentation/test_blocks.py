"""Every code block of the pages runs as it stands there, with the entry inside the package or small stand-ins."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from documentation.blocks import ROOT, Block, blocks_of, pages, unnamed
from documentation.results import CHECKS

# what a block may lack here, and how many blocks lack it at most
LACKS = {
    "a GPU": 6,
    "a network": 8,
    "Docker": 3,
    "TensorRT": 2,
    "Triton": 2,
    "several processes or machines": 8,
    "minutes": 8,
    "another program": 8,
}
BLOCKS = {page: blocks for page in pages() if (blocks := blocks_of(page))}


def test_every_block_names_its_language() -> None:
    """``bash``, ``console`` and ``python`` are run, ``text`` and others are not."""
    assert not [where for page in pages() for where in unnamed(page)]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.optional] if any(block.needs for block in blocks) else [])
        for page, blocks in BLOCKS.items()
    ],
)
def test_every_block_runs(page: str, page_folder: Path, run: Callable[..., Any]) -> None:
    done = run("page", page, cwd=page_folder)
    assert done.returncode == 0, f"{page}\n{done.stdout}"
    if page in CHECKS and all(block.is_possible_here or block.not_run for block in BLOCKS[page]):
        CHECKS[page](page_folder, done.stdout)


@pytest.mark.parametrize("reason", [*LACKS])
def test_few_blocks_are_not_run(reason: str) -> None:
    named = [block.where for block in left_out() if block.not_run.startswith(reason)]
    assert 0 < len(named) <= LACKS[reason], named


def test_each_block_that_is_not_run_says_why() -> None:
    assert not [f"{block.where}: {block.not_run}" for block in left_out() if not block.not_run.startswith((*LACKS,))]
    assert 3 * len(left_out()) < sum(map(len, BLOCKS.values()))


def test_what_blocks_need_is_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = {re.split(r"[<>=\[]", line)[0] for lines in extras.values() for line in lines}
    needed = {name for blocks in BLOCKS.values() for block in blocks for name in block.needs}
    assert needed - packages == {"albumentations"}  # no part of cascadezoo uses it


def left_out() -> list[Block]:
    return [block for blocks in BLOCKS.values() for block in blocks if block.not_run]
