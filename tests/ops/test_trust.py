"""U7: code is loaded from a cache, and built into it, only where no other user can have put it there."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cascadezoo.cli import main
from cascadezoo.errors import UntrustedCache
from cascadezoo.ops import building, trust

OTHER = 12345  # another user
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")
pytestmark = posix


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is no library, in a cache that is this user's alone: one that is tried is said to be too short."""
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    folder = trust.make_private(tmp_path / "home", "ops", building.folder().name)
    path = folder / "cascadezoo_cpu.so"
    path.write_bytes(b"planted")
    path.chmod(0o600)
    return path


def status(**environment: str) -> str:
    """What a new process says of the CPU's library."""
    code = "from cascadezoo.ops.library import STATUS; print(STATUS['cpu'])"
    environment = {**os.environ, "CASCADEZOO_OPS": "auto", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def load(library: Path) -> None:
    """Open ``library`` as loading does."""
    home = library.parents[2]
    with trust.opened(home, *library.relative_to(home).parts) as path:
        assert Path(path).read_bytes() == library.read_bytes()


def test_U7_a_library_of_this_user_alone_is_tried(library: Path) -> None:
    load(library)
    assert "too short" in status()


@as_root
@pytest.mark.parametrize("level", range(4), ids=["library", "folder", "ops", "cache"])
def test_U7_what_belongs_to_another_user_is_not_loaded(library: Path, level: int) -> None:
    place = (library, *library.parents)[level]
    os.chown(place, OTHER, -1)
    with pytest.raises(UntrustedCache, match=f"{place} belongs to user {OTHER}.*CASCADEZOO_HOME"):
        load(library)
    if level == 0:
        assert f"{library} belongs to user {OTHER}" in status()


@pytest.mark.parametrize("level", range(4), ids=["library", "folder", "ops", "cache"])
@pytest.mark.parametrize("bit", [stat.S_IWGRP, stat.S_IWOTH], ids=["group", "others"])
def test_U7_what_others_can_change_is_not_loaded(library: Path, level: int, bit: int) -> None:
    place = (library, *library.parents)[level]
    place.chmod(place.stat().st_mode | bit)
    with pytest.raises(UntrustedCache, match=f"{place} can be changed by other users.*chmod go-w {place}"):
        load(library)
    if level == 3 and bit == stat.S_IWOTH:
        assert "can be changed by other users" in status()


@pytest.mark.parametrize("level", range(3), ids=["library", "folder", "ops"])
def test_U7_a_link_is_not_followed(library: Path, tmp_path: Path, level: int) -> None:
    place = (library, *library.parents)[level]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UntrustedCache, match=f"{place} is a link"):
        load(library)
    if level == 0:
        assert "is a link" in status()


def test_U7_the_cache_itself_may_be_a_link(library: Path, tmp_path: Path) -> None:
    (tmp_path / "home").rename(tmp_path / "disk")
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    load(library)


@as_root
def test_U7_a_cache_in_a_folder_like_tmp_is_this_users_own_part(tmp_path: Path) -> None:
    """In a sticky folder nobody can exchange another's files; what another user put there first is refused."""
    tmp_path.chmod(0o1777)
    made = trust.make_private(tmp_path, "ops", "one")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent)] == [0o700, 0o700]
    os.chown(tmp_path / "ops", OTHER, -1)
    with pytest.raises(UntrustedCache, match=f"belongs to user {OTHER}"):
        trust.make_private(tmp_path, "ops", "one")


def test_U7_a_pipe_in_a_librarys_place_is_not_waited_for(library: Path) -> None:
    library.unlink()
    os.mkfifo(library, 0o600)
    with pytest.raises(UntrustedCache, match="is not a file"):
        load(library)


def test_U7_a_folder_exchanged_after_its_check_is_not_what_loads(library: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux can name a folder that is open")
    home = tmp_path / "home"
    with trust.opened(home, *library.relative_to(home).parts) as path:
        library.parent.rename(tmp_path / "checked")
        library.parent.mkdir()
        library.write_bytes(b"another")
        assert Path(path).read_bytes() == b"planted"
        assert Path(path).name == library.name


def test_U7_folders_and_files_are_made_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = trust.make_private(tmp_path / "new/cache", "ops", "digest")
        with trust.locked(made / ".cpu.lock"):
            pass
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    folders = dict.fromkeys(("new", "new/cache", "new/cache/ops", "new/cache/ops/digest"), 0o700)
    assert modes == {**folders, "new/cache/ops/digest/.cpu.lock": 0o600}


def test_U7_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UntrustedCache, match="is a link"), trust.locked(tmp_path / "lock"):
        pass
    (tmp_path / "dangling").symlink_to(tmp_path / "not there")
    with pytest.raises(UntrustedCache, match="is a link"), trust.locked(tmp_path / "dangling"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "not there").exists()


def test_U7_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock", 0o600)
    with pytest.raises(UntrustedCache, match="is not a file"), trust.locked(tmp_path / "lock"):
        pass


def test_U7_a_lock_is_one_holders(tmp_path: Path) -> None:
    order: list[str] = []

    def second(path: Path) -> None:
        with trust.locked(path):
            order.append("second")

    with trust.locked(tmp_path / "lock"):
        waiting = threading.Thread(target=second, args=(tmp_path / "lock",))
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


@as_root
def test_U7_build_ops_refuses_a_cache_of_another_user(
    library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(library.parents[1], OTHER, -1)
    monkeypatch.setenv("CXX", sys.executable)  # never reached
    with pytest.raises(SystemExit) as end:
        main(["build-ops"])
    assert end.value.code == 4
    assert f"belongs to user {OTHER}" in capsys.readouterr().err
