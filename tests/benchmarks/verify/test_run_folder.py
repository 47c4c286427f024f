"""The folder of a run: one run at a time, no image lost, and nothing measured again but what can have changed."""

import errno
import json
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from small_coco import NAME, tiny_load, write_coco

import cascadezoo
from cascadezoo import registry
from cascadezoo.benchmarks.reports import digest
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify import engines, results_stream, run_folder, speed
from cascadezoo.benchmarks.verify.coco_layout import coco_val2017
from cascadezoo.benchmarks.verify.results_stream import ResultsStream
from cascadezoo.benchmarks.verify.shares import accounted
from cascadezoo.benchmarks.verify.speed import Bounds
from cascadezoo.converters.canonical import write_canonical
from cascadezoo.errors import FileError, UnwritableOutput, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    monkeypatch.setattr(speed, "Bounds", lambda: Bounds(warm_ups=0, window=1, rounds=1))


def run(root: Path, **options):
    options = {"speed": False, "tolerance": 100, "workers": 0, "device": "cpu", **options}
    (entry,) = cascadezoo.verify(NAME, data_root=root, **options).entries
    return entry


def forbid_loading(monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: pytest.fail(f"{name} was loaded"))


# one run at a time


def test_V3_a_folder_in_use_is_refused(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / "run.lock"), pytest.raises(UsageError, match=f"{folder} is in use by another run"):
        run(root, run_dir=folder, limit=1)
    assert [path.name for path in folder.iterdir()] == ["run.lock"]
    assert run(root, run_dir=folder, limit=1).verdict is Verdict.PARTIAL
    with pytest.raises(UsageError, match="another run"):
        run(root, run_dir=folder, limit=2)
    assert run(root, run_dir=folder, limit=1).verdict is Verdict.PARTIAL  # the refused one has left it


# every image accounted for


def test_V3_no_ap_is_made_where_an_image_has_no_results(root: Path, tmp_path: Path, monkeypatch) -> None:
    add = ResultsStream.add
    monkeypatch.setattr(ResultsStream, "add", lambda self, number, found: number in (3, 5) or add(self, number, found))
    (part,) = run(root, run_dir=tmp_path / "run").accuracy
    assert (part.verdict, part.figures) == (Verdict.ERROR, {})
    assert part.reason.startswith("2 of 8 images have no results on disk (")
    assert "000000000003.jpg, " in part.reason
    monkeypatch.setattr(ResultsStream, "add", add)
    (part,) = run(root, run_dir=tmp_path / "run").accuracy
    assert (part.verdict, part.timing.images) == (Verdict.PASS, 2)


def test_V3_results_count_for_the_chosen_images_alone(root: Path) -> None:
    images = coco_val2017(root).images
    shares = [{image.image_id: [{"image_id": image.image_id}] for image in images[start::2]} for start in (0, 1)]
    assert accounted(images, shares) == [{"image_id": number} for number in range(1, 9)]
    assert accounted(images[1:3], shares) == [{"image_id": 2}, {"image_id": 3}]
    with pytest.raises(FileError, match=r"4 of 8 images have no results on disk \(.*2\.jpg, .*4\.jpg, .*6\.jpg, …\)"):
        accounted(images, shares[:1])


# what counts


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": "another"}'])
@pytest.mark.parametrize("name", [f"{NAME}/report.json", "run.json"])
def test_V4_a_damaged_file_costs_no_more_than_its_entry(
    root: Path, tmp_path: Path, caplog, monkeypatch, name: str, content: bytes
) -> None:
    first = run(root, run_dir=tmp_path / "run", limit=2)
    sound = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(content)
    again = run(root, run_dir=tmp_path / "run", limit=2)
    assert f"{tmp_path}/run/{name} is damaged or of another version" in caplog.text
    assert again.accuracy[0].figures == first.accuracy[0].figures
    if name != "run.json":
        assert again.accuracy[0].timing.images == 0  # the detections were there
    else:
        assert (tmp_path / "run" / name).read_bytes() == sound
    forbid_loading(monkeypatch)
    assert run(root, run_dir=tmp_path / "run", limit=2) == again


def test_V4_another_number_of_threads_changes_no_figure(root: Path, tmp_path: Path, monkeypatch) -> None:
    first = run(root, run_dir=tmp_path / "run", limit=1)
    describe = engines.describe_machine

    def busier(*arguments):
        here = describe(*arguments)
        update = {"threads": 7, "cores": 9, "system": "another kernel", "device": f"{here.cpu}, 7 threads"}
        return here.model_copy(update=update)

    monkeypatch.setattr(engines, "describe_machine", busier)
    load, loaded = cascadezoo.load, []
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: loaded.append(name) or load(name))
    assert run(root, run_dir=tmp_path / "run", limit=1) == first
    assert loaded == []
    assert run(root, run_dir=tmp_path / "run", limit=1, speed=True).accuracy == first.accuracy
    monkeypatch.setattr(engines, "describe_machine", describe)
    both = run(root, run_dir=tmp_path / "run", limit=1, speed=True)  # of speed, threads are part of the device
    assert both.accuracy == first.accuracy
    assert loaded == [NAME, NAME]


def test_V4_only_sources_that_figures_come_from_count(root: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    first = run(root, run_dir=tmp_path / "run", limit=1)
    digest, changed = run_folder.code_digest, ["cascadezoo.cli.links.py"]

    def seen(of: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
        is_seen = changed[0].startswith(of) and not changed[0].startswith(without)
        return changed[0] if is_seen else digest(of, without)

    monkeypatch.setattr(run_folder, "code_digest", seen)
    for name in (
        "training.loop.py", "converters.mmdet.py", "drawing.tags.py", "benchmarks.reports.html.py", "hub.fetch.py",
        "modeling.internimage.py", "modeling.tta.py", "csrc.cuda.dcnv3.cu",  # of other networks
    ):  # fmt: skip
        changed[0] = f"cascadezoo.{name}"
        with monkeypatch.context() as patched:
            forbid_loading(patched)
            assert run(root, run_dir=tmp_path / "run", limit=1) == first
    for name, part in (
        ("benchmarks.reports.verdict.py", "code of verdicts"),
        ("modeling.network.py", "code"),
        ("modeling.mask_head.py", "code"),
    ):
        changed[0] = f"cascadezoo.{name}"
        caplog.clear()
        again = run(root, run_dir=tmp_path / "run", limit=1)
        # detections are made again where their code has changed
        assert again.accuracy[0].timing.images == (part == "code")
        assert f"{NAME}: accuracy is measured again, since this has changed: " in caplog.text
        assert part in caplog.text.rsplit("changed: ")[1].strip().split(", ")


@pytest.mark.parametrize(
    ("source", "entries"),
    [
        ("modeling.internimage.py", ["cascade_mask_internimage_l_fpn_1x.internimage"]),
        ("csrc.cpu.dcnv3.cpp", ["cascade_mask_internimage_l_fpn_1x.internimage"]),
        ("modeling.convnext.py", ["mask_convnext_t_fpn_3x.convnext"]),
        ("modeling.swin.py", ["mask_swin_t_fpn_1x.swin"]),
        ("modeling.vit.py", ["cascade_mask_vitdet_b_100ep.detectron2"]),
        ("modeling.simple_pyramid.py", ["cascade_mask_vitdet_b_100ep.detectron2"]),
        ("csrc.cpu.deform_conv2d.cpp", ["cascade_r50_dconv_c3c5_fpn_1x.mmdet"]),
        ("modeling.channels_last.py", ["cascade_mask_internimage_l_fpn_1x.internimage",
                                       "mask_convnext_t_fpn_3x.convnext", "mask_swin_t_fpn_1x.swin",
                                       "cascade_mask_vitdet_b_100ep.detectron2"]),
        ("ops.deform_conv2d.py", ["cascade_r50_dconv_c3c5_fpn_1x.mmdet"]),
        ("csrc.dcnv3.h", ["cascade_r50_dconv_c3c5_fpn_1x.mmdet", "cascade_mask_internimage_l_fpn_1x.internimage"]),
        ("modeling.tta.py", ["cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron"]),
        ("ops.mask_paste.py", [NAME, "cascade_mask_internimage_l_fpn_1x.internimage",
                               "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron", "mask_r50_c4_1x.paddle",
                               "mask_convnext_t_fpn_3x.convnext", "mask_swin_t_fpn_1x.swin",
                               "cascade_mask_vitdet_b_100ep.detectron2"]),
    ],
)  # fmt: skip
def test_V4_what_some_networks_use_counts_for_them_alone(source: str, entries: list[str], monkeypatch) -> None:
    names = (NAME, "cascade_r50_fpn_1x.mmdet", "cascade_mask_internimage_l_fpn_1x.internimage",
             "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron", "mask_r50_c4_1x.paddle",
             "mask_convnext_t_fpn_3x.convnext", "mask_swin_t_fpn_1x.swin", "cascade_mask_vitdet_b_100ep.detectron2",
             "cascade_r50_dconv_c3c5_fpn_1x.mmdet")  # fmt: skip
    seen = f"cascadezoo.{source}"
    monkeypatch.setattr(
        run_folder, "code_digest", lambda of, without=(): seen.startswith(of) and not seen.startswith(without)
    )
    settings = {"settings": {"precision": "fp32"}, "machine": {}}
    counted = [name for name in names if run_folder.results_depend(registry.info(name), settings, None)["code"]]
    assert counted == [name for name in names if name in entries]


def test_V4_the_named_sources_are_there() -> None:
    names = [name for room in digest.ROOMS for name, _ in digest.sources(room)]
    rare = tuple(f"cascadezoo.{begin}" for begins, _ in run_folder._ONLY for begin in begins)
    groups = (run_folder._DETECTING, run_folder._JUDGING, run_folder._TIMING, run_folder._CONVERTING, rare)
    for begin in (begin for group in groups for begin in group):
        assert any(name.startswith(begin) for name in names), begin


def test_V4_changed_annotations_are_named_and_the_entry_is_measured_again(root: Path, tmp_path: Path, caplog) -> None:
    run(root, run_dir=tmp_path / "run")
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"] = document["annotations"][:5]
    path.write_text(json.dumps(document))
    (again,) = run(root, run_dir=tmp_path / "run").accuracy
    assert f"{NAME}: accuracy is measured again, since this has changed: annotations" in caplog.text
    assert again.annotations_sha256 == coco_val2017(root).digest


def test_V4_weights_that_were_replaced_in_the_cache_are_measured(
    root: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / "canonical" / f"{NAME}.safetensors"
    path.parent.mkdir(parents=True)
    write_canonical(path, {"x": torch.ones(1)}, {"content_digest": "1"})
    run(root, run_dir=tmp_path / "run", limit=1)
    with monkeypatch.context() as patched:
        forbid_loading(patched)
        run(root, run_dir=tmp_path / "run", limit=1)
    write_canonical(path, {"x": torch.zeros(1)}, {"content_digest": "2"})
    run(root, run_dir=tmp_path / "run", limit=1)
    assert f"{NAME}: accuracy is measured again, since this has changed: weights" in caplog.text


def test_V2_a_file_that_was_given_and_the_published_weights_share_no_report(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "my.pth").write_bytes(b"weights")
    given = run(root, run_dir=tmp_path / "run", limit=1, weights=tmp_path / "my.pth")
    assert given.given.name == "my.pth"
    published = run(root, run_dir=tmp_path / "run", limit=1)
    assert published.given is None
    assert "given" not in published.accuracy[0].reason
    assert "accuracy is measured again, since this has changed: given weights" in caplog.text


def test_V4_a_run_of_other_settings_is_named(root: Path, tmp_path: Path) -> None:
    run(root, run_dir=tmp_path / "run", limit=1)
    words = r"another run \(settings differ: precision was fp32, is bf16; limit was 1, is none\): choose another folder"
    with pytest.raises(UsageError, match=words):
        run(root, run_dir=tmp_path / "run", precision="bf16")


def test_V4_parts_are_kept_apart(root: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    accuracy = run(root, run_dir=tmp_path / "run", limit=1).accuracy
    timed = run(root, run_dir=tmp_path / "run", limit=1, accuracy=False, speed=True)
    assert timed.accuracy == ()
    with monkeypatch.context() as patched:
        forbid_loading(patched)
        both = run(root, run_dir=tmp_path / "run", limit=1, speed=True)
    assert (both.accuracy, both.speed) == (accuracy, timed.speed)
    run(root, run_dir=tmp_path / "run", limit=1, speed=True, tolerance=99, batch_size=2)
    assert "accuracy is measured again, since this has changed: tolerance" in caplog.text
    assert "speed is measured again, since this has changed: batch size" in caplog.text
    caplog.clear()
    again = run(root, run_dir=tmp_path / "run", limit=1, speed=True, tolerance=99, batch_size=2, decode=True)
    assert "speed is measured again, since this has changed: decode" in caplog.text
    assert "accuracy" not in caplog.text
    assert "decode" in again.speed.timing.batches[0].stages_ms


# room on the disk


def test_V5_a_full_temporary_folder_is_told_as_it_is(root: Path, tmp_path: Path, monkeypatch) -> None:
    def full(self, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results_stream.ResultsStream, "_write", full)
    (part,) = run(root).accuracy
    assert part.verdict is Verdict.ERROR
    assert "No space left on device; nothing of it is kept: make room, set TMPDIR" in part.reason
    (part,) = run(root, run_dir=tmp_path / "run").accuracy
    assert "No space left on device; the results so far are kept: make room and run the same" in part.reason


def test_V5_no_temporary_folder_is_told_before_anything_runs(root: Path, monkeypatch) -> None:
    forbid_loading(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(UnwritableOutput, match=r"no temporary folder can be made \(No such file.*--run-dir DIR"):
        run(root)


@pytest.mark.parametrize("limit", [8, 9, 5000])
def test_V5_a_limit_that_leaves_no_image_out_is_judged(root: Path, limit: int) -> None:
    (part,) = run(root, limit=limit).accuracy
    assert (part.verdict, part.images) == (Verdict.PASS, 8)
    (part,) = run(root, limit=limit, tolerance=None).accuracy
    assert part.verdict is Verdict.FAIL


# the process that it runs in


def test_V8_switches_and_random_numbers_are_as_before(root: Path, monkeypatch) -> None:
    seen = []

    def load(name: str, **_: object):
        model = tiny_load(name)
        extract = model.extract
        model.extract = lambda pixels: seen.append(torch.backends.cudnn.allow_tf32) or extract(pixels)
        return model

    monkeypatch.setattr(cascadezoo, "load", load)
    torch.manual_seed(3)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    for precision in ("fp32", "bf16"):
        run(root, limit=1, speed=True, precision=precision)
    assert torch.equal(torch.rand(3), drawn)
    assert set(seen) == {False}
    assert torch.backends.cudnn.allow_tf32
    assert not torch.is_autocast_enabled("cpu")
