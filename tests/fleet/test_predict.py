"""``predict --engine ray`` and ``Predictor`` on a real Ray of two workers; about a minute and a half on two cores."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny import lively, tiny

pytestmark = pytest.mark.fleet

ROOT = Path(__file__).parents[2]
MODEL, IMAGES, BAD = "local-dir:model", 200, 51
SAID = f"cascadezoo: photos/{BAD:03d}.png is no image that can be decoded: damaged or of another kind"
NAMES = [f"photos/{number:03d}.png" for number in range(1, IMAGES + 1)]
SIZES = ((60, 90), (90, 60), (64, 64), (40, 96))
THRESHOLD = ("--threshold", "0.2")  # tens of the model's hundred on each image
RAY = ("--device", "cpu", "--engine", "ray", "--actors", "2")
ENVIRON = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small model, and 200 images of four sizes, one of which is none."""
    folder = tmp_path_factory.mktemp("predict")
    lively(tiny()).save_pretrained(folder / "model")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, IMAGES + 1):
        pixels = rng.integers(0, 256, (*SIZES[number % 4], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:03d}.png")
    (folder / "photos" / f"{BAD:03d}.png").write_bytes(b"no image")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cascadezoo", "predict", MODEL, *arguments]
    return subprocess.Popen(command, cwd=folder, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def plain(folder) -> dict[str, dict]:
    """What a run without engine finds, by the name of the image."""
    code, _, err = run(folder, "photos", "-o", "plain", "--device", "cpu", *THRESHOLD)
    assert (code, err) == (
        4,
        f"cascadezoo: photos/{BAD:03d}.png is no image that can be decoded: damaged or of another kind\n",
    )
    document = json.loads((folder / "plain" / "detections.json").read_text())
    found = {image["id"]: {**image, "detections": []} for image in document["images"]}
    for annotation in document["annotations"]:
        found[annotation["image_id"]]["detections"].append(annotation)
    assert sum(len(image["detections"]) for image in found.values()) > 1000
    return {Path(image["file_name"]).name: image for image in found.values()}


def same(found: list[dict], expected: list[dict]) -> bool:
    """Whether COCO results are bit for bit those of the run without engine, except for the image's number."""
    one, other = (
        [[each[field] for field in ("category_id", "bbox", "score", "segmentation")] for each in some]
        for some in (found, expected)
    )
    return one == other


def test_two_workers_write_the_same_bytes_as_one_process(folder, plain):
    code, out, err = run(folder, "photos", "-o", "found", *RAY, *THRESHOLD)
    count = sum(len(image["detections"]) for image in plain.values())
    assert out == f"200 images, 1 of which failed: {count} detections -> found/detections.json\n"
    assert [line for line in err.splitlines() if not re.fullmatch(r"\d+ of 200 images", line)] == [SAID]
    assert code == 4
    assert (folder / "found" / "detections.json").read_bytes() == (folder / "plain" / "detections.json").read_bytes()


def wait_for_parts(folder: Path, process: subprocess.Popen[str], more_than: int) -> int:
    """The number of finished parts, once it is higher."""
    while (count := len(list(folder.glob("part-*.jsonl")))) <= more_than:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return count


def test_interrupted_and_killed_each_image_appears_once(folder, plain):
    given = ("photos", "-o", "found.jsonl", *RAY, *THRESHOLD)
    parts = folder / "found.jsonl.parts"
    process = start(folder, *given)
    done = wait_for_parts(parts, process, 0)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "cascadezoo: interrupted"
    assert time.monotonic() - sent < 60  # seconds; it takes about two
    process = start(folder, *given)
    done = wait_for_parts(parts, process, len(list(parts.glob("part-*.jsonl"))))
    process.kill()
    process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("part-*.jsonl")}
    assert done <= len(finished) < 25  # of 8 images each
    assert not (folder / "found.jsonl").exists()
    code, _, err = run(folder, *given)
    assert code == 4
    assert f"cascadezoo: {8 * len(finished)} of 200 images are done already" in err.splitlines()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    records = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    assert [record["file_name"] for record in records] == [
        f"photos/{number:03d}.png" for number in range(1, IMAGES + 1)
    ]
    bad = records.pop(BAD - 1)
    assert bad["error_type"] == "UnreadableImage"
    for record in records:
        assert same(record["detections"], plain[Path(record["file_name"]).name]["detections"])


def test_tables_lists_and_addresses_in_and_a_table_out(folder, plain):
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = [(folder / "photos" / f"{number:03d}.png").read_bytes() for number in range(41, 61)]
    pq.write_table(pa.table({"n": list(range(20)), "bytes": content}), folder / "inside.parquet", row_group_size=8)
    (folder / "tables.parquet").mkdir()
    pq.write_table(pa.table({"path": ["photos/001.png", "gone.png", None]}), folder / "tables.parquet" / "a.parquet")
    (folder / "some").mkdir()
    for name in ("a b.png", "c.png", "c.txt"):
        (folder / "some" / name).write_bytes((folder / "photos" / "002.png").read_bytes())
    uri = (folder / "some").as_uri()
    (folder / "names.txt").write_text(f"photos/003.png\n{uri}/none.png\n")
    given = ("inside.parquet", "tables.parquet", "names.txt", uri, f"{uri}/?.png")
    code, out, err = run(folder, *given, "-o", "table.parquet", *RAY, *THRESHOLD)
    assert code == 4, err
    assert out.startswith("27 images, 4 of which failed: ")
    assert f"cascadezoo: {uri}: 1 file is no image and was left out: c.txt" in err.splitlines()
    table = pq.read_table(folder / "table.parquet")
    rows = table.to_pylist()
    assert [(row["image_id"], row["file_name"], row["error"]) for row in rows[20:]] == [
        (21, "photos/001.png", None),
        (22, "gone.png", "no such image: gone.png"),
        (23, "tables.parquet/a.parquet#2", "no such image: tables.parquet/a.parquet#2"),
        (24, "photos/003.png", None),
        (25, f"{uri}/none.png", f"no such image: {uri}/none.png"),
        (26, f"{uri}/a%20b.png", None),
        (27, f"{uri}/c.png", None),
    ]
    assert [row["file_name"] for row in rows[:20]] == [f"inside.parquet#{row}" for row in range(20)]
    assert rows[10]["error"].startswith("the open file inside.parquet#10 is no image that can be decoded")
    names = [f"{number:03d}.png" for number in (*range(41, 61), 1, 0, 0, 3, 0, 2, 2)]
    for row, name in zip(rows, names, strict=True):
        if expected := plain.get(name):
            assert same(row["detections"], expected["detections"])
            assert (row["height"], row["width"]) == (expected["height"], expected["width"])
        else:
            assert (row["height"], row["width"], row["detections"]) == (None, None, None)
    assert len(json.loads(table.schema.metadata[b"categories"])) == 5


def test_the_images_of_a_table(tmp_path):
    """A column of records, as Hugging Face's data sets have it; the columns that are taken, and those that are not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cascadezoo.batch.sources import RowGroup, table_pieces
    from cascadezoo.errors import CorruptData, MissingResource, UsageError

    file = str(tmp_path / "a.parquet")
    images = pa.array([{"bytes": b"%d" % row, "path": "x"} for row in range(70)])
    pq.write_table(pa.table({"image": images, "path": ["a"] * 70, "n": [1] * 70}), file, row_group_size=40)
    size = Path(file).stat().st_size
    groups = table_pieces(file, "image.bytes")
    assert groups == [RowGroup(file, size, 0, 0, 40, "image.bytes"), RowGroup(file, size, 1, 40, 30, "image.bytes")]
    assert [image for batch in groups[1].images() for image in batch] == [b"%d" % row for row in range(40, 70)]
    assert table_pieces(file, "image.path") == ["x"] * 70
    assert table_pieces(f"file://{file}", "path") == ["a"] * 70
    for column, words in (
        (None, r"has the columns image, path, n: say which holds the images \(--column\)"),
        ("n", r"the column n holds int64: give one of paths or of encoded images"),
        ("image", r"the column image holds struct"),
        ("bytes", r"has no column bytes, only image, path, n"),
        ("image.data", r"has no column image\.data"),
    ):
        with pytest.raises(UsageError, match=words):
            table_pieces(file, column)
    with pytest.raises(MissingResource, match=r"no such image: gone\.parquet"):
        table_pieces("gone.parquet", None)
    Path(file).write_bytes(b"PAR1 but no table")
    for read in (lambda: table_pieces(file, None), lambda: list(groups[0].images())):
        with pytest.raises(CorruptData, match=r"a\.parquet is no sound Parquet file"):
            read()
    with pytest.raises(UsageError, match=r"nonsense://a is no address that pyarrow\.fs knows"):
        table_pieces("nonsense://a", None)


def test_an_image_that_kills_its_process_ends_the_job_by_name(folder, monkeypatch):
    from poison import Poisoned

    from cascadezoo.batch.engine import detected
    from cascadezoo.batch.parts import divided
    from cascadezoo.errors import WorkerLost

    monkeypatch.chdir(folder)
    for name in ("OMP_NUM_THREADS", "PYTHONPATH"):
        monkeypatch.setenv(name, ENVIRON[name])
    parts = divided(["photos/001.png", "photos/poison.png"])
    with pytest.raises(WorkerLost, match=r"3 times at photos/001\.png or one of the 1 images after"):
        list(detected(Poisoned(MODEL, device="cpu"), parts, actors=1))


def test_a_cluster_that_is_not_there(folder):
    with socket.socket() as taken:  # and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = run(folder, "photos/002.png", "-o", "no", *RAY, "--address", address)
    assert (code, out) == (3, "")
    assert err == f"cascadezoo: no Ray cluster can be used at {address}: Connection refused\n"


def test_the_example_of_the_documentation(folder):
    import pyarrow.parquet as pq

    page = (ROOT / "docs" / "batch.md").read_text()
    (code,) = re.findall(r"```python\n(import ray\n.*?)```", page, re.DOTALL)
    (folder / "more").mkdir()
    for name in ("a b.png", "bad.png", "c.txt"):
        (folder / "more" / name).write_bytes((folder / "photos" / "002.png").read_bytes() if name[0] != "b" else b"no")
    for ours, theirs in (
        ("cascade_mask_r50_fpn_1x.mmdet", MODEL),
        ("num_gpus=1", "num_cpus=1"),
        ("size=2", "size=1"),
        ("s3://bucket/photos/", str(folder / "more")),
        ("s3://bucket/found", str(folder / "by_ray")),
    ):
        assert ours in code
        code = code.replace(ours, theirs)
    (folder / "job.py").write_text(code)
    environ = {**ENVIRON, "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, "job.py"], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {Path(row["path"]).name: row for row in pq.read_table(folder / "by_ray").to_pylist()}
    assert rows.keys() == {"a b.png", "bad.png"}
    assert rows["bad.png"]["error_type"] == "UnreadableImage"
    scores = [result["score"] for result in json.loads(rows["a b.png"]["detections"])]
    assert rows["a b.png"]["count"] == len(scores) > 0
    assert min(scores) >= 0.3
