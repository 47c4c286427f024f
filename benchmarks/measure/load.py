"""What ``load(pretrained=True)`` costs, cold and warm, in time and memory.

    python -m cascadezoo.benchmarks.measure.load

The publisher is a file server on this machine, by ``CASCADEZOO_MIRROR``.  The first load, with an empty cache, stands
beside the same work done by hand: fetch the file with requests, hash it, convert it.  The warm load, with the weights
in the cache, stands beside safetensors' ``load_file`` and the network built on ``meta``.  Programs that are compared
alternate in one run, each first load in a fresh process; times exclude the imports, and memory is the highest resident
set less the one after the imports.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import click
import requests
import torch
from safetensors.torch import load_file

from cascadezoo import registry
from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.checkpoints.conversion import convert
from cascadezoo.checkpoints.exporting import export
from cascadezoo.converters.canonical import write_canonical
from cascadezoo.files import file_sha256
from cascadezoo.hub import transport
from cascadezoo.loading import load
from cascadezoo.modeling.build import build, canonical_shapes
from cascadezoo.paths import canonical_path

ENTRY = "cascade_mask_r50_fpn_1x.paddle"  # no hash of its file is published, so that any checkpoint will do
CHUNK = 256 * 1024
MIB = 2**20


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="First loads to measure.")
@click.option("--warm-runs", default=40, show_default=True, type=click.IntRange(min=1), help="Warm loads to measure.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A file of {ENTRY}.  [default: one with random weights]",
)
@click.option(
    "--output",
    default=RESULTS / "load.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/load.json]",
)
def main(runs: int, warm_runs: int, checkpoint: Path | None, output: Path) -> None:
    """Measure the first and the warm load of an entry and write a report."""
    with TemporaryDirectory(prefix="cascadezoo-") as name:
        folder = Path(name)
        source = random_checkpoint(folder) if checkpoint is None else checkpoint
        report = {
            "benchmark": "load",
            "entry": ENTRY,
            "checkpoint_bytes": source.stat().st_size,
            **compare(source, folder, runs, warm_runs),
            "download_memory": download_memory(folder, (64 * MIB, 512 * MIB)),
        }
    write_report(output, report)

    for name, ratio in (("first load", "by hand"), ("warm load", "load_file and meta")):
        part = report[name]
        seconds, times = part["seconds"]["load"]["median"], part["ratio"]["median"]
        click.echo(f"{name:12} {seconds:8.3f} s    {times:5.2f} times {ratio}")
    click.echo(
        f"{'first load':12} {report['peak_bytes'] / MIB:8.1f} MiB  {report['peak_over_checkpoint']:5.2f} times the file"
    )
    for row in report["download_memory"]:
        click.echo(f"{'download':12} {row['peak_bytes'] / MIB:8.1f} MiB  for {row['file_bytes'] / MIB:.0f} MiB")
    click.echo(f"report: {output}", err=True)


def compare(source: Path, folder: Path, runs: int, warm_runs: int) -> dict[str, Any]:
    """First and warm loads of ``ENTRY`` whose publisher's file is ``source``, each beside what it is compared with."""
    url = urlsplit(str(registry.info(ENTRY).download_url))
    place = folder / "mirror" / url.netloc / url.path.lstrip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(source.absolute())
    loads, hands = [], []
    with served(folder / "mirror") as mirror:
        for run in range(runs):
            home = folder / f"home{run}"
            loads.append(fresh("first_load", home=home, mirror=mirror))
            hands.append(fresh("by_hand", f"{mirror}/{url.netloc}{url.path}", str(folder / "by_hand"), home=home))
            if run + 1 < runs:
                (home / "canonical" / f"{ENTRY}.safetensors").unlink()
    warm = fresh("warm_loads", str(warm_runs), home=home)
    peak = max(run["peak_bytes"] for run in loads)
    return {
        "first load": _beside([run["seconds"] for run in loads], "by hand", [sum(run.values()) for run in hands]),
        "by_hand_seconds": {step: spread([run[step] for run in hands], 5) for step in hands[0]},
        "warm load": _beside(warm["load"], "load_file and meta", warm["plain"]),
        "peak_bytes": peak,
        "peak_over_checkpoint": round(peak / source.stat().st_size, 3),
    }


def download_memory(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, int]]:
    """The peak memory of fetching a file, for files of several sizes in bytes."""
    (folder / "files").mkdir()
    rows = []
    with served(folder / "files") as server:
        for size in sizes:
            with (folder / "files" / str(size)).open("wb") as file:
                file.truncate(size)
            rows.append({"file_bytes": size, **fresh("fetch", f"{server}/{size}", str(folder / f"fetched{size}"))})
            (folder / f"fetched{size}").unlink()
    return rows


def first_load() -> dict[str, float]:
    """In this process: load with an empty cache; seconds and bytes."""
    before = process_memory("VmRSS")
    start = time.perf_counter()
    load(ENTRY, pretrained=True)
    return {"seconds": time.perf_counter() - start, "peak_bytes": process_memory("VmHWM") - before}


def by_hand(url: str, folder: str) -> dict[str, float]:
    """In this process: the seconds to fetch a file, to hash it, and to convert it."""
    path = Path(folder) / url.rpartition("/")[2]
    path.parent.mkdir(exist_ok=True)
    times = [time.perf_counter()]
    with requests.get(url, stream=True, timeout=60) as response, path.open("wb") as file:
        response.raise_for_status()
        for block in response.iter_content(CHUNK):
            file.write(block)
    times.append(time.perf_counter())
    file_sha256(path)
    times.append(time.perf_counter())
    entry = registry.info(ENTRY)
    convert(path, entry.publisher, ENTRY, path.with_name("converted.safetensors"), force=True)
    times.append(time.perf_counter())
    return {step: times[i + 1] - times[i] for i, step in enumerate(("download", "sha256", "convert"))}


def warm_loads(runs: str) -> dict[str, list[float]]:
    """In this process: seconds of each load of the file in the cache, and of safetensors and the network alone."""
    path, spec = canonical_path(ENTRY), registry.spec_of(registry.info(ENTRY))
    seconds: dict[str, list[float]] = {"load": [], "plain": []}
    for run in range(-2, int(runs)):  # two to warm up
        start = time.perf_counter()
        model = load(ENTRY, pretrained=True)
        middle = time.perf_counter()
        plain = load_file(path), build(spec, device="meta")
        end = time.perf_counter()
        del model, plain
        if run >= 0:
            seconds["load"].append(middle - start)
            seconds["plain"].append(end - middle)
    return seconds


def fetch(url: str, path: str) -> dict[str, int]:
    """In this process: the peak memory of fetching a file as a download does."""
    before = process_memory("VmRSS")
    transport.fetch(url, Path(path))
    return {"peak_bytes": process_memory("VmHWM") - before}


def fresh(function: str, *arguments: str, home: Path | None = None, mirror: str | None = None) -> Any:
    """What a function of this module returns in a process of its own."""
    code = (
        f"import json, sys; from cascadezoo.benchmarks.measure.load import {function};"
        f"print(json.dumps({function}(*sys.argv[1:])))"
    )
    given = {"CASCADEZOO_HOME": home, "CASCADEZOO_MIRROR": mirror, "CASCADEZOO_HUB": None, "HTTP_PROXY": None}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in given}
    changed = {name: str(value) for name, value in given.items() if value is not None}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**kept, **changed})
    return json.loads(done.stdout)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The url of a server, in a process of its own, of the files in a folder."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port is not None
        try:
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            server.terminate()


def random_checkpoint(folder: Path) -> Path:
    """A file as the publisher writes it, with the tensors of ``ENTRY``."""
    generator = torch.Generator().manual_seed(0)
    shapes = canonical_shapes(registry.spec_of(registry.info(ENTRY)))
    canonical = folder / f"{ENTRY}.safetensors"
    write_canonical(canonical, {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, {})
    path = export(ENTRY, registry.info(ENTRY).publisher, canonical).output
    canonical.unlink()
    return path


def _beside(load: list[float], name: str, other: list[float]) -> dict[str, Any]:
    """``load`` and another program, timed in turns: seconds of each, and the ratio within each turn."""
    return {
        "seconds": {"load": spread(load, 5), name: spread(other, 5)},
        "ratio": spread([a / b for a, b in zip(load, other, strict=True)], 5),
    }


if __name__ == "__main__":
    main()
