"""The benchmark of the server, over a server of Python's own, and its section of docs/speed.md."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import ClassVar

import pytest
import requests
import torch
from measured import ENVIRONMENT

from cascadezoo.benchmarks.measure import serving
from cascadezoo.benchmarks.measure.serving_section import serving as section
from cascadezoo.detections import Detections

EMPTY = torch.zeros(0)


class Answers(BaseHTTPRequestHandler):
    """200 for images; notes who asked."""

    protocol_version = "HTTP/1.1"
    status = 200
    seen: ClassVar[set[tuple[int, bytes]]] = set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.add((self.client_address[1], body))
        self.send_response(self.status if self.path == "/predict" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def fake(monkeypatch):
    """Its address; the benchmark takes it for its own servers."""
    monkeypatch.setattr(Answers, "seen", set())
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(serving, "server", contextmanager(lambda options: iter([url])))
        yield url
        httpd.shutdown()
        thread.join()


def model():
    found = Detections(torch.zeros(0, 4), EMPTY, EMPTY.long(), (10, 10))
    return SimpleNamespace(predict=lambda image: found)


def test_all_clients_send_all_images_and_are_counted(fake):
    images = [b"a", b"b"]
    took = serving.load_of(fake, images, 3, 0.3)
    assert {body for _, body in Answers.seen} == set(images)
    assert len({port for port, _ in Answers.seen}) == 3  # a connection each, kept
    assert len(took) >= 6


def test_a_refusal_ends_the_measurement(fake, monkeypatch):
    monkeypatch.setattr(Answers, "status", 503)
    with pytest.raises(requests.HTTPError):
        serving.load_of(fake, [b"a"], 2, 0.1)


def test_a_row_is_a_rate_and_percentiles():
    row = serving.row([0.1] * 99 + [1.0], 20)
    assert row["images_per_second"] == 5
    assert row["p50_ms"] == pytest.approx(100)
    assert 100 <= row["p99_ms"] < 1000


def test_the_report_has_a_row_for_each_way_and_number_and_so_has_the_page(fake):
    report = serving.measure(serving.WAYS, (1, 2), 1, 0.05, model())
    assert [(row["way"], row["clients"]) for row in report["rows"]] == [(w, n) for w in serving.WAYS for n in (1, 2)]
    first = report["rows"][0]
    rates = [each["images_per_second"]["median"] for each in (first, report["loop"])]
    assert first["times_the_loop"] == pytest.approx(rates[0] / rates[1], abs=0.001)
    text = "\n".join(section({**report, "environment": ENVIRONMENT}))
    assert f"| `--max-batch 4` | 2 | {report['rows'][3]['images_per_second']['median']:.2f} |" in text
    assert "| in a loop |  | " in text


def test_a_server_that_ends_is_an_error_with_its_words(monkeypatch):
    monkeypatch.setattr(serving, "ENTRY", "no_such_entry")
    with pytest.raises(RuntimeError, match="no entry is called"), serving.server(()):
        pytest.fail("it is not there")
