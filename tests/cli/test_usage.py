"""Commands as their user types them: wrong ones are answered before torch is imported (case C3), and each shows how it
is meant (case C4)."""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from every_command import EVERY
from sample_report import sample

from cascadezoo.benchmarks.reports.schema import text_of
from cascadezoo.cli import cli, main
from cascadezoo.cli.completion import SHELLS

NAME = "cascade_r50_fpn_1x.mmdet"

# run in an interpreter of its own: every call, its exit code, what it printed, and whether torch was there by then
PROGRAM = """
import contextlib, io, json, sys
from cascadezoo.cli import main
answers = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    answers.append([code, out.getvalue(), err.getvalue(), "torch" in sys.modules])
print(json.dumps(answers))
"""


def answers(calls: list[list[str]], folder: Path) -> list[tuple[int, str, str, bool]]:
    environ = {**os.environ, "CASCADEZOO_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    asked = json.dumps(calls)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=asked, env=environ, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [tuple(answer) for answer in json.loads(done.stdout)]


# the call, its exit code, words of the answer
WRONG = [
    ("train", 2, "Missing option '--run-dir'"),
    ("train --run-dir new", 2, "Missing option '--entry'"),
    (f"train --entry {NAME} --run-dir new", 2, "Missing option '--train-json'"),
    (f"train --entry {NAME} --run-dir new --train-json file.json", 2, "Missing option '--train-images'"),
    (f"train --entry {NAME} --run-dir new --train-json gone.json --train-images .", 3, "gone.json does not exist"),
    (f"train --entry {NAME} --run-dir new --train-json file.json --train-images gone", 3, "gone does not exist"),
    (f"train --entry {NAME} --run-dir . --train-json file.json --train-images .", 2, "is not empty: pass --resume"),
    (f"train --entry {NAME} --run-dir file.json --train-json file.json --train-images .", 2, "is a file"),
    ("train --entry nonsense --run-dir new --train-json file.json --train-images .", 2, "no entry is called"),
    (f"train --entry {NAME} --schedule 9x --run-dir new --train-json file.json --train-images .", 2, "no schedule"),
    (f"train --entry {NAME} --batch-size 0 --run-dir new --train-json file.json --train-images .", 2, "batch_size"),
    (f"train --entry {NAME} --device gpu --run-dir new --train-json file.json --train-images .", 2, "names no device"),
    (
        f"train --entry {NAME} --pretrained --weights x.pth --run-dir new --train-json file.json --train-images .",
        *(2, "either pretrained or weights"),
    ),
    ("train --resume --run-dir new", 3, "holds no run to resume"),
    (f"train --entry {NAME} --lr inf --run-dir new --train-json file.json --train-images .", 2, "lr: "),
    ("convert --from mmdet gone.pth", 3, "gone.pth does not exist"),
    ("convert --from mmdet .", 2, ".: it is a directory: give one of its files: x.pth, x.safetensors"),
    ("inspect parts", 2, "a distributed checkpoint of torch: join its parts"),
    ("convert --from mmdet x.pth -o x.safetensors", 2, "already there"),
    ("convert --from mmdet x.pth -o x.bin", 2, "end the output's name so"),
    ("convert --from mmdet x.pth -o gone/y.safetensors", 4, "cannot be written"),
    ("convert --from mmdet x.pth --entry nonsense", 2, "no entry is called"),
    ("convert --from caffe2 x.pth", 2, "'caffe2' is not one of"),
    ("inspect gone.pth", 3, "gone.pth does not exist"),
    (f"predict {NAME} gone.jpg", 3, "no such image: gone.jpg"),
    (f"predict {NAME} image.png --out file.json", 2, "is a file"),
    (f"predict {NAME} image.png --out file.json/deeper", 4, "cannot be written"),
    (f"predict {NAME} image.png --weights gone.pth", 3, "gone.pth does not exist"),
    (f"predict {NAME} image.png --device tpu", 2, "'tpu' names no device"),
    (f"predict {NAME} image.png --device meta", 2, "'meta' names no device"),
    (f"predict {NAME} image.png --threshold 2", 2, "is not from 0 to 1"),
    ("predict nonsense image.png", 2, "no entry is called"),
    ("predict hf-hub:nonsense image.png", 2, "names no repository"),
    (f"predict {NAME}", 2, "Missing argument 'IMAGE...'"),
    (f"predict {NAME} image.png --actors 2", 2, "--actors is for --engine ray"),
    (f"predict {NAME} image.png --exact --no-optimize", 2, "--exact is for an optimised model"),
    (f"predict {NAME} image.png --max-size 100", 2, "--max-size 100 is smaller than --min-size 800"),
    (f"predict {NAME} image.png --classes persn,7", 2, "no category is called 'persn': did you mean person?"),
    ("predict local-dir:gone image.png", 3, "local-dir:gone: no such folder"),
    ("export nonsense --format mmdet", 2, "no entry is called"),
    (f"export {NAME} --format paddle", 2, "cannot be a file of paddle"),
    (f"export {NAME} --format mmdet", 3, "no such file"),
    (f"export {NAME} --format mmdet --weights x.pth -o x.safetensors", 2, "already there"),
    ("verify", 2, "give NAMEs, --all or --files"),
    ("verify nonsense", 2, "no entry is called"),
    ("verify --all --weights x.pth", 2, "give one name"),
    (f"verify {NAME} --data-root gone", 3, "no gone/annotations"),
    (f"verify {NAME} --tolerance much", 2, "tolerance"),
    (f"verify {NAME} --shard 3/2", 2, "is not i/n"),
    (f"verify {NAME} --json gone/report.json", 4, "cannot be written"),
    (f"verify {NAME} --baseline file.json", 4, "is not a report"),
    (f"verify {NAME} --run-dir file.json", 2, "is a file"),
    (f"verify {NAME} --fps --analysis out", 2, "only speed was asked for"),
    (f"verify {NAME} --analysis file.json", 2, "is a file"),
    ("analyse gone.json --annotations file.json", 3, "gone.json does not exist"),
    ("analyse file.json", 2, "Missing option '--annotations'"),
    ("analyse file.json --annotations gone.json", 3, "gone.json does not exist"),
    ("analyse file.json --annotations file.json --images .", 2, "give --out DIR"),
    ("analyse file.json --annotations file.json", 4, "is no file of COCO results"),
    ("serve nonsense", 2, "no entry is called"),
    (f"serve {NAME} --port 70000", 2, "not in the range"),
    (f"serve {NAME} --max-body-mb nan", 2, "'nan' is no finite number"),
    (f"serve {NAME} --max-body-mb 1e308", 2, "not in the range"),
    (f"serve {NAME} --max-body-mb 1e-7", 2, "'--max-body-mb': 1e-07 is not in the range 0.001<="),
    (f"serve {NAME} --max-wait-ms inf", 2, "'inf' is no finite number"),
    (f"serve {NAME} --max-pixels 1000000000", 2, "no image of more than 134,217,728 pixels"),
    (f"serve {NAME} --weights gone.pth", 3, "gone.pth does not exist"),
    (f"serve {NAME} --device gpu", 2, "names no device"),
    ("publish nonsense --repo a/b", 2, "no entry is called"),
    (f"publish {NAME} --repo nonsense", 2, "'nonsense' names no repository"),
    (f"publish {NAME} --repo a/b", 3, "no weights of"),
    (f"publish {NAME} --repo a/b --weights gone", 3, "gone does not exist"),
    (f"publish {NAME} --repo a/b --license 'my own'", 2, "no licence identifier"),
    (f"publish {NAME} --repo a/b --report gone", 3, "gone does not exist"),
    ("bench nonsense", 2, "no entry is called"),
    (f"bench {NAME} --pretrained --weights x.pth", 2, "not both"),
    (f"bench {NAME} gone.jpg", 3, "gone.jpg does not exist"),
    (f"bench {NAME} file.json", 4, "file.json"),
    ("download", 2, "give the names of entries"),
    ("download nonsense", 2, "no entry is called"),
    (f"download {NAME} {NAME[:-6]} --sha256 0", 2, "--sha256 is of one file"),
    (f"download {NAME} --sha256 0", 2, "give all 64 hexadecimal digits"),
    ("lock write nonsense", 2, "no entry is called"),
    ("lock write -o file.json", 2, "is already there"),
    ("lock write -o gone/x.lock", 4, "cannot be written"),
    ("lock check gone.lock", 3, "gone.lock does not exist"),
    ("mirror", 2, "give either --to DIR or --urls"),
    ("mirror nonsense --urls", 2, "no entry is called"),
    ("mirror --to file.json", 2, "is a file"),
    ("links nonsense", 2, "no entry is called"),
    ("cache prune", 2, "say what to remove"),
    ("cache path nonsense", 2, "no entry is called"),
    ("info nonsense", 2, "no entry is called"),
    ("list --columns name,nonsense", 2, "there is no column 'nonsense': choose from name, publisher"),
    ("list --sort nonsense", 2, "'nonsense' is not one of"),
    ("list --min-ap 101", 2, "not in the range"),
    ("list --json --csv", 2, "--json gives whole records"),
    ("demo --images 501", 2, "not in the range"),
    ("demo --out file.json", 2, "is a file"),
    ("report show gone", 3, "gone does not exist"),
    ("report show file.json", 4, "is not a report"),
    ("report show report.json --analysis .", 2, "give --html FILE, too"),
    ("report zoo", 2, "Missing option '--html'"),
    ("report zoo report.json report.json --html page.html", 2, "given twice"),
    ("shapes --split val --out file.json", 2, "is a file"),
    ("build-ops --archs 80", 2, "--archs is for --cuda"),
    ("nonsense", 2, "No such command"),
]
RIGHT = [
    "list",
    "list --json",
    "list --csv",
    "list --sort params --columns name,params,weights",
    f"info {NAME}",
    "cache list",
    "cache path",
    f"cache path {NAME}",
    "cache prune --all --dry-run",
    "report show report.json",
    "report show report.json --json",
    "report show report.json --html page.html",
    "report zoo report.json --html page.html",
    "report compare report.json report.json",
    "report table report.json --format latex",
    "report schema",
    "verify --files",
    "completion bash",
    "--version",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__0_0.distcp").touch()
    (tmp_path / "report.json").write_text(text_of(sample()))
    for name in ("x.pth", "x.safetensors", "image.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_C3_a_wrong_call_is_answered_without_torch(folder: Path) -> None:
    answered = answers([shlex.split(call) for call, _, _ in WRONG], folder)
    for (call, code, words), (got, out, err, torch) in zip(WRONG, answered, strict=True):
        assert (got, out) == (code, ""), f"{call}: {err}"
        assert words in err, call
        assert "Traceback" not in err, call
        assert not torch, f"torch was imported by `cascadezoo {call}` or by one before it"
    assert not (folder / "new").exists()


def test_C3_what_needs_no_tensors_needs_no_torch(folder: Path) -> None:
    helps = [[*path, "--help"] for path, _ in EVERY]
    calls = [*(shlex.split(call) for call in RIGHT), *helps]
    for call, (code, out, err, torch) in zip(calls, answers(calls, folder), strict=True):
        assert code == 0, f"{call}: {err}"
        assert out or call[0] in ("cache", "verify", "report"), call
        assert not torch, f"torch was imported by {call} or by one before it"


@pytest.mark.parametrize("group", ["", "cache", "data", "lock", "report"])
def test_C4_without_a_command_the_help_is_shown(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(group.split())
    out, err = capsys.readouterr()
    assert stop.value.code in (0, 2)  # click before 8.2 takes it for a question, and answers on stdout
    lines = (out + err).splitlines()
    assert lines[0] == " ".join(("Usage: cascadezoo", *group.split(), "[OPTIONS] COMMAND [ARGS]..."))
    assert "Commands:" in lines
    assert lines[-1].startswith(" ".join(("  cascadezoo", *group.split())))


def test_C4_every_command_is_seen_whole_in_the_list_of_commands() -> None:
    assert len(EVERY) == 1 + 24 + 3 + 2 + 2 + 7  # and those of cache, data, lock and report
    for path, command in EVERY[1:]:
        assert command.short_help, path
        assert len(command.short_help) <= 45, path
        assert not command.short_help.endswith("."), path
    for path, group in EVERY:
        if isinstance(group, click.Group):
            shown = group.get_help(click.Context(group, info_name="cascadezoo", max_content_width=80))
            assert "..." not in shown.split("Commands:")[1], path
            assert max(map(len, shown.splitlines())) <= 80, path


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "cascadezoo" for path, _ in EVERY])
def test_C4_every_help_ends_with_examples_that_parse(path: tuple[str, ...], command: click.Command, tmp_path,
                                                     monkeypatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = command.get_help(click.Context(command, info_name=" ".join(("cascadezoo", *path)), max_content_width=80))
    _, shown = text.split("\nExamples:\n")
    lines = [line[2:] for line in shown.splitlines()]
    assert max(map(len, lines)) <= 78
    examples = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert examples
    for example in examples:
        words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"').split(" > ")[0])
        assert words[: 1 + len(path)] == ["cascadezoo", *path]
        for before, word in itertools.pairwise(words):  # the files that an example takes for granted
            if Path(word).suffix and before not in ("-o", "--json", "--html"):
                Path(word).touch()
        for name in ("train", "val", "VOC2012"):
            Path(name).mkdir(exist_ok=True)
        _parse(cli, words[1:])


def _parse(command: click.Command | None, words: list[str]) -> None:
    """Let click read a command line as it does before it calls anything; groups are called without options here."""
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(click.Context(command), name)
    assert command is not None
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("shell", SHELLS)
def test_C4_completion_prints_the_shells_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["completion", shell])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"_CASCADEZOO_COMPLETE={shell}_complete" in out
    if interpreter := shutil.which(shell):
        assert subprocess.run([interpreter, "-n"], input=out, text=True, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        ((), "comp", ["completion"]),
        (("info",), "cascade_mask_r18", ["cascade_mask_r18_fpn_shapes.cascadezoo"]),
        (("info",), "cascade_r101_fpn_1x", ["cascade_r101_fpn_1x.mmdet", "cascade_r101_fpn_1x.detectron"]),
        (("info",), "R50-FPN-c", ["R50-FPN-cascade-rcnn", "R50-FPN-cascade-rcnn-mask"]),
        (("download", NAME), "mask_r50_c4", ["mask_r50_c4_1x.paddle", "mask_r50_c4_2x.paddle"]),
        (("predict",), "cascade_mask_r18", ["cascade_mask_r18_fpn_shapes.cascadezoo"]),
        (("train", "--entry"), "cascade_mask_r18", ["cascade_mask_r18_fpn_shapes.cascadezoo"]),
        (("convert", "--entry"), "mask_r50_c4_2", ["mask_r50_c4_2x.paddle"]),
        (("cache", "path"), "mask_r50_c4_2", ["mask_r50_c4_2x.paddle"]),
        (("verify",), "mask_r50_c4_2", ["mask_r50_c4_2x.paddle"]),
        (("predict", NAME, "--device"), "cu", ["cuda"]),
        (("bench", NAME, "--device"), "", ["cpu", "cuda", "mps"]),
        (("list", "--sort"), "mask_ap5", ["mask_ap50"]),
        (("list", "--columns"), "name,mask_ap7", ["name,mask_ap75"]),
        (("list", "--columns"), "li", ["license"]),
        (("convert", "--from"), "pa", ["paddle"]),
        (("info",), "nonsense", []),
    ],
)
def test_C4_the_tab_key_completes(words: tuple[str, ...], begun: str, offered: list[str], capsys) -> None:
    found = ShellComplete(cli, {}, "cascadezoo", "_CASCADEZOO_COMPLETE").get_completions(list(words), begun)
    assert [item.value for item in found] == offered
    assert capsys.readouterr() == ("", "")


def test_C4_a_shell_asks_the_program_itself() -> None:
    asked = {"_CASCADEZOO_COMPLETE": "bash_complete", "COMP_WORDS": "cascadezoo info mask_r50_c4_2", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "cascadezoo"], env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,mask_r50_c4_2x.paddle\n", "")
