"""A real server, and clients that behave and that do not."""

import io
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from PIL import Image

from cascadezoo.converters.canonical import read_safetensors
from cascadezoo.detections import Detections

from compare import compare
from served import SCORE, SERVE, Server, environ, image, png

pytestmark = pytest.mark.serve
RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def server(start):
    with start("--max-pixels", "20000", "--max-body-mb", "0.1", "--workers", "2") as server:
        yield server


def post(server: Server, data: bytes, **given) -> requests.Response:
    headers = RAW | given.pop("headers", {})
    return requests.post(f"{server.url}/predict", data=data, headers=headers, timeout=60, **given)


def post_form(server: Server, params: dict | None = None, **files: object) -> requests.Response:
    return requests.post(f"{server.url}/predict", files=files, params=params, timeout=60)


def results(answer: requests.Response) -> list[dict]:
    """COCO results out of an answer."""
    assert answer.status_code == 200, answer.text
    keys = ("image_id", "category_id", "bbox", "score", "segmentation")
    return [{key: one[key] for key in keys} for one in answer.json()["annotations"]]


def refused(answer: requests.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "request_id"}
    assert words in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_answer_is_predicts_bit_for_bit_however_the_image_comes(server, predictor) -> None:
    pixels = image(1)
    (expected,) = predictor([pixels])
    assert len(expected) > 0
    for answer in (
        post(server, png(pixels)),
        post(server, png(pixels), headers={"Content-Type": "application/octet-stream"}),
        post_form(server, image=("é.png", png(pixels))),
        requests.post(f"{server.url}/predict", data=iter([png(pixels)]), headers=RAW, timeout=60),  # chunked
    ):
        assert results(answer) == expected.to_coco(1)
    named = post_form(server, {"image_id": 8}, image=("é.png", png(pixels))).json()
    assert named["images"] == [{"id": 8, "height": 64, "width": 64, "file_name": "é.png"}]


def test_polygons_and_pictures(server, predictor) -> None:
    pixels = image(2)
    (expected,) = predictor([pixels])
    drawn = np.asarray(expected.plot(pixels))
    for given in ({"params": {"format": "png"}}, {"headers": {"Accept": "image/png"}}):
        answer = post(server, png(pixels), **given)
        assert answer.headers["content-type"] == "image/png"
        assert (np.asarray(Image.open(io.BytesIO(answer.content))) == drawn).all()
    answer = post(server, png(pixels), params={"format": "jpeg"}, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (pixels.shape[1], pixels.shape[0])
    outlines = post(server, png(pixels), params={"format": "polygons"}).json()["annotations"]
    assert [one["bbox"] for one in outlines] == [one["bbox"] for one in expected.to_coco(1)]
    assert all(isinstance(one["segmentation"], list) for one in outlines)


def test_a_score_above_the_servers_leaves_out_more(server, predictor) -> None:
    (expected,) = predictor([image(1)])
    middle = float(expected.scores.median())
    got = results(post(server, png(image(1)), params={"score": middle}))
    assert 0 < len(got) < len(expected)
    assert got == expected[expected.scores >= middle].to_coco(1)
    refused(post(server, png(image(1)), params={"score": 0.1}), 422, f"finds nothing below {SCORE}")
    refused(post(server, png(image(1)), params={"score": 2}), 422, "score: Input should be")
    refused(post(server, png(image(1)), params={"format": "gif"}), 422, "format: ")


def test_what_is_no_image_is_refused_in_a_sentence(server) -> None:
    whole = png(image(0))
    refused(post(server, whole[: len(whole) // 2]), 422, "the image sent is an image that is damaged or cut short")
    refused(post(server, b"no image"), 422, "the image sent is no image that can be decoded")
    refused(post(server, b""), 422, "the image sent is empty")
    refused(post(server, whole, headers={"Content-Type": "text/plain"}), 415, "a body of type text/plain is not taken")
    refused(post(server, whole, headers={"Content-Encoding": "gzip"}), 415, "content encoding")
    refused(post(server, whole, headers={"Accept": "text/html"}), 406, "there are application/json")
    refused(post_form(server, photo=whole), 422, "no file in a field image")
    refused(post_form(server, image=(None, "text")), 422, "no file in a field image")
    refused(post_form(server, image=whole, other=whole), 400, "Too many files")
    form = {"Content-Type": "multipart/form-data"}
    refused(post(server, b"--", headers=form), 400, "boundary")
    form["Content-Type"] += "; boundary=x"
    refused(post(server, b"-- x", headers=form), 400, "")
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\na\r\n--x--\r\n'
    refused(post(server, part, headers=form), 422, "no image")
    form["Content-Type"] += "; charset=undefined"
    refused(post(server, part, headers=form), 400, "the form's charset cannot be read: leave it out")
    refused(requests.get(f"{server.url}/predict", timeout=60), 405, "Method Not Allowed")
    refused(requests.get(f"{server.url}/nothing", timeout=60), 404, "Not Found")
    slash = requests.post(f"{server.url}/predict/", data=whole, headers=RAW, timeout=60, allow_redirects=False)
    refused(slash, 404, "Not Found")


def test_headers_that_are_split_or_say_nothing(server) -> None:
    for nothing in ("Identity", ""):
        assert post(server, png(image(0)), headers={"Content-Encoding": nothing}).status_code == 200
    data = png(image(0))
    lines = ("POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", f"Content-Length: {len(data)}")
    accept = ("Accept: text/html", "Accept: image/png", "Connection: close")
    with server.connected() as client:
        client.sendall("\r\n".join((*lines, *accept, "", "")).encode() + data)
        head = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: image/png" in head


def test_what_is_no_http_is_refused_by_uvicorn(server) -> None:
    with server.connected() as client:
        client.sendall(b"nonsense\r\n\r\n")
        head, _, body = read(client).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400")
    assert "content-type: text/plain" in head
    assert body == "Invalid HTTP request received."
    lines = server.log.read_text().rpartition("\nserving ")[2].splitlines()[1:]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert "uvicorn.error: Invalid HTTP request received." in lines[-1]


def test_pixels_are_counted_before_they_are_decoded(server) -> None:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    refused(post(server, file.getvalue()), 413, "claims 9000 x 9000 pixels, more than the 20,000 allowed: shrink it")
    assert "CASCADEZOO" not in post(server, file.getvalue()).text


def test_a_large_body_is_refused_before_it_is_read(server) -> None:
    with sending(server, b"", 900_000_000) as client:
        answer = read(client)
    assert answer.startswith("HTTP/1.1 413")
    assert "more than the 104,857 bytes allowed" in answer


@pytest.mark.parametrize("form", [False, True])
def test_a_body_that_names_no_length_is_refused_when_it_is_too_large(server, form: bool) -> None:
    kind = b"multipart/form-data; boundary=x" if form else b"image/png"
    head = b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n" if form else b"\x89PNG"
    sent = 0
    with server.connected() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: " + kind + b"\r\n\r\n"
        )
        client.sendall(b"%x\r\n%b\r\n" % (len(head), head))
        client.settimeout(0.05)
        answer = b""
        while not answer and sent < 10_000_000:
            client.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")
            sent += 4096
            try:
                answer = client.recv(10000)
            except TimeoutError:
                pass
            except ConnectionError:
                break
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert sent < 200_000


def test_ids_are_the_clients_own_where_they_are_harmless(server) -> None:
    given = post(server, png(image(0)), headers={"X-Request-ID": "mine-1.a_b"})
    assert given.headers["x-request-id"] == "mine-1.a_b"
    forged = post(server, png(image(0)), headers={"X-Request-ID": "a 200 forged"})
    assert len(forged.headers["x-request-id"]) == 32
    assert requests.get(f"{server.url}/{'long' * 1000}", timeout=60).status_code == 404
    until(lambda: " GET /longlong" in server.log.read_text())  # a line is written after its answer
    lines = server.log.read_text().splitlines()
    assert next(len(line) for line in lines if " GET /longlong" in line) < 300
    (line,) = [line for line in lines if " mine-1.a_b " in line]
    assert "POST /predict 200" in line
    assert not any("forged" in line for line in lines)


def test_what_is_said_of_the_model_and_of_the_server(server, weights) -> None:
    said = requests.get(f"{server.url}/metadata", timeout=60).json()
    assert said["content_digest"] == read_safetensors(weights)[1]["content_digest"]
    assert said["limits"]["max_pixels"] == 20000
    assert said["device"] == ["cpu", "cpu"]
    assert len(said["categories"]) == 5
    health = requests.get(f"{server.url}/healthz", timeout=60)
    assert (health.status_code, health.json()["live"], health.json()["ready"]) == (200, True, True)
    assert requests.get(f"{server.url}/healthz/ready", timeout=60).status_code == 200
    page = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    assert set(page["paths"]) == {"/predict", "/healthz", "/healthz/ready", "/metadata"}
    asked = page["paths"]["/predict"]["post"]
    assert {each["name"] for each in asked["parameters"]} == {"format", "score", "image_id"}
    assert {"image/png", "multipart/form-data"} < set(asked["requestBody"]["content"])
    assert {"200", "413", "415", "422", "503"} <= set(asked["responses"])
    assert "/openapi.json" in requests.get(f"{server.url}/docs", timeout=60).text


def fifty(server: Server) -> list[list[dict]]:
    """The answers to 50 clients, each with its own image and connection, all at once."""
    files = [png(image(number)) for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = pool.map(lambda number: post(server, files[number], params={"image_id": number}), range(50))
        return [results(answer) for answer in answers]


def test_fifty_clients_get_their_own_answers_bit_for_bit(server, predictor) -> None:
    expected = [predictor([image(number)])[0].to_coco(number) for number in range(50)]
    assert len({json.dumps([one["bbox"] for one in each]) for each in expected if each}) > 45
    assert fifty(server) == expected


def test_fifty_clients_that_share_batches_get_their_own_answers(start, predictor) -> None:
    found = [predictor([image(number)])[0] for number in range(50)]
    with start("--max-batch", "8", "--max-wait-ms", "50", "--workers", "2") as server:
        answers = fifty(server)
        health = requests.get(f"{server.url}/healthz", timeout=60).json()
    assert health["images"] == 50
    assert health["batches"] < 40
    for number, (answer, own) in enumerate(zip(answers, found, strict=True)):
        assert {one["image_id"] for one in answer} <= {number}
        assert matches(answer, own)
        strangers = (each for each in found if each.image_size == own.image_size and each is not own)
        assert not any(matches(answer, each) for each in strangers)


def matches(answer: list[dict], detections: Detections) -> bool:
    """By the bounds of the recorded parity cases."""
    x, y, w, h = np.array([one["bbox"] for one in answer]).reshape(-1, 4).T
    extent = detections.extent
    expected = {
        "boxes": detections.boxes.numpy(),
        "scores": detections.scores.numpy(),
        "labels": detections.labels.numpy(),
        "rles": detections.rles(),
    }
    return compare(
        expected,
        np.stack((x, y, x + w - extent, y + h - extent), axis=1),
        np.array([one["score"] for one in answer]),
        np.array([detections.categories.ids.index(one["category_id"]) for one in answer]),
        [one["segmentation"] for one in answer],
    )["ok"]


def until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise TimeoutError


def health(server: Server) -> dict:
    return requests.get(f"{server.url}/healthz", timeout=60).json()


def sending(server: Server, data: bytes, length: int | None = None) -> socket.socket:
    """A connection on which a request has been sent, all of it unless ``length`` promises more."""
    client = server.connected()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length or len(data)}"
    client.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + data)
    return client


def read(client: socket.socket) -> str:
    """All that the server still sends on this connection."""
    with client.makefile("rb") as file:
        return file.read().decode()


def test_who_comes_when_all_places_are_taken_is_told_when_to_try_again(start) -> None:
    data = png(image(0))
    with start("--max-requests", "1") as server:
        with sending(server, data[:10], len(data)) as client:
            until(lambda: health(server)["requests"] == 1)
            answer = post(server, data)
            refused(answer, 503, "too many requests at once")
            assert int(answer.headers["retry-after"]) >= 1
            assert not health(server)["ready"]
            assert requests.get(f"{server.url}/healthz/ready", timeout=60).status_code == 503
            client.sendall(data[10:])  # the one that was there is answered
            assert read(client).startswith("HTTP/1.1 200")
        until(lambda: health(server)["ready"])
        assert post(server, data).status_code == 200
        assert server.ended(signal.SIGINT) == 0


def test_who_leaves_is_dropped_and_signals_end_it_when_the_rest_is_answered(start) -> None:
    data = png(image(0))
    with start("--max-batch", "4", "--max-wait-ms", "1500", "--workers", "1") as server:
        leaving = sending(server, data)
        until(lambda: health(server)["waiting"] == 1)
        leaving.close()
        until(lambda: health(server)["requests"] == 0)
        assert health(server) | {"images": 0, "waiting": 0} == health(server)
        uploading = sending(server, data[:10], len(data))
        until(lambda: health(server)["requests"] == 1)
        uploading.close()
        until(lambda: health(server)["requests"] == 0)
        with sending(server, data) as client:
            until(lambda: health(server)["waiting"] == 1)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: is_refused(server))
            assert read(client).startswith("HTTP/1.1 200")
        assert server.process.wait(30) == 0
        log = server.log.read_text()
    assert log.count("POST /predict 499") == 2
    assert log.rstrip().endswith("ended: all requests are answered")
    assert "Traceback" not in log


def test_a_second_signal_ends_it_at_once_which_the_log_says(start) -> None:
    data = png(image(0))
    with (
        start("--max-batch", "4", "--max-wait-ms", "600000", "--workers", "1") as server,
        sending(server, data) as client,
    ):
        until(lambda: health(server)["waiting"] == 1)
        server.process.send_signal(signal.SIGINT)
        until(lambda: is_refused(server))
        assert server.ended(signal.SIGINT) == 0
        assert read(client).startswith("HTTP/1.1 503")
        log = server.log.read_text()
    assert log.rstrip().endswith("ended: requests that were still there are not answered")
    assert "POST /predict 503" in log
    assert "Traceback" not in log


def is_refused(server: Server) -> bool:
    try:
        server.connected().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_port_in_use_is_said_before_the_model_is_loaded(server) -> None:
    command = [*SERVE, "cascade_r50_fpn_1x.mmdet", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ())
    assert done.returncode == 2
    assert f"cannot listen on port {server.port} of 127.0.0.1 (Address already in use)" in done.stderr
