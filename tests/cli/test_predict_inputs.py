"""What ``cascadezoo predict`` takes: folders within folders, patterns, lists, addresses, stdin; and what is wanted."""

import io
import json
import sys
from pathlib import Path

import pytest
from hub.fault_server import FaultServer, Redirect, Status

from cascadezoo.cli.parameters import threshold_text
from cascadezoo.cli.sources import find_sources
from cascadezoo.hub import transport

from fake_predict import NAME, FakeModel, run, write_image
from served import image, png


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(FakeModel, "asked", [])
    return FakeModel.asked


def document(folder: Path) -> dict:
    return json.loads((folder / "predictions" / "detections.json").read_text())


def names(folder: Path) -> list[str]:
    return [each["file_name"] for each in document(folder)["images"]]


class Stdin:
    """A standard input with some bytes."""

    def __init__(self, content: bytes, is_terminal: bool = False) -> None:
        self.buffer, self.isatty = io.BytesIO(content), lambda: is_terminal


def test_folders_within_a_folder(folder, calls, capsys):
    for name in ("p/b.png", "p/deep/a.png", "p/deep/er/c.png", "p/.hidden/d.png"):
        write_image(folder / name)
    (folder / "p" / "deep" / "notes.md").touch()
    (folder / "p" / "link").symlink_to(folder / "p" / "deep")
    assert run(NAME, "p", "--recursive") == 0
    assert names(folder) == ["p/b.png", "p/deep/a.png", "p/deep/er/c.png"]
    err = capsys.readouterr().err
    for line in (
        "p: 1 hidden file was left out: .hidden",
        "p: 1 folder inside was not entered: link",
        "p: 1 file is no image and was left out: deep/notes.md",
    ):
        assert f"cascadezoo: {line}\n" in err
    assert {each["file_name"]: each["reason"] for each in document(folder)["left_out"]} == {
        "p/.hidden": "hidden", "p/link": "folder", "p/deep/notes.md": "no image",
    }  # fmt: skip


def test_a_folder_inside_that_cannot_be_read_does_not_lose_the_others(folder, calls, monkeypatch, capsys):
    iterdir = Path.iterdir

    def refusing(self):
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refusing)  # root may read any folder
    write_image(folder / "p" / "a.png")
    write_image(folder / "p" / "locked" / "b.png")
    assert run(NAME, "p", "--recursive") == 4
    assert names(folder) == ["p/a.png"]
    assert "cascadezoo: the folder p/locked cannot be read: Permission denied\n" in capsys.readouterr().err


def test_a_pattern_in_quotes(folder, calls, capsys):
    for name in ("p/b.png", "p/a.png", "p/deep/c.png", "p/[1].png"):
        write_image(folder / name)
    (folder / "p" / "a.txt").write_text("gone.png")
    assert run(NAME, "p/*", "p/**/c.png", "p/[1].png") == 0  # the last one is there as it is written
    assert names(folder) == ["p/[1].png", "p/a.png", "p/b.png", "p/deep/c.png"]
    assert capsys.readouterr().err == "cascadezoo: p/*: 1 file is no image and was left out: p/a.txt\n"
    assert run(NAME, "p/*.jpg", "p/*.txt") == 3
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "cascadezoo: no file fits p/*.jpg", "cascadezoo: no image fits p/*.txt",
    ]  # fmt: skip


def test_a_list_of_paths(folder, calls, capsys):
    for name in ("p/b.png", "a.png", "q/c.png"):
        write_image(folder / name)
    (folder / "list.txt").write_text("a.png\n\n p/b.png \ngone.png\nq\nother.txt\na.png\n")
    (folder / "other.txt").write_text("a.png")
    assert run(NAME, "list.txt") == 4
    assert names(folder) == ["a.png", "p/b.png", "q/c.png"]
    assert {each["file_name"] for each in document(folder)["failed"]} == {"gone.png", "other.txt"}
    (folder / "empty.txt").write_text("\n")
    assert run(NAME, "empty.txt") == 3
    assert "the list empty.txt names no image" in capsys.readouterr().err


def test_an_image_on_stdin(folder, calls, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Stdin(png(image(0))))
    assert run(NAME, "-", "-") == 0
    assert names(folder) == ["-"]
    assert capsys.readouterr().out == f"-: 2 detections (1 person, 1 dog) -> {Path('predictions', 'stdin.jpg')}\n"
    monkeypatch.setattr(sys, "stdin", Stdin(b"no image"))
    assert run(NAME, "-") == 4
    monkeypatch.setattr(sys, "stdin", Stdin(b"", is_terminal=True))
    assert run(NAME, "-") == 2
    monkeypatch.setattr(sys, "stdin", None)
    assert run(NAME, "-") == 2
    assert "- is an image on stdin, and nothing is piped in there" in capsys.readouterr().err


def test_images_at_addresses(folder, calls, monkeypatch, capsys):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.01)
    write_image(folder / "a.png")
    with FaultServer() as server:
        server.put("/p/a.png?key=1", png(image(0)))
        server.put("/p/a.png?key=2", png(image(1)))
        server.put("/to", b"", faults=[Redirect("/p/a.png?key=2")])
        server.put("/bad.png", b"no image")
        server.put("/slow.png", png(image(0)), faults=[Status(503)])
        paths = ("/p/a.png?key=1", "/p/a.png?key=2", "/to", "/bad.png", "/gone.png", "/slow.png", "/")
        given = [server.url(path) for path in paths]
        assert run(NAME, "a.png", *given) == 4
    found = document(folder)
    address = given[0].removesuffix("?key=1")
    assert [each["file_name"] for each in found["images"]] == [
        "a.png", f"{address}?…", f"{address}?…", given[2], given[5],
    ]  # fmt: skip
    assert [(each["height"], each["width"]) for each in found["images"][1:]] == [(60, 90), (64, 64), (64, 64), (60, 90)]
    assert [each["file_name"] for each in found["failed"]] == [given[3], given[4], given[6]]
    assert "key" not in capsys.readouterr().out
    written = {path.name for path in (folder / "predictions").glob("*.jpg")}
    assert written == {"a.jpg", "a-2.jpg", "a-3.jpg", "to.jpg", "slow.jpg"}


@pytest.mark.parametrize(
    ("url", "stem"),
    [
        ("https://h.org/p/photo%20one.jpg", "photo_one"),
        ("https://h.org", "image"),
        ("https://h.org/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("https://h.org/..", "image"),
        ("https://[bad/x.jpg", "image"),
        ("HTTP://h.org/" + "x" * 200, "x" * 80),
    ],
)
def test_files_are_named_by_what_is_fit_of_an_address(url, stem):
    (still,) = find_sources([url]).stills
    assert still.stem == stem


def test_where_the_network_is_off_addresses_fail_and_files_run(folder, calls, monkeypatch, capsys):
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    write_image(folder / "a.png")
    assert run(NAME, "https://example.org/b.png", "a.png") == 3
    assert names(folder) == ["a.png"]
    assert "CASCADEZOO_OFFLINE forbids the network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (None, 0.5, None)),
        (("--threshold", "0.3", "--max-detections", "7"), (None, 0.3, 7)),
        (("--classes", "person, dog", "--classes", "44"), (["person", "dog", "44"], 0.5, None)),
        (("--threshold", "person=0.6,dog=0.3"), (None, {"*": 0.5, "person": 0.6, "dog": 0.3}, None)),
        (("--threshold", "0.2, hot dog=1"), (None, {"*": 0.2, "hot dog": 1.0}, None)),
    ],
)
def test_what_is_wanted_reaches_the_model(folder, calls, asked, options, expected):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", *options) == 0
    assert asked == [(1, *expected)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--classes", "persn"), "no category is called 'persn': did you mean person"),
        (("--classes", "12"), "no category has the id 12"),
        (("--classes", ","), "classes is empty"),
        (("--threshold", "persn=0.5"), "no category is called 'persn'"),
    ],
)
def test_a_class_that_the_model_does_not_know_is_said_once_and_ends_it(folder, calls, asked, capsys, options, words):
    paths = [write_image(folder / name) for name in ("a.png", "b.png")]
    assert run(NAME, *paths, *options) == 2
    assert asked == []
    assert capsys.readouterr().err.count(words) == 1
    assert not (folder / "predictions").exists()


def test_a_threshold_is_told_as_it_was_typed(folder, calls):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--threshold", "0.25,dog=0.3") == 0
    assert document(folder)["info"]["description"].endswith(f"predict {NAME} --threshold 0.25,dog=0.3")
    assert threshold_text(0.5) == "0.5"


def test_batches_are_of_so_many_images_and_a_bad_one_leaves_its_neighbours(folder, calls, asked, capsys):
    for number in range(5):
        write_image(folder / "p" / f"{number}.png", height=30 + number)
    (folder / "p" / "1.png").write_bytes(b"no image")
    assert run(NAME, "p", "--batch-size", "3") == 4
    assert [count for count, *_ in asked] == [2, 2]
    assert names(folder) == [f"p/{number}.png" for number in (0, 2, 3, 4)]
    assert [each["height"] for each in document(folder)["images"]] == [30, 32, 33, 34]
    assert [line[:7] for line in capsys.readouterr().out.splitlines()] == [f"p/{n}.png" for n in (0, 2, 3, 4)]
    assert [each["file_name"] for each in document(folder)["failed"]] == ["p/1.png"]


@pytest.mark.parametrize("option", ["--recursive", "--save=csv"])
def test_options_that_are_for_runs_without_an_engine(folder, calls, capsys, option):
    assert run(NAME, "a.png", "--engine", "ray", option) == 2
    assert f"{option.partition('=')[0]} is for runs without --engine" in capsys.readouterr().err
