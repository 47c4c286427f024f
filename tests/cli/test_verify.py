"""The command line of verification: what it prints, writes and exits with."""

import contextlib
import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import small_coco
from sample_report import accuracy_of, report_of, sample
from small_coco import NAME, cramped_load, tiny_load, write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.schema import SpeedTiming, text_of
from cascadezoo.benchmarks.verify import request, speed
from cascadezoo.benchmarks.verify import verify as verify_module
from cascadezoo.benchmarks.verify.coco_layout import shapes_val
from cascadezoo.benchmarks.verify.speed import Bounds
from cascadezoo.cli import main

OWN = "cascade_mask_r18_fpn_shapes.cascadezoo"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    return str(write_coco(tmp_path_factory.mktemp("coco")))


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    monkeypatch.setattr(speed, "Bounds", lambda: Bounds(warm_ups=0, window=1, rounds=1))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    return stopped.value.code


def verify(*arguments: str) -> int:
    return call("verify", *arguments, "--workers", "0", "--device", "cpu")


def test_everything_without_coco_is_one_pass_and_65_skipped(tmp_path: Path, monkeypatch, capsys) -> None:
    def load(name: str, **_: object):
        assert name == OWN  # no weights are looked for where there is no data
        return tiny_load(name)

    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    monkeypatch.setattr(cascadezoo, "load", load)
    monkeypatch.setattr(request, "shapes_val", lambda: shapes_val(2))
    page = tmp_path / "page.html"
    assert verify("--all", "--ap", "--tolerance", "100", "--html", str(page)) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert sum(line.startswith("PASS") for line in lines) == 1
    assert "1 PASS, 109 SKIPPED" in err
    assert sum("no data: give --data-root" in line for line in lines if line.startswith("SKIPPED")) >= 109
    assert all(name in page.read_text() for name in cascadezoo.list_models())
    assert verify("--all", "--ap", "--tolerance", "100", "--strict") == 1


def test_a_figure_that_is_not_the_published_one_fails(root: str, tmp_path: Path, capsys) -> None:
    assert verify(NAME, "--data-root", root, "--ap", "--json", str(tmp_path / "r.json")) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"FAIL         {NAME}, plain: box AP ")
    assert "for 41.2" in out
    assert "outside decoding and inference" in err
    (entry,) = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert set(entry["accuracy"][0]["figures"]["bbox"]) == {
        "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
    }  # fmt: skip
    assert entry["speed"] is None


def test_the_page_shows_the_worst_images_of_the_analysis(root: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    analysis = ["--analysis", str(tmp_path / "analysis")]
    assert verify(NAME, "--data-root", root, "--ap", "--tolerance", "100", *analysis, "--html", str(page)) == 0
    assert page.read_text().count('<img src="data:image/jpeg;base64,') == 3


@pytest.mark.parametrize(
    ("measured", "shown"), [(45.125, "45.13 "), (45.135, "45.14 "), (44.95, "44.95 "), (0.05, "0.05 "), (None, "")]
)
def test_figures_are_rounded_as_everywhere(measured: float | None, shown: str, monkeypatch, capsys) -> None:
    part = accuracy_of({"box_ap": "41.2"}, {"bbox": {"AP": measured}}, tolerance="100")

    def verified(names, finished, **_: object):
        finished(report_of(part).entries[0])
        return report_of(part)

    monkeypatch.setattr(verify_module, "verify", verified)
    assert verify(NAME) == (measured is None)
    assert capsys.readouterr().out.startswith(f"{part.verdict:12} {NAME}, plain: box AP {shown}(41.2), ")


def test_json_on_stdout_is_alone_there(root: str, capsys) -> None:
    assert verify(NAME, "--data-root", root, "--ap", "--limit", "1", "--json", "-") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["entries"][0]["verdict"] == "PARTIAL"
    assert err.startswith("PARTIAL ")


def test_a_page_on_stdout_is_alone_there(root: str, capsys) -> None:
    assert verify(NAME, "--data-root", root, "--ap", "--limit", "1", "--html", "-") == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")


def test_V6_a_file_for_a_name_is_answered_with_its_option(tmp_path: Path, capsys) -> None:
    (tmp_path / "my.pth").write_bytes(b"weights")
    assert verify(str(tmp_path / "my.pth")) == 2
    assert "give the name of its entry, and the file as weights (on the command line with --weights)" in (
        capsys.readouterr().err
    )


def test_V2_given_weights_are_named_everywhere(root: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "my.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    options = ["--data-root", root, "--tolerance", "100", "--limit", "8", "--json", str(report), "--html", str(page)]
    assert verify(NAME, "--weights", str(tmp_path / "my.pth"), *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == f"{NAME}, weights given: my.pth, sha256 {digest}"
    assert lines[1].startswith(f"PASS         {NAME}, given weights, plain: box AP ")
    assert " given (41.2), " in lines[1]
    assert lines[2].startswith(f"NO-REFERENCE {NAME}, given weights, speed: ")
    (entry,) = json.loads(report.read_text())["entries"]
    assert entry["given"] == {"name": "my.pth", "sha256": digest}
    assert entry["accuracy"][0]["reason"].startswith("given weights: ")
    assert call("report", "show", str(report)) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| cascade")]
    for shown in (*rows, page.read_text()):
        assert f"given: my.pth, sha256 {digest}" in shown
    assert len(rows) == 2  # its accuracy, its speed
    for text in (rows[0], page.read_text()):
        assert re.search(r"[0-9.]+ given \(41\.2\)", text)
        assert not re.search(r"[0-9] \(41\.2\)", text)


def test_V2_published_weights_are_not_called_given(root: str, tmp_path: Path, capsys) -> None:
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    options = ["--data-root", root, "--ap", "--limit", "1", "--json", str(report), "--html", str(page)]
    assert verify(NAME, *options) == 0
    assert call("report", "show", str(report)) == 0
    assert "given" not in capsys.readouterr().out
    assert "given" not in page.read_text()
    assert json.loads(report.read_text())["entries"][0]["given"] is None


def test_V5_two_outputs_to_one_place_are_refused_first(root: str, report: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "link").symlink_to("page")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    page, link = str(tmp_path / "page"), str(tmp_path / "link")
    for one, other in (("-", "-"), ("-", str(tmp_path / "stdout")), (page, page), (page, link), (link, page)):
        assert verify(NAME, "--data-root", str(tmp_path / "none"), "--json", one, "--html", other) == 2
        assert "two outputs to " in capsys.readouterr().err
        assert call("report", "merge", report, "-o", one, "--html", other) == 2
        assert capsys.readouterr().out == ""
    assert call("report", "show", report, "--json", "--html", "-") == 2
    assert capsys.readouterr().out == ""


def test_V1_reports_go_where_links_lead_and_into_fifos(root: str, tmp_path: Path) -> None:
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    (tmp_path / "page.html").symlink_to("elsewhere.html")
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    outputs = ["--json", str(fifo), "--html", str(tmp_path / "page.html")]
    assert verify(NAME, "--data-root", root, "--ap", "--limit", "1", *outputs) == 0
    reader.join(60)
    assert json.loads(got[0])["entries"][0]["verdict"] == "PARTIAL"
    assert fifo.is_fifo()
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "elsewhere.html").read_text().startswith("<!DOCTYPE html>")


def test_on_a_terminal_the_bar_is_gone_before_a_verdict_is_printed(root: str) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, small_coco.__file__, "verify", NAME, "--data-root", root, "--ap", "--limit", "2"]
    environ = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*arguments, "--device", "cpu"], stdout=theirs, stderr=theirs, env=environ):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the terminal has no writer any more
            while more := os.read(ours, 4096):
                shown += more
    os.close(ours)
    before, after = shown.split(b"PARTIAL      ")
    assert b"2/2" in before
    assert before.endswith(b"\x1b[2K")  # the line is empty
    assert b"2/2" not in after


def test_a_place_for_the_report_is_looked_for_first(root: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: pytest.fail(f"{name} was loaded"))
    for option, file in (("--json", tmp_path / "none" / "r.json"), ("--html", tmp_path)):
        assert verify(NAME, "--data-root", root, "--ap", option, str(file)) == 4
        assert f"{file} cannot be written" in capsys.readouterr().err


def test_a_batch_that_was_not_timed_is_told(root: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cascadezoo, "load", cramped_load)
    assert verify(NAME, "--data-root", root, "--fps", "--batch-size", "2") == 0
    assert "out of memory with 2 images at a time: not timed" in capsys.readouterr().out


def test_both_are_measured_unless_one_is_asked_for(root: str, tmp_path: Path) -> None:
    for options, parts in (
        ([], (1, True)),
        (["--ap"], (1, False)),
        (["--fps"], (0, True)),
        (["--ap", "--fps"], (1, True)),
    ):
        assert verify(NAME, "--data-root", root, "--limit", "1", *options, "--json", str(tmp_path / "r.json")) == 0
        (entry,) = json.loads((tmp_path / "r.json").read_text())["entries"]
        assert (len(entry["accuracy"]), entry["speed"] is not None) == parts


def test_a_baseline_of_the_same_device_decides_on_speed(root: str, tmp_path: Path, monkeypatch, capsys) -> None:
    path = tmp_path / "baseline.json"
    assert verify(NAME, "--data-root", root, "--fps", "--json", str(path)) == 0
    out = capsys.readouterr().out
    assert "NO-REFERENCE" in out
    assert "no baseline" in out
    report = json.loads(path.read_text())
    timing = report["entries"][0]["speed"]["timing"]
    (batch,) = timing["batches"]
    again = SpeedTiming.model_validate(timing)
    monkeypatch.setattr(speed, "measure", lambda *_, **__: again)  # the machine is as fast each time, however busy

    def against(factor: float, device: str | None = None) -> int:
        doctored = {
            **report,
            "machines": [{**report["machines"][0], "device": device or report["machines"][0]["device"]}],
        }
        batch["fps"] = factor * fps
        (tmp_path / "doctored.json").write_text(json.dumps(doctored))
        return verify(NAME, "--data-root", root, "--fps", "--baseline", str(tmp_path / "doctored.json"))

    fps = batch["fps"]
    assert against(1.2) == 1
    assert "slower than the baseline" in capsys.readouterr().out
    assert against(1.1) == 0  # this one is 9 % slower
    assert "PASS" in capsys.readouterr().out
    assert against(1.2, device="another") == 0
    assert "NO-REFERENCE" in capsys.readouterr().out


def test_wrong_calls_exit_with_2_and_missing_data_with_3(root: str, tmp_path: Path, capsys) -> None:
    assert verify() == 2
    assert verify(NAME, "--all") == 2
    assert verify(NAME, "--shard", "3/2") == 2
    for tolerance in ("much", "nan", "-1"):
        assert verify(NAME, "--tolerance", tolerance) == 2
    assert verify("no_such_model") == 2
    assert verify(NAME, "--data-root", str(tmp_path)) == 3
    assert verify(NAME, "--data-root", root, "--weights", str(tmp_path / "none.pth")) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_the_files_of_the_cache_are_checked(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    assert call("verify", "--files") == 0
    (tmp_path / "canonical").mkdir()
    (tmp_path / "canonical" / f"{NAME}.safetensors").write_bytes(b"damaged")
    assert call("verify", "--files") == 1
    assert f"{NAME}.safetensors" in capsys.readouterr().out


@pytest.fixture
def report(tmp_path: Path) -> str:
    path = tmp_path / "report.json"
    path.write_text(text_of(sample()))
    return str(path)


def test_report_show(report: str, tmp_path: Path, capsys) -> None:
    assert call("report", "show", report) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# Verification\n")
    assert "stale: the manifest has changed" in err
    assert call("report", "show", report, "--json") == 0
    assert json.loads(capsys.readouterr().out)["commit"] == "d" * 40
    assert call("report", "show", report, "--html", str(tmp_path / "page.html")) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_report_check_says_stale_with_its_exit_code(report: str, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call("report", "check", report) == 1
    assert "the code has changed" in capsys.readouterr().out
    monkeypatch.setattr("cascadezoo.benchmarks.reports.schema.Report.stale", lambda self: [])
    assert call("report", "check", report) == 0
    assert call("report", "check", str(tmp_path / "none.json")) == 3
    (tmp_path / "bad.json").write_text("{}")
    assert call("report", "check", str(tmp_path / "bad.json")) == 4


def test_report_compare_and_schema(report: str, tmp_path: Path, capsys) -> None:
    moved = json.loads(Path(report).read_text())
    moved["entries"][1]["accuracy"][0]["figures"]["bbox"]["AP"] = 40.0
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    assert call("report", "compare", report, str(tmp_path / "moved.json")) == 0
    assert capsys.readouterr().out == "cascade_mask_r50_fpn_3x.mmdet, plain, bbox AP: 41.250 -> 40.000\n"
    assert call("report", "compare", report, report, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert call("report", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Report"


def test_report_merge(tmp_path: Path, root: str, capsys) -> None:
    other = "cascade_r50_fpn_1x.mmdet"
    options = [NAME, other, "--data-root", root, "--ap", "--limit", "1"]
    for index in ("1", "2"):
        assert verify(*options, "--shard", f"{index}/2", "--json", str(tmp_path / f"{index}.json")) == 0
    parts = [str(tmp_path / "1.json"), str(tmp_path / "2.json")]
    assert call("report", "merge", *parts, "-o", str(tmp_path / "all.json"), "--html", str(tmp_path / "all.html")) == 0
    assert "2 PARTIAL" in capsys.readouterr().err
    merged = json.loads((tmp_path / "all.json").read_text())
    assert {entry["name"] for entry in merged["entries"]} == {NAME, other}
    assert call("report", "merge", parts[0], "-o", str(tmp_path / "all.json")) == 2
