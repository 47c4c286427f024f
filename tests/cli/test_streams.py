"""Standard streams as shells give them: closed, ended by their reader, of a narrow encoding (case C2)."""

import os
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m cascadezoo"


def shell(line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], env={**os.environ, **environ}, capture_output=True, timeout=120
    )


def complaints(done: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    """Lines on stderr that speak of an error; ``list`` explains its marks there."""
    return [line for line in done.stderr.splitlines() if b"Error" in line or line.startswith(b"cascadezoo: ")]


@pytest.mark.parametrize("verb", ["list", "list --json", "info cascade_r50_fpn_1x --json", "--help"])
def test_c2_a_reader_that_leaves_is_no_error(verb: str) -> None:
    """Until it has read one byte of much: more than a pipe holds is written where the reader has gone."""
    done = shell(f"{COMMAND} {verb} | head -c 1", PYTHONUNBUFFERED="1")
    assert (done.returncode, complaints(done)) == (0, [])
    assert len(done.stdout) == 1


def test_c2_a_pipe_that_nobody_reads() -> None:
    done = shell(f"({COMMAND} list --json; echo $? >&2) | true")
    assert done.stderr == b"0\n"


@pytest.mark.parametrize("verb", ["list", "list --json", "--version", "cache list"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_c2_closed_streams(verb: str, closed: str, tmp_path) -> None:
    done = shell(f"{COMMAND} {verb} {closed}", CASCADEZOO_HOME=str(tmp_path))
    assert (done.returncode, complaints(done)) == (0, [])


def test_c2_an_error_with_nowhere_to_say_it_keeps_its_code() -> None:
    assert shell(f"{COMMAND} info no_such_entry 2>&-").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp932"])
@pytest.mark.parametrize("verb", ["--help", "predict --help", "verify --help", "list", "info cascade_r50_fpn_1x"])
def test_c2_narrow_encodings(verb: str, encoding: str) -> None:
    done = shell(f"{COMMAND} {verb}", PYTHONIOENCODING=encoding)
    assert (done.returncode, complaints(done)) == (0, [])
    assert done.stdout.decode("utf-8" if encoding == "ascii" else encoding).strip()  # click takes ASCII for a mistake


def test_a_program_keeps_a_stream_of_its_own() -> None:
    own = "import sys; from cascadezoo.cli import main; sys.stdout = open(1, 'w')"
    twice = "for _ in range(2):\n  try: main(['--version'])\n  except SystemExit: pass"
    done = subprocess.run([sys.executable, "-c", f"{own}\n{twice}\nprint('mine')"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert first == second
    assert last == "mine"


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@FULL
@pytest.mark.parametrize("environ", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(
    "verb",
    ["list", "list --json", "--help", "--version", "doctor", "info cascade_r50_fpn_1x.mmdet", "completion bash",
     "cache --help"],
)  # fmt: skip
def test_a_full_disk_behind_the_output_is_told(verb: str, environ: dict[str, str], tmp_path) -> None:
    done = shell(f"{COMMAND} {verb} > /dev/full", CASCADEZOO_HOME=str(tmp_path), **environ)
    assert done.returncode == 4
    assert complaints(done) == [b"cascadezoo: standard output cannot be written: No space left on device"]


@FULL
@pytest.mark.parametrize(("verb", "code"), [("list", 0), ("info no_such_entry", 2), ("nonsense", 2)])
def test_messages_that_cannot_be_written_change_nothing(verb: str, code: int) -> None:
    done = shell(f"{COMMAND} {verb} 2> /dev/full")
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


@FULL
def test_where_neither_stream_can_be_written_the_code_tells() -> None:
    assert shell(f"{COMMAND} list > /dev/full 2>&1").returncode == 4
