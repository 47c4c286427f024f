"""The folder for Triton Inference Server, read by a parser of protocol buffers' text format; no server was at hand."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.errors import DepartsFromModel, OutputExists, UnwritableOutput
from cascadezoo.exporting import to_onnx, to_triton
from cascadezoo.exporting.checking import Check
from cascadezoo.exporting.formats import Options, Written

pytestmark = pytest.mark.export
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\w.+-]+|[\[\]{}:,])')
FLOAT, INT64, UINT8 = 1, 7, 2


def parse(text: str) -> dict[str, list[Any]]:
    """A message of the text format: field -> its values; scalars as JSON has them, names of enumerations as text."""
    tokens, end = [], 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        assert match, f"not the text format: {text[end : end + 40]!r}"
        tokens.append(match[1])
        end = match.end()
    rest = iter([*tokens, "}"])
    message = _message(rest)
    assert next(rest, None) is None, "a closing brace too many"
    return message


def _message(tokens: Iterator[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    while (name := next(tokens)) != "}":
        assert re.fullmatch(r"[a-z_]+", name), f"{name!r} is no field"
        token = next(tokens)
        if token == ":":
            token = next(tokens)
        found.setdefault(name, []).extend(_list(tokens) if token == "[" else [_value(token, tokens)])
    return found


def _list(tokens: Iterator[str]) -> Iterator[Any]:
    token = next(tokens)
    while token != "]":
        yield _value(token, tokens)
        token = next(tokens)
        assert token in ",]"
        if token == ",":
            token = next(tokens)
            assert token != "]"


def _value(token: str, tokens: Iterator[str]) -> Any:
    if token == "{":
        return _message(tokens)
    return json.loads(token) if re.match(r'["\d-]', token) else token


def model_of(inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, list[Any]]]) -> Any:
    """An ONNX model of these inputs and outputs, without nodes."""
    values = [
        [onnx.helper.make_tensor_value_info(name, *of_it) for name, of_it in group.items()]
        for group in (inputs, outputs)
    ]
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", *values))


@pytest.mark.parametrize("text", ["a: {", "a: [1 2]", "a: [1,]", "}", "a: 1 }", "1: 2", "a: ?"])
def test_the_parser_refuses_what_is_not_balanced(text: str) -> None:
    with pytest.raises((AssertionError, StopIteration, RuntimeError)):
        parse(text)


def test_the_batch_is_left_out_of_the_dimensions() -> None:
    model = model_of(
        {"images": (UINT8, ["n", "h", "w", 3]), "sizes": (FLOAT, ["n", 2])},
        {"boxes": (FLOAT, ["n", 100, 4]), "counts": (INT64, ["n"])},
    )
    assert parse(to_triton.config(model, 'a "name"')) == {
        "name": ['a "name"'],
        "backend": ["onnxruntime"],
        "max_batch_size": [8],
        "input": [
            {"name": ["images"], "data_type": ["TYPE_UINT8"], "dims": [-1, -1, 3]},
            {"name": ["sizes"], "data_type": ["TYPE_FP32"], "dims": [2]},
        ],
        "output": [
            {"name": ["boxes"], "data_type": ["TYPE_FP32"], "dims": [100, 4]},
            {"name": ["counts"], "data_type": ["TYPE_INT64"], "dims": [1], "reshape": [{"shape": []}]},
        ],
        "dynamic_batching": [{"max_queue_delay_microseconds": [2000]}],
        "instance_group": [{"count": [1], "kind": ["KIND_AUTO"]}],
    }


def test_a_fixed_batch_is_a_dimension_and_nothing_is_joined() -> None:
    model = model_of({"pixels": (FLOAT, [1, 3, "h", "w"])}, {"counts": (INT64, [1])})
    found = parse(to_triton.config(model, "fixed"))
    assert found["max_batch_size"] == [0]
    assert found["input"][0]["dims"] == [1, 3, -1, -1]
    assert found["output"] == [{"name": ["counts"], "data_type": ["TYPE_INT64"], "dims": [1]}]
    assert "dynamic_batching" not in found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded entry's, as the command writes it."""
    target = tmp_path_factory.mktemp("repository") / "shapes"
    report = cascadezoo.export("cascade_mask_r18_fpn_shapes", "triton", output=target)
    assert report.output == target
    return target


def test_the_folder_holds_what_triton_looks_for(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.pbtxt", "1/model.onnx", "labels.txt", "cascadezoo.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["shapes"]  # nothing else in the repository


def test_the_configuration_is_that_of_the_onnx_file(folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "1/model.onnx")
    found = parse((folder / "config.pbtxt").read_text())
    assert found["name"] == [folder.name]
    names = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(uint8)": "TYPE_UINT8"}
    for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
        assert [each["name"] for each in found[kind]] == [[value.name] for value in values]
        for each, value in zip(found[kind], values, strict=True):
            assert each["data_type"] == [names[value.type]]
            batch, *others = value.shape
            assert isinstance(batch, str)
            dims = [-1 if isinstance(size, str) else size for size in others]
            assert (each["dims"], each.get("reshape")) == (dims or [1], None if dims else [{"shape": []}])


def test_labels_and_the_document_are_the_models(folder: Path) -> None:
    names = list(cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True).categories)
    assert (folder / "labels.txt").read_text().splitlines() == names
    document = json.loads((folder / "cascadezoo.json").read_text())
    assert [each["name"] for each in document["categories"]] == names
    (inside,) = (each.value for each in onnx.load(folder / "1/model.onnx").metadata_props if each.key == "cascadezoo")
    assert json.loads(inside) == document


@pytest.fixture
def copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """The ONNX file is not made anew: what ``to_onnx.write`` returns of the copy that it writes."""
    check = Check(images=4, detections=20, unpaired=0, box=0.0, score=0.0, mask=1.0)
    written = Written("0" * 64, check)

    def copy(model: object, options: Options, target: Path) -> Written:
        target.write_bytes((folder / "1/model.onnx").read_bytes())
        return written

    monkeypatch.setattr(to_onnx, "write", copy)
    return written


WHOLE = ["1", "cascadezoo.json", "config.pbtxt", "labels.txt"]


def test_a_model_that_is_there_is_kept_or_replaced(copied: Written, tmp_path: Path) -> None:
    model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.pbtxt").touch()
    (tmp_path / "old/mine.txt").write_text("kept")
    with pytest.raises(OutputExists, match="pass --force"):
        cascadezoo.export(model, "triton", output=tmp_path / "old")
    assert to_triton.write(model, Options(force=True), tmp_path / "old") is copied
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == WHOLE
    assert parse((tmp_path / "old/config.pbtxt").read_text())["name"] == ["old"]
    with pytest.raises(UnwritableOutput):
        to_triton.write(model, Options(), tmp_path / "no such folder/new")


def test_the_command_replaces_a_model_when_it_is_told_to_and_nothing_else(
    copied: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*options: str) -> tuple[int, str]:
        target = str(tmp_path / "repository/shapes")
        with pytest.raises(SystemExit) as stop:
            main(["export", "cascade_mask_r18_fpn_shapes", "--format", "triton", "-o", target, *options])
        return stop.value.code, capsys.readouterr().err

    (tmp_path / "repository").mkdir()
    target = tmp_path / "repository/shapes"
    assert command()[0] == 0
    (target / "config.pbtxt").write_text("mine")
    code, err = command()
    assert code == 2
    assert "pass --force to replace it" in err
    assert (target / "config.pbtxt").read_text() == "mine"
    assert command("--force")[0] == 0
    assert parse((target / "config.pbtxt").read_text())["name"] == ["shapes"]
    target.rename(tmp_path / "another")
    (target / "other").mkdir(parents=True)
    code, err = command("--force")
    assert code == 2
    assert "so no model, and not replaced" in err
    (target / "other").rmdir()
    assert command("--force")[0] == 0  # an empty folder is nothing to lose
    assert sorted(path.name for path in target.iterdir()) == WHOLE


@pytest.mark.parametrize("output", [".", "..", "../shapes", "mount"])
def test_a_folder_that_must_stay_where_it_is_is_not_replaced(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "shapes/1"
    inside.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "shapes", inside):
        (folder / "config.pbtxt").write_text("mine")
    monkeypatch.chdir(inside if output == ".." else inside.parent)
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "mount")
    with pytest.raises(UnwritableOutput, match="name a folder of its own"):
        cascadezoo.export("cascade_r50_fpn_1x.mmdet", "triton", output=output, force=True)
    assert [path.read_text() for path in tmp_path.rglob("config.pbtxt")] == ["mine"] * 3


def test_of_a_link_the_folder_behind_it_is_replaced(copied: Written, tmp_path: Path) -> None:
    model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
    (tmp_path / "disk/first").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/first")
    to_triton.write(model, Options(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert parse((tmp_path / "disk/first/config.pbtxt").read_text())["name"] == ["link"]
    to_triton.write(model, Options(), tmp_path / "disk/first/1/..")
    assert parse((tmp_path / "disk/first/config.pbtxt").read_text())["name"] == ["first"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*WHOLE, "disk", "first", "link", "model.onnx"])


@pytest.mark.parametrize(
    ("number", "error"), [(1, OSError), (2, OSError), (1, KeyboardInterrupt), (2, KeyboardInterrupt)]
)
@pytest.mark.parametrize("is_done", [False, True])
def test_what_is_there_stays_when_it_cannot_be_replaced(
    number: int, error: type[BaseException], is_done: bool, copied: Written, tmp_path: Path, monkeypatch: Any
) -> None:
    """Either of the two renames fails or is interrupted, before it is done or after."""
    model, target = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True), tmp_path / "old"
    target.mkdir()
    (target / "config.pbtxt").write_text("mine")
    rename, calls = Path.rename, []

    def failing(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == number and is_done:
            rename(self, to)
        if len(calls) == number:
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UnwritableOutput if error is OSError else error):
        to_triton.write(model, Options(force=True), target)
    found = [path.read_text() for path in tmp_path.rglob("config.pbtxt")]
    assert "mine" in found
    assert found == ["mine"] or (number, is_done) == (2, True)  # the new one is in its place


def test_what_was_there_and_cannot_be_removed_is_named(
    copied: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.pbtxt").write_text("mine")

    def kept(folder: Path, *_: object, **__: object) -> None:
        if str(folder).endswith(".old"):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", kept)
    to_triton.write(model, Options(force=True), tmp_path / "old")
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == WHOLE
    assert "could not be removed: Permission denied" in caplog.text


def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
    with pytest.raises(UnwritableOutput, match="is a file, and this format writes a folder"):
        cascadezoo.export(model, "triton", output=tmp_path / "file", force=True)
    with pytest.raises(UnwritableOutput, match="is a folder, and this format writes a file"):
        cascadezoo.export(model, "onnx", output=tmp_path, force=True)


def test_a_file_that_departs_from_the_model_leaves_no_folder(tmp_path: Path, monkeypatch) -> None:
    def departs(model: object, options: Options, target: Path) -> Any:
        raise DepartsFromModel("another box")

    monkeypatch.setattr(to_onnx, "write", departs)
    model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
    with pytest.raises(DepartsFromModel):
        to_triton.write(model, Options(), tmp_path / "new")
    assert not list(tmp_path.iterdir())
