"""Throughput and latency of ``cascadezoo serve``, beside the model called in a loop.

    python -m cascadezoo.benchmarks.measure.serving [--seconds S] [--rounds N] [--output FILE]

Needs the extra ``serve``, and starts a server of its own for each way on a free port of this machine.  1, 8 and 32
clients, threads of this process with a connection each, send one image after another for some seconds, and wait for
each answer.  The loop calls the same optimised model on the same files without a server, from decoding to COCO's JSON,
one after another on all cores; the loop and the ways take turns.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
import torch
from PIL import Image

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.detector import Detector
from cascadezoo.loading import load
from cascadezoo.ops.library import COMPILED
from cascadezoo.shapes.dataset import scene

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
CLIENTS = (1, 8, 32)
WAYS = {"--max-batch 1": (), "--max-batch 4": ("--max-batch", "4")}
"""What is compared, and the options of ``serve`` that make it."""

_IMAGES = 16
_THRESHOLD = 0.5  # that of ``serve``
_PATIENCE = 120  # seconds in which a server has to be there


def files() -> list[bytes]:
    """Images of the kind that the entry is for, as JPEG files of one size."""
    encoded = []
    for number in range(_IMAGES):
        file = io.BytesIO()
        Image.fromarray(scene("val", number).image).save(file, "JPEG", quality=92)
        encoded.append(file.getvalue())
    return encoded


def in_a_loop(model: Detector, images: Sequence[bytes]) -> Callable[[int], None]:
    """What a client would wait for, without a server."""

    def one(number: int) -> None:
        found = model.predict(images[number % len(images)])
        json.dumps(found[found.scores >= _THRESHOLD].to_coco(1))

    return one


def loop_of(one: Callable[[int], None], seconds: float) -> list[float]:
    """The seconds of each call, until so many have gone by."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        one(len(took))
        took.append(time.perf_counter() - start)
    return took


def load_of(url: str, images: Sequence[bytes], clients: int, seconds: float) -> list[float]:
    """The seconds of each answer that ``clients`` at once got; raises what one of them met."""
    took: list[list[float]] = [[] for _ in range(clients)]
    errors: list[Exception] = []

    def client(number: int) -> None:
        with requests.Session() as session:

            def one(turn: int) -> None:
                data, headers = images[(number + turn) % len(images)], {"Content-Type": "image/jpeg"}
                session.post(f"{url}/predict", data=data, headers=headers, timeout=_PATIENCE).raise_for_status()

            try:
                took[number] += loop_of(one, seconds)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [each for of_client in took for each in of_client]


def row(took: Sequence[float], elapsed: float) -> dict[str, float]:
    """Images a second, and milliseconds that half and 99 of 100 answers took at most."""
    p50, p99 = np.percentile(took, (50, 99)) * 1000
    return {"images_per_second": len(took) / elapsed, "p50_ms": float(p50), "p99_ms": float(p99)}


@contextmanager
def server(options: Sequence[str]) -> Iterator[str]:
    """The address of a server of the entry on the CPU, in a process of its own."""
    command = [sys.executable, "-m", "cascadezoo", "serve", ENTRY, "--device", "cpu", "--port", "0", *options]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, stderr=file)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r"^serving .* at (http://\S+:\d+),", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"no server: {log.read_text()}")


def _timed(measured: Callable[[], list[float]]) -> dict[str, float]:
    start = time.perf_counter()
    took = measured()
    return row(took, time.perf_counter() - start)


def measure(
    ways: Mapping[str, Sequence[str]], clients: Sequence[int], rounds: int, seconds: float, model: Detector
) -> dict[str, Any]:
    """The report; ``model`` is what the loop calls."""
    images = files()
    one = in_a_loop(model, images)
    one(0)
    loop: list[dict[str, float]] = []
    loads: dict[str, dict[int, list[dict[str, float]]]] = {way: {n: [] for n in clients} for way in ways}
    for _ in range(rounds):
        loop.append(_timed(partial(loop_of, one, seconds)))
        for way, options in ways.items():
            with server(options) as url:
                load_of(url, images, 4, 0.1)  # what a server makes at its first answers
                for n in clients:
                    loads[way][n].append(_timed(partial(load_of, url, images, n, seconds)))
    base = _spreads(loop)["images_per_second"]["median"]
    return {
        "benchmark": "serving",
        "entry": ENTRY,
        "image": list(scene("val", 0).image.shape[:2]),
        "rounds": rounds,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "loop": _spreads(loop),
        "rows": [
            {
                "way": way,
                "clients": n,
                **(spreads := _spreads(each)),
                "times_the_loop": round(spreads["images_per_second"]["median"] / base, 3),
            }
            for way, of_way in loads.items()
            for n, each in of_way.items()
        ],
    }


def _spreads(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: spread([each[name] for each in rows]) for name in rows[0]}


def main() -> None:
    """Measure, print the rates, write the report."""
    parser = argparse.ArgumentParser(description="Throughput and latency of serve, beside the model in a loop.")
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "serving.json")
    options = parser.parse_args()
    model = load(ENTRY, pretrained=True).optimize("cpu")
    report = measure(WAYS, CLIENTS, options.rounds, options.seconds, model)
    print(f"{'in a loop':25} {_line(report['loop'])}")
    for each in report["rows"]:
        print(f"{each['way']:13} {each['clients']:3} clients {_line(each)}")
    write_report(options.output, report)
    print(f"written to {options.output}")


def _line(each: dict[str, Any]) -> str:
    rate, p50, p99 = (each[name]["median"] for name in ("images_per_second", "p50_ms", "p99_ms"))
    return f"{rate:8.2f} images/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms"


if __name__ == "__main__":
    main()
