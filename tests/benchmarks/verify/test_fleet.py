"""A cluster's pieces of work, on a double of Ray: what is refused, what is tried again, and what is told."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from sample_report import MACHINE

from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.verify import fleet, fleet_entries, request
from cascadezoo.benchmarks.verify.fleet import Ended, run
from cascadezoo.benchmarks.verify.fleet_entries import _Seen, machine_of
from cascadezoo.benchmarks.verify.schedule import Schedule
from cascadezoo.cli import main
from cascadezoo.errors import MissingResource, UsageError

NAME = "cascade_r50_fpn_1x.mmdet"


def refused(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", NAME, *arguments])
    return stopped.value.code, capsys.readouterr().err


def test_calls_that_cannot_work_are_refused_first(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(fleet, "find_spec", lambda name: None)
    code, told = refused(capsys, "--engine", "ray")
    assert (code, told) == (3, 'cascadezoo: --engine ray needs Ray: pip install "ray[data]"\n')
    assert refused(capsys, "--address", "auto")[0] == 2
    monkeypatch.setattr(fleet, "require_ray", lambda: None)
    code, told = refused(capsys, "--engine", "ray", "--address", "auto")
    assert code == 2
    assert "give --run-dir DIR, where all can write" in told
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun and --engine ray"):
        request.requested(NAME, engine="ray")
    with pytest.raises(UsageError, match=r"no engine is called 'dask': give ray, or none"):
        request.requested(NAME, engine="dask")
    monkeypatch.setattr(fleet, "require_ray", lambda: None)
    with (
        pytest.raises(UsageError, match="give the device cuda or cpu, not cuda:1"),
        fleet.cluster(None, "cuda:1", threads=1),
    ):
        pass


def test_paths_are_the_same_in_a_process_of_another_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fleet, "require_ray", lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").touch()
    there = request.requested(NAME, engine="ray", run_dir="run", weights="weights.pth")
    assert (there.run_dir, there.weights) == (tmp_path / "run", tmp_path / "weights.pth")
    assert request.requested(NAME, run_dir="run").run_dir == Path("run")


# what a double of Ray gives for a reference: the reference itself, or the error that it is


class Crash(Exception):
    pass


class OutOfMemory(Crash):
    pass


class OfPython(Crash):
    cause = ZeroDivisionError("division by zero")


class Elsewhere(Crash):
    pass


class Work:
    """What ``ray.wait`` returns in turn, and the work begun, by name."""

    def __init__(self, slots: int, **outcomes: list) -> None:
        self.outcomes, self.begun, self.cancelled, self.places = outcomes, [], [], slots
        self.at_a_time: list[int] = []
        self.device = "cpu"
        self.exceptions = SimpleNamespace(
            RayTaskError=OfPython, OutOfMemoryError=OutOfMemory, WorkerCrashedError=Elsewhere, RayError=Crash
        )

    def begin(self, what: str, name: str) -> object:
        self.begun.append(f"{what} {name}")
        return (name, len(self.begun), self.outcomes[name].pop(0))

    def wait(self, references: list, timeout: float) -> tuple[list, list]:
        self.at_a_time.append(len(references))
        return references[:1], references[1:]

    def get(self, reference: tuple) -> object:
        if isinstance(reference[2], Exception):
            raise reference[2]
        return reference[2]

    def cancel(self, reference: tuple, force: bool) -> None:
        self.cancelled.append(reference[0])

    def slots(self) -> int:
        return self.places


def ended(work: Work, costs: dict[str, float], monkeypatch, **options) -> list[Ended]:
    monkeypatch.setattr(fleet, "_ray", lambda: work)
    schedule = Schedule(costs)
    return list(
        run(
            work,
            schedule,
            lambda name: work.begin("detect", name),
            lambda name, detected: work.begin(f"judge {detected} of", name),
            **options,
        )
    )


def test_entries_are_judged_behind_the_detection_of_the_next(monkeypatch) -> None:
    work = Work(1, a=["found", "good"], b=["seen", "bad"])
    seconds = []
    assert ended(work, {"a": 1, "b": 2}, monkeypatch, left=seconds.append) == [
        Ended("b", "bad", ""),
        Ended("a", "good", ""),
    ]
    assert work.begun == ["detect b", "judge seen of b", "detect a", "judge found of a"]
    assert work.at_a_time == [1, 2, 1, 1]  # b is judged while a is detected
    assert seconds[-1] == 0


def test_of_each_device_the_next_entry_is_begun_ahead(monkeypatch) -> None:
    work = Work(1, a=["found", "good"], b=["seen", "bad"], c=["shown", "fine"])
    work.device = "cuda"
    assert [one.name for one in ended(work, {"a": 3, "b": 2, "c": 1}, monkeypatch)] == ["a", "b", "c"]
    assert work.begun[:3] == ["detect a", "detect b", "judge found of a"]


def test_what_is_lost_is_tried_again_where_it_was_lost(monkeypatch, caplog) -> None:
    work = Work(2, a=[Elsewhere(), "found", OutOfMemory(), "good"], b=[Crash("no such node\nmore"), "seen", "fine"])
    a, b = sorted(ended(work, {"a": 2, "b": 1}, monkeypatch))
    died, memory = "its process died (killed, or a crash in native code)", "its process was ended since the machine ran"
    assert a == Ended("a", "good", f"lost 2 times: {died}; {memory} out of memory")
    assert b == Ended("b", "fine", "lost once: Ray lost it (Crash: no such node)")
    assert work.begun.count("detect a") == 2
    assert work.begun.count("judge found of a") == 2
    assert f"a: {died}; it is tried again (1 of 2)" in caplog.text


def test_what_is_lost_again_and_again_is_given_up_and_the_others_go_on(monkeypatch) -> None:
    work = Work(1, a=[Elsewhere()] * 3, b=["seen", "fine"], c=[OfPython()], d=["found", *[Elsewhere()] * 3])
    by_name = {one.name: one for one in ended(work, {"a": 4, "b": 3, "c": 2, "d": 1}, monkeypatch)}
    assert by_name["a"].result is None
    assert by_name["a"].told.startswith("lost 3 times: its process died")
    assert by_name["b"].result == "fine"
    assert by_name["c"] == Ended("c", None, "lost once: ZeroDivisionError: division by zero")
    assert by_name["d"].result is None
    assert work.begun.count("detect d") == 1


def test_a_fault_that_may_pass_is_tried_again_and_judged_in_the_end(monkeypatch) -> None:
    work = Work(1, a=["no server", "found", "good"], b=["no server"] * 3 + ["nothing"])
    fault = lambda detected: "the server fails" if detected == "no server" else ""  # noqa: E731
    by_name = {one.name: one for one in ended(work, {"a": 2, "b": 1}, monkeypatch, may_pass=fault)}
    assert by_name["a"] == Ended("a", "good", "lost once: the server fails")
    assert by_name["b"] == Ended("b", "nothing", "lost 3 times: the server fails")
    assert work.begun[-1] == "judge no server of b"


def test_what_still_runs_is_ended_with_the_run(monkeypatch) -> None:
    work = Work(2, a=["found", "good"], b=["seen"])
    monkeypatch.setattr(fleet, "_ray", lambda: work)
    begun = run(
        work, Schedule({"a": 2, "b": 1}), lambda name: work.begin("", name), lambda name, _: work.begin("", name)
    )
    work.wait = lambda references, timeout: ([one for one in references if one[0] == "a"], [])
    assert next(begun).name == "a"
    begun.close()
    assert work.cancelled == ["b"]


class Machines:
    """A cluster whose machines give these answers."""

    device, threads = "cpu", 1

    def __init__(self, **answers: _Seen) -> None:
        self.answers, self.wanted = answers, {}

    def everywhere(self, work, evaluator: str, device: str, threads: int, wanted: dict[Path, str]) -> dict[str, _Seen]:
        self.wanted = wanted
        return self.answers


SOUND = _Seen(MACHINE, code_digest(), None)


def test_the_machines_of_a_cluster_are_one_kind_and_share_their_files(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc")
    machines = Machines(one=SOUND, other=SOUND)
    assert machine_of(machines, "pycocotools", tmp_path, [weights]) == MACHINE
    # SHA-256 of abc, as in FIPS 180-2
    assert machines.wanted[weights] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (token,) = machines.wanted.keys() - {weights}
    assert token.parent == tmp_path
    assert not token.exists()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (SOUND._replace(differing=Path("/data/weights")), "other does not see /data/weights as this machine does"),
        (SOUND._replace(code="0" * 64), "other has other code of cascadezoo than this machine"),
        (SOUND._replace(machine=MACHINE.model_copy(update={"device": "H100"})), r"other is not of one's kind \(H100"),
    ],
)
def test_a_machine_that_is_not_as_the_others_is_refused(other: _Seen, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        machine_of(Machines(one=SOUND, other=other), "pycocotools", tmp_path, [])


def test_a_machine_sees_a_file_only_as_it_is(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fleet_entries, "describe_machine", lambda *_: MACHINE)
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    look = lambda wanted: fleet_entries._look("pycocotools", "cpu", 1, wanted)  # noqa: E731
    assert look({file: digest}) == SOUND
    assert look({file: digest, tmp_path / "none": digest}).differing == tmp_path / "none"
    file.write_bytes(b"abd")
    assert look({file: digest}).differing == file


def test_a_folder_that_another_process_writes_to_is_waited_for_and_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fleet_entries, "_PATIENCE", 0.1)
    with (
        fleet_entries._alone_with(tmp_path / "a"),
        pytest.raises(UsageError, match=r"another process still writes to .*a: end it"),
        fleet_entries._alone_with(tmp_path / "a"),
    ):
        pass
    with fleet_entries._alone_with(tmp_path / "a"):
        pass


def test_a_cluster_that_is_not_there_is_told(monkeypatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise ConnectionError("cannot reach it\nmore")

    double = SimpleNamespace(init=init, is_initialized=lambda: False)
    monkeypatch.setattr(fleet, "require_ray", lambda: None)
    monkeypatch.setattr(fleet, "import_module", lambda name: double)
    with (
        pytest.raises(MissingResource, match=r"no Ray cluster answers at 10\.0\.0\.1:6379: cannot reach it$"),
        fleet.cluster("10.0.0.1:6379", None, threads=1),
    ):
        pass
