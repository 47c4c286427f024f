"""The results file survives being cut off at any byte, and a full disk."""

import errno
from pathlib import Path

import pytest

from cascadezoo.benchmarks.verify.results_stream import ResultsStream, merged, read_results
from cascadezoo.errors import UnwritableOutput

WHO = {"entry": "a", "weights": "b", "tta": False}
RESULTS = {n: [{"image_id": n, "score": 0.1 * n, "bbox": [0.1, 2.0, 3.0, 4.0]}] * (n % 3) for n in range(1, 6)}


def fill(path: Path, identity: dict = WHO) -> bytes:
    with ResultsStream(path, identity) as stream:
        for image_id, results in RESULTS.items():
            stream.add(image_id, results)
    return path.read_bytes()


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    fill(tmp_path / "x")
    assert read_results(tmp_path / "x") == RESULTS


def test_cut_off_anywhere_it_ends_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = fill(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        held = read_results(path)
        assert all(RESULTS[key] == value for key, value in held.items())
        assert fill(path) == whole


def test_whatever_follows_a_damaged_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = fill(path)
    lines = whole.splitlines(keepends=True)
    lines[4] = lines[4].replace(b"0.4", b"0.5")
    path.write_bytes(b"".join(lines))
    assert set(read_results(path)) == {1, 2, 3}
    assert fill(path) == whole


def test_results_of_something_else_are_begun_anew(tmp_path: Path) -> None:
    fill(tmp_path / "x", {**WHO, "weights": "other"})
    with ResultsStream(tmp_path / "x", WHO) as stream:
        assert stream.done == set()
    fill(tmp_path / "x")
    with ResultsStream(tmp_path / "x", {**WHO}) as stream:
        assert stream.done == set(RESULTS)


def test_an_image_is_written_once(tmp_path: Path) -> None:
    whole = fill(tmp_path / "x")
    assert fill(tmp_path / "x") == whole


class FullDisk:
    """A file on a disk with room for ``room`` bytes more."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 7, 30])
def test_a_full_disk_loses_nothing(tmp_path: Path, room: int) -> None:
    path = tmp_path / "x"
    stream = ResultsStream(path, WHO)
    stream.add(1, RESULTS[1])
    stream._file = FullDisk(stream._file, room)
    with pytest.raises(UnwritableOutput, match=r"No space left.*make room"):
        stream.add(2, RESULTS[2])
    stream._file.room = 1000
    stream.add(3, RESULTS[3])
    stream.close()
    assert read_results(path) == {1: RESULTS[1], 3: RESULTS[3]}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutput, match="file/x"):
        ResultsStream(tmp_path / "file" / "x", WHO)


def test_parts_join_in_the_order_of_images() -> None:
    parts = [{3: [{"a": 1}], 1: [{"a": 2}, {"a": 3}]}, {2: [], 4: [{"a": 4}]}]
    assert merged(parts) == [{"a": 2}, {"a": 3}, {"a": 1}, {"a": 4}]
