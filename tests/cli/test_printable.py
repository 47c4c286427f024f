"""Nothing that comes from a file, a server or a name acts on the terminal (case C1)."""

import json
import logging
import os
import re
import struct
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sample_report import sample

from cascadezoo.benchmarks.reports.schema import EntryReport, text_of
from cascadezoo.benchmarks.verify import verify as verify_module
from cascadezoo.cli import main
from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import DownloadFailed
from cascadezoo.hub import links
from cascadezoo.hub.housekeeping import CacheItem
from cascadezoo.hub.links import LinkVerdict, Use
from cascadezoo.providers import SPECS
from cascadezoo.publishing.licensing import WeightsLicense
from cascadezoo.publishing.publish import Publication
from cascadezoo.training.journal import Journal

ENTRY = "cascade_mask_r50_fpn_1x.mmdet"
STATED = "faster_r50_fpn_1x.detectron"

# clears the screen, sets the title, recolours by a C1 control, turns the text round, and forges lines in four ways
EVIL = "\x1b[2J\x1b]0;t\x07\x9b31m\u202e\u2066\r\nFORGED\nFORGED\x85FORGED\u2028FORGED\x0bFORGED\x00\x7f"
UNDECODED = "\udcff"  # a byte of a file name that is no UTF-8
NAME = EVIL.replace("\x00", "") + UNDECODED  # of a file

# written without the code under test: what a terminal may act on, and half a character
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Scene = Callable[[Path, pytest.MonkeyPatch], list[Any]]
SCENES: dict[str, Scene] = {}


def scene(make: Scene) -> Scene:
    SCENES[make.__name__] = make
    return make


def torch_file(folder: Path, key: str = "backbone.conv1.weight") -> Path:
    path = folder / f"{NAME}.pth"
    meta = {"CLASSES": (EVIL,), EVIL: EVIL, "mmdet_version": EVIL, "config": EVIL}
    torch.save({"meta": meta, "state_dict": {key: torch.ones(2)}, EVIL: 1}, path)
    return path


@scene
def inspect_a_torch_file(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["inspect", "--tensors", torch_file(folder)]


@scene
def inspect_a_torch_file_with_an_evil_tensor(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["inspect", "--tensors", torch_file(folder, f"backbone.{EVIL}")]


@scene
def inspect_a_torch_file_as_json(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["inspect", "--tensors", "--json", torch_file(folder)]


@scene
def inspect_safetensors(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    path = folder / "x.safetensors"
    save_file({EVIL: torch.ones(1)}, path, {EVIL: EVIL, "entries": EVIL, "publisher": EVIL})
    return ["inspect", "--tensors", path]


@scene
def inspect_safetensors_of_a_strange_data_type(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    header = json.dumps({"a": {"dtype": EVIL, "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return ["inspect", folder / "x.safetensors"]


@scene
def inspect_what_is_no_weights_file(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    (folder / NAME).write_text("<html>")
    return ["inspect", folder / NAME]


@scene
def convert(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["convert", "--from", "mmdet", torch_file(folder), "--entry", ENTRY]


@scene
def a_missing_file(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["convert", "--from", "mmdet", folder / NAME]


@scene
def a_name_of_no_entry(_: Path, __: pytest.MonkeyPatch) -> list[Any]:
    return ["info", NAME]


@scene
def an_unknown_option(_: Path, __: pytest.MonkeyPatch) -> list[Any]:
    return ["list", f"--{NAME}"]


@scene
def an_unknown_command(_: Path, __: pytest.MonkeyPatch) -> list[Any]:
    return [NAME]


class _Model:
    """Finds one object of each category on every image."""

    categories = Categories((f"a{EVIL}", "b"))
    spec = SPECS["mmdet"]["cascade_mask_r50_fpn"]

    def optimize(self, *_: Any, **__: Any) -> "_Model":
        return self

    def predict(self, images: list[Any], tta: bool, batch_size: int, **_: object) -> list[Detections]:
        (image,) = images
        boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [2.0, 2.0, 8.0, 6.0]])
        return [Detections(boxes, torch.tensor([0.9, 0.8]), torch.arange(2), image.shape[:2], self.categories)]


def image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cascadezoo.loading.load", lambda name, **_: _Model())
    path = folder / f"{NAME}.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    return path


@scene
def predict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return ["predict", ENTRY, image(folder, monkeypatch), "--device", "cpu", "--out", folder / f"out{NAME}"]


@scene
def predict_as_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return ["predict", ENTRY, image(folder, monkeypatch), "--device", "cpu", "--out", folder / "out", "--json"]


@scene
def predict_what_is_no_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    path = image(folder, monkeypatch)
    path.write_bytes(b"nothing")
    return ["predict", ENTRY, path, folder / f"gone{NAME}", "--device", "cpu", "--out", folder / "out"]


def evil_report() -> Any:
    """The sample with evil in every text that a report shows."""
    report = sample().model_copy(update={"version": EVIL, "commit": EVIL, "code_sha256": EVIL})
    entries = []
    for entry in report.entries:
        parts = tuple(part.model_copy(update={"reason": EVIL, "dataset": EVIL}) for part in entry.accuracy)
        entries.append(entry.model_copy(update={"name": EVIL, "accuracy": parts, "weights_digest": EVIL}))
    machines = tuple(m.model_copy(update={"device": EVIL, "cpu": EVIL, "decoder": EVIL}) for m in report.machines)
    settings = report.settings.model_copy(update={"evaluator": EVIL})
    return report.model_copy(update={"entries": tuple(entries), "machines": machines, "settings": settings})


def report_file(folder: Path) -> Path:
    (folder / "report.json").write_text(text_of(evil_report()), "utf-8")
    return folder / "report.json"


@scene
def report_show(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["report", "show", report_file(folder)]


@scene
def report_show_as_json(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["report", "show", report_file(folder), "--json"]


@scene
def report_show_as_a_page(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    return ["report", "show", report_file(folder), "--html", "-"]


@scene
def report_compare(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    (folder / "other.json").write_text(text_of(sample()), "utf-8")
    return ["report", "compare", report_file(folder), folder / "other.json"]


@scene
def report_that_is_none(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    (folder / NAME).write_text(json.dumps({EVIL: 1, "version": [EVIL]}))
    return ["report", "show", folder / NAME]


@scene
def verify(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    def measured(names: Any, finished: Callable[[EntryReport], None], **_: Any) -> Any:
        for entry in evil_report().entries:
            finished(entry)
        return evil_report()

    monkeypatch.setattr(verify_module, "verify", measured)
    return ["verify", ENTRY, "--json", folder / f"report{NAME}"]


@scene
def verify_the_files_of_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    cache_folder(folder, monkeypatch)
    return ["verify", "--files"]


def cache_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(folder))
    for kind in ("originals", "parts", "quarantine"):
        (folder / kind / ENTRY).mkdir(parents=True)
        (folder / kind / ENTRY / f"{NAME}.pth").write_bytes(b"x")


@scene
def cache_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    cache_folder(folder, monkeypatch)
    return ["cache", "list"]


@scene
def cache_list_as_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    cache_folder(folder, monkeypatch)
    return ["cache", "list", "--json"]


@scene
def cache_prune(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    cache_folder(folder, monkeypatch)
    busy = CacheItem("part", EVIL, folder / NAME, 1, datetime.now(UTC))
    pruned = type("Pruned", (), {"removed": [busy], "busy": [busy]})
    monkeypatch.setattr("cascadezoo.hub.housekeeping.prune", lambda *_, **__: pruned)
    busy_home = busy.path.parent
    monkeypatch.setattr("cascadezoo.cli.cache.home", lambda: busy_home)
    return ["cache", "prune", "--all"]


@scene
def links_of_a_server_that_answers_evil(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    lost = LinkVerdict(
        f"https://x/{EVIL}", "dead", (Use(ENTRY, "weights", True),), f"404 {EVIL}", 404, None, (), 1, EVIL
    )
    monkeypatch.setattr(links, "audit", lambda *_: [lost])
    return ["links", ENTRY]


@scene
def links_as_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return [*links_of_a_server_that_answers_evil(folder, monkeypatch), "--json"]


@scene
def download(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        logging.getLogger("cascadezoo").warning("%s: trying again", EVIL)
        raise DownloadFailed(f"503 {EVIL}")

    monkeypatch.setattr("cascadezoo.checkpoints.weights.obtain", refuse)
    return ["download", ENTRY]


def publication(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    license = WeightsLicense(id="MIT", stated=True)  # which takes no other form
    done = Publication(entry=EVIL, repo=EVIL, url=EVIL, revision=EVIL, private=False, dry_run=False, license=license,
                       figures=None, files={EVIL: 1}, card="card \x1b[2J", commit=EVIL, **changes)  # fmt: skip
    monkeypatch.setattr("cascadezoo.publishing.publish.publish", lambda *_, **__: done)


@scene
def publish_as_planned(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    publication(monkeypatch)
    return ["publish", STATED, "--repo", "org/x", "--dry-run"]


@scene
def publish(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    publication(monkeypatch, changed=True)
    return ["publish", STATED, "--repo", "org/x"]


@scene
def publish_as_json(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    publication(monkeypatch)
    return ["publish", STATED, "--repo", "org/x", "--json"]


@scene
def publish_what_is_no_canonical_file(folder: Path, _: pytest.MonkeyPatch) -> list[Any]:
    (folder / NAME).write_bytes(b"x")
    return ["publish", STATED, "--repo", "org/x", "--weights", folder / NAME]


@scene
def train_on_bad_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    path = folder / f"train{NAME}.json"
    path.write_text(json.dumps({"images": [{"id": EVIL}], "annotations": [], "categories": [{"id": 1, "name": EVIL}]}))
    options = ["--entry", ENTRY, "--train-json", path, "--train-images", folder, "--run-dir", folder / NAME]
    return ["train", *options]


@scene
def doctor(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    ops = {kind: {"loaded": False, "state": EVIL} for kind in ("cpu", "cuda")}
    findings = {"python": EVIL, "system": EVIL, "packages": {EVIL: EVIL}, "cuda": EVIL, "gpus": [EVIL],
                "compilers": {EVIL: EVIL}, "remedies": {EVIL: EVIL}, "problems": [EVIL],
                "ops": {"CASCADEZOO_OPS": EVIL, "cache": EVIL, **ops}}  # fmt: skip
    monkeypatch.setattr("cascadezoo.cli.doctor.examine", lambda: findings)
    return ["doctor"]


@scene
def an_error_that_nobody_foresaw(_: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    def fail(*_: Any) -> Any:
        warnings.warn(EVIL, stacklevel=1)
        raise ZeroDivisionError(EVIL)

    monkeypatch.setattr("cascadezoo.registry.list_models", fail)
    return ["--debug", "list"]


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", SCENES)
def test_C1_every_printed_field(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(argument) for argument in SCENES[name](tmp_path, monkeypatch)]
    with pytest.raises(SystemExit):
        main(arguments)
    out, err = capfd.readouterr()
    shown = out + err
    assert "FORGED" in shown  # the scene is one: evil reached the border
    assert not ACTS.findall(shown), ascii(shown)
    assert not re.search(r"^\s*FORGED", shown, re.MULTILINE), shown
    if "--json" in arguments[1:] and name != "verify":
        assert EVIL in json.dumps(json.loads(out), ensure_ascii=False) or _holds(json.loads(out), EVIL[:12])


def _holds(value: Any, text: str) -> bool:
    """Whether a text of a JSON document holds ``text``."""
    if isinstance(value, dict):
        return any(_holds(part, text) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(_holds(part, text) for part in value)
    return isinstance(value, str) and text in value


def test_C1_lines_of_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path, steps=1, images=1, every=1) as journal:
        journal.note(1, f"skipped {EVIL}")
        journal.end(1, tmp_path / EVIL)
    err = capfd.readouterr().err
    assert "skipped \\x1b[2J" in err
    assert not ACTS.findall(err)
    assert not re.search(r"^\s*FORGED", err, re.MULTILINE)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert records[0]["text"] == f"skipped {EVIL}"


def test_C1_colours_of_our_own_stay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal, which ``--color`` of pytest or an environment variable may feign: the state is coloured."""
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_, **__: False)
    with pytest.raises(SystemExit):
        main(["list", "*shapes*"])
    assert "\x1b[32minside\x1b[0m\n" in capsys.readouterr().out


def test_C1_an_undecodable_file_name_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cascadezoo.loading.load", lambda name, **_: _Model())
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    os.rename(b"a.png", b"\xff.png")
    with pytest.raises(SystemExit) as stop:
        main(["predict", ENTRY, "\udcff.png", "--device", "cpu"])
    assert stop.value.code == 0
    assert capfd.readouterr().out.startswith("\\udcff.png: 2 detections")
    document = json.loads((tmp_path / "predictions" / "detections.json").read_text("utf-8"))
    assert document["images"][0]["file_name"] == "\udcff.png"
