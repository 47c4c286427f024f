"""The audit of addresses, against servers of this process."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hub.fault_server import FaultServer, Redirect, Status
from hub.one_link import PADDLE, entry, run, verdict

from cascadezoo import registry
from cascadezoo.cli import main
from cascadezoo.errors import DownloadFailed, LostLinks, Offline
from cascadezoo.hub import links
from cascadezoo.hub.links import LinkVerdict, audit, uses

pytestmark = pytest.mark.usefixtures("quick_audit")


def test_a_file_at_its_place(server: FaultServer) -> None:
    server.put("/m.pth", b"12345", etag='"v1"')
    found = verdict(entry(server.url("/m.pth"), size=5))
    assert (found.state, found.status, found.size, found.etag) == ("ok", 200, 5, '"v1"')
    assert (found.redirects, found.final_url, found.is_loss) == ((), None, False)
    assert [request.method for request in server.requests] == ["HEAD"]


def test_a_permanent_redirect_is_a_move(server: FaultServer) -> None:
    server.put("/old.pth", b"", redirect=Redirect("/new.pth", 301))
    server.put("/new.pth", b"", redirect=Redirect("/today/x.pth", 302))
    server.put("/today/x.pth", b"12345")
    found = verdict(entry(server.url("/old.pth")))
    assert (found.state, found.final_url) == ("moved", server.url("/new.pth"))
    assert found.redirects == (server.url("/new.pth"), server.url("/today/x.pth"))
    assert not found.is_loss


def test_a_passing_redirect_is_none(server: FaultServer) -> None:
    server.put("/m.pth", b"", redirect=Redirect("/today", 302))
    server.put("/today", b"12345")
    found = verdict(entry(server.url("/m.pth")))
    assert (found.state, found.size, found.redirects) == ("ok", 5, (server.url("/today"),))


def test_another_size_is_another_file(server: FaultServer) -> None:
    server.put("/m.pth", b"12345")
    found = verdict(entry(server.url("/m.pth"), size=6))
    assert (found.state, found.detail, found.is_loss) == ("changed", "5 bytes, the manifest says 6", True)


def test_another_hash_in_the_name_is_another_file(server: FaultServer) -> None:
    server.put("/m-01234567.pth", b"", redirect=Redirect("/m-89abcdef.pth", 301))
    server.put("/m-89abcdef.pth", b"12345")
    found = verdict(entry(server.url("/m-01234567.pth"), sha256_prefix="01234567"))
    assert found.state == "changed"
    assert "89abcdef" in found.detail
    assert "01234567" in found.detail


@pytest.mark.parametrize(("code", "state"), [(404, "dead"), (403, "dead"), (429, "unreachable"), (503, "unreachable")])
def test_what_a_refusal_means(server: FaultServer, code: int, state: str) -> None:
    server.put("/m.pth", b"", redirect=Status(code))  # type: ignore[arg-type]  # every answer, not only the first
    found = verdict(entry(server.url("/m.pth")))
    assert (found.state, found.status, found.is_loss) == (state, code, state == "dead")


def test_no_server_is_unreachable() -> None:
    found = verdict(entry("http://127.0.0.1:9/m.pth"))
    assert (found.state, found.status, found.detail) == ("unreachable", None, "connection refused")


def test_a_server_that_says_nothing(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "TIMEOUT", (1, 0.05))
    monkeypatch.setattr(server, "finish_request", lambda *_: server.ended.wait(5))
    assert verdict(entry(server.url("/m.pth"))).detail == "nothing came for 0.05 s"


def test_redirects_in_a_circle_are_dead(server: FaultServer) -> None:
    server.put("/m.pth", b"", redirect=Redirect("/m.pth"))
    found = verdict(entry(server.url("/m.pth")))
    assert (found.state, found.detail) == (
        "dead",
        f"leads on more than 10 times, now to {server.url('/m.pth')}: not followed further",
    )
    assert len(server.requests) <= 12


def test_a_redirect_to_no_web_address(server: FaultServer) -> None:
    server.put("/m.pth", b"", redirect=Redirect("ftp://somewhere/m.pth"))
    assert verdict(entry(server.url("/m.pth"))).state == "dead"


def test_a_redirect_out_of_https_is_dead(
    server: FaultServer, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.fault_server import self_signed

    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server.put("/m.pth", b"12345")
    with FaultServer(certificate) as secure:
        secure.put("/m.pth", b"", redirect=Redirect(server.url("/m.pth")))
        found = verdict(entry(secure.url("/m.pth")))
        assert (found.state, found.detail) == (
            "dead",
            f"leads on to {server.url('/m.pth')}, which is not https: not followed",
        )
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        found = verdict(entry(secure.url("/m.pth")))
        assert found.state == "unreachable"
        assert "certificate" in found.detail


class GetOnly(BaseHTTPRequestHandler):
    """A server that refuses HEAD and gives parts."""

    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers["Range"])
        self.send_response(206)
        self.send_header("Content-Range", "bytes 0-0/1234")
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        pass


def test_where_head_is_refused_one_byte_is_asked_for() -> None:
    GetOnly.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), GetOnly)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    found = verdict(entry(f"http://127.0.0.1:{server.server_port}/m.pth", size=1234))
    server.shutdown()
    server.server_close()
    assert (found.state, found.status, found.size) == ("ok", 206, 1234)
    assert GetOnly.seen == ["bytes=0-0"]


def test_a_relative_link_is_skipped() -> None:
    found = verdict(entry("./model.pkl"))
    assert (found.state, found.is_loss) == ("skipped", False)
    assert "no address" in found.detail


@pytest.mark.parametrize(("availability", "lost"), [("moved", True), ("wrong_link", True)])
def test_a_printed_link_known_to_be_wrong_may_die(server: FaultServer, availability: str, lost: bool) -> None:
    server.put("/right.pkl", b"1")
    corrected = entry(server.url("/printed.pkl"), availability=availability, corrected=server.url("/right.pkl"))
    printed, right = audit([corrected])
    assert (printed.state, printed.is_loss, right.state) == ("dead", False, "ok")
    server.resources.clear()
    assert [found.is_loss for found in audit([corrected])] == [False, True]


def test_links_that_weights_do_not_need_may_die(server: FaultServer) -> None:
    server.put("/m.pth", b"1")
    more = {"config_url": "/c", "log_url": "/l", "boxes_url": "/b", "masks_url": "/k", "md5_url": "/m.md5sum"}
    found = audit([entry(server.url("/m.pth"), **{key: server.url(path) for key, path in more.items()})])
    losses = {verdict.uses[0].what: verdict.is_loss for verdict in found}
    assert losses == {"checkpoint": False, "md5": True, "config": False, "log": False, "boxes": False, "masks": False}


def test_a_configuration_that_has_moved_is_asked_for_at_both_places() -> None:
    found = {use.what: url for url, (use, *_) in uses([registry.info("mask_r50_c4_1x.paddle")]).items()}
    assert list(found) == ["checkpoint", "corrected config", "config as printed, known to have moved"]
    assert "/tree/develop/configs/mask_rcnn/" in found["corrected config"]
    assert "/tree/master/dygraph/configs/mask_rcnn/" in found["config as printed, known to have moved"]


def test_every_address_of_the_manifest_is_asked_once_by_one_request_at_a_time(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, led to this server by name."""
    at_once: dict[str, int] = {}
    most = [0]
    guard = threading.Lock()

    def ask(http: object, url: str) -> object:
        host = url.split("/")[2]
        with guard:
            at_once[host] = at_once.get(host, 0) + 1
            most.append(at_once[host])
        answer = original(http, server.url("/file"))
        with guard:
            at_once[host] -= 1
        return answer

    original: Callable = links._ask
    monkeypatch.setattr(links, "_ask", ask)
    monkeypatch.setattr(links, "PAUSE", 0)
    server.put("/file", b"12345")
    told: list[LinkVerdict] = []
    found = audit(registry.entries(), told.append)
    assert [verdict.url for verdict in found] == list(uses(registry.entries()))
    assert len({verdict.url for verdict in found}) == len(found) == len(told) > 150
    assert max(most) == 1
    asked = [verdict for verdict in found if verdict.state != "skipped"]
    assert len(server.requests) == len(asked)
    assert all(verdict.url.startswith("./") for verdict in found if verdict.state == "skipped")
    needed = {use.entry for verdict in found for use in verdict.uses if use.needed}
    assert needed == {entry.name for entry in registry.entries() if entry.download_url}


def test_requests_to_one_host_are_spaced(server: FaultServer) -> None:
    asked: dict[str, list[float]] = {"a": [], "b": []}

    def ask(http: object, url: str, wanted: object) -> LinkVerdict:
        asked[url.split("/")[2]].append(time.monotonic())
        return LinkVerdict(url, "ok", (), "")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(links, "PAUSE", 0.1)
        patched.setattr(links, "_try", ask)
        audit([entry("http://a/m.pth", config_url="http://a/c", log_url="http://a/l", boxes_url="http://b/x")])
    first, second, third = asked["a"]
    assert min(second - first, third - second) >= 0.1
    assert asked["b"][0] < third


def test_an_error_of_our_own_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> LinkVerdict:
        raise ZeroDivisionError

    monkeypatch.setattr(links, "_try", broken)
    with pytest.raises(ZeroDivisionError):
        audit([entry("http://a/m.pth")])


def test_offline_asks_nobody(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Offline, match="which HF_HUB_OFFLINE forbids"):
        audit([entry(server.url("/m.pth"))])
    assert server.requests == []


def test_the_command_prints_what_moved_and_what_died(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("/old", b"", redirect=Redirect("/new", 308))
    server.put("/new", b"1")
    server.put("/m.pth", b"1")
    good = entry(server.url("/m.pth"), config_url=server.url("/old"))
    code, out, err = run(monkeypatch, [good])
    assert code == 0
    assert "moved" in out
    assert f"now {server.url('/new')}" in out
    assert "m.pth" not in out
    assert "1 ok, 1 moved" in err

    code, out, err = run(monkeypatch, [good, entry(server.url("/gone.pth"))])
    assert code == LostLinks.exit_code == 1
    assert "dead" in out
    assert "404 Not Found" in out
    assert PADDLE.name in err


def test_the_command_as_json(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("/m.pth", b"12345")
    code, out, _ = run(monkeypatch, [entry(server.url("/m.pth"), config_url="./c.yaml")], "--json")
    assert code == 0
    file, config = json.loads(out)
    assert (file["state"], file["status"], file["size"], config["state"]) == ("ok", 200, 5, "skipped")
    assert file["uses"][0] == {
        "entry": PADDLE.name,
        "what": "checkpoint",
        "needed": True,
        "size": None,
        "sha256_prefix": None,
    }


def test_no_network_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(monkeypatch, [entry("http://127.0.0.1:9/m.pth")])
    assert code == DownloadFailed.exit_code == 3
    assert "no server could be reached (connection refused)" in err


def test_only_the_entries_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(links, "_try", lambda http, url, wanted: LinkVerdict(url, "ok", wanted, ""))
    with pytest.raises(SystemExit) as end:
        main(["links", "--json", PADDLE.name, "cascade_mask_rcnn_r50_fpn_1x_coco.paddle"])
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert {use["entry"] for verdict in found for use in verdict["uses"]} == {PADDLE.name}
    with pytest.raises(SystemExit) as end:
        main(["links", "no_such_entry"])
    assert end.value.code == 2
