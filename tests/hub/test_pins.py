"""Weights held to a hash of one's own: given, locked, or taken from a mirror of one's own."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import standin
from hub.fault_server import Cut, FaultServer, Wrong
from hub.standin import FILE, NAME, PATH, URL, variant

import cascadezoo
from cascadezoo import registry
from cascadezoo.checkpoints import weights
from cascadezoo.checkpoints.weights import obtain
from cascadezoo.cli import main
from cascadezoo.errors import CorruptCheckpoint, DownloadFailed, HashMismatch, UsageError
from cascadezoo.hub import lockfile, mirroring, transport
from cascadezoo.hub.lockfile import Pin
from cascadezoo.paths import record_path
from cascadezoo.providers import SPECS
from cascadezoo.saving import save

OWN = "cascade_mask_r18_fpn_shapes.cascadezoo"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_HUB", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setitem(SPECS["paddle"], standin.ARCHITECTURE, standin.small())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def data() -> bytes:
    return standin.checkpoint()


@pytest.fixture
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer() as server:
        monkeypatch.setenv("CASCADEZOO_MIRROR", server.url())
        server.put(PATH, data)
        yield server


def other() -> bytes:
    """A file of the same entry with another value."""
    import pickle

    tensors = pickle.loads(standin.checkpoint())  # our own bytes
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    tensors[name] = tensors[name] + 1
    return pickle.dumps(tensors, protocol=4)


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(args)
    return int(end.value.code or 0)


def test_U6_a_given_hash_holds_the_publishers_file(server: FaultServer, sha256: str, home: Path) -> None:
    path = cascadezoo.download(NAME, sha256=sha256.upper())
    assert cascadezoo.load(NAME, pretrained=True, sha256=sha256).origin.source_sha256 == sha256
    assert len(server.requests) == 1
    with pytest.raises(HashMismatch, match=f"{sha256}, and {'0' * 64} is wanted"):
        cascadezoo.download(NAME, sha256="0" * 64)
    assert path.is_file()


def test_U6_a_file_that_has_not_the_given_hash_is_refused(server: FaultServer, sha256: str, home: Path) -> None:
    with pytest.raises(HashMismatch, match=f"{'0' * 64} expected .*the sha256 that was given.*{sha256} found"):
        cascadezoo.load(NAME, pretrained=True, sha256="0" * 64)
    assert not list((home / "canonical").glob("*"))
    assert not record_path(NAME).exists()
    assert run("download", NAME, "--sha256", "0" * 64) == 4
    assert run("download", NAME, "--sha256", sha256) == 0


def test_U6_what_a_repository_only_claims_is_made_anew(
    server: FaultServer, sha256: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obtain(registry.info(NAME))
    record_path(NAME).unlink()  # as if it had come from a Hub organisation
    monkeypatch.setenv("CASCADEZOO_HUB", "org")
    monkeypatch.setattr(weights, "canonical_from_hub", lambda *_: pytest.fail("the Hub was asked"))
    obtain(registry.info(NAME), sha256=sha256)
    assert len(server.ranges(PATH)) == 2
    assert record_path(NAME).exists()


@pytest.mark.parametrize("wrong", ["", "abc", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", 5, b"0" * 64])
def test_U6_a_given_hash_that_is_none(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give all 64 hexadecimal digits"):
        cascadezoo.load(OWN, pretrained=True, sha256=wrong)
    with pytest.raises(UsageError, match="give all 64 hexadecimal digits"):
        cascadezoo.download(NAME, sha256=wrong)


def test_U6_a_given_hash_wants_a_file() -> None:
    with pytest.raises(UsageError, match="pretrained=True or weights=FILE"):
        cascadezoo.load(OWN, sha256="0" * 64)
    assert run("download", NAME, OWN, "--sha256", "0" * 64) == 2
    assert run("download", "--all", "--sha256", "0" * 64) == 2


def test_U6_a_given_hash_holds_any_other_file(data: bytes, sha256: str, tmp_path: Path) -> None:
    own = obtain(registry.info(OWN))
    right = hashlib.sha256(own.read_bytes()).hexdigest()
    (tmp_path / "m.pdparams").write_bytes(data)
    model = cascadezoo.load(OWN, pretrained=True, sha256=right)
    save(model, tmp_path / "repo.safetensors")
    cascadezoo.load(NAME, weights=tmp_path / "m.pdparams", sha256=sha256)
    cascadezoo.load(OWN, weights=own, sha256=right)
    for call in (
        lambda: cascadezoo.load(OWN, pretrained=True, sha256="0" * 64),
        lambda: cascadezoo.load(OWN, weights=own, sha256="0" * 64),
        lambda: cascadezoo.load(NAME, weights=tmp_path / "m.pdparams", sha256="0" * 64),
    ):
        with pytest.raises(HashMismatch, match=f"{'0' * 64} expected"):
            call()


def test_U6_trust_on_first_use_is_said_once(
    server: FaultServer, sha256: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        path = obtain(registry.info(NAME))
    said = f"its publisher states no hash of this file, so it is trusted on first use, with sha256 {sha256}"
    assert caplog.text.count(said) == 1
    caplog.clear()
    path.unlink()
    obtain(registry.info(NAME))  # the same file again
    assert not caplog.text


def test_U6_eight_digits_are_said_to_be_few(server: FaultServer, sha256: str, caplog: pytest.LogCaptureFixture) -> None:
    obtain(variant(sha256_prefix=sha256[:8]))
    assert (
        f"states only 8 digits of this file's sha256, so it is trusted on first use, with sha256 {sha256}"
        in caplog.text
    )


@pytest.mark.parametrize("how", ["manifest", "given"])
def test_U6_a_whole_hash_needs_no_trust(
    server: FaultServer, sha256: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    obtain(
        variant(sha256=sha256) if how == "manifest" else registry.info(NAME), sha256=sha256 if how == "given" else None
    )
    assert "trusted on first use" not in caplog.text


def test_U6_a_second_cache_that_trusts_a_changed_file_says_so(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    obtain(registry.info(NAME))
    assert run("lock", "write") == 0
    server.put(PATH, other())
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "second"))
    caplog.clear()
    obtain(registry.info(NAME))
    assert f"trusted on first use, with sha256 {hashlib.sha256(other()).hexdigest()}" in caplog.text
    assert run("lock", "check") == 4


def test_U6_the_lock_is_a_text_for_git(server: FaultServer, sha256: str, tmp_path: Path) -> None:
    path = obtain(registry.info(NAME))
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        digest = file.metadata()["content_digest"]
    assert run("lock", "write") == 0
    lock = tmp_path / "cascadezoo.lock"
    head, line = lock.read_text().splitlines()
    assert head.startswith("# cascadezoo lock 1")
    assert line == f"{NAME}  {sha256}  {digest}"
    before = lock.read_bytes()
    assert run("lock", "write") == 2  # there already
    assert run("lock", "write", "--force") == 0
    assert lock.read_bytes() == before
    assert lockfile.read(lock) == [Pin(NAME, sha256, digest)]
    assert run("lock", "check") == 0

    own = hashlib.sha256(obtain(registry.info(OWN)).read_bytes()).hexdigest()
    assert run("lock", "write", NAME, OWN, NAME, "-o", "both.lock") == 0
    assert [pin.entry for pin in lockfile.read(tmp_path / "both.lock")] == [NAME, OWN][:: -1 if OWN < NAME else 1]
    assert f"{OWN}  {own}  " in (tmp_path / "both.lock").read_text()
    assert run("lock", "check", "both.lock") == 0


def test_U6_the_lock_goes_to_stdout(server: FaultServer, sha256: str, capsys: pytest.CaptureFixture[str]) -> None:
    obtain(registry.info(NAME))
    assert run("lock", "write", "-o", "-") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{NAME}  {sha256}  ")


def test_v1_the_lock_goes_into_a_device_behind_a_link(server: FaultServer, tmp_path: Path) -> None:
    obtain(registry.info(NAME))
    (tmp_path / "cascadezoo.lock").symlink_to("/dev/null")
    assert run("lock", "write") == 0
    assert (tmp_path / "cascadezoo.lock").is_char_device()


@pytest.mark.parametrize("column", [1, 2])
def test_U6_what_differs_from_the_lock_is_named(
    server: FaultServer, tmp_path: Path, column: int, capsys: pytest.CaptureFixture[str]
) -> None:
    obtain(registry.info(NAME))
    run("lock", "write")
    words = (tmp_path / "cascadezoo.lock").read_text().splitlines()[1].split()
    words[column] = "0" * 64
    (tmp_path / "cascadezoo.lock").write_text("  ".join(words) + "\r\n")
    capsys.readouterr()
    assert run("lock", "check") == 4
    out, err = capsys.readouterr()
    assert out.startswith(f"differs   {NAME}: ")
    assert f"the lock says {'0' * 64}" in out
    assert f"not as cascadezoo.lock says: {NAME}" in err


def test_U6_what_the_cache_lacks_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("lock", "write") == 3
    assert run("lock", "write", NAME) == 3
    assert run("lock", "check") == 3
    (tmp_path / "cascadezoo.lock").write_text(f"{NAME}  {'0' * 64}  {'1' * 64}\n")
    assert run("lock", "check") == 3
    assert f"absent    {NAME}: not in the cache" in capsys.readouterr().out
    (tmp_path / "cascadezoo.lock").write_text(f"no_such_thing_1x.mmdet  {'0' * 64}  {'1' * 64}\n")
    assert run("lock", "check") == 2


def test_U6_every_entry_can_be_locked(tmp_path: Path) -> None:
    """Also those of a publisher whose name ends with a digit."""
    names = [entry.name for entry in registry.entries()]
    (tmp_path / "x.lock").write_text("".join(f"{name}  {'0' * 64}  {'1' * 64}\n" for name in names))
    assert [pin.entry for pin in lockfile.read(tmp_path / "x.lock")] == names


HEX = "0" * 64
LOCKS = ["", "# nothing\n", "word\n", f"{NAME} {HEX} {HEX}\n", f"{NAME}  {HEX[1:]}  {HEX}\n", f"{NAME}  {HEX}\n"]
LOCKS += [f"{NAME}  {HEX}  {HEX}\n" * 2, "<<<<<<< HEAD\n", "\x00", "\udcff"]


@pytest.mark.parametrize("text", LOCKS)
def test_U6_a_lock_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptCheckpoint, match="write it anew"):
        lockfile.read(tmp_path / "x.lock")
    assert run("lock", "check", "x.lock") == 4


def test_U6_damaged_weights_are_not_locked(server: FaultServer, tmp_path: Path) -> None:
    path = obtain(registry.info(NAME))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\xff\xff\x00\x00")
    assert run("lock", "write") == 4
    assert not (tmp_path / "cascadezoo.lock").exists()


def test_U6_a_mirror_that_the_variable_may_name(
    server: FaultServer,
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.put(PATH, data, [Cut(100_000)])
    assert run("mirror", NAME, "--to", str(tmp_path / "mirror")) == 0
    place = tmp_path / "mirror" / PATH.lstrip("/")
    assert place.read_bytes() == data
    assert str(place) in capsys.readouterr().out
    assert [path for path in (tmp_path / "mirror").rglob("*") if path.is_file()] == [place]
    assert server.ranges(PATH) == [None, "bytes=100000-"]
    assert run("mirror", NAME, "--to", str(tmp_path / "mirror")) == 0
    assert len(server.ranges(PATH)) == 2  # there already
    server.resources.clear()
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path / "mirror"))
    assert cascadezoo.load(NAME, pretrained=True).origin.entry == NAME
    assert run("mirror", NAME, "--to", str(tmp_path / "mirror")) == 2  # onto itself


def test_U6_a_mirror_goes_on_where_it_stopped(server: FaultServer, data: bytes, tmp_path: Path) -> None:
    server.put(PATH, data, [Cut(100_000), *[Cut(0)] * 20])
    with pytest.raises(DownloadFailed):
        mirroring.bring(registry.info(NAME), tmp_path / "mirror")
    server.put(PATH, data)
    assert mirroring.bring(registry.info(NAME), tmp_path / "mirror").read_bytes() == data
    assert server.ranges(PATH)[-1] == "bytes=100000-"


def test_U6_a_mirror_holds_files_to_their_hashes(server: FaultServer, data: bytes, sha256: str, tmp_path: Path) -> None:
    entry, place = variant(sha256=sha256), tmp_path / "mirror" / PATH.lstrip("/")
    server.put(PATH, data, [Wrong(b"<html>")])
    assert mirroring.bring(entry, tmp_path / "mirror") == place
    place.write_bytes(b"spoilt")
    assert mirroring.bring(entry, tmp_path / "mirror").read_bytes() == data
    server.put(PATH, b"another")
    place.unlink()
    with pytest.raises(HashMismatch, match=f"{sha256} expected"):
        mirroring.bring(entry, tmp_path / "mirror")
    assert not list(place.parent.iterdir())


def test_U6_a_mirror_holds_files_to_the_digits_of_their_md5(server: FaultServer, data: bytes, tmp_path: Path) -> None:
    entry = variant(md5_prefix=hashlib.md5(data).hexdigest()[:6])
    place = mirroring.bring(entry, tmp_path / "mirror")
    place.write_bytes(b"spoilt")
    assert mirroring.bring(entry, tmp_path / "mirror").read_bytes() == data
    with pytest.raises(HashMismatch, match=r"md5 starts with 000000 expected \(the weak 6 digits of md5"):
        mirroring.bring(variant(md5_prefix="000000"), tmp_path / "other")


def test_U6_a_mirror_has_the_md5_beside_the_file(server: FaultServer, data: bytes, tmp_path: Path) -> None:
    text = f"{hashlib.md5(data).hexdigest()}  {FILE}\n".encode()
    server.put("/host.test/model.md5sum", text)
    entry = variant(md5_url="https://host.test/model.md5sum")
    mirroring.bring(entry, tmp_path / "mirror")
    assert (tmp_path / "mirror" / "host.test" / "model.md5sum").read_bytes() == text
    assert list(mirroring.addresses([entry, entry])) == [URL, "https://host.test/model.md5sum"]


def test_U6_the_addresses_of_a_mirror(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mirror", NAME, "--urls") == 0
    assert capsys.readouterr().out == f"{URL}\n"
    assert run("mirror", "--urls") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) > 60
    assert all(line.startswith(("https://", "http://")) for line in lines)
    assert {entry.download_url for entry in registry.entries() if entry.download_url} <= set(lines)
    for wrong in ((), ("--urls", "--to", "x"), ("--urls", "nonsense")):
        assert run("mirror", *wrong) == 2
    assert run("mirror", OWN, "--to", "x") == 2  # lies in the package
