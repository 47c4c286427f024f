"""Users without a home folder, or with one that nothing can be written to; and the package in an archive."""

import os
import pwd
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hub.standin import NAME, PATH, checkpoint, environment, shrink, start

import cascadezoo
from cascadezoo import paths, registry
from cascadezoo.checkpoints.weights import obtain
from cascadezoo.cli import main
from cascadezoo.errors import UnwritableOutput
from cascadezoo.hub.client import cache_folder
from cascadezoo.ops import building, trust
from cascadezoo.providers import SPECS

OWN = "cascade_mask_r18_fpn_shapes"
KINDS = ("none", "file", "unwritable")


def unknown(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home folder that keeps nothing: there is none, it is a file, or a folder where nobody can make one."""
    for name in ("CASCADEZOO_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "CASCADEZOO_HUB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path))
    if request.param == "none":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)
    elif request.param == "file":
        (tmp_path / "home").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    else:
        monkeypatch.setenv("HOME", "/proc" if Path("/proc").is_dir() else "/")
    return str(request.param)


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(args)
    return int(end.value.code or 0)


def test_U4_what_needs_no_cache_works_without_a_home(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("list") == run("info", OWN) == run("download", OWN) == 0
    file = obtain(registry.info(OWN))
    assert run("inspect", str(file)) == 0
    model = cascadezoo.load(OWN, pretrained=True)
    assert model.origin.published_digest is not None
    monkeypatch.setitem(SPECS["paddle"], "cascade_mask_r50_fpn", SPECS["paddle"]["cascade_mask_r50_fpn"])
    shrink()
    (tmp_path / "m.pdparams").write_bytes(checkpoint())
    out = tmp_path / "m.safetensors"
    assert run("convert", str(tmp_path / "m.pdparams"), "--entry", NAME, "-o", str(out)) == 0
    assert cascadezoo.load(NAME, weights=out).origin.entry == NAME


def test_U4_what_needs_a_cache_says_so(
    home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("download", "cascade_mask_r50_fpn_1x.paddle") == 4
    assert "set CASCADEZOO_HOME to a folder of your own" in capsys.readouterr().err
    with pytest.raises(UnwritableOutput, match="set CASCADEZOO_HOME to a folder of your own"):
        building.build("cpu")
    if home == "none":
        for command in (("cache", "list"), ("cache", "path"), ("cache", "prune", "--parts")):
            assert run(*command) == 4
            assert "there is no home folder" in capsys.readouterr().err
        with pytest.raises(UnwritableOutput, match="set HF_HOME to a folder of your own"):
            cache_folder()
        monkeypatch.setenv("CASCADEZOO_HOME", "~nobody-of-this-name/cache")
        with pytest.raises(UnwritableOutput, match="there is no home folder"):
            paths.home()


def test_U4_the_package_in_an_archive(tmp_path: Path) -> None:
    """As an unpacked wheel has it: the rooms of the repository lie inside the package."""
    root = Path(cascadezoo.__file__).parents[1]
    archive = tmp_path / "cascadezoo.whl"
    with zipfile.ZipFile(archive, "w") as file:
        for room in ("cascadezoo", "converters", "zoo_manifest", "benchmarks", "csrc"):
            inside = "cascadezoo" if room == "cascadezoo" else f"cascadezoo/{room}"
            folder = root / room if (root / room).is_dir() else root / inside
            for path in folder.rglob("*"):
                if path.is_file() and path.suffix in (
                    ".py",
                    ".toml",
                    ".tsv",
                    ".safetensors",
                    ".cpp",
                    ".cu",
                    ".h",
                    ".cuh",
                ):
                    file.write(path, f"{inside}/{path.relative_to(folder)}")
    code = (
        "import cascadezoo, os, sys; from cascadezoo import registry\n"
        "from cascadezoo.checkpoints.weights import obtain; from cascadezoo.ops import building\n"
        f"print(cascadezoo.__file__); model = cascadezoo.load({OWN!r}, pretrained=True)\n"
        f"print(obtain(registry.info({OWN!r})))\n"
        "print(building.folder().name)\n"
        "try: building.build('cpu')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(archive),
        "CASCADEZOO_HOME": str(tmp_path / "home"),
        "CASCADEZOO_OPS": "torch",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, copy, digest, built = done.stdout.splitlines()
    assert where.startswith(str(archive))
    assert not Path(copy).exists()  # it went with its process
    assert digest == building.folder().name or not (root / "csrc").is_dir()
    assert built.startswith("NoCompiler ")
    assert "install cascadezoo with pip" in built


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_U4_the_cache_is_made_for_its_user_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        mirror = tmp_path / "mirror" / PATH.lstrip("/")
        mirror.parent.mkdir(parents=True)
        home = tmp_path / "new" / "cache"
        code = (
            "from pathlib import Path; import cascadezoo\n"
            f"file = Path({str(mirror)!r}); file.write_bytes(checkpoint()); cascadezoo.download(NAME)"
        )
        process = start(code, environment(home, tmp_path / "mirror"))
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        for folder in (home, home.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        trust.make_private(home, "ops", "digest")  # not refused
    finally:
        os.umask(before)


def test_U4_whoever_makes_the_cache_first_makes_it_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "memo"))
    before = os.umask(0o002)
    try:
        cascadezoo.load(OWN, pretrained=True)  # notes the digest
        assert stat.S_IMODE((tmp_path / "memo").stat().st_mode) == 0o700
        monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "drawn"))
        paths.made(paths.data_folder() / "shapes")
        assert stat.S_IMODE((tmp_path / "drawn").stat().st_mode) == 0o700
        (tmp_path / "shared").mkdir(mode=0o775)
        monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "shared"))
        paths.made(paths.data_folder())
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o775  # what is there is its owner's to say
    finally:
        os.umask(before)
