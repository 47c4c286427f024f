"""``cascadezoo data check``, as the shell sees it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cascadezoo.cli import cli, main
from cascadezoo.coco.faults import KINDS
from cascadezoo.errors import HandledFaults

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def sound() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 16, "width": 24}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8], "area": 32, "iscrowd": 0} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (24, 16)).save("a.png")

    def call(document: dict[str, Any] | str, *args: str) -> tuple[int, str, str]:
        Path("train.json").write_text(document if isinstance(document, str) else json.dumps(document))
        with pytest.raises(SystemExit) as stop:
            main(["data", "check", "train.json", *args])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


TABLE = "train.json: 1 images, 2 annotations\n        2  cat (category 1)\n        0  dog (category 7)\n"


@pytest.mark.parametrize("args", [(), ("--images", "."), ("--images", ".", "--decode")])
def test_sound_data_pass_with_the_objects_of_each_class(run: Any, args: tuple[str, ...]) -> None:
    assert run(sound(), *args) == (0, TABLE, "")


def test_T4_T5_every_fault_is_one_line_with_file_id_and_field(run: Any) -> None:
    document = sound()
    document["annotations"][0]["iscrowd"] = "0"
    del document["annotations"][1]["area"]
    code, out, err = run(document)
    assert code == 4
    assert out == TABLE + (
        'train.json: annotation 1: iscrowd: 0 or 1 is wanted, not "0"\n'
        "train.json: annotation 2: area: it is missing (that of the mask, or else of the box, is taken)\n"
    )
    assert err == "cascadezoo: train.json has 2 faults; for 1 of them training and verification refuse it\n"


def test_T1_faults_that_change_nothing_here_have_a_code_of_their_own(run: Any) -> None:
    document = sound()
    document["annotations"][1]["id"] = 1
    code, out, err = run(document)
    assert code == 1
    assert out == TABLE + "train.json: annotation 1: id: another annotation has this id (ids are given anew)\n"
    assert err == "cascadezoo: train.json has 1 fault; training and verification go on from all of them\n"
    with pytest.raises(HandledFaults, match="go on from all of them"):
        cli.main(["data", "check", "train.json"], standalone_mode=False)


def test_as_json(run: Any) -> None:
    document = sound()
    document["annotations"][1]["bbox"] = [2, 2, 8]
    code, out, _ = run(document, "--json")
    assert code == 4
    assert json.loads(out) == {
        "file": "train.json",
        "images": 1,
        "annotations": 2,
        "categories": [{"id": 1, "name": "cat", "objects": 2}, {"id": 7, "name": "dog", "objects": 0}],
        "counts": {"bbox": 1},
        "faults": [
            {"kind": "bbox", "in": "annotations", "index": 1, "id": 2, "field": "bbox", "then": None,
             "problem": "a bbox is four finite numbers x, y, width, height, not [2, 2, 8]"}
        ],
    }  # fmt: skip


def test_T2_image_files_are_looked_at_where_they_are_given(run: Any) -> None:
    Image.new("RGB", (16, 24)).save("a.png")
    assert run(sound())[0] == 0
    code, out, _ = run(sound(), "--images", ".")
    assert code == 4
    assert "train.json: image 1: width, height: 24 x 16 is annotated, but a.png is 16 x 24" in out


def test_a_kind_that_is_everywhere_is_shown_twenty_times_and_counted(run: Any) -> None:
    document = sound()
    document["annotations"] = [{**document["annotations"][0], "id": i, "area": None} for i in range(1, 51)]
    lines = run(document)[1].splitlines()
    assert [line.split(": ")[1] for line in lines[3:23]] == [f"annotation {i}" for i in range(1, 21)]
    assert lines[23:] == ["train.json: 30 more of the kind area-missing: no `area`"]


def test_text_from_the_file_cannot_act_on_the_terminal(run: Any) -> None:
    document = sound()
    document["categories"][0]["name"] = "\x1b[2J\ncat"
    document["annotations"][0]["iscrowd"] = "\x1b[2J"
    _, out, _ = run(document)
    assert "\x1b" not in out
    assert len(out.splitlines()) == 4


def test_what_cannot_be_read(run: Any) -> None:
    code, out, err = run('{"images": [')
    assert (code, err.count("\n")) == (4, 1)
    assert "train.json: is no JSON" in out
    code, _, err = run(sound(), "--images", "none")
    assert (code, err) == (3, "cascadezoo: none does not exist: give a folder\n")
    code, _, err = run(sound(), "--decode")
    assert code == 2
    assert "give --images" in err


def test_a_sheet_shows_what_is_annotated(run: Any) -> None:
    document = sound()
    document["annotations"][0] |= {"segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]}
    document["annotations"][1] |= {"iscrowd": 1, "bbox": [12, 2, 8, 8]}
    assert run(document, "--images", ".", "--draw", "sheet.png")[0] == 0
    with Image.open("sheet.png") as sheet:
        assert (sheet.format, sheet.size) == ("PNG", (24, 16))
        drawn = sheet.convert("RGB")
        assert drawn.getpixel((2, 9)) != (0, 0, 0)  # the outline of the black image's square
        assert drawn.getpixel((23, 15)) == (0, 0, 0)
    document["annotations"][0]["bbox"] = None
    assert run(document, "--images", ".", "--draw", "other.png")[0] == 4
    assert not Path("other.png").exists()
    assert run(sound(), "--draw", "other.png")[0] == 2


def test_the_documentation_lists_every_kind() -> None:
    rows = [line.split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    listed = {cells[0].strip("| `"): (cells[1], cells[2].removesuffix(" |")) for cells in rows}
    assert listed == {name: (kind.what, kind.then or "refused") for name, kind in KINDS.items()}
