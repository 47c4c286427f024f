"""Entries times evaluations: what fails stays where it fails, and nothing is measured differently for being cut off,
shared out or split up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_coco import NAME, cramped_load, tiny_load, write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.compare import merge
from cascadezoo.benchmarks.reports.markdown import markdown
from cascadezoo.benchmarks.reports.schema import read_report, without_timing
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify import engines, request, speed
from cascadezoo.benchmarks.verify.speed import Bounds
from cascadezoo.detector import Detector
from cascadezoo.errors import DownloadFailed, FileError, MissingResource, UsageError, WeightsNotFound
from cascadezoo.files import write_json

BOXES = "cascade_r50_fpn_1x.mmdet"
TWICE = "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron"  # evaluated with test-time augmentation and without
SCRIPT = Path(__file__).parents[2] / "small_coco.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    monkeypatch.setattr(speed, "Bounds", lambda: Bounds(warm_ups=0, window=1, rounds=1))


def run(names, root: Path | None, **options):
    return cascadezoo.verify(
        names, data_root=root, **{"speed": False, "tolerance": 100, "workers": 0, "device": "cpu", **options}
    )


def text(report) -> str:
    return json.dumps(without_timing(report.model_dump(mode="json")))


def test_a_measured_entry(root: Path) -> None:
    seen = []
    report = run(NAME, root, batch_size=2, finished=seen.append)
    (entry,) = report.entries
    (accuracy,) = entry.accuracy
    assert seen == [entry]
    assert (entry.name, entry.verdict, accuracy.verdict) == (NAME, Verdict.PASS, Verdict.PASS)
    assert (accuracy.images, accuracy.dataset, len(entry.weights_digest)) == (8, "COCO val2017", 64)
    assert {check.metric: str(check.published) for check in accuracy.checks} == {"box_ap": "41.2", "mask_ap": "35.9"}
    assert set(accuracy.figures) == {"bbox", "segm"}
    assert all(5 < figures["AP"] < 95 for figures in accuracy.figures.values())  # or the tests below would prove little
    timing = accuracy.timing
    assert (timing.images, timing.batch_size, timing.processes) == (8, 2, 1)
    assert timing.seconds >= timing.decode + timing.inference
    assert 0 <= timing.outside_share < 1


def test_the_tolerance_decides(root: Path) -> None:
    assert run(NAME, root, tolerance=None).entries[0].verdict is Verdict.FAIL


def test_part_of_the_images_is_partial(root: Path) -> None:
    (accuracy,) = run(NAME, root, limit=2).entries[0].accuracy
    assert (accuracy.verdict, accuracy.images) == (Verdict.PARTIAL, 2)
    assert "2 of 8 images" in accuracy.reason


def test_two_evaluations_have_a_verdict_each(tmp_path: Path) -> None:
    root = write_coco(tmp_path, count=2)
    augmented, plain = run(TWICE, root).entries[0].accuracy
    assert (augmented.tta, augmented.verdict, augmented.reason) == (
        True,
        Verdict.SKIPPED,
        "test-time augmentation: needs --tta",
    )
    assert (plain.tta, plain.verdict) == (False, Verdict.PASS)
    augmented, plain_again = run(TWICE, root, tta=True).entries[0].accuracy
    assert augmented.verdict is Verdict.PASS
    assert augmented.figures != plain.figures == plain_again.figures


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RuntimeError("kernel panic"), Verdict.ERROR),
        (FileError("the file is damaged"), Verdict.ERROR),
        (WeightsNotFound("no weights"), Verdict.SKIPPED),
        (DownloadFailed("the server is down"), Verdict.SKIPPED),
    ],
)
def test_what_fails_stays_where_it_fails(root: Path, monkeypatch, error: Exception, verdict: Verdict) -> None:
    def load(name: str, **options):
        if name == NAME:
            raise error
        return tiny_load(name, **options)

    monkeypatch.setattr(cascadezoo, "load", load)
    broken, sound = run([NAME, BOXES], root, speed=True, accuracy=True, limit=1).entries
    assert broken.verdict is broken.accuracy[0].verdict is broken.speed.verdict is verdict
    assert str(error) in broken.accuracy[0].reason
    assert sound.verdict is Verdict.PARTIAL
    assert set(sound.accuracy[0].figures) == {"bbox"}


def test_a_crash_while_detecting_is_an_error(root: Path, monkeypatch) -> None:
    def load(name: str, **options):
        model = tiny_load(name)
        if name == NAME:
            model.extract = lambda pixels: 1 / 0
        return model

    monkeypatch.setattr(cascadezoo, "load", load)
    broken, sound = run([NAME, BOXES], root).entries
    assert (broken.verdict, sound.verdict) == (Verdict.ERROR, Verdict.PASS)
    assert broken.accuracy[0].reason == "ZeroDivisionError: division by zero"


def test_out_of_memory_is_told(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", cramped_load)
    (accuracy,) = run(NAME, root, batch_size=2).entries[0].accuracy
    assert accuracy.verdict is Verdict.PASS
    assert accuracy.timing.notes == ("out of memory with 2 images at a time on cpu: went on with 1",)


def spoil(path: Path) -> None:
    """Make a JPEG one whose header and end are sound, and whose pixels cannot be decoded: its codes are none."""
    data = path.read_bytes()
    table = data.index(b"\xff\xc4") + 5  # after marker, length and class of the Huffman table
    path.write_bytes(data[:table] + b"\xff" * 16 + data[table + 16 :])


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    image = root / "val2017" / "000000000003.jpg"
    spoil(image)
    (accuracy,) = run(NAME, root).entries[0].accuracy
    assert accuracy.verdict is Verdict.ERROR
    assert "000000000003.jpg" in accuracy.reason
    image.write_bytes(b"\xff\xd8 not an image \xff\xd9")  # seen before any model runs
    with pytest.raises(FileError, match=r"000000000003\.jpg"):
        run(NAME, root)


def test_nothing_is_loaded_without_data_or_published_weights(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: pytest.fail(f"{name} was loaded"))
    (entry,) = run(NAME, None).entries
    assert (entry.verdict, entry.weights_digest) == (Verdict.SKIPPED, None)
    assert "--data-root" in entry.accuracy[0].reason
    unpublished = "cascade_mask_x101_64x4d_fpn_1x.detectron"
    (entry,) = run(unpublished, root).entries
    assert entry.verdict is Verdict.SKIPPED
    assert "no weights" in entry.accuracy[0].reason


def test_our_own_entry_needs_no_coco(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    shapes_val = request.shapes_val
    monkeypatch.setattr(request, "shapes_val", lambda: shapes_val(2))
    (entry,) = run("cascade_mask_r18_fpn_shapes", None).entries
    assert (entry.verdict, entry.accuracy[0].dataset) == (Verdict.PASS, "shapes")


def test_a_run_goes_on_without_doing_anything_twice(root: Path, tmp_path: Path, monkeypatch) -> None:
    first = run([NAME, BOXES], root, run_dir=tmp_path)
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: pytest.fail(f"{name} was loaded"))
    assert run([NAME, BOXES], root, run_dir=tmp_path).entries == first.entries


def test_what_was_skipped_is_tried_again(root: Path, tmp_path: Path, monkeypatch) -> None:
    def missing(name: str, **_: object):
        raise WeightsNotFound("no weights")

    monkeypatch.setattr(cascadezoo, "load", missing)
    assert run(NAME, root, run_dir=tmp_path).entries[0].verdict is Verdict.SKIPPED
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    assert run(NAME, root, run_dir=tmp_path).entries[0].verdict is Verdict.PASS


def test_a_folder_of_another_run_is_refused(root: Path, tmp_path: Path) -> None:
    run(NAME, root, run_dir=tmp_path, limit=1)
    with pytest.raises(UsageError, match=r"another run \(settings differ"):
        run(NAME, root, run_dir=tmp_path)


def test_a_baseline_or_a_device_that_changed_is_another_run(root: Path, tmp_path: Path, monkeypatch) -> None:
    report = run(NAME, root, run_dir=tmp_path / "run", limit=1)
    write_json(tmp_path / "baseline.json", report.model_dump(mode="json"))
    with pytest.raises(UsageError, match=r"another run \(baseline differ"):
        run(NAME, root, run_dir=tmp_path / "run", limit=1, baseline=tmp_path / "baseline.json")
    here = report.machines[0]
    monkeypatch.setattr(engines, "describe_machine", lambda *_: here.model_copy(update={"device": "H100"}))
    with pytest.raises(UsageError, match=r"another run \(machine differ"):
        run(NAME, root, run_dir=tmp_path / "run", limit=1)


def test_an_entry_that_cannot_be_kept_does_not_stop_the_others(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / NAME / "report.json").mkdir(parents=True)  # no file can take its place
    report = run([NAME, BOXES], root, run_dir=tmp_path)
    assert [entry.verdict for entry in report.entries] == [Verdict.PASS, Verdict.PASS]
    kept = f"{NAME}/report.json is not kept: {tmp_path}/{NAME}/report.json cannot be written: Is a directory"
    assert kept in caplog.text


def test_images_that_speed_needs_are_looked_for_first(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "val2017" / "000000000008.jpg").unlink()
    assert run(NAME, root, limit=2).entries[0].verdict is Verdict.PARTIAL
    with pytest.raises(MissingResource, match=r"000000000008\.jpg"):
        run(NAME, root, limit=2, speed=True)


def test_shards_merged_equal_one_run(root: Path) -> None:
    whole = run([NAME, BOXES], root)
    shards = [run([NAME, BOXES], root, shard=(i, 2)) for i in (1, 2)]
    assert [len(shard.entries) for shard in shards] == [1, 1]
    merged = merge(shards)
    assert sorted(entry.name for entry in merged.entries) == sorted([NAME, BOXES])
    whole = whole.model_copy(update={"entries": tuple(sorted(whole.entries, key=lambda e: e.name != BOXES))})
    assert text(merged) == text(whole)


def command(root: Path, *options: str) -> list[str]:
    return ["verify", NAME, "--data-root", str(root), "--ap", "--tolerance", "100", "--batch-size", "2",
            "--workers", "0", "--device", "cpu", *options]  # fmt: skip


def execute(arguments: list[str], **environ: str) -> int:
    path = os.pathsep.join(filter(None, (str(SCRIPT.parent), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environ}
    done = subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True)
    print(done.stdout, done.stderr)  # pytest shows it where a test fails
    return done.returncode


def test_killed_three_times_it_ends_the_same(root: Path, tmp_path: Path) -> None:
    whole = run(NAME, root, batch_size=2)
    options = ["--run-dir", str(tmp_path / "run"), "--json", str(tmp_path / "report.json")]
    sizes = []
    for images in (3, 2, 3):  # written whole, less one that is torn; the first line counts once
        assert execute([str(SCRIPT), *command(root, *options)], KILL_AFTER=str(images)) == -9
        sizes.append((tmp_path / "run" / NAME / "plain.results").stat().st_size)
    assert sizes == sorted(set(sizes))
    assert not (tmp_path / "report.json").exists()
    assert execute([str(SCRIPT), *command(root, *options)]) == 0
    report = read_report(tmp_path / "report.json")
    assert text(report) == text(whole)
    assert report.entries[0].accuracy[0].timing.images < 8


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]


@pytest.fixture(scope="module")
def shared(root: Path, tmp_path_factory) -> Path:
    """What two processes write: their report.json and their run folder."""
    folder = tmp_path_factory.mktemp("shared")
    options = ["--run-dir", str(folder / "run"), "--json", str(folder / "report.json")]
    assert execute([*TORCHRUN, *command(root, *options)]) == 0
    return folder


def test_two_processes_equal_one(root: Path, shared: Path) -> None:
    report = read_report(shared / "report.json")
    assert text(report) == text(run(NAME, root, batch_size=2))
    assert report.entries[0].accuracy[0].timing.processes == 2


def test_V4_what_two_processes_have_done_one_goes_on_with(root: Path, shared: Path, tmp_path: Path) -> None:
    whole = run(NAME, root, batch_size=2)
    folder = shutil.copytree(shared / "run", tmp_path / "run")
    assert sorted(path.name for path in (folder / NAME).iterdir()) == [
        "plain.0of2.results", "plain.1of2.results", "report.json",
    ]  # fmt: skip
    (folder / NAME / "report.json").unlink()
    part = folder / NAME / "plain.1of2.results"
    part.write_bytes(part.read_bytes()[:-30])  # the last image is torn off
    again = run(NAME, root, batch_size=2, run_dir=folder)
    assert text(again) == text(whole)
    assert again.entries[0].accuracy[0].timing.images in (1, 2)  # a batch of one or two


def test_V4_what_one_process_has_done_two_go_on_with(root: Path, tmp_path: Path) -> None:
    whole = run(NAME, root, batch_size=2)
    folder = tmp_path / "run"
    assert execute([str(SCRIPT), *command(root, "--run-dir", str(folder))], KILL_AFTER="6") == -9
    kept = (folder / NAME / "plain.results").read_bytes()
    options = ["--run-dir", str(folder), "--json", str(tmp_path / "report.json")]
    assert execute([*TORCHRUN, *command(root, *options)]) == 0
    report = read_report(tmp_path / "report.json")
    assert text(report) == text(whole)
    timing = report.entries[0].accuracy[0].timing
    assert (timing.processes, timing.images) == (2, 4)  # four images and the first line were whole
    assert (folder / NAME / "plain.results").read_bytes() == kept


def test_two_processes_agree_on_a_failure(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    spoil(root / "val2017" / "000000000007.jpg")
    assert execute([*TORCHRUN, *command(root, "--json", str(tmp_path / "report.json"))]) == 1
    (accuracy,) = read_report(tmp_path / "report.json").entries[0].accuracy
    assert accuracy.verdict is Verdict.ERROR
    assert "000000000007.jpg" in accuracy.reason


def test_a_call_that_cannot_work_is_refused_first(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match="annotations"):
        run(NAME, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="2 were chosen"):
        run([NAME, BOXES], root, weights=__file__)
    with pytest.raises(WeightsNotFound, match="none"):
        run(NAME, root, weights=tmp_path / "none.pth")
    with pytest.raises(UsageError, match="shard 3/2"):
        run(NAME, root, shard=(3, 2))
    with pytest.raises(UsageError, match="neither"):
        run(NAME, root, accuracy=False)
    with pytest.raises(UsageError, match="precision"):
        run(NAME, root, precision="fp8")
    with pytest.raises(UsageError, match="evaluator"):
        run(NAME, root, evaluator="ours")
    with pytest.raises(UsageError, match=r"'gpu7' names no device: give cpu, cuda, cuda:N"):
        run(NAME, root, device="gpu7")
    with pytest.raises(UsageError, match="tolerance"):
        run(NAME, root, tolerance=-1)
    with pytest.raises(UsageError, match="limit"):
        run(NAME, root, limit=0)


def test_the_optimised_model_is_measured_where_it_is_asked_for(root: Path, tmp_path: Path, monkeypatch) -> None:
    made, optimize = [], Detector.optimize

    def watched(self, *args, **options):
        made.append(options)
        return optimize(self, *args, **options)

    monkeypatch.setattr(Detector, "optimize", watched)
    plain = run(NAME, root, limit=4)
    assert made == []
    fast = run(NAME, root, limit=4, optimize=True, exact=True, speed=True, run_dir=tmp_path / "run")
    assert made == [{"precision": "fp32", "exact": True}]
    (before,), (after,) = (report.entries[0].accuracy for report in (plain, fast))
    assert after.figures["bbox"]["AP"] == pytest.approx(before.figures["bbox"]["AP"], abs=0.5)
    assert fast.entries[0].speed.timing.batches
    assert fast.entries[0].weights_digest == plain.entries[0].weights_digest
    assert "fp32, optimised, exact" in markdown(fast)
    with pytest.raises(UsageError, match="precision was fp32, optimised, exact, is fp32"):
        run(NAME, root, limit=4, run_dir=tmp_path / "run")


def test_exact_is_of_an_optimised_model(root: Path) -> None:
    with pytest.raises(UsageError, match="exact is for an optimised model"):
        run(NAME, root, exact=True)


def test_an_optimised_models_precision_has_to_be_the_devices(root: Path) -> None:
    (entry,) = run(NAME, root, limit=1, optimize=True, precision="fp16").entries
    assert entry.verdict is Verdict.ERROR
    assert "half precision is for GPUs" in entry.accuracy[0].reason
