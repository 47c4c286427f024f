"""Finished parts on disk: what belongs together, whose results they are, and what survives what."""

import json
import multiprocessing
from pathlib import Path

import pytest

from cascadezoo.batch.parts import Part, digest_of, divided, parts_folder
from cascadezoo.batch.sources import RowGroup
from cascadezoo.errors import CorruptData, RunInUse, UnwritableOutput, UsageError

RUN = {"model": {"name": "a", "weights": "0" * 64}, "settings": {"threshold": 0.5}}
PARTS = [Part(0, 1, ("a.png", "b.png")), Part(1, 3, ("c.png",))]


def line(image_id: int) -> str:
    return json.dumps({"image_id": image_id, "file_name": "x", "height": 1, "width": 1, "detections": []})


@pytest.mark.parametrize(("images", "size"), [(1, 8), (8, 8), (512, 8), (513, 9), (4096, 64), (10_000, 64)])
def test_the_extent_of_a_part(images: int, size: int) -> None:
    names = [f"{number}.png" for number in range(images)]
    parts = divided(names)
    assert [name for part in parts for name in part.names] == names
    assert {len(part.names) for part in parts[:-1]} <= {size}
    assert len(parts[-1].names) <= size
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.first for part in parts] == [1 + size * number for number in range(len(parts))]


def test_files_objects_and_rows_are_no_part_together() -> None:
    group = RowGroup("t.parquet", 1000, 1, 5, 3, "bytes")
    parts = divided(["a.png", "s3://b/c.png", "s3://b/d.png", group, "e.png"])
    assert parts == [
        Part(0, 1, ("a.png",)),
        Part(1, 2, ("s3://b/c.png", "s3://b/d.png")),
        Part(2, 4, ("t.parquet#5", "t.parquet#6", "t.parquet#7"), group),
        Part(3, 7, ("e.png",)),
    ]
    assert divided([]) == []


def test_another_list_of_images_has_another_digest() -> None:
    lists = [
        ["a.png", "b.png"],
        ["b.png", "a.png"],
        ["a.png"],
        ["a.png", "b\udcff.png"],
        [RowGroup("t", 10, 0, 0, 2, "bytes")],
        [RowGroup("t", 11, 0, 0, 2, "bytes")],
    ]
    digests = [digest_of(divided(each)) for each in lists]
    assert len(set(digests)) == len(lists)
    assert digest_of(divided(["a.png", "b.png"])) == digests[0]


def test_what_is_kept_is_there_for_the_next_process(tmp_path: Path) -> None:
    with parts_folder(tmp_path / "new" / "parts") as folder:
        folder.claim(RUN)
        assert folder.done() == set()
        folder.keep(PARTS[0], [line(1), line(2)])
    with parts_folder(tmp_path / "new" / "parts") as folder:
        folder.claim(RUN)
        assert folder.done() == {0}
        lines = list(folder.read(PARTS[0]))
    assert [record["image_id"] for _, record in lines] == [1, 2]
    assert b"".join(raw for raw, _ in lines).decode() == f"{line(1)}\n{line(2)}\n"


def test_a_part_that_was_being_written_is_not_there(tmp_path: Path) -> None:
    (tmp_path / ".part-000000.jsonl.0.part").write_text(line(1))  # as a killed writer leaves it
    with parts_folder(tmp_path) as folder:
        folder.claim(RUN)
        assert folder.done() == set()
    assert sorted(path.name for path in tmp_path.glob("*part*")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"threshold": 0.3}}, r"threshold was 0\.5, is 0\.3"),
        ({"model": {"name": "a", "weights": "1" * 64}}, r"weights was 000000000000…, is 111111111111…"),
        ({"images": {"images": 4}}, r"images was None, is 4"),
    ],
)
def test_another_runs_folder_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    with parts_folder(tmp_path) as folder:
        folder.claim({**RUN, **change})  # nothing is finished yet
        folder.claim(RUN)
        folder.keep(PARTS[0], [line(1), line(2)])
        folder.claim(RUN)
        way_out = r"choose another --out, or remove the folder .* to begin anew$"
        with pytest.raises(UsageError, match=rf"holds the parts of another run \({words}\): {way_out}"):
            folder.claim({**RUN, **change})


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"format": "older"}'])
def test_parts_of_an_unknown_run_are_refused(tmp_path: Path, text: str | None) -> None:
    with parts_folder(tmp_path) as folder:
        folder.keep(PARTS[0], [line(1), line(2)])
        if text is not None:
            (tmp_path / "run.json").write_text(text)
        with pytest.raises(UsageError, match=r"run\.json is damaged or of another version: choose another --out"):
            folder.claim(RUN)


@pytest.mark.parametrize(
    "text", [None, "", line(1), f"{line(1)}\n{line(3)}\n", f"{line(1)}\n{line(2)[:-9]}", "[]\n2\n"]
)
def test_a_damaged_part_is_named(tmp_path: Path, text: str | None) -> None:
    with parts_folder(tmp_path) as folder:
        if text is not None:
            (tmp_path / "part-000000.jsonl").write_text(text)
        with pytest.raises(CorruptData, match=r"part-000000\.jsonl is not what was written \(.*\): remove it"):
            list(folder.read(PARTS[0]))


def _holds(path: Path, ready, done) -> None:
    with parts_folder(path):
        ready.set()
        done.wait(60)


def test_a_folder_is_one_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_holds, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(60)
    with (
        pytest.raises(RunInUse, match=r"is in use by another `cascadezoo predict`: wait for its end"),
        parts_folder(tmp_path),
    ):
        pass
    process.kill()  # the lock ends with its process
    process.join()
    with parts_folder(tmp_path):
        pass


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UnwritableOutput, match="cannot hold the parts of the results: Not a directory"),
        parts_folder(tmp_path / "file" / "parts"),
    ):
        pass
